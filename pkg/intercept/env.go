package intercept

import (
	"context"
	"fmt"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Env returns the environment of the intercepted container, NAME=VALUE each, and
// what could not be had of it: of the pod whose files are shown, where they are.
func (s *Intercepts) Env(ctx context.Context, id string) (env, missing []string, err error) {
	i := s.get(id)
	if i == nil {
		return nil, nil, fmt.Errorf("there is no intercept %s", id)
	}
	c := s.cluster
	w, err := c.Kinds().Get(ctx, c.Client(), c.Namespace(), i.target.Ref)
	if err != nil {
		return nil, nil, err
	}
	all, _, err := c.Environment(ctx, w, i.target.container, s.shownPod(i.target.Ref))
	return all.Strings(), all.Missing, err
}

// shownPod is the pod of a workload whose files are shown, "" if there is none.
func (s *Intercepts) shownPod(ref workload.Ref) string {
	for _, i := range s.sorted() {
		i.mu.Lock()
		files := i.files
		i.mu.Unlock()
		if i.target.Ref == ref && files != nil {
			return files.Pod()
		}
	}
	return ""
}
