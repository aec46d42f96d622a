# Brings a lab up. Sourced by tests/sandbox.
. "$here/keys.sh"
. "$here/settings.sh"
. "$here/programs.sh"

# Command that shows a missing piece, and the Debian package that has it.
REQUIREMENTS="containerd:containerd runc:runc iptables:iptables ipset:ipset conntrack:conntrack ip:iproute2
  busybox:busybox-static openssl:openssl python3:python3 cc:gcc nsenter:util-linux"

up() {
  alive && { echo "lab $LAB is up already ($D)" >&2; exit 1; }
  check_machine
  # What a crashed run left.
  sweep
  mkdir -p "$(dirname "$D")"
  mkdir -m 700 "$D"
  mkdir "$D"/{bin,images,pki,log,net.d,kubelet,etcd,cni}
  trap 'failed $?' EXIT
  cd "$D"
  link_programs
  images=$("$here/images")
  cp "$images"/*.tar images/
  cp "$images/pause" bin/pause
  make_network
  make_cgroups
  make_keys
  make_settings
  keep_kernel_settings
  # The lab's process 1. Whoever ends it ends all others with it, pods included: so one recorded id takes a lab down,
  # however it was left. nsenter, because "ip netns exec" hides the cgroups from the kubelet under a /sys of its own.
  nsenter --net="/run/netns/$NODE_NET" unshare --mount --propagation slave --pid --fork --mount-proc \
    setsid bin/pause > log/init.log 2>&1 < /dev/null &
  record_init $!
  inside bash "$here/node.sh"
  nsenter --target "$(init)" --pid --mount --net="/run/netns/$OUTSIDE_NET" bash -c \
    '. "$0/start.sh"; cd "$1"; start outside python3 "$0/outside.py" log/outside.txt "$2:443" "$2:4444" "$3:80"' \
    "$here" "$D" "$INTERNET_IP" "$METADATA_IP"
  database_up
  plugin_start
  trap - EXIT
}

check_machine() {
  [ "$(id -u)" = 0 ] || skip "needs root, for network namespaces and containers"
  local pair missing=
  for pair in $REQUIREMENTS; do command -v "${pair%:*}" >/dev/null || missing="$missing ${pair#*:}"; done
  [ -x /usr/lib/cni/ptp ] || missing="$missing containernetworking-plugins"
  [ -z "$missing" ] || skip "needs Debian packages:$missing"
  case $D in
    /run/* | /var/lib/* | /var/log/*) echo "FIREBREAK_SANDBOX: the lab has its own /run, /var/lib and /var/log, so $D cannot be there" >&2; exit 2 ;;
    /*) [ ${#D} -le 70 ] || { echo "FIREBREAK_SANDBOX: $D is too long for the sockets in it" >&2; exit 2; } ;;
    *) echo "FIREBREAK_SANDBOX: $D is not an absolute path" >&2; exit 2 ;;
  esac
}

failed() {
  [ "$1" = 77 ] || {
    echo "lab $LAB did not come up; last lines of each log:" >&2
    tail -n 12 "$D"/log/*.log 2>/dev/null | cut -c1-300 >&2 || :
  }
  down
  exit "$1"
}

# The node and the outside, joined by one cable; no route leads beyond, so nothing that a test sends can leave.
make_network() {
  ip netns add "$NODE_NET"
  ip netns add "$OUTSIDE_NET"
  ip link add node0 netns "$NODE_NET" type veth peer name outside0 netns "$OUTSIDE_NET"
  ip -n "$NODE_NET" addr add "$NODE_IP/24" dev node0
  ip -n "$OUTSIDE_NET" addr add "$OUTSIDE_IP/24" dev outside0
  ip -n "$OUTSIDE_NET" addr add "$INTERNET_IP/32" dev lo
  ip -n "$OUTSIDE_NET" addr add "$METADATA_IP/32" dev lo
  ip -n "$NODE_NET" link set lo up
  ip -n "$NODE_NET" link set node0 up
  ip -n "$OUTSIDE_NET" link set lo up
  ip -n "$OUTSIDE_NET" link set outside0 up
  ip -n "$NODE_NET" route add default via "$OUTSIDE_IP"
  ip -n "$OUTSIDE_NET" route add "$POD_CIDR" via "$NODE_IP"
  ip netns exec "$NODE_NET" sysctl -qw net.ipv4.ip_forward=1
}

# A root of the lab's own in every hierarchy, version 1 or 2.
make_cgroups() {
  local hierarchy setting
  for hierarchy in $(cgroup_hierarchies); do
    mkdir "$hierarchy/$CGROUP"
    # In version 1 a new cpuset is empty, and nothing can run in it.
    for setting in cpuset.cpus cpuset.mems; do
      [ ! -f "$hierarchy/$CGROUP/tasks" ] || [ ! -f "$hierarchy/$setting" ] || cat "$hierarchy/$setting" > "$hierarchy/$CGROUP/$setting"
    done
  done
}

# The kubelet sets these on the whole machine ("down" puts them back).
keep_kernel_settings() {
  local name
  for name in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes; do
    echo "$name=$(sysctl -n $name)"
  done > kernel-settings
}
