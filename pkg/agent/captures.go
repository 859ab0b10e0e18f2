package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// captureSet is what an agent captures. Captures can be added at any time until
// close, and stay until then. All methods may be called concurrently.
type captureSet struct {
	agent *Agent

	mu      sync.Mutex
	all     captureList
	serving context.Context // nil before serve
	closed  bool
	wg      sync.WaitGroup // captures that are served
}

// errClosing is the answer to those who come when the agent ends.
var errClosing = errors.New("the agent is ending")

// add listens for the captures that are asked for, and returns them in the
// same order with the ports that are listened on. A capture that exists is
// returned as it is; if Listen is 0, that is any capture of the same app's
// port. If one cannot be had, add returns an error and adds none.
func (s *captureSet) add(asked []api.Capture) ([]api.Capture, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosing
	}
	old := s.all.ports()
	var missing []api.Capture
	for _, c := range asked {
		if !contains(old, c) && !contains(missing, c) {
			missing = append(missing, c)
		}
	}
	if err := s.agent.cfg.checkCaptures(old, missing); err != nil {
		return nil, err
	}
	added, err := s.listen(missing)
	if err == nil {
		// Once more, for the ports that the kernel has chosen.
		err = s.agent.cfg.checkCaptures(old, added.ports())
	}
	if err != nil {
		added.close()
		return nil, err
	}
	for _, c := range added {
		s.agent.reg.capture(c.spec().Port())
		s.all = append(s.all, c)
		s.start(c)
	}
	answer := make([]api.Capture, 0, len(asked))
	have := s.all.ports()
	for _, c := range asked {
		i := slices.IndexFunc(have, func(h api.Capture) bool { return meets(h, c) })
		answer = append(answer, have[i])
	}
	return answer, nil
}

// meets reports whether a capture is what is asked for.
func meets(c, asked api.Capture) bool {
	return c.Port() == asked.Port() && (c.Listen == asked.Listen || asked.Listen == 0)
}

func contains(list []api.Capture, asked api.Capture) bool {
	return slices.ContainsFunc(list, func(c api.Capture) bool { return meets(c, asked) })
}

// listen returns the captures that it could listen for, and an error if these
// are not all.
func (s *captureSet) listen(captures []api.Capture) (added captureList, err error) {
	for _, c := range captures {
		one, err := s.agent.listenFor(c)
		if err != nil {
			return added, fmt.Errorf("capture %s: %w", c, err)
		}
		added = append(added, one)
	}
	return added, nil
}

func (a *Agent) listenFor(c api.Capture) (captured, error) {
	if c.Protocol == api.UDP {
		return listenUDP(c, a)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(c.Listen))))
	if err != nil {
		return nil, err
	}
	c.Listen = portOf(l.Addr())
	return newCapture(c, l.(*net.TCPListener), a), nil
}

// serve serves all captures, and those that are added later, until ctx ends.
func (s *captureSet) serve(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = ctx
	for _, c := range s.all {
		s.start(c)
	}
}

// start serves a capture if captures are served yet; s.mu is held.
func (s *captureSet) start(c captured) {
	if ctx := s.serving; ctx != nil {
		s.wg.Go(func() { c.serve(ctx) })
	}
}

// close stops listening for good. It may be called again.
func (s *captureSet) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.all.close()
}

// wait blocks until no capture is served any more. It may be called after
// close alone.
func (s *captureSet) wait() { s.wg.Wait() }

// list returns the captures in the order in which they were added.
func (s *captureSet) list() captureList {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// captureList is a list of captures that listen.
type captureList []captured

func (l captureList) ports() []api.Capture {
	ports := make([]api.Capture, 0, len(l))
	for _, c := range l {
		ports = append(ports, c.spec())
	}
	return ports
}

// busy reports whether any of them is.
func (l captureList) busy() bool { return slices.ContainsFunc(l, captured.busy) }

func (l captureList) close() {
	for _, c := range l {
		c.close()
	}
}
