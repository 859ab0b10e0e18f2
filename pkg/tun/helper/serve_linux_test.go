package helper

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/tuntest"
)

// realHost changes the tests' network namespace; DNS is noted only.
func realHost(t *testing.T, dns *[]DNS) (Host, string) {
	t.Helper()
	tuntest.NeedTUN(t)
	journal := filepath.Join(t.TempDir(), "journal")
	h, err := NewHost(HostConfig{
		Journal: journal,
		SetDNS:  func(_ string, d DNS) error { *dns = append(*dns, d); return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return h, journal
}

func TestRealTUN(t *testing.T) {
	leaks(t)
	var dns []DNS
	before, err := tun.ExistingRoutes()
	if err != nil {
		t.Fatal(err)
	}
	h, journal := realHost(t, &dns)
	c, ended := converse(t, h)
	dev, err := c.OpenTUN(t.Context(), tun.MaxMTU)
	if err != nil {
		t.Fatal(err)
	}
	if dev.MTU() != tun.MaxMTU {
		t.Errorf("mtu %d", dev.MTU())
	}
	iface, err := net.InterfaceByName(dev.Name())
	if err != nil || iface.MTU != tun.MaxMTU {
		t.Fatalf("interface %s: %+v, %v", dev.Name(), iface, err)
	}
	if err := c.SetNetwork(t.Context(), good()); err != nil {
		t.Fatal(err)
	}
	if err := c.SetDNS(t.Context(), dnsA); err != nil {
		t.Fatal(err)
	}
	// A packet to a route of ours comes out of the descriptor that was sent.
	out, err := net.Dial("udp", "10.96.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	if _, err := out.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, tun.MaxMTU)
	for {
		n, err := dev.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if buf[0]>>4 == 4 && n > 28 && string(buf[28:n]) == "hello" {
			break
		}
	}
	if _, err := os.Stat(journal); err != nil {
		t.Error(err)
	}
	// The session dies: its socket and its device go.
	_ = c.conn.Close()
	_ = dev.Close()
	if err := end(t, ended); err != nil {
		t.Errorf("helper ended with %v", err)
	}
	if _, err := net.InterfaceByName(dev.Name()); err == nil {
		t.Error("the device is still there")
	}
	after, err := tun.ExistingRoutes()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before, after) {
		t.Errorf("routes before %v, after %v", before, after)
	}
	if len(dns) != 2 || !dns[1].Empty() {
		t.Errorf("dns: %v", dns)
	}
	missing(t, journal)
}

// The helper undoes its work also while the session holds the device.
func TestRealTUNClose(t *testing.T) {
	leaks(t)
	var dns []DNS
	h, _ := realHost(t, &dns)
	c, ended := converse(t, h)
	dev, err := c.OpenTUN(t.Context(), 1500)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dev.Close() }()
	if err := c.SetNetwork(t.Context(), good()); err != nil {
		t.Fatal(err)
	}
	overlap := tun.Network{Addrs: good().Addrs, Routes: append(good().Routes, prefixes("10.0.0.0/8")...)}
	other, err := tun.Open(1500)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := tun.NewRouter().Set(other.Name(), tun.Network{Addrs: prefixes("10.200.0.1/24")}); err != nil {
		t.Fatal(err)
	}
	err = c.SetNetwork(t.Context(), overlap)
	if e, ok := errors.AsType[*Error](err); !ok || !e.Refused {
		t.Errorf("over a route of %s: %v", other.Name(), err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := end(t, ended); err != nil {
		t.Error(err)
	}
	routes, err := tun.Routes()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Dev == dev.Name() {
			t.Errorf("route %s is still there", r.Prefix)
		}
	}
}

// TestKilledHelper kills a helper of its own process with SIGKILL and finds
// what it did in the journal.
func TestKilledHelper(t *testing.T) {
	tuntest.NeedTUN(t)
	if journal := os.Getenv("TELE_TEST_JOURNAL"); journal != "" {
		h, err := NewHost(HostConfig{Journal: journal, SetDNS: func(string, DNS) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.SetDNS("tele9", dnsA), syscall.Kill(os.Getpid(), syscall.SIGKILL)); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	journal := filepath.Join(t.TempDir(), "journal")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestKilledHelper$")
	cmd.Env = append(os.Environ(), "TELE_TEST_JOURNAL="+journal)
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v: %s", err, out)
	}
	cleaned := false
	if err := cleanUp(HostConfig{Journal: journal, CleanUpDNS: func() error { cleaned = true; return nil }}); err != nil {
		t.Fatal(err)
	}
	if !cleaned {
		t.Error("dns was not undone")
	}
	missing(t, journal)
}

// A folder and a socket of the user are not enough: the process that answers
// must be the user's too.
func TestServeRefusesPeer(t *testing.T) {
	leaks(t)
	const nobody = 65534
	dir := socketDir(t)
	path := filepath.Join(dir, socketName)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := errors.Join(os.Chown(path, nobody, -1), os.Chown(dir, nobody, -1)); err != nil {
		t.Skipf("SKIPPED: needs root: %v", err)
	}
	h := newFakeHost()
	if err := Serve(t.Context(), path, nobody, h, nil); err == nil || !strings.Contains(err.Error(), "peer is uid") {
		t.Errorf("served a session of uid %d: %v", os.Getuid(), err)
	}
	<-h.closed
}

// While a helper runs, the end of its terminal does not end it.
func TestSurvivesHangup(t *testing.T) {
	leaks(t)
	c, ended := converse(t, newFakeHost())
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.OpenTUN(t.Context(), 1); err == nil {
		t.Error("mtu 1")
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := end(t, ended); err != nil {
		t.Error(err)
	}
}
