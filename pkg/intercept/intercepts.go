package intercept

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
)

// Intercepts are those of one session. Its methods may be called concurrently.
type Intercepts struct {
	cluster *cluster.Cluster
	methods []inject.Method

	mu     sync.Mutex
	closed bool
	all    map[string]*Intercept // by ID
}

// New returns the intercepts of a session; there are none yet.
func New(c *cluster.Cluster) *Intercepts {
	return &Intercepts{cluster: c, methods: inject.Methods(), all: map[string]*Intercept{}}
}

// Begin sends the traffic of a workload's port to a handler. It returns when that
// is in force; on failure, and when ctx ends before, it returns when what was
// there before is put back.
func (s *Intercepts) Begin(ctx context.Context, spec api.InterceptSpec, p api.Progress) (api.InterceptStatus, error) {
	i, err := s.add(ctx, spec)
	if err != nil {
		return api.InterceptStatus{}, s.cluster.Explain(ctx, err, access.Intercept)
	}
	defer i.progress.add(p)()
	go i.run()
	select {
	case <-i.begun:
		return i.Status(), nil
	case <-i.gone:
	case <-ctx.Done():
		i.end(context.Cause(ctx))
		<-i.gone
	}
	return api.InterceptStatus{}, errors.Join(s.cluster.Explain(ctx, i.failure, access.Intercept), i.undone)
}

// add registers a new intercept, or says why this session cannot have it.
func (s *Intercepts) add(ctx context.Context, spec api.InterceptSpec) (*Intercept, error) {
	target, err := findTarget(ctx, s.cluster, spec)
	if err != nil {
		return nil, err
	}
	i, err := newIntercept(s, target, spec)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("this session is ending")
	}
	for _, have := range s.all {
		if have.target.Ref == target.Ref && have.target.port.Number == target.port.Number {
			return nil, hint.With(fmt.Errorf("%s is intercepted already, by this session", target),
				"kubectl tele leave "+target.Name)
		}
	}
	s.all[i.id] = i
	return i, nil
}

// remove forgets an intercept that is gone.
func (s *Intercepts) remove(i *Intercept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, i.id)
}

// Leave ends intercepts and returns when everything is put back, or ctx ends; the
// undo goes on then.
func (s *Intercepts) Leave(ctx context.Context, spec api.LeaveSpec, p api.Progress) error {
	named := func(*Intercept) bool { return true }
	if !spec.All {
		ref, err := s.cluster.Kinds().Parse(spec.Workload)
		named = func(i *Intercept) bool { return i.id == spec.Workload || err == nil && i.target.Ref == ref }
	}
	var leaving []*Intercept
	for _, i := range s.sorted() {
		if named(i) {
			leaving = append(leaving, i)
		}
	}
	if len(leaving) == 0 && !spec.All {
		return hint.With(fmt.Errorf("this session does not intercept %s", spec.Workload),
			"`kubectl tele list` shows who intercepts what; `kubectl tele clean` removes what a lost session left")
	}
	return leaveAll(ctx, leaving, p)
}

// leaveAll leaves intercepts, all at once.
func leaveAll(ctx context.Context, leaving []*Intercept, p api.Progress) error {
	errs := make([]error, len(leaving))
	var wg sync.WaitGroup
	for n, i := range leaving {
		wg.Go(func() { errs[n] = i.leave(ctx, p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close leaves every intercept. None can begin afterwards. It may be called again.
func (s *Intercepts) Close(ctx context.Context, p api.Progress) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	return leaveAll(ctx, s.sorted(), p)
}

// Status returns the intercepts in the order of their workloads and ports.
func (s *Intercepts) Status() []api.InterceptStatus {
	all := []api.InterceptStatus{}
	for _, i := range s.sorted() {
		all = append(all, i.Status())
	}
	return all
}

// Empty reports whether there is none.
func (s *Intercepts) Empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all) == 0
}

// Gone returns a channel that is closed when there is no intercept of that ID, or
// no more.
func (s *Intercepts) Gone(id string) <-chan struct{} {
	if i := s.get(id); i != nil {
		return i.gone
	}
	gone := make(chan struct{})
	close(gone)
	return gone
}

func (s *Intercepts) get(id string) *Intercept {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[id]
}

func (s *Intercepts) sorted() []*Intercept {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.all), func(a, b *Intercept) int {
		if c := strings.Compare(a.target.Ref.String(), b.target.Ref.String()); c != 0 {
			return c
		}
		return int(a.target.port.Number) - int(b.target.port.Number)
	})
}

// undoLimit bounds putting back what one intercept changed: two rollouts and
// their margins.
const undoLimit = 10 * time.Minute
