# Takes a lab down, and sweeps up what a crashed one left. Sourced by tests/sandbox.

down() {
  if alive; then
    local init
    init=$(init)
    kill -9 "$init"
    local tries=0
    while [ -d "/proc/$init" ] && [ $tries -lt 100 ]; do
      sleep 0.1
      tries=$((tries + 1))
    done
  fi
  sweep
}

# Everything that has the lab's name, once its processes are gone.
sweep() {
  local net hierarchy
  cd /
  [ ! -f "$D/kernel-settings" ] || sysctl -q -p "$D/kernel-settings" >/dev/null 2>&1 || :
  for net in "$NODE_NET" "$OUTSIDE_NET"; do
    [ ! -e "/run/netns/$net" ] || ip netns delete "$net"
  done
  for hierarchy in $(cgroup_hierarchies); do
    [ ! -d "$hierarchy/$CGROUP" ] || find "$hierarchy/$CGROUP" -depth -type d -exec rmdir {} +
  done
  # Only a folder that "up" made: a mistaken FIREBREAK_SANDBOX must not cost anybody their files.
  if [ -d "$D/pki" ] || [ -z "$(ls -A "$D" 2>/dev/null)" ]; then rm -rf --one-file-system "$D"
  else echo "$D is not a lab's folder: left alone" >&2; exit 1; fi
}

cgroup_hierarchies() {
  local file
  for file in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
    [ ! -f "$file" ] || dirname "$file"
  done
}
