package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// CleanSpec says what Clean puts back.
type CleanSpec struct {
	Workload string // "" is everything
	Force    bool
	DryRun   bool
	Timeout  time.Duration
}

// Clean puts back what sessions left in the namespace, from the records on the
// objects alone. What a live session uses is skipped without Force. It returns
// how much there was.
func (c *Cluster) Clean(ctx context.Context, spec CleanSpec, p Progress) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, spec.Timeout, fmt.Errorf("not clean within %s", spec.Timeout))
	defer cancel()
	want := ""
	if spec.Workload != "" {
		ref, err := workload.ParseRef(spec.Workload)
		if err != nil {
			return 0, err
		}
		want = ref.Name
	}
	findCtx, cancelFind := context.WithTimeoutCause(ctx, apiTimeout, fmt.Errorf("the API server did not answer within %s", apiTimeout))
	defer cancelFind()
	found, err := inject.Find(findCtx, c.client, c.namespace)
	if err != nil {
		return 0, c.explain(ctx, err, "")
	}
	var names []string
	var errs []error
	n := 0
	for _, l := range found {
		switch {
		case l.Deployment != nil && (want == "" || l.Name == want):
			n++
			names = append(names, l.Name)
		case l.Service != nil && l.Record != nil:
			name := strings.TrimPrefix(l.Record.Workload, "deployment/")
			if want == "" || name == want {
				n++
				names = append(names, name)
			}
		case l.Job != nil && want == "":
			if c.cleanJob(ctx, l, spec, p, &errs) {
				n++
			}
		case l.ReplicaSet != nil && want == "":
			n++
			if spec.DryRun {
				p.done("would delete " + l.String())
				continue
			}
			errs = append(errs, inject.DeleteReplicaSet(ctx, c.client, l.ReplicaSet))
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		errs = append(errs, c.cleanWorkload(ctx, name, spec, p))
	}
	return n, errors.Join(errs...)
}

func (c *Cluster) cleanWorkload(ctx context.Context, name string, spec CleanSpec, p Progress) error {
	infos := func(ctx context.Context) []api.Info {
		dep, err := c.client.AppsV1().Deployments(c.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil
		}
		found, err := c.agentsOf(ctx, dep)
		if err != nil {
			c.log.Debug("agents not asked", "err", err)
		}
		return found
	}
	now := infos(ctx)
	live := liveIn(now)
	if len(live) > 0 && !spec.Force {
		p.warn(fmt.Sprintf("deployment/%s is intercepted by %s: skipped (--force takes it)", name, ownersOf(now)))
		return nil
	}
	if spec.DryRun {
		p.done("would put back deployment/" + name)
		return nil
	}
	gone := func(dep *appsv1.Deployment, o inject.Owner) bool {
		return spec.Force || !live[o.ID] && !starting(dep, o, now)
	}
	return c.release(ctx, name, gone, infos, p)
}

// cleanJob removes a session's own agent unless the session is alive; it
// returns whether there was something to remove.
func (c *Cluster) cleanJob(ctx context.Context, l inject.Leftover, spec CleanSpec, p Progress, errs *[]error) bool {
	if !spec.Force && c.jobInUse(ctx, l) {
		p.warn(fmt.Sprintf("%s is the agent of a live session: skipped (--force takes it)", l))
		return false
	}
	if spec.DryRun {
		p.done("would delete " + l.String())
		return true
	}
	if err := inject.DeleteJob(ctx, c.client, c.namespace, l.Name); err != nil {
		*errs = append(*errs, err)
		return true
	}
	p.done(l.String() + " removed")
	return true
}

// jobInUse asks the Job's agent whether a session other than this question is
// there.
func (c *Cluster) jobInUse(ctx context.Context, l inject.Leftover) bool {
	pods, err := c.client.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: jobNameLabel + "=" + l.Name})
	if err != nil {
		return false
	}
	for _, info := range c.askAgents(ctx, pods.Items) {
		if slices.ContainsFunc(info.Sessions, func(s string) bool { return !strings.HasPrefix(s, askPrefix) }) {
			return true
		}
	}
	return false
}

// ownersOf names who intercepts at these agents.
func ownersOf(infos []api.Info) string {
	var names []string
	for _, info := range infos {
		for _, c := range info.Captures {
			if c.Holder != nil {
				names = append(names, c.Holder.Owner.User+"@"+c.Holder.Owner.Host)
			}
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}
