package intercept

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/poll"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// startGrace is how long a session may wait for its own agent to start.
const startGrace = 3 * time.Minute

// Clean puts back what sessions left in the namespace, from the records on the
// objects alone. What a live session uses, or may use, is skipped without Force.
// It returns how much there was.
func Clean(ctx context.Context, c *cluster.Cluster, spec api.CleanSpec, p api.Progress) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, spec.Timeout, fmt.Errorf("not clean within %s", spec.Timeout))
	defer cancel()
	only := func(workload.Ref) bool { return true }
	var named workload.Ref
	if spec.Workload != "" {
		var err error
		if named, err = c.Kinds().Parse(spec.Workload); err != nil {
			return 0, err
		}
		only = func(r workload.Ref) bool { return r == named }
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
	if n == 0 && spec.Workload != "" { // a name that is wrong is not clean
		_, err := c.Kinds().Get(findCtx, c.Client(), c.Namespace(), named)
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
		reason, err := k.inUse(ctx, w, r.agents)
		if err != nil {
			return err
		}
		if reason != "" {
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

const (
	// askEvery is how often agents that will soon know more are asked.
	askEvery = time.Second
	// askLimit bounds that: longer than it takes until a session counts as lost.
	askLimit = 2 * lostGrace
)

// inUse says who intercepts the workload, or why that is not known; "" if nobody
// does. Agents that will soon know more are waited for, unless what they say
// changes nothing.
func (k *cleaner) inUse(ctx context.Context, w *workload.Workload, agents *cluster.Agents) (reason string, err error) {
	said, begun := false, time.Now()
	err = poll.Until(ctx, askEvery, func() (bool, error) {
		var soon bool
		if now, _ := agents.Workload(); now != nil {
			w = now
		}
		reason, soon = useOf(w, agents.Ask(ctx))
		soon = soon && !k.spec.Force && !k.spec.DryRun
		if soon && !said {
			said = true
			k.progress.Doing(reason + ": waiting until that is known")
		}
		return !soon || time.Since(begun) > askLimit, nil
	})
	return reason, err
}

// useOf is inUse for one answer; soon reports whether there will be a better one.
func useOf(w *workload.Workload, census cluster.Census) (reason string, soon bool) {
	if owners := census.Owners(); len(owners) > 0 {
		return fmt.Sprintf("%s is intercepted by %s", w, strings.Join(owners, ", ")), false
	}
	recorded, err := inject.Owners(w.Object)
	if err != nil {
		return "", false
	}
	for _, o := range recorded {
		if v := standingOf(w, o, census); v.standing == unknown {
			return fmt.Sprintf("%s is perhaps intercepted by %s: %s", w, o, v.reason), v.soon
		}
	}
	return "", false
}

// job removes a session's own agent unless the session is alive.
func (k *cleaner) job(ctx context.Context, l inject.Leftover) (took bool, err error) {
	if !k.spec.Force {
		reason, err := k.jobInUse(ctx, l.Job)
		if err != nil {
			return false, err
		}
		if reason != "" {
			k.progress.Warn(reason + ": skipped (--force takes it)")
			return false, nil
		}
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

// jobInUse says that a session other than this question is at the Job's agent, or
// why that is not known; "" if none is.
func (k *cleaner) jobInUse(ctx context.Context, job *batchv1.Job) (reason string, err error) {
	listCtx, cancel := cluster.RequestContext(ctx)
	defer cancel()
	pods, err := k.cluster.Client().CoreV1().Pods(k.cluster.Namespace()).List(listCtx, metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + job.Name})
	if err != nil {
		return "", fmt.Errorf("listing the pods of job/%s: %w", job.Name, err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if !cluster.AgentStarted(pod) {
			continue
		}
		info, err := k.cluster.AskPod(ctx, pod)
		switch {
		case err != nil:
			return fmt.Sprintf("job/%s is perhaps the agent of a live session: %v", job.Name, err), nil
		case slices.ContainsFunc(info.Sessions, func(s string) bool { return !strings.HasPrefix(s, cluster.AskPrefix) }):
			return fmt.Sprintf("job/%s is the agent of a live session", job.Name), nil
		default:
			return "", nil
		}
	}
	ended := slices.ContainsFunc(pods.Items, func(pod corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	})
	if age := time.Since(job.CreationTimestamp.Time); !ended && age < startGrace {
		return fmt.Sprintf("job/%s is perhaps the agent of a live session: it was made %d s ago and has not started", job.Name, int(age.Seconds())), nil
	}
	return "", nil
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
