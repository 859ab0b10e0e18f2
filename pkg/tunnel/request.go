package tunnel

import (
	"context"
	"fmt"
)

// Request is a flow the peer wants to open. Whoever took it from AcceptFlow
// answers it by Accept or Refuse.
type Request struct{ f *Flow }

// Target is what the peer wants; nothing in it was checked but its lengths.
func (r *Request) Target() Target { return r.f.target }

// Context ends when the opener gives up, the tunnel dies or, later, the flow
// is over.
func (r *Request) Context() context.Context {
	f := r.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx == nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		f.ctx, f.cancel = ctx, cancel
		if f.state == stateOver {
			cancel(f.err)
		}
	}
	return f.ctx
}

// Accept makes the flow. It fails when the opener has given up, the tunnel is
// dead, or the request was answered before.
func (r *Request) Accept() (*Flow, error) {
	x, err := r.f.accept()
	x.flush()
	if err != nil {
		return nil, err
	}
	return r.f, nil
}

func (f *Flow) accept() (*wire, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != stateOpening {
		return nil, fmt.Errorf("accept %s: %w", f.target, f.answerErr())
	}
	f.state = stateOpen
	f.setWindow(f.t.cfg.Budget.window(f.t.flowCount()))
	return f.sendLocked(func(b []byte) []byte { return appendOpened(b, f.id, uint32(f.window)) }), nil
}

// Refuse answers no. The message is for the person at the other end and is
// cut at 1 KiB.
func (r *Request) Refuse(reason Reason, message string) error {
	f := r.f
	f.mu.Lock()
	if f.state != stateOpening {
		defer f.mu.Unlock()
		return fmt.Errorf("refuse %s: %w", f.target, f.answerErr())
	}
	if !reason.valid() {
		reason = Failed
	}
	f.overLocked(&RefusedError{Target: f.target, Reason: reason, Message: message})
	x := f.sendLocked(func(b []byte) []byte { return appendRefused(b, f.id, reason, message) })
	f.mu.Unlock()
	x.flush()
	f.t.forget(f)
	return nil
}
