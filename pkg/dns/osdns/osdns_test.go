package osdns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// machine is a folder that stands for the file system of a machine.
type machine struct {
	t     *testing.T
	root  string
	calls []string         // commands run
	fails map[string]error // by the first words of the command
}

func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), fails: map[string]error{}}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, m.path(name))
		} else {
			err = os.WriteFile(m.path(name), []byte(content), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) options() Options {
	return Options{Root: m.root, JournalDir: "/var/lib/kubectl-tele", Run: func(name string, args ...string) ([]byte, error) {
		call := strings.Join(append([]string{name}, args...), " ")
		m.calls = append(m.calls, call)
		for prefix, err := range m.fails {
			if strings.HasPrefix(call, prefix) {
				return []byte("no"), err
			}
		}
		return nil, nil
	}}
}

func (m *machine) resolvConf() resolvConf {
	return resolvConf{newSystem(m.options().withDefaults(), backendResolvConf)}
}

// read returns a file's content, or how it is missing.
func (m *machine) read(name string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "(absent)"
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

func (m *machine) write(name, content string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(content), 0o640); err != nil {
		m.t.Fatal(err)
	}
}

// tree lists every file and link with its content.
func (m *machine) tree() string {
	m.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, m.root)
		if target, err := os.Readlink(path); err == nil {
			fmt.Fprintf(&b, "%s -> %s\n", name, target)
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %o %q\n", name, info.Mode().Perm(), m.read(name))
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return b.String()
}

// crash ends a Configurator as SIGKILL would: the lock goes, all else stays.
func crash(s *system) {
	_ = s.journal.held.Close()
	s.journal.held = nil
}

const office = `# made by dhcp
nameserver 198.18.0.53
nameserver 2001:db8::53
domain old.example
search office.example corp.example.
options edns0 trust-ad ndots:2
options rotate
sortlist 130.155.160.0/255.255.240.0
`

var cluster = Config{
	Servers: []netip.Addr{netip.MustParseAddr("10.66.0.2")},
	Search:  []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "office.example", "shop.svc.cluster.local"},
	Domains: []string{"cluster.local"},
	Ndots:   5,
}

const clusterConf = `# Written by kubectl tele: names of a Kubernetes cluster are asked of the cluster.
# ` + "`kubectl tele quit` puts the old file back; after a crash the next `kubectl tele connect`" + ` does.
# By hand: cp /var/lib/kubectl-tele/resolv.conf.before /etc/resolv.conf
nameserver 10.66.0.2
search shop.svc.cluster.local svc.cluster.local cluster.local office.example
options ndots:5 edns0 trust-ad rotate
sortlist 130.155.160.0/255.255.240.0
# was: # made by dhcp
# was: nameserver 198.18.0.53
# was: nameserver 2001:db8::53
# was: domain old.example
# was: search office.example corp.example.
# was: options edns0 trust-ad ndots:2
# was: options rotate
# was: sortlist 130.155.160.0/255.255.240.0
`

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestResolvConfSetAndPutBack(t *testing.T) {
	tests := []struct {
		name   string
		files  map[string]string
		target string
		want   string
	}{
		{"file", map[string]string{"/etc/resolv.conf": office}, "/etc/resolv.conf", clusterConf},
		{"relative link", map[string]string{"/etc/resolv.conf": "-> ../run/nm/resolv.conf", "/run/nm/resolv.conf": office}, "/run/nm/resolv.conf", clusterConf},
		{"absolute link", map[string]string{"/etc/resolv.conf": "-> /run/nm/resolv.conf", "/run/nm/resolv.conf": office}, "/run/nm/resolv.conf", clusterConf},
		{"chain of links", map[string]string{"/etc/resolv.conf": "-> a", "/etc/a": "-> /etc/b", "/etc/b": office}, "/etc/b", clusterConf},
		{"no file", map[string]string{"/etc/hosts": "x"}, "/etc/resolv.conf", ""},
		{"empty file", map[string]string{"/etc/resolv.conf": ""}, "/etc/resolv.conf", ""},
		{"no newline at the end", map[string]string{"/etc/resolv.conf": "nameserver 198.18.0.53"}, "/etc/resolv.conf", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, tt.files)
			before := m.tree()
			r := m.resolvConf()
			for range 2 {
				must(t, r.Set("tun0", cluster))
				got := m.read(tt.target)
				if tt.want != "" && got != tt.want {
					t.Errorf("%s:\n%s\nwant\n%s", tt.target, got, tt.want)
				}
				if !strings.Contains(got, "\nnameserver 10.66.0.2\n") {
					t.Errorf("%s:\n%s", tt.target, got)
				}
			}
			other := cluster
			other.Servers = []netip.Addr{netip.MustParseAddr("fd00::2")}
			must(t, r.Set("tun0", other))
			if got := m.read(tt.target); !strings.Contains(got, "nameserver fd00::2\n") || strings.Contains(got, "10.66.0.2") {
				t.Errorf("set again:\n%s", got)
			}
			must(t, r.Close())
			must(t, r.Close())
			if after := m.tree(); after != before {
				t.Errorf("left behind:\n%s\nwant\n%s", after, before)
			}
			if len(m.calls) > 0 {
				t.Errorf("ran %q", m.calls)
			}
		})
	}
}

