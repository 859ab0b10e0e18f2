//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestConnectAway: a session that was frozen or cut off for longer than any
// limit of the tunnel works again by itself.
func TestConnectAway(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		away, back func(*testing.T, connected)
		time.Duration
	}{
		"Frozen": {
			func(t *testing.T, c connected) { sendSignal(t, pidOf(t, c.Desk, sessionArg), syscall.SIGSTOP) },
			func(t *testing.T, c connected) { sendSignal(t, pidOf(t, c.Desk, sessionArg), syscall.SIGCONT) },
			15 * time.Second,
		},
		"CutOff": {
			func(t *testing.T, c connected) {
				if err := c.LinkDown(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			func(t *testing.T, c connected) {
				if err := c.LinkUp(t.Context()); err != nil {
					t.Fatal(err)
				}
			},
			10 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connect(t)
			c.answers(t, time.Now())
			test.away(t, c)
			wait(t, test.Duration)
			begin := time.Now()
			test.back(t, c)
			took := c.answers(t, begin)
			t.Logf("answers %.2f s after the return", took.Seconds())
			if took > soon {
				t.Errorf("answers %s after the return, not within %s", took, soon)
			}
			poll(t, "status says that the agent is reached", func(context.Context) error {
				if agent := c.network(t).Agent; !agent.Up {
					return errors.New(agent.Error)
				}
				return nil
			})
			tele(t, c.Desk, "quit")
			c.asBefore(t, time.Now(), soon)
		})
	}
}

// TestConnectAgentDeleted: somebody deletes the agent; the session makes
// another, and the laptop's network stays.
func TestConnectAgentDeleted(t *testing.T) {
	t.Parallel()
	c := connect(t)
	for name, remove := range map[string]func(pod, job string) error{
		"pod": func(pod, _ string) error {
			return world.Admin.CoreV1().Pods(namespace).Delete(t.Context(), pod, metav1.DeleteOptions{})
		},
		"Job": func(_, job string) error {
			background := metav1.DeletePropagationBackground
			return world.Admin.BatchV1().Jobs(namespace).Delete(t.Context(), job, metav1.DeleteOptions{PropagationPolicy: &background})
		},
	} {
		first := c.network(t)
		job := jobOf(t, first.Agent.Pod)
		begin := time.Now()
		if err := remove(first.Agent.Pod, job); err != nil {
			t.Fatal(err)
		}
		var second string
		poll(t, "the session has another agent", func(context.Context) error {
			agent := c.network(t).Agent
			second = agent.Pod
			if second == first.Agent.Pod || !agent.Up {
				return fmt.Errorf("%+v", agent)
			}
			return nil
		})
		took := c.answers(t, begin)
		t.Logf("%s deleted: answers after %.1f s", name, took.Seconds())
		agentGone(t, first.Agent.Pod, job)
		if now := c.network(t); now.Device != first.Device || now.DNS != first.DNS {
			t.Errorf("the laptop's network was %+v, now %+v", first, now)
		}
	}
	last := c.network(t).Agent.Pod
	job := jobOf(t, last)
	tele(t, c.Desk, "quit")
	agentGone(t, last, job)
	c.asBefore(t, time.Now(), soon)
}

// TestConnectForeground: Ctrl-C and SIGTERM end a session in the foreground,
// and it puts everything back.
func TestConnectForeground(t *testing.T) {
	t.Parallel()
	desk := newDesk(t)
	c := connected{desk, machineOf(t, desk)}
	cmd := desk.Tele(t.Context(), "connect", "--foreground")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 20)
	if _, err := out.Read(line); err != nil || !strings.HasPrefix(string(line), "Connected") {
		t.Errorf("connect --foreground says %q, %v: %s", line, err, said.String())
	}
	c.answers(t, time.Now())
	begin := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("connect --foreground ended with %v: %s", err, said.String())
	}
	c.asBefore(t, begin, soon)
}
