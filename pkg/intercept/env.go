package intercept

import (
	"context"
	"fmt"
)

// Env returns the environment of the intercepted container, NAME=VALUE each, and
// what could not be had of it.
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
	all, err := c.Environment(ctx, w, i.target.container)
	return all.Strings(), all.Missing, err
}
