# Keys, certificates and kubeconfigs of one lab. Sourced by up.sh; writes into $D/pki. They are worth nothing elsewhere.

# One certificate authority for all, P-256, good for 30 days.
make_keys() {
  cd "$D/pki"
  new_key ca
  openssl req -x509 -new -key ca.key -subj /CN=firebreak-lab-ca -days 30 -out ca.crt 2>/dev/null
  certificate apiserver /CN=kube-apiserver serverAuth \
    "IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  certificate kubelet "/CN=$NODE" serverAuth "IP:$NODE_IP,DNS:$NODE"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  new_key sa
  openssl ec -in sa.key -pubout -out sa.pub 2>/dev/null
  client admin /O=system:masters/CN=admin
  client controllers /CN=system:kube-controller-manager
  client scheduler /CN=system:kube-scheduler
  client proxy /CN=system:kube-proxy
  client kubelet-node "/O=system:nodes/CN=system:node:$NODE"
  client plugin /CN=kube-router
  cd "$D"
}

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

# certificate NAME SUBJECT USAGE [ALTERNATIVE-NAMES]
certificate() {
  new_key "$1"
  printf 'extendedKeyUsage=%s\nkeyUsage=digitalSignature\n%s\n' "$3" "${4:+subjectAltName=$4}" > "$1.ext"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

# A certificate and a kubeconfig that carries it whole, so that the one file may be copied anywhere.
client() {
  certificate "$1" "$2" clientAuth
  cat > "$1.conf" <<E
apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 ca.crt)}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}
contexts:
- name: lab
  context: {cluster: lab, user: $1}
current-context: lab
E
}
