# The database's two servers. Run by database.sh among the lab's processes, on the outside's network: database-node.sh PROGRAMS
set -euo pipefail
. "$(dirname "$0")/places.sh"
. "$here/start.sh"
cd "$D"
bin=$1
# The lab's own /var/lib: PostgreSQL's account may not enter the lab's folder.
place=/var/lib/firebreak-database
postgres="setpriv --reuid=postgres --regid=postgres --clear-groups"

mkdir $place
cp pki/database.crt pki/database.key pki/ca.crt pki/database-admin $place
chown -R postgres: $place
chmod 600 $place/database.key $place/database-admin
# HOME: the client looks for a certificate of its own there, and may not look into ours.
export PGPASSWORD PGSSLMODE=verify-full PGSSLROOTCERT=$place/ca.crt HOME=$place
PGPASSWORD=$(cat pki/database-admin)

# server NAME ADDRESS
server() {
  start "$1" $postgres "$bin/postgres" -D "$place/$1" -c listen_addresses="$2" -c unix_socket_directories= \
    -c ssl=on -c ssl_cert_file=$place/database.crt -c ssl_key_file=$place/database.key \
    -c log_statement=ddl -c log_connections=on -c shared_preload_libraries=pg_stat_statements -c fsync=off
  wait_for 60 "$1" "$bin/pg_isready" -h "$2" -U admin
}

(cd $place && $postgres "$bin/initdb" -A scram-sha-256 -U admin --pwfile $place/database-admin -E UTF8 --no-sync -D $place/primary) > log/initdb.log
# TLS or nothing.
printf 'hostssl %s all all scram-sha-256\n' all replication > $place/primary/pg_hba.conf
server primary "$DATABASE_IP"
"$bin/psql" -Xq -h "$DATABASE_IP" -U admin -d postgres -c 'CREATE EXTENSION pg_stat_statements'
(cd $place && $postgres "$bin/pg_basebackup" -R -X stream -c fast --no-sync -h "$DATABASE_IP" -U admin -D $place/replica)
server replica "$REPLICA_IP"
rm $place/database-admin
