package agent

import (
	"context"
	"errors"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// drain waits until no app accepts connections any more and no capture is busy, for
// at most DrainLimit: while the pod ends, the endpoints still point here for a while,
// and well-made apps go on serving.
func (a *Agent) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.DrainLimit)
	defer cancel()
	tick := time.NewTicker(a.cfg.DrainPoll)
	defer tick.Stop()
	if len(a.captures.list()) > 0 {
		a.cfg.Log.Info("asked to end: waiting for the app")
	}
	for refusals := 0; len(a.captures.list()) > 0; {
		if a.appsClosed(ctx) {
			refusals++
		} else {
			refusals = 0
		}
		if refusals >= 2 && !a.captures.list().busy() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// appsClosed reports whether every app's port refuses connections. Anything but
// a refusal counts as open. Of UDP that a port is bound does.
func (a *Agent) appsClosed(ctx context.Context) bool {
	d := net.Dialer{Timeout: time.Second}
	for _, c := range a.captures.list().ports() {
		if c.Protocol == api.UDP {
			if bound, _ := a.boundUDP(c.App); bound {
				return false
			}
			continue
		}
		for _, ip := range a.cfg.PodIPs {
			conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(ip.String(), strconv.Itoa(int(c.App))))
			if err == nil {
				_ = conn.Close()
				return false
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return false
			}
		}
	}
	return true
}
