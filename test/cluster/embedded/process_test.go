package embedded

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21\n"
	for _, tt := range []struct {
		name, text, state string
		start             uint64
		wrong             bool
	}{
		{name: "plain", text: "7 (sleep)" + tail, state: "S", start: 4711},
		{name: "hostile name", text: "7 (a) Z 1 (b)" + tail, state: "S", start: 4711},
		{name: "empty", wrong: true},
		{name: "short", text: "7 (sleep) S 1", wrong: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start, state, err := parseStat(tt.text)
			if (err != nil) != tt.wrong || start != tt.start || state != tt.state {
				t.Errorf("start %d state %q error %v, want %d, %q", start, state, err, tt.start, tt.state)
			}
		})
	}
}

func TestStop(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	for _, tt := range []struct {
		name   string
		script string
		grace  time.Duration
	}{
		{"obeys", "exec sleep 100", 10 * time.Second},
		{"stubborn", "trap '' TERM; echo; while :; do sleep 100; done", 50 * time.Millisecond},
		{"no grace", "exec sleep 100", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", tt.script)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			p, err := identify(cmd.Process.Pid)
			if err != nil {
				t.Fatal(err)
			}
			if !p.alive() {
				t.Fatal("started, and not alive")
			}
			if other := (process{PID: p.PID, Start: p.Start + 1}); other.alive() {
				t.Error("a process of the same ID and another start is taken for it")
			} else if err := other.signal(os.Kill); err != nil || !p.alive() {
				t.Error("the wrong process was signalled")
			}
			if err := stop(t.Context(), p, tt.grace); err != nil {
				t.Error(err)
			}
			if err := <-ended; err == nil {
				t.Error("ended by itself")
			}
			if p.alive() {
				t.Error("still alive")
			}
		})
	}
}

func TestMountsBelow(t *testing.T) {
	const mountinfo = `22 27 0:21 / /proc rw - proc proc rw
30 27 0:1 / /a/b rw - tmpfs tmpfs rw
31 27 0:2 / /a/b/c\040d rw - tmpfs tmpfs rw
32 27 0:2 / /a/bc rw - tmpfs tmpfs rw
short line
33 27 0:3 / /a rw - tmpfs tmpfs rw
`
	want := []string{"/a/b/c d", "/a/b"}
	if got := mountsBelow(mountinfo, "/a/b"); !slices.Equal(got, want[:1]) {
		t.Errorf("below /a/b: %q, want %q", got, want[:1])
	}
	if got := mountsBelow(mountinfo, "/a"); !slices.Equal(got, append([]string{"/a/bc"}, want...)) {
		t.Errorf("below /a: %q", got)
	}
}
