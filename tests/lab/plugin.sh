# The network plugin that enforces policies. Sourced by tests/sandbox.

plugin_start() {
  if [ -f "$D/plugin.pid" ] && inside kill -0 "$(cat "$D/plugin.pid")" 2>/dev/null; then
    echo "the plugin runs already" >&2
    return 0
  fi
  inside bash -c '. "$0/start.sh"; cd "$1"; start plugin bin/kube-router --kubeconfig=pki/plugin.conf \
    --run-firewall=true --run-router=false --run-service-proxy=false --enable-cni=false --hostname-override="$2" \
    --service-cluster-ip-range="$3" --iptables-sync-period=10s --metrics-port=0
    wait_for 30 plugin sh -c "iptables-save -t filter | grep -q KUBE-ROUTER-FORWARD"' "$here" "$D" "$NODE" "$SERVICE_CIDR"
}

# Ends it and takes its rules away: policies are still accepted by the API server, and nothing enforces them.
plugin_stop() {
  inside bash -s "$D" <<'E'
set -eu
cd "$1"
pid=$(cat plugin.pid)
kill "$pid" 2>/dev/null || :
tries=0
while [ -d "/proc/$pid" ]; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { kill -9 "$pid"; break; }
  sleep 0.1
done
rm -f plugin.pid
# Rules that lead into its chains, then the chains, in one transaction that touches nobody else's.
iptables-save -t filter | awk '
  function own(name) { return name ~ /^KUBE-(ROUTER|NWPLCY|POD-FW)/ }
  /^:/ { name = substr($1, 2); if (own(name)) { flush = flush "-F " name "\n"; delete_ = delete_ "-X " name "\n" } }
  /^-A/ { for (i = 3; i <= NF; i++) if (($i == "-j" || $i == "-g") && own($(i + 1)) && !own($2)) { sub(/^-A/, "-D"); leave = leave $0 "\n"; break } }
  END { printf "*filter\n%s%s%sCOMMIT\n", leave, flush, delete_ }' | iptables-restore --noflush
for set in $(ipset list -name | grep -E '^(KUBE-(SRC|DST)-|kube-router-)'); do ipset destroy "$set" || :; done
E
}
