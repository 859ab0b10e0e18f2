package embedded

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Status tells how a cluster is.
type Status struct {
	Healthy    bool // all components run, both nodes are Ready, DNS answers
	Problem    string
	Version    string
	Dir        string
	Booted     time.Time
	Boot       time.Duration // what the boot took
	Nodes      []NodeStatus
	Components []ComponentStatus
	Laptops    []string
}

// NodeStatus is one node.
type NodeStatus struct {
	Name, Address, PodRange string
	Ready                   bool
	Runtime                 string
}

// ComponentStatus is one program of the cluster.
type ComponentStatus struct {
	Name    string
	PID     int
	Running bool
}

// Status looks at a cluster; ErrNotRunning if there is none.
func (c *Cluster) Status(ctx context.Context) (Status, error) {
	s := Status{Version: "v" + kubernetesVersion, Dir: c.opt.Dir, Laptops: c.Laptops()}
	fresh, err := loadState(c.opt.Dir)
	if err != nil {
		return s, errors.Join(ErrNotRunning, err)
	}
	s.Booted, s.Boot = fresh.Booted, fresh.Boot
	for _, name := range c.Components() {
		component := ComponentStatus{Name: name}
		if p := fresh.Processes[name]; p != nil {
			component.PID, component.Running = p.PID, p.alive()
		}
		if !component.Running && s.Problem == "" {
			s.Problem = name + " does not run"
		}
		s.Components = append(s.Components, component)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if c.IsForeign() {
		s.Version = "elsewhere, at " + fresh.Foreign.Server
		s.Healthy = s.Problem == ""
		return s, nil
	}
	if err := c.nodeStatus(ctx, &s); err != nil && s.Problem == "" {
		s.Problem = err.Error()
	}
	if s.Problem == "" {
		if err := c.dnsAnswers(ctx); err != nil {
			s.Problem = "DNS: " + err.Error()
		}
	}
	s.Healthy = s.Problem == ""
	return s, nil
}

func (c *Cluster) nodeStatus(ctx context.Context, s *Status) error {
	admin, err := c.client("admin")
	if err != nil {
		return err
	}
	var problem error
	for _, n := range nodes() {
		status := NodeStatus{Name: n.name, Address: n.address, PodRange: n.podRange}
		var object *corev1.Node
		object, err := admin.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
		if err == nil {
			var message string
			message, status.Ready = nodeReady(object)
			status.Runtime = object.Status.NodeInfo.ContainerRuntimeVersion
			if !status.Ready {
				err = errors.New(n.name + " is not Ready: " + message)
			}
		}
		if problem == nil {
			problem = err
		}
		s.Nodes = append(s.Nodes, status)
	}
	return problem
}
