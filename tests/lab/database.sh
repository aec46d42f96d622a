# PostgreSQL outside of the cluster, for pods of it: a primary and its streaming replica, both with TLS. Sourced by tests/sandbox.
#
# Where Debian's package postgresql is not installed the lab is up without it, and says so.

# Folder of the newest server's programs.
database_programs() {
  local bin found=
  for bin in /usr/lib/postgresql/*/bin; do [ ! -x "$bin/pg_basebackup" ] || found=$bin; done
  [ -n "$found" ] && echo "$found"
}

database_up() {
  local bin
  bin=$(database_programs) || { echo "no database in this lab: needs Debian's postgresql" >&2; return 0; }
  ip -n "$OUTSIDE_NET" addr add "$DATABASE_IP/32" dev lo
  ip -n "$OUTSIDE_NET" addr add "$REPLICA_IP/32" dev lo
  (cd pki && certificate database /CN=database serverAuth "IP:$DATABASE_IP,IP:$REPLICA_IP")
  openssl rand -hex 20 > pki/database-admin
  chmod 600 pki/database-admin
  nsenter --target "$(init)" --pid --mount --net="/run/netns/$OUTSIDE_NET" bash "$here/database-node.sh" "$bin"
}

# Statements for the primary from standard input, as its administrator. The server keeps none of them: they may hold passwords.
database_sql() {
  { echo "SET log_statement = 'none'; SET pg_stat_statements.track = 'none';"; cat; } |
    PGPASSWORD=$(cat "$D/pki/database-admin") PGSSLMODE=verify-full PGSSLROOTCERT=$D/pki/ca.crt \
      nsenter --net="/run/netns/$OUTSIDE_NET" psql -Xqt -v ON_ERROR_STOP=1 -h "$DATABASE_IP" -U admin -d postgres
}

# database_seed [NAMESPACE]: a role and a database named like it, the Secret orders-db, and a Deployment that logs in with it all the time.
database_seed() {
  local name=${1:-shop} password
  k() { inside "$D/bin/kubectl" --kubeconfig "$D/pki/admin.conf" -n "$name" "$@"; }
  [ -f "$D/pki/database-admin" ] || skip "needs Debian's postgresql before the lab is started"
  if ! k get secret orders-db >/dev/null 2>&1; then
    password=$(openssl rand -hex 20)
    database_sql <<E
CREATE ROLE "$name" LOGIN PASSWORD '$password';
CREATE DATABASE "$name" OWNER "$name";
E
    # Created, not applied: that would keep the values a second time in an annotation.
    k create -f - >/dev/null <<E
apiVersion: v1
kind: Secret
metadata: {name: orders-db}
stringData:
  username: $name
  password: $password
  host: $DATABASE_IP
  ca.crt: |
$(sed 's/^/    /' "$D/pki/ca.crt")
E
  fi
  sed "s/namespace: shop\\b/namespace: $name/; s/DATABASE_IP/$DATABASE_IP/" "$here/orders.yaml" | k apply -f - >/dev/null
  k rollout status deployment/orders --timeout 60s >/dev/null
  cat <<E

database: $DATABASE_IP:5432, its replica $REPLICA_IP:5432; TLS by $D/pki/ca.crt
  administrator: admin, with the password in $D/pki/database-admin
  $name/orders logs in as $name each second; see kubectl -n $name logs deployment/orders -f
E
}
