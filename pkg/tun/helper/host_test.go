package helper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

// fakeOS notes what a Host does to it, and fails where told.
type fakeOS struct {
	log     []string
	fail    map[string]bool
	journal string
	seen    []string // journal at each step
}

func (f *fakeOS) step(format string, args ...any) error {
	s := fmt.Sprintf(format, args...)
	f.log = append(f.log, s)
	content, _ := os.ReadFile(f.journal)
	f.seen = append(f.seen, string(content))
	if f.fail[s] {
		return errors.New("no " + s)
	}
	return nil
}

func (f *fakeOS) Set(dev string, n tun.Network) error { return f.step("set %s %v", dev, n.Routes) }
func (f *fakeOS) CleanUp(dev string, n tun.Network) error {
	return f.step("clean %s %v", dev, n.Routes)
}

func (f *fakeOS) config() HostConfig {
	return HostConfig{
		Router:     f,
		OpenTUN:    func(int) (*os.File, string, error) { return nil, "tele0", f.step("open") },
		SetDNS:     func(dev string, d DNS) error { return f.step("dns %s %v", dev, d.Search) },
		CleanUpDNS: func() error { return f.step("clean dns") },
		Journal:    f.journal,
	}
}

func newFake(t *testing.T) *fakeOS {
	t.Helper()
	return &fakeOS{fail: map[string]bool{}, journal: filepath.Join(t.TempDir(), "journal")}
}

func newHost(t *testing.T, f *fakeOS) Host {
	t.Helper()
	h, err := NewHost(f.config())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (f *fakeOS) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(f.log, want) {
		t.Errorf("did\n%q, want\n%q", f.log, want)
	}
	f.log = nil
}

