package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/environ"
)

// TestLacks: an environment that is not what the spec declares is not believed.
func TestLacks(t *testing.T) {
	own := []environ.Variable{{Name: "PATH", Value: "/bin"}, {Name: "COLOR", Value: ""}}
	for name, c := range map[string]struct {
		own      []environ.Variable
		declared []string
		want     string
	}{
		"has them":         {own, []string{"COLOR"}, ""},
		"nothing declared": {own, nil, ""},
		"written over":     {own[:1], []string{"COLOR"}, "lacks COLOR"},
		"empty":            {nil, nil, "is empty"},
	} {
		err := lacks(c.own, c.declared)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestIsNoCommand(t *testing.T) {
	for text, want := range map[string]bool{
		`exec failed: unable to start container process: exec: "cat": executable file not found in $PATH`: true,
		"cat: /proc/1/environ: Permission denied":                                                         false,
		"pods \"back-1\" is forbidden":                                                                    false,
	} {
		if got := isNoCommand(errors.New(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
