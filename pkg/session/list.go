package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

// WorkloadState is what List says of a workload.
type WorkloadState string

// The states of a workload.
const (
	// Ready: nobody intercepts it.
	Ready WorkloadState = "ready"
	// Intercepted: at least one live session does.
	Intercepted WorkloadState = "intercepted"
	// LeftBehind: it carries an agent that no live session uses.
	LeftBehind WorkloadState = "left-behind"
)

// Workload is a Deployment and who intercepts it.
type Workload struct {
	Name       string          `json:"name"`
	Namespace  string          `json:"namespace"`
	Replicas   int32           `json:"replicas"`
	Ready      int32           `json:"ready"`
	State      WorkloadState   `json:"state"`
	Owners     []WorkloadOwner `json:"owners,omitempty"`
	Capture    []string        `json:"capture,omitempty"`
	AgentImage string          `json:"agentImage,omitempty"`
}

// WorkloadOwner is one intercept, anybody's.
type WorkloadOwner struct {
	User  string    `json:"user"`
	Host  string    `json:"host"`
	ID    string    `json:"id"`
	Port  uint16    `json:"port"`
	Since time.Time `json:"since"`
	// Live says whether an agent has the intercept in force now.
	Live bool `json:"live"`
}

// List returns the Deployments of the namespace in the order of their names,
// with everybody's intercepts.
func (c *Cluster) List(ctx context.Context) ([]Workload, error) {
	deps, err := c.client.AppsV1().Deployments(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.explain(ctx, fmt.Errorf("list Deployments in namespace %s: %w", c.namespace, err), "")
	}
	out := make([]Workload, len(deps.Items))
	var wg sync.WaitGroup
	for i := range deps.Items {
		wg.Go(func() { out[i] = c.describe(ctx, &deps.Items[i]) })
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b Workload) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (c *Cluster) describe(ctx context.Context, dep *appsv1.Deployment) Workload {
	w := Workload{
		Name: dep.Name, Namespace: dep.Namespace,
		Replicas: replicasOf(dep), Ready: dep.Status.ReadyReplicas, State: Ready,
	}
	if !inject.Injected(dep) {
		return w
	}
	w.State = LeftBehind
	infos, err := c.agentsOf(ctx, dep)
	if err != nil {
		c.log.Debug("agents not asked", "deployment", dep.Name, "err", err)
	}
	live := liveIn(infos)
	if a, ok := inject.AgentIn(&dep.Spec.Template.Spec); ok {
		w.AgentImage = a.Image
	}
	rec, err := inject.ReadRecord(dep)
	if err != nil || rec == nil {
		return w
	}
	for _, capture := range rec.Captures {
		w.Capture = append(w.Capture, capture.String())
	}
	for _, o := range rec.Owners {
		w.Owners = append(w.Owners, WorkloadOwner{User: o.User, Host: o.Host, ID: o.ID, Port: o.Port, Since: o.Since, Live: live[o.ID]})
		if live[o.ID] {
			w.State = Intercepted
		}
	}
	return w
}
