//go:build linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// clientPods are two pods, one a node, from which tests ask Services. All
// tests share them; nobody intercepts them.
var clientPods = sync.OnceValues(func() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	app := manifests.HTTP("client", manifests.Options{NoService: true, Mutate: func(pod *corev1.PodTemplateSpec) {
		pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "client"}},
		}}
	}})
	if err := world.Deploy(ctx, app); err != nil {
		return nil, err
	}
	pods, err := world.Admin.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=client"})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil {
			names = append(names, pod.Name)
		}
	}
	if len(names) < 2 {
		return nil, fmt.Errorf("%d client pods, not 2", len(names))
	}
	return names, nil
})

// nextClient spreads what is asked over the client pods.
var nextClient atomic.Int32

// inCluster is `apps ARGS` inside a client pod.
func inCluster(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return inPod(ctx, someClient(t), args...)
}

// someClient is the pod that is to ask next.
func someClient(t *testing.T) string {
	t.Helper()
	pods := clients(t)
	return pods[int(nextClient.Add(1))%len(pods)]
}

func clients(t *testing.T) []string {
	t.Helper()
	pods, err := clientPods()
	if err != nil {
		t.Fatal(err)
	}
	return pods
}

// inPod is `apps ARGS` inside a pod. What it says just before its end may be lost; of
// `apps held` it is not.
func inPod(ctx context.Context, pod string, args ...string) *exec.Cmd {
	cmd := world.Cluster.KubectlCommand(ctx, "admin",
		append([]string{"exec", "-i", "-n", namespace, pod, "--", manifests.Binary}, args...)...)
	// Over WebSocket, kubectl loses the end of the output now and then: "read
	// message: connection reset by peer".
	cmd.Env = append(cmd.Env, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false")
	return cmd
}

// held runs `apps ARGS` inside a pod, which reads input, to its end. It is an error when
// not all arrives that it says.
func held(ctx context.Context, pod string, input []byte, args ...string) (rig.Result, error) {
	cmd := inPod(ctx, pod, append([]string{"held"}, args...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return rig.Result{}, err
	}
	said := &untilNUL{stdin: stdin}
	cmd.Stdout = said
	var writing sync.WaitGroup
	writing.Go(func() { _, _ = stdin.Write(input) }) // what did not read all says so
	result, err := rig.Run(cmd)
	writing.Wait()
	result.Stdout = said.all.String()
	if err == nil && !said.whole {
		err = fmt.Errorf("%v: the exec ended with code %d after %q and before all was said: %s", cmd.Args, result.Code, result.Stdout, result.Stderr)
	}
	return result, err
}

// untilNUL keeps what is written to it up to a NUL, and then lets who says it end.
type untilNUL struct {
	all   bytes.Buffer
	whole bool
	stdin io.Closer
}

func (u *untilNUL) Write(b []byte) (int, error) {
	said, _, ends := bytes.Cut(b, []byte{0})
	if !u.whole {
		u.all.Write(said)
	}
	if ends {
		u.whole = true
		_ = u.stdin.Close()
	}
	return len(b), nil
}
