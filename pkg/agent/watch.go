package agent

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// maxWatchers bounds who watches at once.
	maxWatchers = 16
	// watchQueue is how many exchanges wait for a watcher; more are missed.
	watchQueue = 256
	// maxTold bounds a name or a path that a watcher is told, in bytes.
	maxTold = 2048
)

// watchers are told of exchanges. Nobody waits for them. The zero value has none.
type watchers struct {
	mu  sync.Mutex
	all map[*watcher]bool
	n   atomic.Int32
}

type watcher struct {
	port   uint16 // 0: all
	queue  chan api.Exchange
	missed atomic.Int64
}

func (w *watchers) add(port uint16) *watcher {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.all) >= maxWatchers {
		return nil
	}
	if w.all == nil {
		w.all = map[*watcher]bool{}
	}
	one := &watcher{port: port, queue: make(chan api.Exchange, watchQueue)}
	w.all[one] = true
	w.n.Add(1)
	return one
}

func (w *watchers) remove(one *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, one)
	w.n.Add(-1)
}

// tell offers an exchange to each who watches its port.
func (w *watchers) tell(e api.Exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		if one.port != 0 && one.port != e.Port {
			continue
		}
		e.Missed = one.missed.Swap(0)
		select {
		case one.queue <- e:
		default:
			one.missed.Add(e.Missed + 1)
		}
	}
}

// serveWatch tells a session of exchanges until its flow ends.
func (a *Agent) serveWatch(r *tunnel.Request) {
	request, err := api.ParseWatchRequest(r.Target().Meta)
	if err != nil {
		_ = r.Refuse(tunnel.Unknown, notUnderstood+err.Error())
		return
	}
	one := a.watchers.add(request.Port)
	if one == nil {
		_ = r.Refuse(tunnel.Denied, "too many watch already")
		return
	}
	defer a.watchers.remove(one)
	flow, err := r.Accept()
	if err != nil {
		return
	}
	defer func() { _ = flow.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var reading sync.WaitGroup
	reading.Go(func() {
		_, _ = io.Copy(io.Discard, flow) // until the session ends it
		cancel()
	})
	defer reading.Wait()
	defer func() { _ = flow.Close() }()
	for out := json.NewEncoder(flow); ; {
		select {
		case e := <-one.queue:
			if out.Encode(e) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// watch returns who is told of an exchange of a connection, nil if nobody watches. to
// is who takes a connection that goes to one session whole.
func (c *capture) watch(client *net.TCPConn, to *claim) func(router.Exchange) {
	if c.agent.watchers.n.Load() == 0 {
		return nil
	}
	return func(e router.Exchange) {
		by := to
		if t, ok := e.Taker.(taker); ok {
			by = t.claim
		}
		out := api.Exchange{
			Begin: e.Begin, Millis: float64(e.Took) / float64(time.Millisecond), Pod: c.agent.cfg.Pod, Port: c.App,
			Client: client.RemoteAddr().String(), Protocol: e.Protocol, Method: told(e.Method), Host: told(e.Host), Path: told(e.Path),
			Status: e.Status, GRPC: told(e.GRPC), Sent: e.Sent, Got: e.Got, Failure: e.Failure,
		}
		if by != nil {
			out.By, out.ID = &by.registration.Owner, by.registration.ID
		}
		if t, ok := e.Meant.(taker); ok && by == nil {
			out.Meant, out.ID, out.Instead = &t.claim.registration.Owner, t.claim.registration.ID, told(e.Instead)
		}
		c.agent.watchers.tell(out)
	}
}

func told(s string) string { return s[:min(len(s), maxTold)] }
