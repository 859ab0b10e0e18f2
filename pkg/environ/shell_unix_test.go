//go:build unix

package environ

import (
	"bytes"
	"os/exec"
	"slices"
	"testing"
)

// TestShells: a shell sets what it is told, to the byte.
func TestShells(t *testing.T) {
	var script bytes.Buffer
	unwritten, err := Write(&script, Sh, append(oddVariables(), Variable{"a.b", "x"}, Variable{"9", "x"}, Variable{"", "x"}, Variable{"X;id", "x"}, Variable{"UID", "5"}))
	if err != nil || !slices.Equal(unwritten, []string{"a.b", "9", "", "X;id", "UID"}) {
		t.Errorf("unwritten %q, %v", unwritten, err)
	}
	for _, shell := range []string{"sh", "bash"} {
		cmd := exec.Command(shell, "-c", script.String()+"exec env -0")
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", shell, err)
			continue
		}
		got, err := ParseNUL(out)
		if err != nil {
			t.Errorf("%s: %v", shell, err)
		}
		for _, v := range oddVariables() {
			if !slices.Contains(got, v) {
				t.Errorf("%s does not set %q", shell, v)
			}
		}
	}
}
