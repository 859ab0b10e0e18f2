package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/environ"
	"github.com/kubectl-tele/kubectl-tele/pkg/portforward"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

const (
	// outputLimit bounds a command in a container that prints a little.
	outputLimit = 5 * time.Second
	// maxOutput bounds what it prints, in bytes. Linux gives a new process at most
	// 2 MiB of environment and arguments by default.
	maxOutput = 4 << 20
)

// environs are the commands that show a container's environment. The first shows that of
// the process itself, with what an entrypoint has added, unless the process has written
// over it; the second that of new processes, which is the container's.
var environs = [][]string{{"cat", "/proc/1/environ"}, {"env", "-0"}}

// Environment returns the environment of a workload's container: as its process has it in
// a running pod, where the image has a command that shows it and the user may exec; else
// computed from the cluster's objects, with Missing saying why it is not the process's.
// An empty container means the one that `kubectl exec` would take. of names the pod to ask
// rather than another; "" is any. source says of which container and pod it is. Nothing is
// changed.
func (c *Cluster) Environment(ctx context.Context, w *workload.Workload, container, of string) (env environ.Environment, source string, err error) {
	pod, err := c.runningPod(ctx, w, of)
	if err != nil {
		return env, "", err
	}
	var why error
	if pod == nil {
		pod, why = workload.TemplatePod(w), errNotRunning
	}
	if container == "" {
		container = workload.DefaultContainer(pod)
	}
	if err := w.HasContainer(container); err != nil {
		return env, "", err
	}
	source = fmt.Sprintf("container %s of the template of %s", container, w)
	if why == nil {
		source = fmt.Sprintf("container %s of pod/%s", container, pod.Name)
		var own []environ.Variable
		if own, why = c.processEnv(ctx, pod, container); why == nil {
			return environ.Environment{Variables: own}, source, nil
		}
	}
	computed, err := workload.Env(ctx, c.Client(), pod, container)
	if err != nil {
		return env, "", err
	}
	computed.Missing = append(computed.Missing, fmt.Sprintf("what the image and its entrypoint set: %v", why))
	return computed, source, nil
}

var errNotRunning = errors.New("no pod of it is running")

// runningPod returns a pod of a workload that runs, the one of that name rather than another,
// then a ready one, or nil.
func (c *Cluster) runningPod(ctx context.Context, w *workload.Workload, name string) (pod *corev1.Pod, err error) {
	pods, err := w.Kind.Controller(c.Client()).Pods(ctx, w)
	for i := range pods {
		p := &pods[i]
		switch {
		case p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning:
		case p.Name == name:
			return p, nil
		case pod == nil || Ready(p):
			pod = p
		}
	}
	return pod, err
}

// Ready reports whether all containers of a pod are.
func Ready(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// processEnv asks a container for its environment. What lacks a variable that the spec
// declares is not believed: a process may write over its own, and an exec may lose the
// end of what it prints.
func (c *Cluster) processEnv(ctx context.Context, pod *corev1.Pod, container string) ([]environ.Variable, error) {
	var why error
	for i, command := range environs {
		if i == 0 && (pod.Spec.HostPID || pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace) {
			continue // the first process is not the container's
		}
		out, err := c.output(ctx, portforward.ExecAddr{Namespace: pod.Namespace, Pod: pod.Name, Container: container, Command: command})
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case apierrors.IsForbidden(rootStatus(err)):
			return nil, err
		}
		var own []environ.Variable
		if err == nil {
			own, err = environ.ParseNUL(out)
		}
		if err == nil {
			err = lacks(own, workload.DeclaredEnv(&pod.Spec, container))
		}
		if err == nil {
			return own, nil
		}
		if isNoCommand(err) {
			err = errNoCommand
		}
		if why == nil || errors.Is(why, errNoCommand) {
			why = fmt.Errorf("%s in pod %s: %w", strings.Join(command, " "), pod.Name, err)
		}
	}
	if errors.Is(why, errNoCommand) {
		why = errors.New("the image has neither cat nor env")
	}
	return nil, why
}

// errNoCommand is that an image has no such command.
var errNoCommand = errors.New("no such command")

// isNoCommand recognizes that by what container runtimes say of it.
func isNoCommand(err error) bool {
	return strings.Contains(err.Error(), "executable file not found") || strings.Contains(err.Error(), "no such file or directory")
}

func lacks(own []environ.Variable, declared []string) error {
	env := environ.Environment{Variables: own}
	for _, name := range declared {
		if !env.Has(name) {
			return fmt.Errorf("its environment lacks %s", name)
		}
	}
	if len(own) == 0 {
		return errors.New("its environment is empty")
	}
	return nil
}

// output runs a command in a container and returns what it prints.
func (c *Cluster) output(ctx context.Context, target portforward.ExecAddr) ([]byte, error) {
	if c.dialer == nil {
		return nil, errors.New("there is no connection to the API server")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, outputLimit, fmt.Errorf("no answer within %s", outputLimit))
	defer cancel()
	conn, err := c.dialer.Exec(target)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	out, err := io.ReadAll(io.LimitReader(conn, maxOutput+1))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err == nil && len(out) > maxOutput:
		return nil, fmt.Errorf("it prints more than %d bytes", maxOutput)
	}
	return out, err
}
