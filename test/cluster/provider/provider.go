// Package provider gives end-to-end tests a cluster: the embedded one, or one
// that exists elsewhere (kind, k3d, a cloud) when the environment names it.
//
//	TELE_TEST_KUBECONFIG    a kubeconfig of somebody who may make namespaces and bindings there
//	TELE_TEST_AGENT_IMAGE   the agent's image, where that cluster can pull it
//	TELE_TEST_APPS_IMAGE    the test applications' image, likewise (optional)
//	TELE_TEST_LAPTOP        "embedded": reach that cluster through the embedded cluster's laptop,
//	                        which proves the whole with the embedded cluster as the foreign one
//
// It decides which cluster, and says what does not apply to it. The clusters
// themselves are package embedded's.
package provider

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/test/cluster/embedded"
)

// The environment that chooses a cluster.
const (
	EnvKubeconfig = "TELE_TEST_KUBECONFIG"
	EnvAgentImage = "TELE_TEST_AGENT_IMAGE"
	EnvAppsImage  = "TELE_TEST_APPS_IMAGE"
	EnvLaptop     = "TELE_TEST_LAPTOP"
)

// Capability is something tests do that not every cluster allows.
type Capability string

// What may be lacking.
const (
	// LoadImages: Load puts an image into the nodes.
	LoadImages Capability = "load images"
	// Components: Stop, Start, Kill and Restart of the API server and others.
	Components Capability = "restart components"
	// Nodes: StopNode and StartNode.
	Nodes Capability = "stop nodes"
	// Network: Dial, Listen and Command reach pods and Services.
	Network Capability = "reach the cluster's network"
	// Audit: AuditLog says what users asked the API server for.
	Audit Capability = "read the audit log"
)

// Cluster is a cluster for tests, with namespaces shop, open and other and
// users admin, alice and bob.
type Cluster struct {
	*embedded.Cluster
	// AgentImage and AppsImage are images that the cluster can pull; empty on
	// the embedded one, where tests load their own.
	AgentImage, AppsImage string

	lacks map[Capability]string
}

// Get returns the cluster that the environment asks for, booting the embedded
// one if need be.
func Get(ctx context.Context, log func(string)) (*Cluster, error) {
	return get(ctx, log, os.Getenv)
}

func get(ctx context.Context, log func(string), getenv func(string) string) (*Cluster, error) {
	where, err := choose(getenv)
	if err != nil {
		return nil, err
	}
	if where == nil {
		c, err := embedded.Up(ctx, embedded.Options{Log: log})
		if err != nil {
			return nil, err
		}
		return &Cluster{Cluster: c}, nil
	}
	if getenv(EnvLaptop) == "embedded" {
		c, err := embedded.Up(ctx, embedded.Options{Log: log})
		if err != nil {
			return nil, err
		}
		where.NetNS = c.Laptop("default").NetNS()
	}
	c, err := embedded.Attach(ctx, embedded.Options{Log: log}, *where)
	if err != nil {
		return nil, err
	}
	return &Cluster{Cluster: c, AgentImage: getenv(EnvAgentImage), AppsImage: getenv(EnvAppsImage), lacks: foreignLacks()}, nil
}

// choose reads the environment: nil is the embedded cluster.
func choose(getenv func(string) string) (*embedded.Foreign, error) {
	kubeconfig, image := getenv(EnvKubeconfig), getenv(EnvAgentImage)
	if laptop := getenv(EnvLaptop); laptop != "" && laptop != "embedded" {
		return nil, fmt.Errorf("%s is %q, want embedded or nothing", EnvLaptop, laptop)
	}
	switch {
	case kubeconfig == "" && image == "":
		if getenv(EnvLaptop) != "" {
			return nil, errors.New(EnvLaptop + " needs " + EnvKubeconfig)
		}
		return nil, nil
	case kubeconfig == "":
		return nil, fmt.Errorf("%s is set and %s is not", EnvAgentImage, EnvKubeconfig)
	case image == "":
		return nil, fmt.Errorf("%s is set and %s is not: an image of this version that the cluster can pull", EnvKubeconfig, EnvAgentImage)
	}
	return &embedded.Foreign{Kubeconfig: kubeconfig}, nil
}

func foreignLacks() map[Capability]string {
	const reason = "the cluster is elsewhere: "
	return map[Capability]string{
		LoadImages: reason + "its nodes pull images from a registry",
		Components: reason + "its control plane is not ours",
		Nodes:      reason + "its nodes are not ours",
		Network:    reason + "its network is reached through its API server alone",
		Audit:      reason + "its audit log is not readable",
	}
}

// Lacks says why a capability does not apply; empty if it does.
func (c *Cluster) Lacks(what Capability) string { return c.lacks[what] }

// Skipper is what Need wants of a test.
type Skipper interface {
	Helper()
	Name() string
	Skipf(format string, args ...any)
}

// Need skips a test that needs what the cluster lacks, saying why.
func (c *Cluster) Need(t Skipper, capabilities ...Capability) {
	t.Helper()
	for _, what := range capabilities {
		if why := c.Lacks(what); why != "" {
			fmt.Fprintf(os.Stderr, "NOT RUN: %s: does not apply: %s (%s)\n", t.Name(), what, why)
			t.Skipf("does not apply: %s (%s)", what, why)
		}
	}
}

// Report lists what does not apply, one a line, for the head of a test run.
func (c *Cluster) Report() string {
	var lines []string
	for what, why := range c.lacks {
		lines = append(lines, fmt.Sprintf("does not apply: %s (%s)", what, why))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
