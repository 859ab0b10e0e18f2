package api

import "testing"

func TestParseVolume(t *testing.T) {
	want := Volume{Here: "/.tele/volumes/0", Path: "/etc/app"}
	if v, err := ParseVolume(want.String()); err != nil || v != want {
		t.Errorf("%v, %v", v, err)
	}
	for _, bad := range []string{"", "/a", "a:/b", "/a:b", "/a:/b:/c", "/a/:/b", "/a/../c:/b", "/a:"} {
		if v, err := ParseVolume(bad); err == nil {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
}
