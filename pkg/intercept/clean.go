package intercept

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Clean puts back what sessions left in the namespace, from the records on the
// objects alone. What a live session uses, or may use, is skipped without Force.
// It returns how much there was.
func Clean(ctx context.Context, c *cluster.Cluster, spec api.CleanSpec, p api.Progress) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, spec.Timeout, fmt.Errorf("not clean within %s", spec.Timeout))
	defer cancel()
	only := func(workload.Ref) bool { return true }
	if spec.Workload != "" {
		ref, err := c.Kinds().Parse(spec.Workload)
		if err != nil {
			return 0, err
		}
		only = func(r workload.Ref) bool { return r == ref }
	}
	findCtx, cancelFind := cluster.RequestContext(ctx)
	defer cancelFind()
	found, err := inject.Find(findCtx, c.Client(), c.Kinds(), c.Namespace())
	if err != nil {
		return 0, c.Explain(ctx, err, "")
	}
	k := &cleaner{cluster: c, spec: spec, progress: p}
	var errs []error
	n := 0
	for _, l := range found {
		took, err := k.leftover(ctx, l, only)
		if took {
			n++
		}
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

// cleaner cleans the objects one by one.
type cleaner struct {
	cluster  *cluster.Cluster
	spec     api.CleanSpec
	progress api.Progress
	done     []workload.Ref // workloads that have been looked at
}

// leftover puts one object back. took reports whether it is one to put back.
func (k *cleaner) leftover(ctx context.Context, l inject.Leftover, only func(workload.Ref) bool) (took bool, err error) {
	switch {
	case l.Workload != nil && only(l.Ref):
		return true, k.workload(ctx, l.Ref)
	case l.Service != nil && l.Record != nil && only(l.Record.Workload):
		return true, k.workload(ctx, l.Record.Workload)
	case l.Job != nil && k.spec.Workload == "":
		return k.job(ctx, l)
	case l.Revision != nil && k.spec.Workload == "":
		return true, k.revision(ctx, l)
	}
	return false, nil
}

// workload puts a workload and its Services back, once.
func (k *cleaner) workload(ctx context.Context, ref workload.Ref) error {
	if slices.Contains(k.done, ref) {
		return nil
	}
	k.done = append(k.done, ref)
	r := &release{
		cluster: k.cluster, ref: ref, progress: k.progress,
		takes: func(inject.Owner) bool { return k.spec.Force },
	}
	w, err := r.read(ctx)
	if err != nil {
		return err
	}
	if w != nil && inject.Injected(w) {
		if r.agents, err = k.cluster.Agents(w); err != nil {
			return err
		}
		defer r.agents.Close()
		if reason := inUse(w, r.agents.Ask(ctx)); reason != "" {
			if !k.spec.Force {
				k.progress.Warn(fmt.Sprintf("%s: skipped (--force takes it)", reason))
				return nil
			}
			k.progress.Warn(reason + ": taken all the same")
		}
	}
	if k.spec.DryRun {
		k.progress.Done("would put back " + ref.String())
		return nil
	}
	return r.run(ctx)
}

// inUse says who intercepts the workload, or why that is not known; "" if nobody
// does.
func inUse(w *workload.Workload, census cluster.Census) string {
	if owners := census.Owners(); len(owners) > 0 {
		return fmt.Sprintf("%s is intercepted by %s", w, strings.Join(owners, ", "))
	}
	recorded, err := inject.Owners(w.Object)
	if err != nil {
		return ""
	}
	for _, o := range recorded {
		if s, reason := standingOf(w, o, census); s == unknown {
			return fmt.Sprintf("%s is perhaps intercepted by %s: %s", w, o, reason)
		}
	}
	return ""
}

// job removes a session's own agent unless the session is alive.
func (k *cleaner) job(ctx context.Context, l inject.Leftover) (took bool, err error) {
	if !k.spec.Force && k.jobInUse(ctx, l) {
		k.progress.Warn(fmt.Sprintf("%s is the agent of a live session: skipped (--force takes it)", l))
		return false, nil
	}
	if k.spec.DryRun {
		k.progress.Done("would delete " + l.String())
		return true, nil
	}
	if err := inject.DeleteJob(ctx, k.cluster.Client(), k.cluster.Namespace(), l.Name); err != nil {
		return true, err
	}
	k.progress.Done(l.String() + " removed")
	return true, nil
}

// jobInUse asks the Job's agent whether a session other than this question is
// there.
func (k *cleaner) jobInUse(ctx context.Context, l inject.Leftover) bool {
	pods, err := k.cluster.Client().CoreV1().Pods(k.cluster.Namespace()).List(ctx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + l.Name})
	if err != nil {
		return false
	}
	for i := range pods.Items {
		info, err := k.cluster.AskPod(ctx, &pods.Items[i])
		if err == nil && slices.ContainsFunc(info.Sessions, func(s string) bool { return !strings.HasPrefix(s, cluster.AskPrefix) }) {
			return true
		}
	}
	return false
}

func (k *cleaner) revision(ctx context.Context, l inject.Leftover) error {
	if k.spec.DryRun {
		k.progress.Done("would delete " + l.String())
		return nil
	}
	kinds := k.cluster.Kinds()
	for _, kind := range kinds {
		if kind.Resource().Singular == l.Revision.Of {
			return kind.Controller(k.cluster.Client()).DeleteRevision(ctx, *l.Revision)
		}
	}
	return fmt.Errorf("%s belongs to no kind that this program knows", l)
}
