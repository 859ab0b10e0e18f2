//go:build linux

package splice_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// TestIdlePairsHoldNoPipes: a pair needs no open files but its own, before and after
// there was something to copy.
func TestIdlePairsHoldNoPipes(t *testing.T) {
	files := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	const pairs = 50
	before := files()
	for range pairs {
		client, server, result := joined(t.Context(), t)
		for _, text := range []string{"hello", string(bytes.Repeat([]byte("x"), 300_000))} {
			go func() { _, _ = io.WriteString(client, text) }()
			got := make([]byte, len(text))
			if _, err := io.ReadFull(server, got); err != nil || string(got) != text {
				t.Fatalf("read %.20q, %v", got, err)
			}
		}
		t.Cleanup(func() {
			_ = splice.Reset(client)
			if err := <-result; err == nil {
				t.Error("no error after a reset")
			}
		})
	}
	// A few pipes may be kept for the next.
	if n := files() - before; n > 4*pairs+64 {
		t.Errorf("%d pairs have %d open files", pairs, n)
	}
}
