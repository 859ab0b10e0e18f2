package main

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestInteropCases: the interop server passes the cases, and those that are not
// known are named.
func TestInteropCases(t *testing.T) {
	address := start(t, "interop")
	var out bytes.Buffer
	args := append([]string{"interop-call", "-header", "x-tele-user:alice", address}, slices.Sorted(maps.Keys(interopCases))...)
	if err := run(t.Context(), args, strings.NewReader(""), &out, &out); err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(out.String()); got != "16" {
		t.Errorf("%s calls, want 16", got)
	}
	if err := run(t.Context(), []string{"interop-call", address, "frob"}, strings.NewReader(""), &out, &out); err == nil {
		t.Error("an unknown case passes")
	}
}
