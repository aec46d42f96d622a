# Configuration files of one lab's programs. Sourced by up.sh; writes below $D.

make_settings() {
  cat > containerd.toml <<E
version = 2
root = "$D/containerd/root"
state = "$D/containerd/state"
[grpc]
  address = "$D/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$D/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:3.10"
  # Without CAP_SYS_RESOURCE runc may not lower a score, and every pod would fail to start.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$D/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
E
  # ptp routes every packet through FORWARD, so policy also holds between two pods of this node. No masquerade:
  # whoever looks sees true sources.
  cat > net.d/10-lab.conflist <<E
{ "cniVersion": "0.4.0", "name": "lab", "plugins": [
  { "type": "ptp", "ipMasq": false,
    "ipam": { "type": "host-local", "dataDir": "$D/cni", "ranges": [[{ "subnet": "$POD_RANGE" }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }
E
  cat > kubelet.yaml <<E
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
containerRuntimeEndpoint: unix://$D/containerd.sock
authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: $D/pki/ca.crt } }
authorization: { mode: Webhook }
tlsCertFile: $D/pki/kubelet.crt
tlsPrivateKeyFile: $D/pki/kubelet.key
failSwapOn: false
resolvConf: $D/resolv.conf
volumePluginDir: $D/kubelet/plugins-exec
maxPods: 240
enforceNodeAllocatable: [pods]
# A busy disk must not evict the tests, and an imported image can never be pulled again.
evictionHard: { imagefs.available: "1%", nodefs.available: "1%", memory.available: "50Mi" }
imageGCHighThresholdPercent: 100
syncFrequency: 5s
nodeStatusUpdateFrequency: 4s
E
  # No DNS here: Services are addressed by IP, or by the *_SERVICE_HOST variables of a pod.
  : > resolv.conf
  cat > proxy.yaml <<E
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: $POD_CIDR
hostnameOverride: $NODE
clientConnection: { kubeconfig: $D/pki/proxy.conf }
conntrack: { maxPerCore: 0 }
E
  # Who changed what, for tests that count effects; the machinery's own chatter left out.
  cat > audit.yaml <<E
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: [system:nodes, system:serviceaccounts:kube-system]
- level: None
  users: [system:kube-controller-manager, system:kube-scheduler, system:kube-proxy, system:apiserver, kube-router]
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
E
}
