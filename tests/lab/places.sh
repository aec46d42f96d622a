# Names, places and addresses of one lab. Sourced, never run.
#
# Everything derives from the lab's name, so that several labs run at once on one machine:
#   FIREBREAK_LAB        name, [a-z0-9-], at most 20 characters (default: fb)
#   FIREBREAK_SANDBOX    its folder, made by "up" and removed by "down" (default: below the temporary folder). Short,
#                        because a Unix socket's path may have 107 characters.
#   FIREBREAK_LAB_CACHE  built programs and images (default: firebreak-lab in the user's cache folder)
# Network names and cgroups carry the name. Addresses need not differ, since no lab can see another, but differ
# all the same: a capture then tells which lab it came from.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB=${FIREBREAK_LAB:-fb}
case $LAB in *[!a-z0-9-]* | ?????????????????????*) echo "FIREBREAK_LAB: \`$LAB\` must be at most 20 of a-z, 0-9, -" >&2; exit 2 ;; esac
if [ "$LAB" = fb ]; then D=${FIREBREAK_SANDBOX:-${TMPDIR:-/tmp}/firebreak-sandbox}
else D=${FIREBREAK_SANDBOX:-${TMPDIR:-/tmp}/firebreak-sandbox-$LAB}; fi
CACHE=${FIREBREAK_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/firebreak-lab}

NUMBER=$((100 + $(printf %s "$LAB" | cksum | cut -d' ' -f1) % 100))
NODE=node-1
NODE_NET=firebreak-$LAB            # network namespace of the node
OUTSIDE_NET=firebreak-$LAB-outside # network namespace that plays the Internet and the metadata address
NODE_IP=172.31.$NUMBER.2
OUTSIDE_IP=172.31.$NUMBER.1
POD_CIDR=10.$NUMBER.0.0/16
POD_RANGE=10.$NUMBER.0.0/24        # what the controller manager gives the first node of POD_CIDR
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
INTERNET_IP=198.51.100.10
CLOUD_IP=198.51.100.30             # endpoint of the cloud account, if there is one
METADATA_IP=169.254.169.254
DATABASE_IP=198.51.100.20          # PostgreSQL, where it is installed
REPLICA_IP=198.51.100.21           # its streaming replica
CGROUP=firebreak-$LAB              # two kubelets must not share a root: each removes the pods that it does not know

KUBE_PROGRAMS="kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl"
PROGRAMS="etcd kube-router $KUBE_PROGRAMS"
# Where Debian puts network administration; a user's PATH often lacks it.
PATH=$PATH:/usr/sbin:/sbin

# The one line that a skipped lab prints. 77 is what test harnesses read as "skipped".
skip() { echo "SKIPPED cluster lab: $*" >&2; exit 77; }
