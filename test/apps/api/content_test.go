package api

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
)

func TestContentIsTheSameForAnyReader(t *testing.T) {
	for _, n := range []int64{0, 1, 65521, 65522, 200_000} {
		whole, err := io.ReadAll(Content(n))
		if err != nil || int64(len(whole)) != n {
			t.Fatalf("%d: %d bytes, %v", n, len(whole), err)
		}
		halves, _ := io.ReadAll(iotest.HalfReader(Content(n)))
		if !bytes.Equal(whole, halves) {
			t.Errorf("%d: content depends on the reads", n)
		}
	}
	// Anchors the content: the tests' programs of two versions must agree.
	want := Sum{Bytes: 1 << 20, SHA256: "abb45b92bcc456609fd4e08fa5a93ab3098edc2da70efed979861e7e59b6ba4b"}
	if got := ContentSum(1 << 20); got != want {
		t.Errorf("content = %+v, want %+v", got, want)
	}
}
