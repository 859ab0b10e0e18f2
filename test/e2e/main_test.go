//go:build linux

// Package e2e proves what users are promised: on a real API server, kubelet
// and container runtime, as alice, who has the ClusterRole `edit` in namespace
// shop and nothing else. Every test has a laptop and applications of its own,
// so that all of them share one cluster and run side by side.
package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// parallelTests is how many tests run side by side if -parallel does not say:
// they mostly wait for pods, whatever the number of cores.
const parallelTests = "8"

// bootLimit covers building Kubernetes once on a slow machine.
const bootLimit = 40 * time.Minute

// world is the cluster that all tests share.
var world *rig.Rig

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", parallelTests); err != nil {
		panic(err)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "e2e: NOT RUN: the embedded cluster needs root (network namespaces, containerd)")
		if os.Getenv("CI") != "" {
			return 1, nil
		}
		return 0, nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "tele-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeoutCause(ctx, bootLimit, fmt.Errorf("the cluster was not ready within %s", bootLimit))
	defer cancel()
	world, err = rig.New(ctx, rig.Options{Dir: dir, Log: func(line string) { fmt.Fprintln(os.Stderr, "e2e:", line) }})
	if err != nil {
		return 1, err
	}
	if err := world.Deploy(ctx, manifests.Shop("", "")...); err != nil {
		return 1, err
	}
	// Sessions change the resolver of a laptop, never of this machine.
	before, _ := os.ReadFile(resolvConf)
	code := m.Run()
	if after, _ := os.ReadFile(resolvConf); !bytes.Equal(before, after) {
		return 1, fmt.Errorf("%s of this machine was changed: before\n%s\nafter\n%s", resolvConf, before, after)
	}
	return code, nil
}

const resolvConf = "/etc/resolv.conf"
