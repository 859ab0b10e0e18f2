package intercept

import (
	"context"
	"fmt"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// Env returns the environment of the intercepted container, NAME=VALUE each, and
// the names of what could not be had.
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
	pods, err := w.Kind.Controller(c.Client()).Pods(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	pod := workload.TemplatePod(w)
	if up := running(pods); len(up) > 0 {
		pod = &up[0]
	}
	return workload.Env(ctx, c.Client(), pod, i.target.port.Container)
}
