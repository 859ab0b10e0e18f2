package intercept

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/handler"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/mount"
)

// Intercept is one rule: a port of a workload to a handler. Its goroutine, run,
// owns it; what others read is guarded by mu.
type Intercept struct {
	id        string
	spec      api.InterceptSpec
	match     []agent.Condition // which requests are meant; none: all traffic
	matchText string            // spells match
	set       *Intercepts
	cluster   *cluster.Cluster
	target    *target
	owner     agent.Owner
	handler   *handler.Server
	start     *start // shared by those that begin together
	dir       string // where files are to be shown; "" is nowhere
	probes    probes
	log       *slog.Logger

	progress listeners
	wanted   context.Context // ends when the intercept is to be left
	end      context.CancelCauseFunc
	begun    chan struct{} // closed when the intercept is in force
	gone     chan struct{} // closed when it is gone
	failure  error         // why it never was in force; read it after gone
	undone   error         // what could not be put back; read it after gone

	shortened atomic.Int64 // connections of this machine that went to the handler at once

	// Owned by run alone:
	recorded bool // the undo records in the cluster may name this intercept
	agents   *cluster.Agents
	mounted  *mount.Mount // nil: no files are shown

	mu           sync.Mutex
	state        state
	plan         *inject.Plan
	registration *cluster.Registration
	files        *cluster.Files // nil: none are shown, nor copied
	notice       string         // what others did to the workload meanwhile
	beside       bool           // others have rules on the port, too
}

// state is where an intercept stands; see the package doc.
type state int

const (
	starting state = iota
	active
	leaving
	gone
)

func (s state) String() string {
	return [...]string{"starting", "active", "leaving", "gone"}[s]
}

// errLeft is why an intercept is left that nobody interrupted.
var errLeft = errors.New("it was left before it was in force")

func newIntercept(s *Intercepts, t *target, spec api.InterceptSpec) (*Intercept, error) {
	id, err := cluster.NewToken(6)
	if err != nil {
		return nil, err
	}
	match, text, err := matchOf(spec.Match)
	if err != nil {
		return nil, err
	}
	owner := s.cluster.Owner()
	owner.Since = time.Now().UTC().Truncate(time.Second)
	i := &Intercept{
		id: id, spec: spec, match: match, matchText: text, set: s, cluster: s.cluster, target: t, owner: owner,
		log:   s.cluster.Log().With("intercept", id, "workload", t.Ref.String()),
		begun: make(chan struct{}), gone: make(chan struct{}),
	}
	i.handler = handler.NewServer(t.handler, i.log)
	i.wanted, i.end = context.WithCancelCause(context.Background())
	return i, nil
}

// run is the life of the intercept.
func (i *Intercept) run() {
	defer close(i.gone)
	defer i.set.remove(i)
	stop, err := i.record()
	if err != nil {
		i.failure = err
		i.enter(gone)
		return
	}
	defer stop()
	ctx, cancel := context.WithTimeoutCause(i.wanted, i.spec.Timeout, fmt.Errorf("the intercept was not active within %s", i.spec.Timeout))
	i.failure = i.begin(ctx)
	switch cause := context.Cause(ctx); {
	case i.failure == nil || cause == nil:
	case i.wanted.Err() != nil:
		i.failure = cause // what failed failed for that
	case !errors.Is(i.failure, cause):
		i.failure = fmt.Errorf("%w: %w", cause, i.failure)
	}
	cancel()
	if i.failure == nil {
		i.enter(active)
		close(i.begun)
		unlog := i.logRequests()
		i.guard()
		unlog()
	} else if i.recorded {
		i.progress.emit().Warn("putting back what was there")
	}
	i.enter(leaving)
	undo, cancel := context.WithTimeoutCause(context.Background(), undoLimit, fmt.Errorf("could not undo everything within %s", undoLimit))
	defer cancel()
	if i.undone = i.undo(undo); i.undone != nil {
		i.log.Error("not everything is put back", "err", i.undone)
	}
	i.enter(gone)
}

// leave ends the intercept and returns when it is gone, or when ctx ends.
func (i *Intercept) leave(ctx context.Context, p api.Progress) error {
	defer i.progress.add(p)()
	i.end(errLeft)
	select {
	case <-i.gone:
		return i.undone
	case <-ctx.Done():
		return fmt.Errorf("leave %s: it goes on: %w", i.target, context.Cause(ctx))
	}
}

func (i *Intercept) enter(s state) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.state = s
	i.log.Debug("intercept", "state", s)
}

// note keeps what others did to the workload, and whether they have rules on the port.
func (i *Intercept) note(text string, beside bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.notice, i.beside = text, beside
}

// recordOwner is the intercept's owner as undo records keep it.
func (i *Intercept) recordOwner() inject.Owner {
	return inject.Owner{
		User: i.owner.User, Host: i.owner.Host, Session: i.owner.Session, Since: i.owner.Since,
		ID: i.id, Port: i.target.app(),
	}
}

// Status returns what the intercept is doing now.
func (i *Intercept) Status() api.InterceptStatus {
	i.mu.Lock()
	s, plan, registration, notice := i.state, i.plan, i.registration, i.notice
	i.mu.Unlock()
	st := api.InterceptStatus{
		ID: i.id, Workload: i.target.Ref.String(), Namespace: i.cluster.Namespace(),
		Container: i.target.container, Port: i.target.app().Number, Protocol: string(i.target.app().Protocol),
		Services: i.target.serviceNames(), Handler: string(i.target.handler), Match: i.matchText, Mirror: i.spec.Mirror, Refuse: i.spec.Refuse, Dir: i.dir, Shortened: i.shortened.Load(),
		Agents: []api.AgentStatus{}, Owner: api.Owner(i.owner), Notice: notice,
	}
	if plan != nil {
		st.Inject, st.Capture = plan.Method, plan.Captures
	}
	if registration != nil {
		st.Agents = registration.Status()
	}
	if failed := i.handler.Failed(); failed != nil {
		st.HandlerError = failed.Error()
	}
	degraded := notice != "" || slices.ContainsFunc(st.Agents, func(a api.AgentStatus) bool { return !a.Up })
	switch {
	case s == starting:
		st.State = api.Starting
	case s == active && degraded:
		st.State = api.Degraded
	case s == active:
		st.State = api.Active
	default:
		st.State = api.Leaving
	}
	return st
}