func missing(t *testing.T, path string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if left = append(left, hidden...); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

var (
	routesA = tun.Network{Addrs: prefixes("198.18.0.1/30"), Routes: prefixes("10.96.0.0/16")}
	routesB = tun.Network{Addrs: prefixes("198.18.0.1/30"), Routes: prefixes("10.97.0.0/16")}
	dnsA    = DNS{Servers: addrs("198.18.0.2"), Search: []string{"a.b"}}
)

func TestHostUndoes(t *testing.T) {
	f := newFake(t)
	h := newHost(t, f)
	for _, err := range []error{h.SetNetwork("tele0", routesA), h.SetDNS("tele0", dnsA), h.SetNetwork("tele0", routesB)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f.expect(t, "set tele0 [10.96.0.0/16]", "dns tele0 [a.b]", "set tele0 [10.97.0.0/16]", "dns tele0 []", "set tele0 []")
	missing(t, f.journal)
	if err := h.SetNetwork("tele0", routesA); !errors.Is(err, os.ErrClosed) {
		t.Errorf("set after close: %v", err)
	}
	if err := h.SetDNS("tele0", dnsA); !errors.Is(err, os.ErrClosed) {
		t.Errorf("dns after close: %v", err)
	}
	// What is about to be done is in the journal when it is done, together
	// with what is there still.
	for i, want := range []string{
		`{"dev":"tele0","network":{"addrs":["198.18.0.1/30"],"routes":["10.96.0.0/16"]},"dns":false}`,
		`{"dev":"tele0","network":{"addrs":["198.18.0.1/30"],"routes":["10.96.0.0/16"]},"dns":true}`,
		`{"dev":"tele0","network":{"addrs":["198.18.0.1/30","198.18.0.1/30"],"routes":["10.96.0.0/16","10.97.0.0/16"]},"dns":true}`,
	} {
		if f.seen[i] != want {
			t.Errorf("journal at step %d: %s, want %s", i, f.seen[i], want)
		}
	}
}

func TestHostUndoesNothing(t *testing.T) {
	f := newFake(t)
	if err := newHost(t, f).Close(); err != nil {
		t.Fatal(err)
	}
	f.expect(t)
	missing(t, f.journal)
}

func TestHostUndoFails(t *testing.T) {
	f := newFake(t)
	h := newHost(t, f)
	_ = h.SetNetwork("tele0", routesA)
	_ = h.SetDNS("tele0", dnsA)
	f.fail["dns tele0 []"] = true
	if err := h.Close(); err == nil {
		t.Error("no error")
	}
	f.expect(t, "set tele0 [10.96.0.0/16]", "dns tele0 [a.b]", "dns tele0 []", "set tele0 []")
	// The rest is for the next one.
	if err := cleanUp(f.config()); err != nil {
		t.Error(err)
	}
	f.expect(t, "clean dns", "clean tele0 []")
	missing(t, f.journal)
}

// crash leaves what a killed helper does: its journal, unlocked.
func crash(t *testing.T, f *fakeOS) {
	t.Helper()
	h := newHost(t, f)
	_ = h.SetNetwork("tele0", routesA)
	_ = h.SetDNS("tele0", dnsA)
	if err := h.(*host).journal.Release(); err != nil {
		t.Fatal(err)
	}
	f.log = nil
}

func TestCrashRecovery(t *testing.T) {
	t.Run("next helper", func(t *testing.T) {
		f := newFake(t)
		crash(t, f)
		h := newHost(t, f)
		f.expect(t, "clean dns", "clean tele0 [10.96.0.0/16]")
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		f.expect(t)
		missing(t, f.journal)
	})
	t.Run("clean up", func(t *testing.T) {
		f := newFake(t)
		crash(t, f)
		for range 2 {
			if err := cleanUp(f.config()); err != nil {
				t.Error(err)
			}
		}
		f.expect(t, "clean dns", "clean tele0 [10.96.0.0/16]")
		missing(t, f.journal)
	})
	t.Run("clean up fails and is repeated", func(t *testing.T) {
		f := newFake(t)
		crash(t, f)
		f.fail["clean dns"] = true
		if err := cleanUp(f.config()); err == nil {
			t.Error("no error")
		}
		if _, err := NewHost(f.config()); err == nil {
			t.Error("a new helper began over what was not undone")
		}
		f.fail = nil
		f.log = nil
		if err := cleanUp(f.config()); err != nil {
			t.Error(err)
		}
		f.expect(t, "clean dns", "clean tele0 [10.96.0.0/16]")
	})
	t.Run("alive", func(t *testing.T) {
		f := newFake(t)
		h := newHost(t, f)
		_ = h.SetNetwork("tele0", routesA)
		if err := cleanUp(f.config()); !errors.Is(err, ErrInUse) {
			t.Errorf("clean up of a live one: %v", err)
		}
		if _, err := NewHost(f.config()); !errors.Is(err, ErrInUse) {
			t.Errorf("second on one journal: %v", err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("spoiled", func(t *testing.T) {
		f := newFake(t)
		if err := os.WriteFile(f.journal, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := cleanUp(f.config()); err == nil {
			t.Error("no error")
		}
		f.expect(t)
	})
	t.Run("symbolic link", func(t *testing.T) {
		f := newFake(t)
		if err := os.Symlink("/nowhere", f.journal); err != nil {
			t.Fatal(err)
		}
		if _, err := NewHost(f.config()); err == nil {
			t.Error("followed a link")
		}
	})
	t.Run("relative", func(t *testing.T) {
		if _, err := NewHost(HostConfig{Journal: "journal"}); err == nil {
			t.Error("took a relative path")
		}
	})
}

func TestHostWithoutDNS(t *testing.T) {
	f := newFake(t)
	cfg := f.config()
	cfg.SetDNS = nil
	h, err := NewHost(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.SetDNS("tele0", DNS{}); err != nil {
		t.Error(err)
	}
	if err := h.SetDNS("tele0", dnsA); !errors.Is(err, tun.ErrUnsupported) {
		t.Errorf("dns without dns: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestRouterFails(t *testing.T) {
	f := newFake(t)
	h := newHost(t, f)
	f.fail["set tele0 [10.96.0.0/16]"] = true
	if err := h.SetNetwork("tele0", routesA); err == nil {
		t.Error("no error")
	}
	// Some of it may be in place: it is undone.
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	f.expect(t, "set tele0 [10.96.0.0/16]", "set tele0 []")
}
