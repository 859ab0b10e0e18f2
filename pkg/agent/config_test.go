package agent

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// parseCaptures reads LISTEN:APP.
func parseCaptures(t *testing.T, texts ...string) (out []api.Capture) {
	t.Helper()
	for _, text := range texts {
		c, err := api.ParseCapture(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func TestConfig(t *testing.T) {
	ip := []netip.Addr{netip.MustParseAddr("10.1.2.3")}
	for _, test := range []struct {
		name string
		cfg  Config
		want string // "" is fine
	}{
		{"fine", Config{Key: testKey, PodIPs: ip, Captures: parseCaptures(t, "8081:8080")}, ""},
		{"no key", Config{}, "key has 0 bytes"},
		{"captures without address", Config{Key: testKey, Captures: parseCaptures(t, "8081:8080")}, "need the pod's address"},
		{"loopback", Config{Key: testKey, PodIPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, "127.0.0.1 is not one"},
		{"loopback 6", Config{Key: testKey, PodIPs: []netip.Addr{netip.IPv6Loopback()}}, "::1 is not one"},
		{"unspecified", Config{Key: testKey, PodIPs: []netip.Addr{netip.IPv4Unspecified()}, AllowLoopback: true}, "0.0.0.0 is not one"},
		{"to itself", Config{Key: testKey, PodIPs: ip, Captures: parseCaptures(t, "8080:8080")}, "forwards to itself"},
		{"to another capture", Config{Key: testKey, PodIPs: ip, Captures: parseCaptures(t, "8081:8080", "8080:9090")}, "capture 8081:8080 forwards to itself"},
		{"twice", Config{Key: testKey, PodIPs: ip, Captures: parseCaptures(t, "8081:8080", "8081:8082")}, "listened on twice"},
		{"control port", Config{Key: testKey, ControlPort: 8081, PodIPs: ip, Captures: parseCaptures(t, "8081:8080")}, "listened on twice"},
	} {
		_, err := test.cfg.withDefaults()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, not %q", test.name, err, test.want)
		}
	}
}

// TestMayDial is about the real rule, without AllowLoopback.
func TestMayDial(t *testing.T) {
	a := &Agent{cfg: Config{ControlPort: 15871}}
	for addr, may := range map[string]bool{
		"10.0.0.1:80": true, "[fd00::1]:80": true, "10.0.0.1:15871": true, "169.254.20.10:53": true,
		"127.0.0.1:80": false, "127.9.9.9:80": false, "[::1]:80": false, "0.0.0.0:80": false, "[::]:80": false,
		"224.0.0.1:80": false, "[ff02::1]:80": false, "[fe80::1%eth0]:80": false,
	} {
		if err := a.mayDial(netip.MustParseAddrPort(addr)); (err == nil) != may {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
