# The programs of one node, started in order. Run by up.sh inside the lab's namespaces.
set -euo pipefail
. "$(dirname "$0")/places.sh"
. "$here/start.sh"
cd "$D"

# What the programs keep outside of the lab's folder stays in here too: containers' sockets and network names in /run,
# leases in /var/lib, logs in /var/log. Shared, so that a container sees the volumes that the kubelet mounts.
mkdir -p var-log var-lib/{seen,work}
mount -t tmpfs tmpfs /run
mount -t overlay -o "lowerdir=/var/lib,upperdir=$D/var-lib/seen,workdir=$D/var-lib/work" overlay /var/lib
mount --bind var-log /var/log
mount --make-rshared /
mkdir -p /run/netns /run/lock

etcd_url=http://127.0.0.1:2379
kubectl() { bin/kubectl --kubeconfig pki/admin.conf "$@"; }
etcd_healthy() { bin/kubectl --server $etcd_url get --raw /health | grep -q true; }
node_ready() { kubectl get node "$NODE" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status} {.spec.podCIDR}' | grep -q '^True 10'; }

start containerd containerd --config containerd.toml
start etcd bin/etcd --data-dir etcd --unsafe-no-fsync \
  --listen-client-urls $etcd_url --advertise-client-urls $etcd_url --listen-peer-urls http://127.0.0.1:2380
wait_for 30 etcd etcd_healthy
start apiserver bin/kube-apiserver --etcd-servers=$etcd_url --secure-port=6443 --bind-address="$NODE_IP" --advertise-address="$NODE_IP" \
  --allow-privileged=true --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --client-ca-file=pki/ca.crt --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key \
  --service-cluster-ip-range="$SERVICE_CIDR" --service-account-issuer=https://kubernetes.default.svc \
  --service-account-key-file=pki/sa.pub --service-account-signing-key-file=pki/sa.key \
  --kubelet-client-certificate=pki/kubelet-client.crt --kubelet-client-key=pki/kubelet-client.key \
  --kubelet-certificate-authority=pki/ca.crt --kubelet-preferred-address-types=InternalIP \
  --audit-policy-file=audit.yaml --audit-log-path=log/audit.json
wait_for 90 apiserver kubectl get --raw /readyz
start controllers bin/kube-controller-manager --kubeconfig=pki/controllers.conf --authentication-kubeconfig=pki/controllers.conf \
  --authorization-kubeconfig=pki/controllers.conf --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt \
  --use-service-account-credentials=true --allocate-node-cidrs=true --cluster-cidr="$POD_CIDR" --leader-elect=false \
  --kube-api-qps=100 --kube-api-burst=200
start scheduler bin/kube-scheduler --kubeconfig=pki/scheduler.conf --authentication-kubeconfig=pki/scheduler.conf \
  --authorization-kubeconfig=pki/scheduler.conf --leader-elect=false --kube-api-qps=100 --kube-api-burst=200
wait_for 20 containerd ctr -a containerd.sock version
for image in images/*.tar; do ctr -a containerd.sock -n k8s.io images import "$image" >/dev/null; done
start kubelet bin/kubelet --config=kubelet.yaml --kubeconfig=pki/kubelet-node.conf --hostname-override="$NODE" --node-ip="$NODE_IP" --root-dir="$D/kubelet"
start proxy bin/kube-proxy --config=proxy.yaml
kubectl apply -f "$here/plugin-rights.yaml" >/dev/null
wait_for 90 kubelet node_ready
