package osdns

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func (m *machine) resolved() resolved {
	return resolved{newSystem(m.options().withDefaults(), backendResolved)}
}

func (m *machine) resolverDir() resolverDir {
	return resolverDir{newSystem(m.options().withDefaults(), backendResolverDir)}
}

func (m *machine) ran(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(m.calls, want) {
		t.Errorf("ran\n%s\nwant\n%s", strings.Join(m.calls, "\n"), strings.Join(want, "\n"))
	}
	m.calls = nil
}

const stub = "# systemd\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch office.example\n"

func stubMachine(t *testing.T) *machine {
	return newMachine(t, map[string]string{
		"/etc/resolv.conf":                      "-> ../run/systemd/resolve/stub-resolv.conf",
		"/run/systemd/resolve/stub-resolv.conf": stub,
		"/sys/class/net/tun0":                   "-> ../../devices/virtual/net/tun0",
		"/sys/devices/virtual/net/tun0/mtu":     "65535",
	})
}

func TestNewChoosesTheBackend(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the probes of Linux")
	}
	for name, tt := range map[string]struct {
		files map[string]string
		want  string
	}{
		"a file":        {map[string]string{"/etc/resolv.conf": office}, backendResolvConf},
		"no file":       {nil, backendResolvConf},
		"stub":          {map[string]string{"/etc/resolv.conf": "-> ../run/systemd/resolve/stub-resolv.conf"}, backendResolved},
		"uplinks":       {map[string]string{"/etc/resolv.conf": "-> /run/systemd/resolve/resolv.conf"}, backendResolved},
		"static stub":   {map[string]string{"/etc/resolv.conf": "-> ../usr/lib/systemd/resolv.conf", "/usr/lib/systemd/resolv.conf": stub}, backendResolved},
		"stub in file":  {map[string]string{"/etc/resolv.conf": stub}, backendResolved},
		"other manager": {map[string]string{"/etc/resolv.conf": "-> /run/NetworkManager/resolv.conf", "/run/NetworkManager/resolv.conf": office}, backendResolvConf},
	} {
		m := newMachine(t, tt.files)
		before := m.tree()
		c, err := New(m.options())
		must(t, err)
		got := ""
		switch c := c.(type) {
		case resolvConf:
			got = c.backend
		case resolved:
			got = c.backend
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		must(t, c.Close())
		if m.tree() != before || len(m.calls) > 0 {
			t.Errorf("%s: New changed something", name)
		}
	}
}

func TestResolved(t *testing.T) {
	m := stubMachine(t)
	before := m.tree()
	r := m.resolved()
	must(t, r.Set("tun0", cluster))
	m.ran(t,
		"resolvectl dns tun0 10.66.0.2",
		"resolvectl domain tun0 shop.svc.cluster.local svc.cluster.local cluster.local shop.svc.cluster.local",
		"resolvectl default-route tun0 false",
		"resolvectl llmnr tun0 no",
		"resolvectl mdns tun0 no",
		"resolvectl dnssec tun0 no",
		"resolvectl dnsovertls tun0 no",
		"resolvectl flush-caches",
	)
	u, err := r.Upstream()
	if err != nil || len(u.Servers) != 1 || u.Servers[0].String() != "127.0.0.53:53" || !slices.Equal(u.Search, []string{"office.example"}) {
		t.Errorf("upstream %+v, %v", u, err)
	}
	crash(r.system)
	r = m.resolved()
	narrow := Config{Servers: cluster.Servers, Domains: []string{"cluster.local", "96.10.in-addr.arpa"}}
	must(t, r.Set("tun1", narrow)) // takes over from another link
	if len(m.calls) < 4 || m.calls[0] != "resolvectl revert tun0" || m.calls[3] != "resolvectl domain tun1 ~cluster.local ~96.10.in-addr.arpa" {
		t.Errorf("ran\n%s", strings.Join(m.calls, "\n"))
	}
	m.calls = nil
	must(t, r.Set("tun1", Config{}))
	m.ran(t, "resolvectl revert tun1", "resolvectl flush-caches")
	must(t, r.Close())
	m.ran(t)
	if after := m.tree(); after != before {
		t.Errorf("left behind:\n%s\nwant\n%s", after, before)
	}
}

func TestResolvedThatFails(t *testing.T) {
	m := stubMachine(t)
	before := m.tree()
	m.fails["resolvectl domain"] = errors.New("exit status 1")
	r := m.resolved()
	err := r.Set("tun0", cluster)
	var h interface{ Hint() string }
	if err == nil || !errors.As(err, &h) || !strings.Contains(h.Hint(), "resolvectl") {
		t.Errorf("error %v", err)
	}
	if last := m.calls[len(m.calls)-2]; last != "resolvectl revert tun0" {
		t.Errorf("ran %q", m.calls)
	}
	if after := m.tree(); after != before {
		t.Errorf("left behind:\n%s\nwant\n%s", after, before)
	}
}

