package cluster

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

	agentapi "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

// jobDeleteLimit bounds removing an agent's Job. A Job that stays is removed by
// its time to live.
const jobDeleteLimit = 10 * time.Second

// ownAgentLanes is how many lanes the own agent's tunnel has at least: the first
// is kept free of bulk, so that interactive flows do not queue behind it.
const ownAgentLanes = 2

// agentPod is a pod with an agent that was made through a Job. The caller that
// receives it from makeAgentPod calls remove.
type agentPod struct {
	cluster   *Cluster
	job       string
	pod, node string

	link     *Link // nil until the pod has a node
	starting atomic.Bool
	stop     context.CancelFunc // ends the link
	ended    chan struct{}      // closed when the link has ended
	err      error              // why the link has ended; set before ended is closed
}

// makeAgentPod makes the Job and returns when the agent of its pod has been
// reached, or when its container runs. On failure the Job is removed.
func (c *Cluster) makeAgentPod(ctx context.Context, image string, p api.Progress) (*agentPod, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	// Each Job has its own name, as the one before it may still be going away.
	token, err := NewToken(4)
	if err != nil {
		return nil, err
	}
	owner := c.cfg.Owner
	job, err := inject.ConnectJob(inject.JobOptions{
		Agent:     inject.Options{Image: image, Key: key},
		Namespace: c.cfg.Namespace,
		Owner:     inject.Owner{User: owner.User, Host: owner.Host, Session: owner.Session, Since: owner.Since},
	})
	if err != nil {
		return nil, err
	}
	job.Name += "-" + token
	created, err := c.cfg.Client.BatchV1().Jobs(c.cfg.Namespace).Create(ctx, job, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create the agent's Job in namespace %s: %w", c.cfg.Namespace, err)
	}
	a := &agentPod{cluster: c, job: created.Name, ended: make(chan struct{})}
	if err := a.start(ctx, key, p); err != nil {
		return nil, errors.Join(err, a.remove(context.WithoutCancel(ctx)))
	}
	return a, nil
}

// errDialled ends the watch of a pod whose agent has been reached.
var errDialled = errors.New("the agent has been reached")

// start watches the agent's pod until the agent runs. It dials the agent as soon
// as the pod has a node: a kubelet reports up to a second late that a container
// runs.
func (a *agentPod) start(ctx context.Context, key []byte, p api.Progress) error {
	a.starting.Store(true)
	defer a.starting.Store(false)
	watchCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(errDialled)
	dialled := make(chan error, 1)
	err := a.cluster.waitAgentPod(watchCtx, a.job, p, func(pod *corev1.Pod) {
		if a.link != nil || pod.Spec.NodeName == "" {
			return
		}
		a.run(ctx, pod, key)
		go func() {
			defer close(dialled)
			if _, err := a.link.Wait(watchCtx); watchCtx.Err() == nil {
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

// run keeps the tunnel to the pod's agent up until stop is called.
func (a *agentPod) run(ctx context.Context, pod *corev1.Pod, key []byte) {
	a.pod, a.node = pod.Name, pod.Spec.NodeName
	a.link = a.cluster.NewLink(LinkConfig{
		Pod: a.pod, Port: agentapi.DefaultControlPort, Key: key,
		Use: "connect", MinLanes: ownAgentLanes, Ended: a.hasEnded,
	})
	ctx, a.stop = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(a.ended)
		a.err = a.link.Run(ctx)
	}()
}

// hasEnded returns why the agent cannot come back, nil if it may or if that is not
// known. While the agent starts, start decides instead.
func (a *agentPod) hasEnded(ctx context.Context) error {
	if a.starting.Load() {
		return nil
	}
	ctx, cancel := RequestContext(ctx)
	defer cancel()
	// A list, as getting a pod would take one right more.
	found, err := a.cluster.cfg.Client.CoreV1().Pods(a.cluster.cfg.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, a.pod).String(),
	})
	if err != nil {
		return nil
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
	err := inject.DeleteJob(ctx, a.cluster.cfg.Client, a.cluster.cfg.Namespace, a.job)
	var answer apierrors.APIStatus
	if err != nil && !errors.As(err, &answer) && ctx.Err() == nil {
		// The connection to the API server may have been dead without a sign;
		// the second request is made on a new one.
		err = inject.DeleteJob(ctx, a.cluster.cfg.Client, a.cluster.cfg.Namespace, a.job)
	}
	if err != nil {
		return fmt.Errorf("the agent's Job stays until it has been unused for a while: %w", err)
	}
	return nil
}