func TestResolvConfKeepsTheFile(t *testing.T) {
	m := newMachine(t, map[string]string{"/etc/resolv.conf": office})
	old, err := os.Stat(m.path("/etc/resolv.conf"))
	must(t, err)
	r := m.resolvConf()
	must(t, r.Set("tun0", cluster))
	now, err := os.Stat(m.path("/etc/resolv.conf"))
	must(t, err)
	if !os.SameFile(old, now) || now.Mode() != old.Mode() {
		t.Errorf("another file, or another mode: %v, before %v", now.Mode(), old.Mode())
	}
	if got := m.read("/var/lib/kubectl-tele/resolv.conf.before"); got != office {
		t.Errorf("copy of the old file:\n%s", got)
	}
	must(t, r.Close())
}

func TestUpstream(t *testing.T) {
	want := Upstream{
		Servers: []netip.AddrPort{netip.MustParseAddrPort("198.18.0.53:53"), netip.MustParseAddrPort("[2001:db8::53]:53")},
		Search:  []string{"office.example", "corp.example"},
	}
	equal := func(u Upstream) bool {
		return slices.Equal(u.Servers, want.Servers) && slices.Equal(u.Search, want.Search)
	}
	m := newMachine(t, map[string]string{"/etc/resolv.conf": office})
	r := m.resolvConf()
	check := func(when string) {
		t.Helper()
		c, err := New(m.options())
		must(t, err)
		u, err := c.Upstream()
		if err != nil || !equal(u) {
			t.Errorf("%s: %+v, %v", when, u, err)
		}
	}
	check("before")
	must(t, r.Set("tun0", cluster))
	check("while ours is in force")
	crash(r.system)
	check("after a crash")
	must(t, os.RemoveAll(m.path("/var")))
	check("after a crash, the journal gone")
	r = m.resolvConf()
	must(t, r.Set("tun0", cluster))
	must(t, r.Close())
	check("after a session that found ours")
	if got := m.read("/etc/resolv.conf"); got != office {
		t.Errorf("put back from ours alone:\n%s", got)
	}

	for name, tt := range map[string]struct{ content, want string }{
		"absent":  {"", "127.0.0.1:53"},
		"nothing": {"# none\nnameserver\nnameserver x\n", "127.0.0.1:53"},
		"zone":    {"nameserver fe80::1%eth0\n", "[fe80::1%eth0]:53"},
		"windows": {"nameserver 192.0.2.1\r\n", "192.0.2.1:53"},
	} {
		m := newMachine(t, nil)
		if name != "absent" {
			m = newMachine(t, map[string]string{"/etc/resolv.conf": tt.content})
		}
		u, err := m.resolvConf().Upstream()
		if err != nil || len(u.Servers) != 1 || u.Servers[0].String() != tt.want {
			t.Errorf("%s: %v, %v", name, u, err)
		}
	}
}

