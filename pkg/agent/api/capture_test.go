package api

import "testing"

func TestParseCapture(t *testing.T) {
	if c, err := ParseCapture("18080:8080"); err != nil || c != (Capture{Listen: 18080, App: 8080}) || c.String() != "18080:8080" {
		t.Errorf("%v, %v", c, err)
	}
	if c, err := ParseCapture("15353:53/udp"); err != nil || c != (Capture{Listen: 15353, App: 53, Protocol: UDP}) || c.String() != "15353:53/udp" {
		t.Errorf("%v, %v", c, err)
	}
	for _, bad := range []string{"", "8080", "0:1", "1:0", "1:65536", "-1:2", "a:b", "1:2:3", "1:2/tcp", "1:2/", "1:2/UDP", "1:0/udp", "1/udp:2"} {
		if c, err := ParseCapture(bad); err == nil {
			t.Errorf("%q was read as %v", bad, c)
		}
	}
}
