package tun

import (
	"errors"
	"fmt"
	"sync"
)

// Router gives devices their addresses and routes, by ifconfig(8) and
// route(8). It remembers what it has set.
type Router struct {
	mu   sync.Mutex // guards sets and is held over the commands
	sets map[string]Network
}

// NewRouter returns a Router that has set nothing yet.
func NewRouter() *Router { return &Router{sets: map[string]Network{}} }

// Set makes n everything that dev has. An empty n removes everything that was
// set before. After an error some of n may be in place; the next Set goes on
// from both, and an empty one removes both.
func (r *Router) Set(dev string, n Network) error {
	if err := n.check(); err != nil {
		return fmt.Errorf("device %s: %w", dev, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.sets[dev]
	for _, cmd := range plan(dev, before, n) {
		if err := run(cmd); err != nil && !n.Empty() {
			r.sets[dev] = Network{
				Addrs:  append(without(before.Addrs, n.Addrs), n.Addrs...),
				Routes: append(without(before.Routes, n.Routes), n.Routes...),
			}
			return fmt.Errorf("device %s: %w", dev, err)
		}
	}
	if n.Empty() {
		delete(r.sets, dev)
	} else {
		r.sets[dev] = n
	}
	return nil
}

// CleanUp undoes what a crashed predecessor had set on dev. A utun goes with
// the process that held it, and most of this with it, so failures to remove
// what is not there are expected; only routes that are still listed count.
func (r *Router) CleanUp(dev string, n Network) error {
	if err := n.check(); err != nil {
		return fmt.Errorf("device %s: %w", dev, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cmd := range plan(dev, n, Network{}) {
		_ = run(cmd)
	}
	left, err := Routes()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range left {
		for _, p := range n.Routes {
			if l.Dev == dev && l.Prefix == p {
				errs = append(errs, fmt.Errorf("device %s: route %s is still there", dev, p))
			}
		}
	}
	return errors.Join(errs...)
}
