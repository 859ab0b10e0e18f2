package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	intercepts "github.com/kubectl-tele/kubectl-tele/pkg/intercept"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// InterceptSpec is what intercept is asked for.
type InterceptSpec struct {
	Workload string `json:"workload"`
	// Port names the port to take: a Service's or a container's, by name or
	// number; "" if there is just one.
	Port    string `json:"port,omitempty"`
	Service string `json:"service,omitempty"`
	// Handler is HOST:PORT of what answers; "" is the workload's port number
	// on localhost.
	Handler intercepts.Handler `json:"handler,omitempty"`
	// Lazy accepts a handler that does not listen yet.
	Lazy bool `json:"lazy,omitempty"`
	// Hold ties the intercept to the command that asked for it.
	Hold bool `json:"hold,omitempty"`
	// WithEnv asks for the container's environment along with the intercept.
	WithEnv      bool          `json:"withEnv,omitempty"`
	AgentImage   string        `json:"agentImage"`
	AllowRestart bool          `json:"allowRestart,omitempty"`
	Timeout      time.Duration `json:"timeout"`
}

// LeaveSpec says what to leave.
type LeaveSpec struct {
	// Workload is the workload's name or an intercept's ID; All leaves all.
	Workload string `json:"workload,omitempty"`
	All      bool   `json:"all,omitempty"`
}

// intercept is one rule: a port of a workload to a handler.
type intercept struct {
	id      string
	spec    InterceptSpec
	owner   api.Owner
	target  *target
	capture []string

	leaveOnce sync.Once
	left      chan struct{} // closed when leaving has ended
	leaveErr  error

	mu        sync.Mutex
	state     InterceptState
	notice    string // what others did to the workload meanwhile
	recorded  bool   // the undo record in the cluster may name this intercept
	following *follower
}

// target is the port of the workload that an intercept takes.
type target struct {
	namespace string
	workload  string // the Deployment's name
	port      *workload.Port
}

func (t *target) String() string {
	return fmt.Sprintf("deployment/%s port %d", t.workload, t.port.Number)
}

// Intercept sends the traffic of a workload's port to a handler. It returns
// when every agent does so; on failure what was there before is put back.
func (s *Session) Intercept(ctx context.Context, spec InterceptSpec, p Progress) (InterceptStatus, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, spec.Timeout, fmt.Errorf("the intercept was not active within %s", spec.Timeout))
	defer cancel()
	id, err := newToken(6)
	if err != nil {
		return InterceptStatus{}, err
	}
	owner := s.cfg.Owner
	owner.Since = time.Now().UTC().Truncate(time.Second)
	i := &intercept{id: id, spec: spec, owner: owner, state: Starting, left: make(chan struct{})}
	if i.target, err = s.findTarget(ctx, spec); err != nil {
		return InterceptStatus{}, s.explain(ctx, err, interceptFeature)
	}
	if err := s.reserve(i); err != nil {
		return InterceptStatus{}, err
	}
	if err := s.begin(ctx, i, p); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		i.mu.Lock()
		recorded := i.recorded
		i.mu.Unlock()
		if recorded {
			p.warn("putting back what was there")
		}
		undoErr := s.leave(context.WithoutCancel(ctx), i, p)
		return InterceptStatus{}, errors.Join(s.explain(ctx, err, interceptFeature), undoErr)
	}
	return i.status(), nil
}

// reserve registers an intercept, or says why this session cannot have it.
func (s *Session) reserve(i *intercept) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("this session is ending")
	}
	for _, have := range s.intercepts {
		if have.target.workload == i.target.workload && have.target.port.Number == i.target.port.Number {
			return hint.With(fmt.Errorf("%s is intercepted already, by this session", i.target),
				"kubectl tele leave "+i.target.workload)
		}
	}
	s.intercepts[i.id] = i
	return nil
}

// Leave ends intercepts of this session.
func (s *Session) Leave(ctx context.Context, spec LeaveSpec, p Progress) error {
	s.mu.Lock()
	var leaving []*intercept
	name := spec.Workload
	if ref, err := workload.ParseRef(name); err == nil {
		name = ref.Name
	}
	for _, i := range s.sorted() {
		if spec.All || i.id == spec.Workload || i.target.workload == name {
			leaving = append(leaving, i)
		}
	}
	s.mu.Unlock()
	if len(leaving) == 0 && !spec.All {
		return hint.With(fmt.Errorf("this session does not intercept %s", spec.Workload),
			"`kubectl tele list` shows who intercepts what; `kubectl tele clean` removes what a lost session left")
	}
	var errs []error
	for _, i := range leaving {
		errs = append(errs, s.leave(ctx, i, p))
	}
	return errors.Join(errs...)
}

// sorted returns the intercepts in the order of their workloads; s.mu is held.
func (s *Session) sorted() []*intercept {
	return slices.SortedFunc(maps.Values(s.intercepts), func(a, b *intercept) int {
		if c := strings.Compare(a.target.workload, b.target.workload); c != 0 {
			return c
		}
		return int(a.target.port.Number) - int(b.target.port.Number)
	})
}

// Held returns a channel that is closed when there is no intercept of that ID,
// or no more.
func (s *Session) Held(id string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.intercepts[id]; i != nil {
		return i.left
	}
	left := make(chan struct{})
	close(left)
	return left
}

// Env returns the environment of the intercepted container, NAME=VALUE each,
// and the names of what could not be had.
func (s *Session) Env(ctx context.Context, id string) (env, missing []string, err error) {
	s.mu.Lock()
	i := s.intercepts[id]
	s.mu.Unlock()
	if i == nil {
		return nil, nil, fmt.Errorf("there is no intercept %s", id)
	}
	dep, err := workload.Get(ctx, s.client, s.cfg.Namespace, workload.Ref{Kind: "deployment", Name: i.target.workload})
	if err != nil {
		return nil, nil, err
	}
	pods, err := workload.Pods(ctx, s.client, dep)
	if err != nil {
		return nil, nil, err
	}
	pod := workload.TemplatePod(dep)
	if running := standing(pods); len(running) > 0 {
		pod = &running[0]
	}
	return workload.Env(ctx, s.client, pod, i.target.port.Container)
}

// checkHandler makes sure that something answers before traffic is sent there.
func checkHandler(ctx context.Context, handler intercepts.Handler) error {
	return hint.With(handler.Check(ctx),
		"start the handler first, or let tele start it: kubectl tele intercept WORKLOAD --port PORT -- COMMAND",
		"--to HOST:PORT names another handler")
}

func (i *intercept) setState(state InterceptState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.state = state
}

func (i *intercept) setNotice(text string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.notice = text
}

func (i *intercept) status() InterceptStatus {
	i.mu.Lock()
	state, following, notice := i.state, i.following, i.notice
	i.mu.Unlock()
	st := InterceptStatus{
		ID: i.id, Workload: i.target.workload, Namespace: i.target.namespace,
		Container: i.target.port.Container, Port: i.target.port.Number,
		Services: []string{}, Inject: "sidecar", Capture: i.capture,
		Handler: string(i.spec.Handler), State: state, Agents: []AgentStatus{}, Owner: i.owner, Notice: notice,
	}
	for _, svc := range i.target.port.Services {
		st.Services = append(st.Services, svc.Service.Name)
	}
	if following != nil {
		st.Agents = following.status()
		if failed := following.failed.Load(); failed != nil {
			st.HandlerError = (*failed).Error()
		}
	}
	if state == Active && (notice != "" || slices.ContainsFunc(st.Agents, func(a AgentStatus) bool { return !a.Up })) {
		st.State = Degraded
	}
	return st
}
