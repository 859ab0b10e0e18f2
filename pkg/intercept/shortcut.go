package intercept

import (
	"context"
	"net/netip"
	"slices"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// DialHandler connects by TCP this machine's own processes to the handler of what they would
// reach through the cluster and back: the address of a Service whose port's traffic comes
// here whole. It returns nil for any other address, for an intercept beside others', of this
// session or another, and while the handler does not listen: then the way is through the
// cluster.
func (s *Intercepts) DialHandler(ctx context.Context, to netip.AddrPort) splice.Conn {
	for _, i := range s.sorted() {
		if !i.shortens(to) {
			continue
		}
		conn, err := i.target.handler.Dial(ctx)
		if err != nil {
			return nil
		}
		i.shortened.Add(1)
		return conn
	}
	return nil
}

// shortens reports whether clients of an address reach this intercept, and nobody else's.
func (i *Intercept) shortens(to netip.AddrPort) bool {
	if i.spec.NoShortcut || i.target.app().Protocol == agent.UDP || len(i.match) > 0 || i.spec.Mirror || i.spec.LogRequests || i.spec.Record != "" {
		return false
	}
	i.mu.Lock()
	inForce := i.state == active && i.notice == "" && !i.beside && i.plan != nil && !i.plan.Shared
	i.mu.Unlock()
	return inForce && slices.ContainsFunc(i.target.port.Services, func(svc workload.ServicePort) bool {
		return slices.Contains(svc.Addresses(), to)
	})
}