func TestChangedByOthers(t *testing.T) {
	const vpn = "nameserver 192.0.2.1\n"
	for name, change := range map[string]func(*testing.T, *machine) string{
		"written": func(_ *testing.T, m *machine) string { m.write("/etc/resolv.conf", vpn); return vpn },
		"edited": func(_ *testing.T, m *machine) string {
			m.write("/etc/resolv.conf", clusterConf+vpn)
			return office + vpn
		},
		"removed": func(t *testing.T, m *machine) string {
			must(t, os.Remove(m.path("/etc/resolv.conf")))
			return "(absent)"
		},
		"replaced": func(t *testing.T, m *machine) string {
			m.write("/etc/new", vpn)
			must(t, os.Rename(m.path("/etc/new"), m.path("/etc/resolv.conf")))
			return vpn
		},
	} {
		for how, undo := range map[string]func(*machine, resolvConf) error{
			"close":    func(_ *machine, r resolvConf) error { return r.Close() },
			"clean up": func(m *machine, r resolvConf) error { crash(r.system); return CleanUp(m.options()) },
		} {
			t.Run(name+", then "+how, func(t *testing.T) {
				m := newMachine(t, map[string]string{"/etc/resolv.conf": office})
				r := m.resolvConf()
				must(t, r.Set("tun0", cluster))
				theirs := change(t, m)
				var changed *ChangedError
				if err := undo(m, r); !errors.As(err, &changed) || !slices.Equal(changed.Paths, []string{"/etc/resolv.conf"}) {
					t.Errorf("error %v, want a *ChangedError", err)
				}
				if got := m.read("/etc/resolv.conf"); got != theirs {
					t.Errorf("resolv.conf:\n%s\nwant\n%s", got, theirs)
				}
				if strings.Contains(m.tree(), "kubectl-tele") {
					t.Errorf("left behind:\n%s", m.tree())
				}
			})
		}
	}
}

// What others wrote while ours was in force is what is put back after it has
// been set again.
func TestSetAgainAfterChangeByOthers(t *testing.T) {
	const vpn = "nameserver 192.0.2.1\n"
	for _, tt := range []struct{ theirs, want string }{{vpn, vpn}, {clusterConf + vpn, office + vpn}} {
		m := newMachine(t, map[string]string{"/etc/resolv.conf": office})
		r := m.resolvConf()
		must(t, r.Set("tun0", cluster))
		m.write("/etc/resolv.conf", tt.theirs)
		must(t, r.Set("tun0", cluster))
		if got := m.read("/etc/resolv.conf"); !strings.Contains(got, "\nnameserver 10.66.0.2\n") {
			t.Errorf("set again:\n%s", got)
		}
		must(t, r.Close())
		if got := m.read("/etc/resolv.conf"); got != tt.want {
			t.Errorf("put back:\n%s\nwant\n%s", got, tt.want)
		}
	}
}

// Whatever byte a crash came at, in either direction, the old file returns.
func TestCleanUpAfterACrashAnywhere(t *testing.T) {
	const someOfMany = 97 // each clean-up waits for the disk
	m := newMachine(t, map[string]string{"/etc/resolv.conf": office})
	before := m.tree()
	for _, tt := range []struct {
		name         string
		old, written string
	}{{"while setting", office, clusterConf}, {"while putting back", clusterConf, office}} {
		for n := range len(tt.written) + 1 {
			left := tt.written[:n]
			if n < len(tt.old) {
				left += tt.old[n:]
			}
			m.write("/etc/resolv.conf", left)
			c := change{Path: "/etc/resolv.conf", Existed: true, Before: []byte(office), Ours: []byte(clusterConf)}
			if st, err := c.state(m.options()); err != nil || st == theirs {
				t.Errorf("crash %s after %d bytes: taken for another's content", tt.name, n)
			}
			if n%someOfMany != 0 && n != len(tt.written) {
				continue
			}
			m.write("/etc/resolv.conf", office)
			r := m.resolvConf()
			must(t, r.Set("tun0", cluster))
			crash(r.system)
			m.write("/etc/resolv.conf", left)
			if n%2 == 0 {
				must(t, CleanUp(m.options()))
			} else { // a new session finds it
				r := m.resolvConf()
				must(t, r.Set("tun1", cluster))
				must(t, r.Close())
			}
			if after := m.tree(); after != before {
				t.Fatalf("crash %s after %d bytes:\n%s\nwant\n%s", tt.name, n, after, before)
			}
		}
	}
	must(t, CleanUp(m.options())) // with nothing to do
}

