package agent

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// maxProbeAnswer is how much of what a server says by itself is read from a
// probe's connection, so that closing it is no reset.
const maxProbeAnswer = 64 << 10

// serveProbe makes a connection that announces the segment size asked for,
// answers, and holds the connection until the flow or Config.ProbeHold ends.
// It sends nothing.
func (a *Agent) serveProbe(r *tunnel.Request) {
	if !canProbe {
		_ = r.Refuse(tunnel.Unknown, "probes are not on this system")
		return
	}
	request, err := api.ParseProbeRequest(r.Target().Meta)
	if err != nil {
		_ = r.Refuse(tunnel.Unknown, notUnderstood+err.Error())
		return
	}
	dst, err := a.destination(request.Address)
	if err != nil {
		_ = r.Refuse(reasonOf(err), err.Error())
		return
	}
	conn, dialErr := a.dialProbe(r.Context(), dst, request.MSS)
	if dialErr == nil {
		defer func() { _ = conn.Close() }()
	}
	flow, err := r.Accept()
	if err != nil {
		return
	}
	defer func() { _ = flow.Close() }()
	_ = flow.SetDeadline(time.Now().Add(a.cfg.ProbeHold))
	reply := api.ProbeReply{Connected: dialErr == nil}
	if dialErr != nil {
		reply.Error = dialErr.Error()
	}
	if err := json.NewEncoder(flow).Encode(reply); err != nil || dialErr != nil {
		return
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.CopyN(io.Discard, conn, maxProbeAnswer)
	}()
	_, _ = io.Copy(io.Discard, flow)
	_ = conn.Close()
	<-read
}

// dialProbe dials with an MSS of its own. The connection sends no keep-alives.
func (a *Agent) dialProbe(ctx context.Context, dst netip.AddrPort, mss uint16) (net.Conn, error) {
	d := net.Dialer{Timeout: min(a.cfg.DialTimeout, a.cfg.ProbeHold), KeepAlive: -1, Control: announce(mss)}
	return d.DialContext(ctx, "tcp", dst.String())
}
