package embedded

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"text/template"
)

//go:embed config
var configFiles embed.FS

// settings fill in the templates in config that are about one node.
type settings struct {
	Dir, Node, CgroupRoot, PodRange, PodsRange, DNS string
	CNIBin, Snapshotter, Kubeconfig                 string
	PauseImage, CoreDNSImage                        string
}

func (o Options) settings(n node) settings {
	snapshotter := "overlayfs"
	if !overlayable(filepath.Dir(o.Dir)) {
		snapshotter = "native" // an overlay cannot lie on an overlay, as in a container
	}
	return settings{
		Dir: o.Dir, Node: n.name, CgroupRoot: "/" + o.podsCgroup(n), PodRange: n.podRange, PodsRange: podsRange,
		DNS: dnsAddress, CNIBin: thisMachine().cniDir(), Snapshotter: snapshotter, Kubeconfig: o.kubeconfig("proxy"),
		PauseImage: pauseImage, CoreDNSImage: corednsImage,
	}
}

// render fills in one file of config.
func render(file string, values any) ([]byte, error) {
	text, err := configFiles.ReadFile(path.Join("config", file))
	if err != nil {
		return nil, err
	}
	t, err := template.New(file).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return nil, fmt.Errorf("render %s: %w", file, err)
	}
	return out.Bytes(), nil
}

// writeConfigs renders what the components read.
func (o Options) writeConfigs() error {
	for _, n := range nodes() {
		s := o.settings(n)
		for _, f := range []struct{ template, file string }{
			{"containerd.toml", "containerd.toml"},
			{"kubelet.yaml", "kubelet.yaml"},
			{"kube-proxy.yaml", "kube-proxy.yaml"},
			{"cni.json", "cni/10-bridge.conflist"},
		} {
			content, err := render(f.template, s)
			if err != nil {
				return err
			}
			if err := os.WriteFile(o.path(n.name, f.file), content, 0o644); err != nil {
				return err
			}
		}
		// Pods with dnsPolicy Default ask a server that is not there.
		if err := os.WriteFile(o.path(n.name, "resolv.conf"), []byte("nameserver 192.0.2.254\n"), 0o644); err != nil {
			return err
		}
	}
	audit, err := render("audit.yaml", nil)
	if err != nil {
		return err
	}
	return os.WriteFile(o.path("audit.yaml"), audit, 0o644)
}

// program is a component before it runs.
type program struct {
	name string
	component
}

// control lists the control plane's programs in the order of their start.
func (o Options) control() []program {
	pki := func(name string) string { return o.path("pki", name) }
	bin := func(name string) string { return o.path("bin", name) }
	one := func(argv ...string) program {
		return program{filepath.Base(argv[0]), component{NetNS: netnsPath(o.netns()), Cgroup: o.controlCgroup(), Argv: argv}}
	}
	return []program{
		one(bin("etcd"), "--data-dir="+o.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380"),
		one(bin("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379",
			"--advertise-address="+apiAddress, "--secure-port="+apiPort, "--service-cluster-ip-range="+servicesRange,
			"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"), "--client-ca-file="+pki("ca.crt"),
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file="+pki("accounts.key"), "--service-account-signing-key-file="+pki("accounts.key"),
			"--token-auth-file="+pki("tokens.csv"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--allow-privileged=true", "--endpoint-reconciler-type=lease",
			// Nodes have no names that resolve; without this, port-forward and exec time out.
			"--kubelet-preferred-address-types=InternalIP",
			"--audit-policy-file="+o.path("audit.yaml"), "--audit-log-path="+o.auditLog(), "--audit-log-maxsize=200", "--audit-log-maxbackup=1"),
		one(bin("kube-controller-manager"), "--kubeconfig="+o.kubeconfig("controller-manager"), "--leader-elect=false",
			"--root-ca-file="+pki("ca.crt"), "--service-account-private-key-file="+pki("accounts.key"), "--use-service-account-credentials",
			"--cluster-signing-cert-file="+pki("ca.crt"), "--cluster-signing-key-file="+pki("ca.key"),
			"--allocate-node-cidrs=false", "--kube-api-qps=100", "--kube-api-burst=200"),
		one(bin("kube-scheduler"), "--kubeconfig="+o.kubeconfig("scheduler"), "--leader-elect=false"),
	}
}

// programs lists a node's programs in the order of their start.
func (o Options) programs(n node) []program {
	one := func(name string, argv ...string) program {
		return program{name + "-" + n.name, component{NetNS: netnsPath(o.netns() + n.suffix), Cgroup: o.systemCgroup(n), Argv: argv}}
	}
	return []program{
		one("containerd", "containerd", "--config="+o.path(n.name, "containerd.toml")),
		one("kubelet", o.path("bin", "kubelet"), "--config="+o.path(n.name, "kubelet.yaml"), "--kubeconfig="+o.kubeconfig("kubelet-"+n.name),
			"--root-dir="+o.path(n.name, "kubelet"), "--cert-dir="+o.path(n.name, "pki"),
			"--hostname-override="+n.name, "--node-ip="+n.address),
		one("kube-proxy", o.path("bin", "kube-proxy"), "--config="+o.path(n.name, "kube-proxy.yaml")),
	}
}

func (o Options) auditLog() string { return o.path("log", "audit.log") }

// makeDirs makes the state folder's folders and links.
func (o Options) makeDirs(built components) error {
	dirs := []string{"bin", "log", "pki", "kubeconfig", "etcd", "ns", "l"}
	for _, n := range nodes() {
		for _, d := range []string{"cni", "kubelet", "containerd", "pki", "plugins"} {
			dirs = append(dirs, filepath.Join(n.name, d))
		}
	}
	for _, d := range dirs {
		if err := os.MkdirAll(o.path(d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(o.path("etcd"), 0o700); err != nil {
		return err
	}
	if _, ok := built["kube"]; !ok {
		return nil
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"} {
		if err := os.Symlink(built.kube(), o.path("bin", name)); err != nil {
			return err
		}
	}
	return nil
}
