package api

import (
	"fmt"
	"io"
	"syscall"
	"testing"
)

// TestFileErrors: what one end names the other knows.
func TestFileErrors(t *testing.T) {
	for name, want := range fileErrors {
		got := FileErrorName(fmt.Errorf("write: %w", want))
		if errno, ok := FileError(got); got != name || !ok || errno != want {
			t.Errorf("%s is told as %q and heard as %v", name, got, errno)
		}
	}
	if name := FileErrorName(io.EOF); name != "" {
		t.Errorf("EOF is told as %q", name)
	}
	if errno, ok := FileError("ENOENT"); ok {
		t.Errorf("ENOENT has a code of SFTP's own, and is heard as %v", errno)
	}
	if name := FileErrorName(syscall.ENOENT); name != "" {
		t.Errorf("ENOENT is told as %q", name)
	}
}

func TestParseVolume(t *testing.T) {
	for _, want := range []Volume{{Here: "/.tele/volumes/0", Path: "/etc/app"}, {Here: "/.tele/volumes/0", Path: "/etc/app", Write: true}} {
		if v, err := ParseVolume(want.String()); err != nil || v != want {
			t.Errorf("%v, %v", v, err)
		}
	}
	for _, bad := range []string{"/a:/b:rw:rw", "/a:rw", ":rw", "", "/a", "a:/b", "/a:b", "/a:/b:/c", "/a/:/b", "/a/../c:/b", "/a:"} {
		if v, err := ParseVolume(bad); err == nil {
			t.Errorf("%q was read as %v", bad, v)
		}
	}
}
