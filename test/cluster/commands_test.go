package main

import (
	"io"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for _, tt := range []struct {
		name    string
		args    []string
		wantErr string
	}{
		{"unknown command", []string{"uup"}, "unknown command"},
		{"kubeconfig of nobody", []string{"kubeconfig"}, "accepts 1 arg"},
		{"laptop without a command", []string{"laptop"}, "requires at least 1 arg"},
		{"load nothing", []string{"load"}, "requires at least 1 arg"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := newCommand()
			cmd.SetArgs(tt.args)
			cmd.SetOut(io.Discard)
			cmd.SetErr(io.Discard)
			if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestEveryCommandSaysWhatItDoes(t *testing.T) {
	for _, cmd := range newCommand().Commands() {
		if cmd.Short == "" {
			t.Errorf("%s has no short help", cmd.Name())
		}
	}
}
