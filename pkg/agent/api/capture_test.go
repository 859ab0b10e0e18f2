package api

import "testing"

func TestParseCapture(t *testing.T) {
	if c, err := ParseCapture("18080:8080"); err != nil || c != (Capture{Listen: 18080, App: 8080}) || c.String() != "18080:8080" {
		t.Errorf("%v, %v", c, err)
	}
	for _, bad := range []string{"", "8080", "0:1", "1:0", "1:65536", "-1:2", "a:b", "1:2:3"} {
		if c, err := ParseCapture(bad); err == nil {
			t.Errorf("%q was read as %v", bad, c)
		}
	}
}