// Between two settings either may be in force when a crash comes.
func TestCleanUpAfterACrashBetweenTwoSettings(t *testing.T) {
	m := newMachine(t, map[string]string{"/etc/resolv.conf": office})
	r := m.resolvConf()
	must(t, r.Set("tun0", cluster))
	other := cluster
	other.Servers = []netip.Addr{netip.MustParseAddr("fd00::2")}
	first := m.read("/etc/resolv.conf")
	must(t, r.Set("tun0", other))
	m.write("/etc/resolv.conf", first) // as if the second write had not come
	crash(r.system)
	must(t, CleanUp(m.options()))
	if got := m.read("/etc/resolv.conf"); got != office {
		t.Errorf("put back:\n%s", got)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	m := newMachine(t, map[string]string{"/etc/resolv.conf": office})
	first, second := m.resolvConf(), m.resolvConf()
	must(t, first.Set("tun0", cluster))
	if err := second.Set("tun1", cluster); !errors.Is(err, ErrInUse) {
		t.Errorf("second: %v, want ErrInUse", err)
	}
	must(t, second.Set("tun1", Config{}))
	must(t, second.Close())
	must(t, CleanUp(m.options()))
	if got := m.read("/etc/resolv.conf"); got != clusterConf {
		t.Errorf("the first one's setting is gone:\n%s", got)
	}
	must(t, first.Close())
	must(t, second.Set("tun1", cluster))
	must(t, second.Close())
	if got := m.read("/etc/resolv.conf"); got != office {
		t.Errorf("put back:\n%s", got)
	}
}

func TestSetChangesNothingWhenItCannotBeUndone(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no folder for the journal": {"/etc/resolv.conf": office, "/var/lib": "a file"},
		"junk in the journal":       {"/etc/resolv.conf": office, "/var/lib/kubectl-tele/dns.json": "junk"},
		"journal of another format": {"/etc/resolv.conf": office, "/var/lib/kubectl-tele/dns.json": `{"version": 99}`},
		"a folder in its place":     {"/etc/resolv.conf/x": "x"},
		"links in a circle":         {"/etc/resolv.conf": "-> a", "/etc/a": "-> resolv.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, files)
			before := m.tree()
			r := m.resolvConf()
			if err := r.Set("tun0", cluster); err == nil {
				t.Error("no error")
			}
			if after := m.tree(); after != before {
				t.Errorf("changed:\n%s\nwas\n%s", after, before)
			}
			must(t, r.Close())
		})
	}
}

func TestHints(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{syscall.EROFS, "read-write"}, {syscall.EPERM, "chattr"}, {syscall.EACCES, "only root"}, {syscall.ENOSPC, ""},
	} {
		err := explain(fmt.Errorf("write /etc/resolv.conf: %w", &fs.PathError{Op: "open", Path: "x", Err: tt.err}), resolvConfPath)
		hint := ""
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			hint = h.Hint()
		}
		if !errors.Is(err, tt.err) || (tt.want == "") != (hint == "") || !strings.Contains(hint, tt.want) {
			t.Errorf("%v: %v, hint %q", tt.err, err, hint)
		}
	}
}

func TestSetChecks(t *testing.T) {
	m := newMachine(t, map[string]string{"/etc/resolv.conf": office})
	before := m.tree()
	addr := netip.MustParseAddr
	servers := []netip.Addr{addr("10.66.0.2")}
	for _, tt := range []struct {
		dev string
		c   Config
	}{
		{"", cluster},
		{"-x", cluster},
		{"../x", cluster},
		{"a name", cluster},
		{strings.Repeat("x", 16), cluster},
		{"tun0", Config{Search: []string{"a"}}},
		{"tun0", Config{Servers: []netip.Addr{{}}}},
		{"tun0", Config{Servers: []netip.Addr{addr("0.0.0.0")}}},
		{"tun0", Config{Servers: []netip.Addr{addr("224.0.0.1")}}},
		{"tun0", Config{Servers: []netip.Addr{addr("fe80::1%eth0")}}},
		{"tun0", Config{Servers: slices.Repeat(servers, 4)}},
		{"tun0", Config{Servers: servers, Search: []string{""}}},
		{"tun0", Config{Servers: servers, Search: []string{"a b"}}},
		{"tun0", Config{Servers: servers, Search: []string{"a\nnameserver 192.0.2.1"}}},
		{"tun0", Config{Servers: servers, Domains: []string{"../../passwd"}}},
		{"tun0", Config{Servers: servers, Domains: []string{"a..b"}}},
		{"tun0", Config{Servers: servers, Domains: []string{".a"}}},
		{"tun0", Config{Servers: servers, Domains: []string{"-a"}}},
		{"tun0", Config{Servers: servers, Domains: []string{strings.Repeat("a", 254)}}},
		{"tun0", Config{Servers: servers, Ndots: -1}},
		{"tun0", Config{Servers: servers, Ndots: 16}},
	} {
		for _, c := range []Configurator{m.resolvConf(), m.resolved(), m.resolverDir()} {
			if err := c.Set(tt.dev, tt.c); err == nil {
				t.Errorf("%T.Set(%q, %+v): no error", c, tt.dev, tt.c)
			}
		}
	}
	if after := m.tree(); after != before || len(m.calls) > 0 {
		t.Errorf("changed:\n%s%q", after, m.calls)
	}
}
