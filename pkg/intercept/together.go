package intercept

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/kubectl-tele/kubectl-tele/pkg/access"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

// Begin sends the traffic of workloads' ports to handlers: an intercept for each port
// of each workload. It returns when all are in force; on failure of one, and when ctx
// ends before, it returns when what was there before is put back.
func (s *Intercepts) Begin(ctx context.Context, spec api.InterceptSpec, p api.Progress) ([]api.InterceptStatus, error) {
	all, err := s.add(ctx, spec, p)
	if err != nil {
		return nil, s.cluster.Explain(ctx, err, access.Intercept)
	}
	if len(all) > 1 {
		p = once(p) // a rolling update of several is told once
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, i := range all {
		defer i.progress.add(p)()
		go i.run()
		group.Go(func() error { return i.await(groupCtx) })
	}
	if err := group.Wait(); err != nil {
		return nil, s.abandon(ctx, all, err)
	}
	var begun []api.InterceptStatus
	for _, i := range all {
		begun = append(begun, i.Status())
	}
	return begun, nil
}

// await returns when the intercept is in force, or gone, and then says why; the end of
// ctx makes it go.
func (i *Intercept) await(ctx context.Context) error {
	select {
	case <-i.begun:
		return nil
	case <-i.gone:
	case <-ctx.Done():
		i.end(context.Cause(ctx))
		<-i.gone
	}
	if i.failure != nil {
		return i.failure
	}
	return context.Cause(i.wanted) // it was in force for a moment
}

// abandon ends those that began together when one of them failed, and returns why it
// did along with what could not be put back.
func (s *Intercepts) abandon(ctx context.Context, all []*Intercept, why error) error {
	errs := []error{s.cluster.Explain(ctx, why, access.Intercept)}
	for _, i := range all {
		i.end(why)
	}
	for _, i := range all {
		<-i.gone
		errs = append(errs, i.undone)
	}
	return errors.Join(errs...)
}

// start is where intercepts that begin together wait for each other.
type start struct {
	missing atomic.Int32
	all     chan struct{} // closed when all are there
}

func newStart(n int) *start {
	s := &start{all: make(chan struct{})}
	s.missing.Store(int32(n))
	return s
}

// wait returns when it was called for each, or when ctx ends.
func (s *start) wait(ctx context.Context) error {
	if s.missing.Add(-1) == 0 {
		close(s.all)
	}
	select {
	case <-s.all:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// add registers new intercepts, or says why this session cannot have them.
func (s *Intercepts) add(ctx context.Context, spec api.InterceptSpec, p api.Progress) ([]*Intercept, error) {
	targets, warnings, err := findTargets(ctx, s.cluster, spec)
	if err != nil {
		return nil, err
	}
	if spec.Record != "" && len(targets) > 1 {
		return nil, hint.With(errors.New("a file records one port of one workload"), "kubectl tele intercept WORKLOAD --port LOCAL:PORT --record FILE")
	}
	if err := checkDir(spec); err != nil {
		return nil, err
	}
	for _, line := range warnings {
		p.Warn(line)
	}
	var all []*Intercept
	start := newStart(len(targets))
	for _, t := range targets {
		i, err := newIntercept(s, t, spec)
		if err != nil {
			return nil, err
		}
		i.start = start
		all = append(all, i)
	}
	all[0].dir = spec.Dir
	return all, s.addAll(ctx, all, p)
}

// addAll registers new intercepts, or none of them.
func (s *Intercepts) addAll(ctx context.Context, all []*Intercept, p api.Progress) error {
	// Two commands that wait for what the other has, too, wait in the same order.
	all = slices.SortedFunc(slices.Values(all), func(a, b *Intercept) int { return inOrder(a.target, b.target) })
	for n, i := range all {
		err := s.addOne(ctx, i, p)
		if err == nil {
			continue
		}
		for _, i := range all[:n] {
			i.end(err)
			s.remove(i)
			close(i.gone)
		}
		return err
	}
	return nil
}
