package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

const (
	// nextAfter is how long a resolver may take before the next is asked
	// as well; its answer still counts when it comes.
	nextAfter = time.Second
	// preferFor is how long a resolver that answered in another's place is
	// asked first, before the order given is tried again.
	preferFor = 30 * time.Second
)

// Upstreams asks resolvers in the order given: the next when one fails,
// cannot answer, or takes long. Over UDP, and TCP when truncated.
func Upstreams(servers []netip.AddrPort) Exchange {
	u := &upstreams{servers: servers, dial: func(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr.String())
	}}
	return u.exchange
}

type upstreams struct {
	servers []netip.AddrPort
	dial    dialer

	mu     sync.Mutex
	first  int       // guarded by mu; index of the one to ask first
	expiry time.Time // guarded by mu; of first
}

type reply struct {
	index int
	msg   *mdns.Msg
	err   error
}

// usable reports whether another resolver need not be asked.
func (r reply) usable() bool {
	return r.err == nil && r.msg.Rcode != mdns.RcodeServerFailure && r.msg.Rcode != mdns.RcodeRefused && r.msg.Rcode != mdns.RcodeNotImplemented
}

func (u *upstreams) exchange(ctx context.Context, q *mdns.Msg) (*mdns.Msg, error) {
	if len(u.servers) == 0 {
		return nil, errors.New("no resolver is known for names outside the cluster")
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	replies := make(chan reply, len(u.servers))
	order := u.order()
	asked, failed := 0, 0
	askNext := func() {
		i := order[asked]
		asked++
		wg.Go(func() {
			msg, err := exchange(ctx, u.dial, u.servers[i], q)
			if err != nil {
				err = fmt.Errorf("ask %s: %w", u.servers[i], err)
			}
			replies <- reply{i, msg, err}
		})
	}
	askNext()
	slow := time.NewTimer(nextAfter)
	defer slow.Stop()
	var refusal *mdns.Msg // an answer, if not a usable one
	var errs []error
	for {
		var r reply
		select {
		case r = <-replies:
		case <-slow.C:
			if asked < len(order) {
				askNext()
				slow.Reset(nextAfter)
			}
			continue
		}
		if r.usable() {
			u.prefer(r.index)
			return r.msg, nil
		}
		if r.err != nil {
			errs = append(errs, r.err)
		} else if refusal == nil {
			refusal = r.msg
		}
		if failed++; failed == len(order) {
			if refusal != nil {
				return refusal, nil
			}
			return nil, errors.Join(errs...)
		}
		if asked < len(order) {
			askNext()
			slow.Reset(nextAfter)
		}
	}
}

// order is the order in which to ask: as given, after the preferred one.
func (u *upstreams) order() []int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Now().After(u.expiry) {
		u.first = 0
	}
	order := []int{u.first}
	for i := range u.servers {
		if i != u.first {
			order = append(order, i)
		}
	}
	return order
}

func (u *upstreams) prefer(i int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i != u.first {
		u.first, u.expiry = i, time.Now().Add(preferFor)
	}
}
