package connect

import (
	"context"
	"net"
	"net/netip"

	"github.com/kubectl-tele/kubectl-tele/pkg/cluster"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/netstack"
)

// dialer dials addresses of the cluster through an agent, in the forms that the
// stack and the DNS server take. A nil flow must not become an interface that is
// not nil, hence the three methods.
type dialer struct {
	agent    *cluster.OwnAgent
	shortcut func(ctx context.Context, to netip.AddrPort) splice.Conn
}

func (d dialer) tcp(ctx context.Context, addr netip.AddrPort) (splice.Carrier, error) {
	if conn := d.shortcut(ctx, addr); conn != nil {
		return splice.Carried(conn), nil
	}
	flow, err := d.agent.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return flow, nil
}

func (d dialer) udp(ctx context.Context, addr netip.AddrPort) (netstack.PacketConn, error) {
	flow, err := d.agent.Dial(ctx, "udp", addr)
	if err != nil {
		return nil, err
	}
	return flow, nil
}

func (d dialer) conn(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
	flow, err := d.agent.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return flow, nil
}
