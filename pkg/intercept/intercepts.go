package intercept

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Intercepts are those of one session. Its methods may be called concurrently.
type Intercepts struct {
	cluster *cluster.Cluster
	methods []inject.Method

	mu     sync.Mutex
	closed bool
	all    map[string]*Intercept // by ID
	undone []error               // what those that are gone could not put back
}

// New returns the intercepts of a session; there are none yet.
func New(c *cluster.Cluster) *Intercepts {
	return &Intercepts{cluster: c, methods: inject.Methods(), all: map[string]*Intercept{}}
}

// addOne registers a new intercept. One of the same port that is being left is waited
// for.
func (s *Intercepts) addOne(ctx context.Context, i *Intercept, p api.Progress) error {
	for {
		other, err := s.put(i)
		switch {
		case err != nil:
			return err
		case other == nil:
			return nil
		case other.wanted.Err() == nil:
			already := "is intercepted already"
			if i.spec.FilesOnly {
				already = "are shown already, in " + other.dir
			}
			return hint.With(fmt.Errorf("%s %s, by this session", i.target, already), "kubectl tele leave "+i.target.Name)
		}
		p.Doing("waiting until the intercept of " + i.target.String() + " before has been left")
		select {
		case <-other.gone:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// put registers an intercept unless there is another of the same port, which it
// returns then.
func (s *Intercepts) put(i *Intercept) (other *Intercept, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("this session is ending")
	}
	for _, have := range s.all {
		if have.target.Ref == i.target.Ref && have.target.app() == i.target.app() && have.matchText == i.matchText && have.spec.Mirror == i.spec.Mirror {
			return have, nil
		}
	}
	s.all[i.id] = i
	return nil, nil
}

// remove forgets an intercept that is gone, but not what could not be undone.
func (s *Intercepts) remove(i *Intercept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, i.id)
	if i.undone != nil {
		s.undone = append(s.undone, i.undone)
	}
}

// Leave ends intercepts and returns when everything is put back, or ctx ends; the
// undo goes on then.
func (s *Intercepts) Leave(ctx context.Context, spec api.LeaveSpec, p api.Progress) error {
	var leaving []*Intercept
	for _, i := range s.sorted() {
		if spec.All || slices.Contains(spec.IDs, i.id) || s.named(i, spec) {
			leaving = append(leaving, i)
		}
	}
	if len(leaving) == 0 && spec.Workload != "" && !strings.Contains(spec.Workload, "/") {
		for _, i := range s.sorted() { // of another kind than a Deployment
			if i.target.Name == spec.Workload && (spec.Port == "" || i.target.port.Matches(spec.Port)) {
				leaving = append(leaving, i)
			}
		}
	}
	if tcp := ofTCP(leaving); spec.Port != "" && !strings.Contains(spec.Port, "/") && len(tcp) > 0 {
		leaving = tcp // a number of both is that of TCP
	}
	if len(leaving) == 0 && spec.Workload != "" {
		what := spec.Workload
		if spec.Port != "" {
			what += " port " + spec.Port
		}
		return hint.With(fmt.Errorf("this session does not intercept %s", what),
			"`kubectl tele list` shows who intercepts what; `kubectl tele clean` removes what a lost session left")
	}
	return leaveAll(ctx, leaving, p)
}

func ofTCP(all []*Intercept) []*Intercept {
	return slices.DeleteFunc(slices.Clone(all), func(i *Intercept) bool { return i.target.app().Protocol != agent.TCP })
}

// named reports whether a spec names the intercept by its workload or Service.
func (s *Intercepts) named(i *Intercept, spec api.LeaveSpec) bool {
	if service, ok := workload.ServiceNamed(spec.Workload); ok {
		if i.target.service != service && !slices.Contains(i.target.serviceNames(), service) {
			return false
		}
	} else if ref, err := s.cluster.Kinds().Parse(spec.Workload); err != nil || ref != i.target.Ref {
		return false
	}
	return spec.Port == "" || i.target.port.Matches(spec.Port)
}

// leaveAll leaves intercepts, all at once. What several of them do together, such
// as a rolling update, is told once.
func leaveAll(ctx context.Context, leaving []*Intercept, p api.Progress) error {
	p = once(p)
	errs := make([]error, len(leaving))
	var wg sync.WaitGroup
	for n, i := range leaving {
		wg.Go(func() { errs[n] = i.leave(ctx, p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close leaves every intercept. None can begin afterwards. The error tells what
// could not be put back in all this time, be it told before. It may be called
// again.
func (s *Intercepts) Close(ctx context.Context, p api.Progress) error {
	s.mu.Lock()
	s.closed = true
	undone, leaving := slices.Clone(s.undone), s.sortedLocked()
	s.mu.Unlock()
	return errors.Join(append(undone, leaveAll(ctx, leaving, p))...)
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
	return s.sortedLocked()
}

func (s *Intercepts) sortedLocked() []*Intercept {
	return slices.SortedFunc(maps.Values(s.all), func(a, b *Intercept) int { return inOrder(a.target, b.target) })
}

// inOrder compares targets by their workloads, then their ports.
func inOrder(a, b *target) int {
	return cmp.Or(strings.Compare(a.Ref.String(), b.Ref.String()), cmp.Compare(a.port.Number, b.port.Number), cmp.Compare(a.port.Protocol, b.port.Protocol))
}

// undoLimit bounds putting back what one intercept changed: two rollouts and
// their margins.
const undoLimit = 10 * time.Minute
