//go:build linux

package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/test/cluster/embedded"
)

// Desk is a laptop with a person at it, who types commands.
type Desk struct {
	*embedded.Laptop
	User string

	rig         *Rig
	kubeconfigs string // a folder of those that lead to a relay; empty: the cluster's own
}

// Desk opens a laptop of that name for a user; Close it.
func (r *Rig) Desk(ctx context.Context, name, user string) (*Desk, error) {
	laptop, err := r.Cluster.NewLaptop(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open laptop %s: %w", name, err)
	}
	return &Desk{Laptop: laptop, User: user, rig: r}, nil
}

// As is the same laptop with another user's kubeconfig.
func (d *Desk) As(user string) *Desk {
	return &Desk{Laptop: d.Laptop, User: user, rig: d.rig, kubeconfigs: d.kubeconfigs}
}

// Tele is `kubectl tele ARGS` with this tree's agent; it has not been started.
func (d *Desk) Tele(ctx context.Context, args ...string) *exec.Cmd {
	cmd := d.Command(ctx, d.User, append([]string{d.rig.Plugin}, args...)...)
	cmd.Env = append(cmd.Env, "TELE_AGENT_IMAGE="+d.rig.AgentImage)
	return cmd
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Run runs a command to its end. The error is about running it; a command that
// fails has a Code. A command that has a Stdout keeps it.
func Run(cmd *exec.Cmd) (Result, error) {
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	err := cmd.Run()
	result := Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if cmd.ProcessState != nil {
		result.Code = cmd.ProcessState.ExitCode()
	}
	if _, failed := errors.AsType[*exec.ExitError](err); failed && result.Code > 0 {
		err = nil
	}
	if err != nil {
		return result, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, result.Stderr)
	}
	return result, nil
}

// Rig is what the laptop belongs to.
func (d *Desk) Rig() *Rig { return d.rig }
