package session

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/portforward"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Cluster is one namespace of one cluster, for what needs no session: to list
// what everybody has there, and to put it back. Its methods may be called
// concurrently.
type Cluster struct {
	server    string
	namespace string
	client    kubernetes.Interface
	forward   *portforward.Dialer
	byExec    atomic.Bool // the user may not port-forward, but exec
	log       *slog.Logger
}

// API requests come in bursts (a rollout, several replicas), never in a steady
// stream: client-go's default of 5 a second would be felt as slowness.
const (
	apiQPS   = 50
	apiBurst = 100
)

// apiTimeout bounds one request to the API server that is not a watch.
const apiTimeout = 8 * time.Second

// NewCluster makes the clients; it does not talk to the cluster.
func NewCluster(cfg *rest.Config, namespace string) (*Cluster, error) {
	restConfig := rest.CopyConfig(cfg)
	restConfig.QPS, restConfig.Burst = apiQPS, apiBurst
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", cfg.Host, err)
	}
	forward, err := portforward.New(cfg)
	if err != nil {
		return nil, err
	}
	return &Cluster{server: cfg.Host, namespace: namespace, client: client, forward: forward, log: slog.New(slog.DiscardHandler)}, nil
}

// Namespace is the namespace that the Cluster is about.
func (c *Cluster) Namespace() string { return c.namespace }

// askLimit bounds asking one agent who its sessions are. An agent that does
// not answer in this time has none.
const askLimit = 4 * time.Second

// askPrefix begins the session of a tunnel that only asks.
const askPrefix = "ask-"

// askAgents asks the agents of these pods, all at once. Those that cannot be
// reached are left out.
func (c *Cluster) askAgents(ctx context.Context, pods []corev1.Pod) []api.Info {
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, fmt.Errorf("no answer within %s", askLimit))
	defer cancel()
	var (
		mu    sync.Mutex
		infos []api.Info
		wg    sync.WaitGroup
	)
	for _, pod := range pods {
		access, ok := inject.AgentIn(&pod.Spec)
		if !ok || !agentStarted(&pod) {
			continue
		}
		wg.Go(func() {
			info, err := c.askAgent(ctx, pod.Name, access)
			if err != nil {
				c.log.Debug("agent does not tell", "pod", pod.Name, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			infos = append(infos, info)
		})
	}
	wg.Wait()
	return infos
}

func (c *Cluster) askAgent(ctx context.Context, pod string, access inject.Agent) (api.Info, error) {
	session, err := newToken(8)
	if err != nil {
		return api.Info{}, err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		return c.dialAgent(ctx, pod, access.ControlPort)
	}
	t, err := tunnel.Dial(ctx, dial, tunnel.Config{Key: access.Key, Session: askPrefix + session, Log: c.log})
	if err != nil {
		return api.Info{}, err
	}
	defer func() { _ = t.Close() }()
	return askInfo(ctx, t)
}

// agentStarted says whether the pod's agent process has been started; it may
// not listen yet.
func agentStarted(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for _, s := range list {
			if s.Name == api.ContainerName {
				return s.State.Running != nil
			}
		}
	}
	return false
}

// agentsOf asks the agents of a Deployment.
func (c *Cluster) agentsOf(ctx context.Context, dep *appsv1.Deployment) ([]api.Info, error) {
	pods, err := workload.Pods(ctx, c.client, dep)
	if err != nil {
		return nil, err
	}
	return c.askAgents(ctx, pods), nil
}

// liveIn returns the IDs of the intercepts that these agents have in force.
func liveIn(infos []api.Info) map[string]bool {
	live := map[string]bool{}
	for _, info := range infos {
		for _, capture := range info.Captures {
			if capture.Holder != nil {
				live[capture.Holder.ID] = true
			}
		}
	}
	return live
}
