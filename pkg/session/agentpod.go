package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

// jobDeleteLimit bounds removing an agent's Job; its time to live removes it
// in any case.
const jobDeleteLimit = 10 * time.Second

// connectLanes is how many lanes connect's tunnel has at least: the first is
// kept free of bulk, so that small talk does not queue up behind it.
const connectLanes = 2

// jobNameLabel is how Kubernetes marks the pods of a Job.
const jobNameLabel = "batch.kubernetes.io/job-name"

// agentPod is a pod with an agent that the session has made, through a Job.
// Who has it removes it.
type agentPod struct {
	session   *Session
	job       string
	pod, node string

	link     *link // nil until the pod has a node
	starting atomic.Bool
	stop     context.CancelFunc // ends the link
	ended    chan struct{}      // closed when the link has ended
	err      error              // why it has, then
}

// makeAgentPod makes the Job and returns when the agent of its pod has been
// reached, or is known to have been started. On failure the Job is gone again.
func (s *Session) makeAgentPod(ctx context.Context, image string, p Progress) (*agentPod, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	// Each Job has a name of its own: the one before may still be on its way out.
	run, err := newToken(4)
	if err != nil {
		return nil, err
	}
	owner := s.cfg.Owner
	job, err := inject.ConnectJob(inject.JobOptions{
		Agent:     inject.Options{Image: image, Key: key},
		Namespace: s.cfg.Namespace,
		Owner:     inject.Owner{User: owner.User, Host: owner.Host, Session: owner.Session, Since: owner.Since},
	})
	if err != nil {
		return nil, err
	}
	job.Name += "-" + run
	created, err := s.client.BatchV1().Jobs(s.cfg.Namespace).Create(ctx, job, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create the agent's Job in namespace %s: %w", s.cfg.Namespace, err)
	}
	a := &agentPod{session: s, job: created.Name, ended: make(chan struct{})}
	if err := a.start(ctx, key, p); err != nil {
		return nil, errors.Join(err, a.remove(context.WithoutCancel(ctx)))
	}
	return a, nil
}

// errDialled ends the watch of a pod whose agent has been reached.
var errDialled = errors.New("the agent has been reached")

// start watches the agent's pod until its agent runs. The agent is dialled as
// soon as the pod has a node: a kubelet says up to a second late what it has
// started.
func (a *agentPod) start(ctx context.Context, key []byte, p Progress) error {
	a.starting.Store(true)
	defer a.starting.Store(false)
	watchCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(errDialled)
	dialled := make(chan error, 1)
	err := a.session.watchAgentPod(watchCtx, a.job, p, func(pod *corev1.Pod) {
		if a.link != nil || pod.Spec.NodeName == "" {
			return
		}
		a.run(ctx, pod, key)
		go func() {
			defer close(dialled)
			if _, err := a.link.wait(watchCtx); watchCtx.Err() == nil {
				dialled <- err
				cancel(errDialled)
			}
		}()
	})
	if a.link == nil || err == nil {
		return err
	}
	cancel(errDialled)
	if dialErr, ok := <-dialled; ok {
		return dialErr
	}
	return err
}

// run keeps the tunnel to the pod's agent up until stop.
func (a *agentPod) run(ctx context.Context, pod *corev1.Pod, key []byte) {
	a.pod, a.node = pod.Name, pod.Spec.NodeName
	a.link = a.session.link(a.pod, api.DefaultControlPort, key, "connect", refuseAll)
	a.link.gone = a.gone
	a.link.cfg.MinLanes = connectLanes
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(a.ended)
		a.err = a.link.run(ctx)
	}()
}

// gone returns why the agent cannot come back, nil if it may. While it starts,
// the watch knows.
func (a *agentPod) gone(ctx context.Context) error {
	if a.starting.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, apiTimeout, fmt.Errorf("the API server did not answer within %s", apiTimeout))
	defer cancel()
	// A list, as getting a pod would take one right more.
	found, err := a.session.client.CoreV1().Pods(a.session.cfg.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, a.pod).String(),
	})
	if err != nil {
		return nil // not known
	}
	if len(found.Items) == 0 {
		return fmt.Errorf("pod %s is gone", a.pod)
	}
	pod := &found.Items[0]
	switch {
	case pod.DeletionTimestamp != nil:
		return fmt.Errorf("pod %s is being deleted", a.pod)
	case pod.Status.Phase == corev1.PodSucceeded, pod.Status.Phase == corev1.PodFailed:
		return fmt.Errorf("pod %s has ended: %s %s", a.pod, pod.Status.Phase, pod.Status.Reason)
	}
	return nil
}

// remove ends the tunnel and removes the Job and its pod. It may be called again.
func (a *agentPod) remove(ctx context.Context) error {
	if a.link != nil {
		a.stop()
		<-a.ended
	}
	ctx, cancel := context.WithTimeout(ctx, jobDeleteLimit)
	defer cancel()
	err := inject.DeleteJob(ctx, a.session.client, a.session.cfg.Namespace, a.job)
	var answer apierrors.APIStatus
	if err != nil && !errors.As(err, &answer) && ctx.Err() == nil {
		// A connection to the API server may have died without a word; the next
		// is a new one.
		err = inject.DeleteJob(ctx, a.session.client, a.session.cfg.Namespace, a.job)
	}
	if err != nil {
		return fmt.Errorf("the agent's Job stays until it has been unused for a while: %w", err)
	}
	return nil
}

// watchAgentPod shows each state of the Job's pod to seen, and returns when its
// agent runs, or at once when it cannot.
func (s *Session) watchAgentPod(ctx context.Context, job string, p Progress, seen func(*corev1.Pod)) error {
	pods := s.client.CoreV1().Pods(s.cfg.Namespace)
	selector := jobNameLabel + "=" + job
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			return pods.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			return pods.Watch(ctx, o)
		},
	}
	last := "its pod has not been made"
	_, err := watchtools.UntilWithSync(ctx, lw, &corev1.Pod{}, nil, func(e watch.Event) (bool, error) {
		pod, ok := e.Object.(*corev1.Pod)
		if !ok {
			return false, nil
		}
		if err := inject.PodFailure(pod); err != nil {
			return false, err
		}
		if said := podWaits(pod); said != "" && said != last {
			last = said
			p.doing("agent " + pod.Name + ": " + said)
		}
		seen(pod)
		return agentStarted(pod), nil
	})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errDialled) {
			err = fmt.Errorf("%s: %w", last, cause)
			if why := s.jobEvents(context.WithoutCancel(ctx), job); why != "" {
				err = fmt.Errorf("%w (%s)", err, why)
			}
		}
		return fmt.Errorf("start the agent of Job %s: %w", job, err)
	}
	return nil
}

// jobEvents returns the last warning about the Job: a quota or an admission
// policy that refuses its pod speaks only there.
func (s *Session) jobEvents(ctx context.Context, job string) string {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	events, err := s.client.CoreV1().Events(s.cfg.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.name": job, "type": corev1.EventTypeWarning}.String(),
	})
	if err != nil || len(events.Items) == 0 {
		return ""
	}
	return events.Items[len(events.Items)-1].Message
}

// podWaits says in a few words what a pod is waiting for.
func podWaits(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "not scheduled: " + c.Message
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return w.Reason
		}
	}
	return ""
}
