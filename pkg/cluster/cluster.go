// Package cluster is one namespace of one cluster as its user sees it: the
// clients, the way to agents (by port-forward, or by exec), links that keep a
// tunnel to an agent up, the agent that a session makes for itself, and what the
// errors on the way mean. It does not own what is made of an agent: networks are
// made by pkg/connect and intercepts by pkg/intercept, which hand in what their
// tunnels serve as funcs.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/portforward"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Config says which namespace of which cluster is meant, and for whom.
type Config struct {
	// REST is the connection to the API server. New copies it.
	REST      *rest.Config
	Namespace string
	// Owner is what agents and colleagues are told. New appends a random token
	// to its Session, so that an agent does not take this process for an
	// earlier one of the same session. A command that has no session leaves
	// Session empty and gets one that begins with AskPrefix.
	Owner agent.Owner
	// Kinds are the workloads that can be targets. They default to all.
	Kinds workload.Kinds
	// Log defaults to none.
	Log *slog.Logger

	// Client and Dial replace what is made of REST: the client, and the dialer
	// of agents' control ports. Tests with a fake clientset set them.
	Client kubernetes.Interface
	Dial   func(ctx context.Context, pod string, port uint16) (net.Conn, error)
}

const (
	// API requests come in bursts (a rollout, several replicas) and never in a
	// steady stream, so client-go's default of 5 a second would be felt.
	apiQPS   = 50
	apiBurst = 100
	// apiTimeout bounds one request to the API server that is not a watch.
	apiTimeout = 8 * time.Second
	// maxLanes bounds the lanes to all agents together: each is a connection
	// that the API server has to carry.
	maxLanes = 32
)

// AskPrefix begins the session name of tunnels that only ask an agent something.
// They count for no session.
const AskPrefix = "ask-"

// Cluster is one namespace of one cluster. Its methods may be called
// concurrently.
type Cluster struct {
	cfg    Config
	server string // of the API, for errors; "" without REST
	dialer *portforward.Dialer
	byExec atomic.Bool // the user may exec but not port-forward
	lanes  *tunnel.LaneLimit

	mu     sync.Mutex
	agents map[types.UID]*Agents // by their workload; see Agents
}

// New makes the clients. It does not talk to the cluster.
func New(cfg Config) (*Cluster, error) {
	token, err := NewToken(8)
	if err != nil {
		return nil, err
	}
	if cfg.Owner.Session == "" {
		cfg.Owner.Session = AskPrefix + token
	} else {
		cfg.Owner.Session += "-" + token
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cluster{lanes: tunnel.NewLaneLimit(maxLanes), agents: map[types.UID]*Agents{}}
	if cfg.Kinds == nil {
		cfg.Kinds = workload.AllKinds()
	}
	if cfg.REST != nil {
		c.server = cfg.REST.Host
	}
	if cfg.Client == nil {
		if cfg.REST == nil {
			return nil, errors.New("neither a connection to the API server nor a client is given")
		}
		restConfig := rest.CopyConfig(cfg.REST)
		restConfig.QPS, restConfig.Burst = apiQPS, apiBurst
		if cfg.Client, err = kubernetes.NewForConfig(restConfig); err != nil {
			return nil, fmt.Errorf("make a client for %s: %w", c.server, err)
		}
	}
	if cfg.Dial == nil && cfg.REST != nil {
		if c.dialer, err = portforward.New(cfg.REST); err != nil {
			return nil, err
		}
	}
	c.cfg = cfg
	return c, nil
}

// Client returns the client of the API server.
func (c *Cluster) Client() kubernetes.Interface { return c.cfg.Client }

// Namespace returns the namespace that the Cluster is about.
func (c *Cluster) Namespace() string { return c.cfg.Namespace }

// Kinds returns the kinds of workload that can be targets.
func (c *Cluster) Kinds() workload.Kinds { return c.cfg.Kinds }

// Owner returns what agents and colleagues are told. Its Session is unique to
// this Cluster.
func (c *Cluster) Owner() agent.Owner { return c.cfg.Owner }

// Log returns the log of the Cluster's user.
func (c *Cluster) Log() *slog.Logger { return c.cfg.Log }

// RequestContext returns a context for one request to the API server, whose
// cause says that there was no answer in time.
func RequestContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, apiTimeout, fmt.Errorf("the API server did not answer within %s", apiTimeout))
}
