package mount

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// needFUSE skips a test where this machine cannot mount. In CI that is a failure.
func needFUSE(t *testing.T) {
	t.Helper()
	err := available()
	if err == nil {
		var device *os.File
		if device, err = os.OpenFile("/dev/fuse", os.O_RDWR, 0); err == nil {
			_ = device.Close()
			return
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("files cannot be mounted in CI: %v", err)
	}
	t.Skipf("NOT TESTED, files cannot be mounted on this machine: %v", err)
}

// mounted shows the folder there, to be written, in the folder here until the test ends.
func mounted(t *testing.T, there string) (here string, a *agents) {
	t.Helper()
	needFUSE(t)
	before := goleak.IgnoreCurrent()
	a = &agents{dir: there, write: true}
	m, err := New(t.Context(), Config{Dir: t.TempDir() + "/m", Write: true, Open: a.open, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		a.cut()
		goleak.VerifyNone(t, before)
	})
	return m.cfg.Dir + "/v", a
}

func open(t *testing.T, name string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func say(t *testing.T, f *os.File, text string) {
	t.Helper()
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
}

func wantText(t *testing.T, name, want string) {
	t.Helper()
	if text, err := os.ReadFile(name); err != nil || string(text) != want {
		t.Errorf("%s is %.100q, %v; want %.100q", name, text, err, want)
	}
}

// TestAppend: what is appended here and there is kept, whoever was first.
func TestAppend(t *testing.T) {
	there := t.TempDir()
	here, _ := mounted(t, there)
	big := strings.Repeat("0123456789", 30_000)
	for name, flags := range map[string]int{"new": os.O_WRONLY | os.O_CREATE, "old": os.O_RDWR} {
		if name == "old" {
			put(t, there+"/old", "", 0o644)
		}
		laptop := open(t, here+"/"+name, flags|os.O_APPEND)
		pod := open(t, there+"/"+name, os.O_WRONLY|os.O_APPEND)
		say(t, laptop, "laptop 1\n")
		say(t, pod, "pod 1\n")
		say(t, laptop, "laptop 2\n")
		say(t, pod, big)
		say(t, laptop, big)
		say(t, laptop, "laptop 3\n")
		want := "laptop 1\npod 1\nlaptop 2\n" + big + big + "laptop 3\n"
		wantText(t, there+"/"+name, want)
		if info, err := laptop.Stat(); err != nil || info.Size() != int64(len(want)) {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		wantText(t, here+"/"+name, want)
	}
}
