package datagram

import (
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
)

func TestListed(t *testing.T) {
	const table = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  123: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
  124: 0A01F40A:1B58 0B01F40A:1B59 01 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
  125: 00000000:1B5B 00000000:0000 07 0:0
bad line
  126: xyz:1B5B 00000000:0000 07 0:0
  127: 00000000000000000000000000000000:1B5A 00000000000000000000000000000000:0000 07 0:0
  128: 00000000000000000000000001000000:1B5C 00000000000000000000000000000000:0000 07 0:0
`
	for at, want := range map[string]bool{
		"127.0.0.1:53": true, "127.0.0.2:53": false, "10.244.1.10:7000": false, // which is connected
		"10.244.1.10:7003": true, "[::1]:7003": false, "127.0.0.1:7002": true, "[::1]:7002": true, "[::1]:7004": true, "127.0.0.1:7004": false,
	} {
		if got := listed(strings.NewReader(table), netip.MustParseAddrPort(at)); got != want {
			t.Errorf("%s: %v", at, got)
		}
	}
}

func TestBound(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.LocalAddr().String())
	bound, known := Bound(at)
	if known != (runtime.GOOS == "linux") || bound != known {
		t.Errorf("bound %t, known %t", bound, known)
	}
	_ = l.Close()
	if bound, _ := Bound(at); bound {
		t.Error("still bound")
	}
}
