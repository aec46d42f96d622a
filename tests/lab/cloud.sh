# The double of a cloud account beside the cluster: ministack, and before it the proxy of tests/support/aws. Sourced by tests/sandbox.
#
# Both run in the outside namespace. Node and pods reach the proxy at a second address there, with TLS by the lab's own authority;
# ministack listens on that namespace's loopback only. Nothing leads from here to a real cloud.

cloud_start() {
  if cloud_is_up; then
    echo "the cloud runs already" >&2
    return 0
  fi
  local python
  python=$("$here/python")
  "$python/bin/python3" -c 'import ministack' 2>/dev/null || skip "needs the packages of tests/requirements-doubles.txt"
  cloud_program
  . "$here/keys.sh"
  (cd "$D/pki" && certificate cloud /CN=cloud serverAuth "IP:$CLOUD_IP")
  ip -n "$OUTSIDE_NET" addr replace "$CLOUD_IP/32" dev lo
  outside bash -c '. "$0/start.sh"; cd "$1"
    mkdir -p cloud
    start ministack env -i PATH="$PATH" HOME="$1/cloud" AUTH=true BIND_HOST=127.0.0.1 GATEWAY_PORT=4566 SFTP_ENABLED=0 \
      IOT_MTLS_ENABLED=0 CLOUDTRAIL_RECORDING=1 AWS_EC2_METADATA_DISABLED=true "$2/bin/python3" -m ministack
    wait_for 60 ministack bash -c "exec 3<>/dev/tcp/127.0.0.1/4566"
    start cloud bin/aws-fault-proxy serve 127.0.0.1:4566 --listen 127.0.0.1:4567 --tls "$3:443" pki/cloud.crt pki/cloud.key \
      --control "$3:4568" --log log/cloud.jsonl
    wait_for 10 cloud bash -c "exec 3<>/dev/tcp/$3/443"' "$here" "$D" "$python" "$CLOUD_IP"
  echo "a cloud account is at https://$CLOUD_IP, its faults are ordered at http://$CLOUD_IP:4568/_proxy/"
}

# Ends it, and what was in it.
cloud_stop() {
  local name
  for name in cloud ministack; do
    [ ! -f "$D/$name.pid" ] || inside kill -9 "$(cat "$D/$name.pid")" 2>/dev/null || :
    rm -f "$D/$name.pid"
  done
  rm -rf "$D/aws" "$D/cloud" "$D/cloud.json"
}

outside() { nsenter --target "$(init)" --pid --mount --net="/run/netns/$OUTSIDE_NET" -- "$@"; }
cloud_is_up() { [ -f "$D/cloud.pid" ] && inside kill -0 "$(cat "$D/cloud.pid")" 2>/dev/null; }

# The proxy is small and builds alone, in a minute or two.
cloud_program() {
  command -v cargo >/dev/null || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
  command -v cargo >/dev/null || skip "needs cargo, to build the proxy before the cloud"
  local built
  built=$(cd "$here/../.." && cargo build -q --locked -p aws-fault-proxy --message-format=json | python3 -c '
import json, sys
for line in sys.stdin:
    program = json.loads(line).get("executable")
    if program:
        print(program)')
  cp "$built" "$D/bin/aws-fault-proxy"
}

# Users, keys, roles, secrets and an intruder's way through them. Once.
cloud_seed() {
  [ ! -f "$D/cloud.json" ] || return 0
  (umask 077 && outside "$D/bin/aws-fault-proxy" seed 127.0.0.1:4567 > "$D/.cloud.json" && cloud_profiles)
  mv "$D/.cloud.json" "$D/cloud.json"
  cat <<E

cloud account: 36 users /ci/ci-01 ... tagged by team, with keys, and secrets ci/ci-01 ...; all of it: $D/cloud.json
  stolen: the key of ci-01 ($(sed -n 's/.*"stolen": "\(.*\)".*/\1/p' "$D/cloud.json")), used to go from role to role
  tests/sandbox exec COMMAND acts as user \`responder\`; profile \`break-glass\` is another administrator
E
}

# Two profiles: whoever responds, and the way in that must keep working.
cloud_profiles() {
  mkdir -p "$D/aws"
  python3 -c '
import json, sys
seeded, folder = sys.argv[1:]
made = json.load(open(seeded))
with open(folder + "/config", "w") as config, open(folder + "/credentials", "w") as credentials:
    for name, section, who in [("default", "default", "responder"), ("break-glass", "profile break-glass", "break_glass")]:
        key, secret = made[who]
        print(f"[{section}]\nregion = us-east-1\n", file=config)
        print(f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n", file=credentials)
' "$D/.cloud.json" "$D/aws"
}

# NAME=VALUE lines for a program that is to see this account and no other.
cloud_environment() {
  [ -f "$D/cloud.json" ] || return 0
  echo "AWS_CONFIG_FILE=$D/aws/config"
  echo "AWS_SHARED_CREDENTIALS_FILE=$D/aws/credentials"
  echo "AWS_ENDPOINT_URL=https://$CLOUD_IP"
  echo "AWS_CA_BUNDLE=$D/pki/ca.crt"
  echo "AWS_REGION=us-east-1"
  echo "AWS_EC2_METADATA_DISABLED=true"
}
