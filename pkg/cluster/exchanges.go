package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// WatchHandler is told what a watch sees. Its functions may be called concurrently.
type WatchHandler struct {
	// Exchange is called for each request that ends.
	Exchange func(api.Exchange)
	// Blind, if set, is called for each agent that does not tell, with the reason: once
	// for each tunnel to it.
	Blind func(pod string, err error)
}

// observer is kept up at every agent of a workload.
type observer struct {
	WatchHandler
	ctx     context.Context // ends with the watch
	meta    []byte
	serving sync.WaitGroup
}

// Watch tells of the requests that pass the agents, of those that are there and of
// those that come, until stop is called, which waits for the last call.
func (a *Agents) Watch(r api.WatchRequest, h WatchHandler) (stop func(), err error) {
	meta, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &observer{WatchHandler: h, ctx: ctx, meta: meta}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.observers[w] = true
	a.announce()
	return func() {
		a.mu.Lock()
		delete(a.observers, w)
		a.mu.Unlock()
		cancel()
		w.serving.Wait()
	}, nil
}

// keep watches one agent until the watch, the tunnel or ctx ends.
func (w *observer) keep(ctx context.Context, p *podLink, t *tunnel.Tunnel) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.ctx, cancel)()
	for told := false; ctx.Err() == nil; {
		if err := w.see(ctx, t); err != nil && w.Blind != nil && !told && ctx.Err() == nil && t.Err() == nil {
			told = true
			w.Blind(p.name, err)
		}
		select {
		case <-time.After(registerRetry):
		case <-t.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// see returns when the agent tells no more.
func (w *observer) see(ctx context.Context, t *tunnel.Tunnel) error {
	flow, err := t.Open(ctx, tunnel.Target{Network: api.NetworkService, Address: api.ServiceWatch, Meta: w.meta})
	if err != nil {
		return err
	}
	defer func() { _ = flow.Close() }()
	defer context.AfterFunc(ctx, func() { _ = flow.Close() })()
	return api.ReadExchanges(flow, w.Exchange)
}
