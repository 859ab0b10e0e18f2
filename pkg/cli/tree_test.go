package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

var update = flag.Bool("update", false, "write testdata/commands.golden")

// visible are all commands that a person is told of.
func visible(t *testing.T) []*cobra.Command {
	t.Helper()
	streams, _, _, _ := genericiooptions.NewTestIOStreams()
	var all []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		all = append(all, cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(NewCommand(streams))
	return all
}

func TestCommandsAreDocumented(t *testing.T) {
	for _, cmd := range visible(t) {
		name := cmd.CommandPath()
		if !strings.HasPrefix(name, "kubectl tele") {
			t.Errorf("%q does not begin with what people type", name)
		}
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s lacks Short, Long or Example", name)
		}
		if strings.HasSuffix(cmd.Short, ".") || strings.ToUpper(cmd.Short[:1]) != cmd.Short[:1] {
			t.Errorf("%s: Short %q is no heading", name, cmd.Short)
		}
		if cmd.HasParent() && cmd.GroupID == "" {
			t.Errorf("%s is in no group", name)
		}
		examples := 0
		for line := range strings.Lines(cmd.Example) {
			line = strings.TrimRight(line, "\n")
			switch {
			case line == "", strings.HasPrefix(line, "  # "):
			case strings.HasPrefix(line, "  "+name), !cmd.HasParent() && strings.HasPrefix(line, "  kubectl tele "):
				examples++
			default:
				t.Errorf("%s: example line %q", name, line)
			}
		}
		if examples == 0 {
			t.Errorf("%s has no example", name)
		}
		for line := range strings.Lines(cmd.Long) {
			if len([]rune(line)) > 120 {
				t.Errorf("%s: a line of Long is %d wide", name, len([]rune(line)))
			}
		}
	}
}

// What the examples show must be understood: every flag in them exists.
func TestExamplesParse(t *testing.T) {
	for _, cmd := range visible(t) {
		for line := range strings.Lines(cmd.Example) {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, "kubectl tele") {
				continue
			}
			streams, _, _, _ := genericiooptions.NewTestIOStreams()
			found, rest, err := NewCommand(streams).Find(strings.Fields(line)[2:])
			if err != nil || found.CommandPath() != cmd.CommandPath() && cmd.HasParent() {
				t.Errorf("%q is %v, %v", line, found, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
	}
}

// The names of commands and flags are a promise: scripts use them.
func TestCommandsGolden(t *testing.T) {
	var b strings.Builder
	for _, cmd := range visible(t) {
		fmt.Fprintf(&b, "%s\n    %s\n", cmd.UseLine(), cmd.Short)
		if cmd.HasParent() { // the root's are kubectl's own
			for line := range strings.Lines(cmd.LocalFlags().FlagUsages()) {
				b.WriteString("  " + line)
			}
		}
		b.WriteString("\n")
	}
	path := filepath.Join("testdata", "commands.golden")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("commands or flags have changed (-update accepts it):\n%s", got)
	}
}
