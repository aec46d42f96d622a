# Starting programs inside a lab, and waiting for them. Sourced.

# start NAME PROGRAM...: in the background, output to log/NAME.log, process id (as the lab counts) to NAME.pid.
start() {
  local name=$1
  shift
  setsid "$@" > "log/$name.log" 2>&1 < /dev/null &
  echo $! > "$name.pid"
}

# wait_for SECONDS PROGRAM COMMAND...: until COMMAND succeeds; a dead PROGRAM or the deadline ends the wait.
wait_for() {
  local deadline=$((SECONDS + $1)) program=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    if [ -f "$program.pid" ] && ! kill -0 "$(cat "$program.pid")" 2>/dev/null; then
      echo "$program ended before it was ready" >&2
      return 1
    fi
    if [ $SECONDS -ge $deadline ]; then
      echo "$program was not ready in time" >&2
      return 1
    fi
    sleep 0.1
  done
}
