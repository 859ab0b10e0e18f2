//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	control "github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/portforward"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

const (
	appName = "bench"
	// udpName is one that answers by UDP.
	udpName = "bench-udp"
	// clientName is the Deployment that asks from inside the cluster.
	clientName = "bench-client"
	// readyLimit bounds waiting for something that takes a second.
	readyLimit  = time.Minute
	forwardPort = 18080
	// tunnelPort is where the app has the end of a tunnel of its own.
	tunnelPort = 9099
)

// stage is one laptop that reaches the one pod in every way.
type stage struct {
	settings
	desk    *rig.Desk
	say     func(string)
	pod     corev1.Pod
	app     string // IP:PORT of the pod
	forward *portforward.Dialer

	agent  *corev1.Pod // of the session; these are there between up and down
	tunnel *tunnel.Tunnel
	stops  []func()
}

func newStage(ctx context.Context, s settings, desk *rig.Desk, say func(string)) (*stage, error) {
	pod, err := onlyPod(ctx, desk.Rig())
	if err != nil {
		return nil, err
	}
	config, err := desk.RESTConfig()
	if err != nil {
		return nil, err
	}
	b := &stage{settings: s, desk: desk, say: say, pod: pod}
	b.app = net.JoinHostPort(b.pod.Status.PodIP, fmt.Sprint(manifests.AppPort))
	b.forward, err = portforward.New(config)
	return b, err
}

// onlyPod waits until a rollout has left one pod of the app.
func onlyPod(ctx context.Context, world *rig.Rig) (pod corev1.Pod, err error) {
	var names []string
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, readyLimit, true, func(ctx context.Context) (bool, error) {
		pods, err := world.Admin.CoreV1().Pods(manifests.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + appName})
		if err != nil || len(pods.Items) == 0 {
			return false, err
		}
		names = nil
		for _, p := range pods.Items {
			names = append(names, p.Name)
		}
		pod = pods.Items[0]
		return len(names) == 1 && pod.Status.Phase == corev1.PodRunning, nil
	})
	if err != nil {
		return pod, fmt.Errorf("want one pod to measure, have %v: %w", names, err)
	}
	return pod, nil
}

// dialer dials the app one way, whatever the address.
func (b *stage) dialer(w Way) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		switch w {
		case Tele:
			return b.desk.Dial(ctx, "tcp", b.app)
		case PortForward:
			return b.desk.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", forwardPort))
		case Tunnel:
			return b.tunnel.Open(ctx, tunnel.Target{Network: "tcp", Address: b.app})
		case Bare, Bare4:
			return b.forward.Dial(ctx, manifests.Namespace, b.pod.Name, manifests.AppPort)
		default:
			return nil, fmt.Errorf("no way %q", w)
		}
	}
}

// up makes all ways ready. Call down in any case.
func (b *stage) up(ctx context.Context) error {
	if err := must(b.desk.Tele(ctx, "connect", "--quiet")); err != nil {
		return err
	}
	if err := b.reachable(ctx, Tele); err != nil {
		return err
	}
	status, err := b.status(ctx)
	if err != nil {
		return err
	}
	if b.agent, err = b.desk.Rig().Admin.CoreV1().Pods(manifests.Namespace).Get(ctx, status.Network.Agent.Pod, metav1.GetOptions{}); err != nil {
		return err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		return b.forward.Dial(ctx, manifests.Namespace, b.pod.Name, tunnelPort)
	}
	if b.tunnel, err = tunnel.Dial(ctx, dial, tunnel.Config{Key: api.TunnelKey(), Session: "bench", MaxLanes: 1}); err != nil {
		return err
	}
	b.stops = append(b.stops, func() { _ = b.tunnel.Close() })
	return b.portForward(ctx)
}

// portForward starts kubectl port-forward and returns when it answers.
func (b *stage) portForward(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	cmd := b.desk.Command(ctx, b.desk.User, "kubectl", "port-forward", "-n", manifests.Namespace, "pod/"+b.pod.Name, fmt.Sprintf("%d:%d", forwardPort, manifests.AppPort))
	if err := cmd.Start(); err != nil {
		cancel()
		return err
	}
	b.stops = append(b.stops, func() {
		cancel()
		_ = cmd.Wait()
	})
	return b.reachable(ctx, PortForward)
}

// down ends what up has made, but for the session.
func (b *stage) down() {
	for _, stop := range b.stops {
		stop()
	}
	b.stops = nil
}

// reachable polls until the app answers.
func (b *stage) reachable(ctx context.Context, w Way) error {
	client := b.client(w, 1, true)
	err := wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, readyLimit, true, func(ctx context.Context) (bool, error) {
		return b.ask(ctx, client) == nil, nil
	})
	if err != nil {
		return fmt.Errorf("through %s: %w", w, err)
	}
	return nil
}

// status is that of the session that is connected.
func (b *stage) status(ctx context.Context) (control.Status, error) {
	session, err := b.session(ctx)
	if err == nil && session.Network == nil {
		err = errors.New("the session has no network")
	}
	return session, err
}

// session is the status of the one that there is.
func (b *stage) session(ctx context.Context) (control.Status, error) {
	result, err := rig.Run(b.desk.Tele(ctx, "status", "-o", "json"))
	if err != nil {
		return control.Status{}, err
	}
	var all struct {
		Sessions []control.Status `json:"sessions"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &all); err != nil {
		return control.Status{}, fmt.Errorf("read the status: %w", err)
	}
	if len(all.Sessions) != 1 {
		return control.Status{}, fmt.Errorf("%d sessions, not one", len(all.Sessions))
	}
	return all.Sessions[0], nil
}

func must(cmd *exec.Cmd) error {
	result, err := rig.Run(cmd)
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("%s: exit code %d\n%s%s", strings.Join(cmd.Args, " "), result.Code, result.Stdout, result.Stderr)
	}
	return err
}