// A link that cannot be told to forget stays in the journal; one that is gone
// is forgotten.
func TestResolvedRevert(t *testing.T) {
	m := stubMachine(t)
	r := m.resolved()
	must(t, r.Set("tun0", cluster))
	m.fails["resolvectl revert"] = errors.New("exit status 1")
	if err := r.Close(); err == nil {
		t.Error("no error")
	}
	if !strings.Contains(m.tree(), "dns.json") {
		t.Error("the journal is gone")
	}
	must(t, os.Remove(m.path("/sys/class/net/tun0")))
	must(t, CleanUp(m.options()))
	if strings.Contains(m.tree(), "kubectl-tele") {
		t.Errorf("left behind:\n%s", m.tree())
	}
}

func TestResolvedThatNobodyAsks(t *testing.T) {
	m := newMachine(t, map[string]string{
		"/etc/resolv.conf":                 "-> /run/systemd/resolve/resolv.conf",
		"/run/systemd/resolve/resolv.conf": office,
	})
	var h interface{ Hint() string }
	if err := m.resolved().Set("tun0", cluster); !errors.As(err, &h) || !strings.Contains(h.Hint(), "stub-resolv.conf") {
		t.Errorf("error %v", err)
	}
	m.ran(t)
}

// A machine that began to use systemd-resolved after a crash.
func TestResolvedTakesOverResolvConf(t *testing.T) {
	m := newMachine(t, map[string]string{"/etc/resolv.conf": stub})
	plain := m.resolvConf()
	must(t, plain.Set("tun0", cluster))
	crash(plain.system)
	r := m.resolved()
	must(t, r.Set("tun0", cluster))
	if got := m.read("/etc/resolv.conf"); got != stub {
		t.Errorf("resolv.conf:\n%s", got)
	}
	must(t, r.Close())
}

func TestResolverDir(t *testing.T) {
	m := newMachine(t, map[string]string{"/etc/resolv.conf": office})
	before := m.tree()
	flushed := []string{"dscacheutil -flushcache", "killall -HUP mDNSResponder"}
	r := m.resolverDir()
	c := cluster
	c.Domains = []string{"cluster.local", "96.10.in-addr.arpa"}
	must(t, r.Set("utun7", c))
	m.ran(t, flushed...)
	const want = `# Written by kubectl tele: names of a Kubernetes cluster are asked of the cluster.
# ` + "`kubectl tele quit` removes this file; after a crash the next `kubectl tele connect`" + ` does.
nameserver 10.66.0.2
`
	for _, domain := range c.Domains {
		if got := m.read("/etc/resolver/" + domain); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", domain, got, want)
		}
	}
	if u, err := r.Upstream(); err != nil || len(u.Servers) != 2 {
		t.Errorf("upstream %v, %v", u, err)
	}
	must(t, r.Set("utun7", cluster)) // one domain less
	if got := m.read("/etc/resolver/96.10.in-addr.arpa"); got != "(absent)" {
		t.Errorf("the domain that is gone:\n%s", got)
	}
	crash(r.system)
	m.calls = nil
	must(t, CleanUp(m.options()))
	m.ran(t, flushed...)
	if after := m.tree(); after != before {
		t.Errorf("left behind:\n%s\nwant\n%s", after, before)
	}
	if _, err := os.Stat(m.path(resolverDirPath)); err == nil {
		t.Error("the folder is left behind")
	}
}

func TestResolverDirLeavesOthersFiles(t *testing.T) {
	m := newMachine(t, map[string]string{"/etc/resolver/cluster.local": "nameserver 192.0.2.1\n"})
	before := m.tree()
	var h interface{ Hint() string }
	if err := m.resolverDir().Set("utun7", cluster); !errors.As(err, &h) || !strings.Contains(err.Error(), "/etc/resolver/cluster.local") {
		t.Errorf("error %v", err)
	}
	if after := m.tree(); after != before {
		t.Errorf("changed:\n%s\nwas\n%s", after, before)
	}
}

func FuzzParseResolvConf(f *testing.F) {
	f.Add([]byte(office))
	f.Add([]byte(clusterConf))
	f.Add([]byte("options\nsearch\nnameserver\n; x\r\n\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		m := &machine{}
		r := resolvConf{newSystem(Options{Root: "/nowhere", Run: m.options().Run}.withDefaults(), backendResolvConf)}
		ours := r.render(content, cluster)
		got := parseResolvConf(ours)
		if len(got.servers) != 1 || got.servers[0] != cluster.Servers[0] {
			t.Errorf("out of\n%q\ncame\n%s", content, ours)
		}
		if len(parseResolvConf(content).upstream().Servers) == 0 {
			t.Error("no resolver")
		}
		old, _ := without(ours)
		if a, b := parseResolvConf(old), parseResolvConf(content); !slices.Equal(a.servers, b.servers) || !slices.Equal(a.search, b.search) {
			t.Errorf("out of\n%q\ncame back\n%q", content, old)
		}
	})
}
