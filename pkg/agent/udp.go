package agent

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/datagram"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	udpIdle = 60 * time.Second
	dnsIdle = 10 * time.Second
	dnsPort = 53
)

// serveUDP carries an association until it is idle or either side ends it. A
// refusal by ICMP resets the flow.
func (a *Agent) serveUDP(r *tunnel.Request) {
	conn, err := a.dial(r, "udp")
	if err != nil {
		_ = r.Refuse(reasonOf(err), err.Error())
		return
	}
	flow, err := r.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	idle := udpIdle
	if portOf(conn.RemoteAddr()) == dnsPort {
		idle = dnsIdle
	}
	err = relayDatagrams(flow, conn.(*net.UDPConn), idle)
	a.cfg.Log.Debug("association ended", "target", r.Target().String(), "err", err)
}

// relayDatagrams copies both ways and owns both. It returns why it ended.
func relayDatagrams(flow *tunnel.Flow, conn *net.UDPConn, idle time.Duration) error {
	var (
		wg   sync.WaitGroup
		last atomic.Int64 // nanoseconds since start
	)
	start := time.Now()
	touch := func() { last.Store(int64(time.Since(start))) }
	wg.Go(func() {
		defer func() { _ = conn.Close() }()
		for {
			packet, err := flow.ReadPacket()
			if err != nil {
				return
			}
			touch()
			// An error, such as a refusal of an earlier one, is for the
			// reading side to see; datagrams may get lost.
			_, _ = conn.Write(packet)
		}
	})
	err := func() error {
		for {
			left := idle - (time.Since(start) - time.Duration(last.Load()))
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			_ = conn.SetReadDeadline(time.Now().Add(left))
			err := datagram.Read(conn, func(p []byte) error {
				touch()
				_, err := flow.Write(p)
				return err
			})
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
		}
	}()
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		_ = flow.Close()
	} else {
		_ = flow.Reset()
	}
	_ = conn.Close()
	wg.Wait()
	return err
}
