package embedded

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// user is somebody the API server knows by a token.
type user struct {
	name      string // file name of the kubeconfig
	login     string // the API server's name
	group     string
	namespace string
}

func users() []user {
	all := []user{
		{name: "admin", login: "admin", group: "system:masters"},
		{name: "alice", login: "alice", group: "developers", namespace: "shop"},
		{name: "bob", login: "bob", group: "developers", namespace: "shop"},
		{name: "controller-manager", login: "system:kube-controller-manager"},
		{name: "scheduler", login: "system:kube-scheduler"},
		{name: "proxy", login: "system:kube-proxy", group: "system:node-proxier"},
	}
	for _, n := range nodes() {
		all = append(all, user{name: "kubelet-" + n.name, login: "system:node:" + n.name, group: "system:nodes"})
	}
	return all
}

func (o Options) kubeconfig(user string) string { return o.path("kubeconfig", user) }

// writeIdentities makes the certificate authority, the API server's
// certificate, the key for ServiceAccount tokens, and every user's token and
// kubeconfig.
func (o Options) writeIdentities() error {
	pki := o.path("pki")
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	if err := ca.write(filepath.Join(pki, "ca")); err != nil {
		return err
	}
	server, err := ca.issueServer("kube-apiserver",
		[]string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
		[]net.IP{net.ParseIP(apiAddress), net.ParseIP("127.0.0.1"), net.ParseIP("10.96.0.1")})
	if err != nil {
		return err
	}
	if err := server.write(filepath.Join(pki, "apiserver")); err != nil {
		return err
	}
	accounts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(filepath.Join(pki, "accounts.key"), accounts); err != nil {
		return err
	}
	return o.writeUsers(ca)
}

func (o Options) writeUsers(ca *identity) error {
	var tokens strings.Builder
	for _, u := range users() {
		secret := make([]byte, 16)
		if _, err := rand.Read(secret); err != nil {
			return err
		}
		token := hex.EncodeToString(secret)
		_, _ = fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, u.login, u.name, u.group)
		config := clientcmdapi.Config{
			Clusters:       map[string]*clientcmdapi.Cluster{o.Name: {Server: "https://" + net.JoinHostPort(apiAddress, apiPort), CertificateAuthorityData: ca.certPEM()}},
			AuthInfos:      map[string]*clientcmdapi.AuthInfo{u.name: {Token: token}},
			Contexts:       map[string]*clientcmdapi.Context{u.name: {Cluster: o.Name, AuthInfo: u.name, Namespace: u.namespace}},
			CurrentContext: u.name,
		}
		if err := clientcmd.WriteToFile(config, o.kubeconfig(u.name)); err != nil {
			return err
		}
	}
	return os.WriteFile(o.path("pki", "tokens.csv"), []byte(tokens.String()), 0o600)
}

// identity is a certificate and its key.
type identity struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

const lifetime = 10 * 365 * 24 * time.Hour

func newAuthority() (*identity, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "embedded cluster"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	return (*identity)(nil).issue(template)
}

func (id *identity) issueServer(name string, dns []string, ips []net.IP) (*identity, error) {
	return id.issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: dns, IPAddresses: ips,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// issue signs with this identity's key, or with the new one if this is nil.
func (id *identity) issue(template *x509.Certificate) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(lifetime)
	parent, signer := template, key
	if id != nil {
		parent, signer = id.cert, id.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &identity{cert: cert, key: key}, nil
}

func (id *identity) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.cert.Raw})
}

// write makes base.crt and base.key.
func (id *identity) write(base string) error {
	if err := os.WriteFile(base+".crt", id.certPEM(), 0o644); err != nil {
		return err
	}
	return writeKey(base+".key", id.key)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}
