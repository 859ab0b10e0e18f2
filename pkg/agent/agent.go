package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

// maxHeld bounds what captured connections hold for handlers that do not read, in
// bytes, beside the buffers of tunnels.
const maxHeld = 8 << 20

// maxUnanswered bounds what associations of UDP keep of datagrams that are not answered, in
// bytes.
const maxUnanswered = 1 << 20

// maxCopying bounds the copies for one rule that are on their way: each has a connection.
const maxCopying = 64

// maxReadAlong bounds the connections to one captured port that go to one place whole and
// are watched or copied: each takes buffers that it does not take else.
const maxReadAlong = 128

// maxMirrored bounds what copies hold for those who get them, in bytes.
const maxMirrored = 4 << 20

// Agent listens from New on and serves during Run.
type Agent struct {
	cfg        Config
	reg        *registry
	budget     *tunnel.Budget
	held       *h2.Budget // of captured connections
	mirrored   *h2.Budget // of copies
	unanswered *h2.Budget // of datagrams
	watchers   watchers
	readers    readers
	tunnels    *tunnel.Server
	control    []net.Listener
	captures   *captureSet
	poller     *poller // of Run
	started    time.Time
}

// New listens on all ports: the captures' first, so that whoever reaches the
// control port may rely on them.
func New(cfg Config) (*Agent, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a := &Agent{cfg: cfg, reg: newRegistry(), budget: tunnel.NewBudget(cfg.Memory), held: h2.NewBudget(maxHeld), mirrored: h2.NewBudget(maxMirrored), unanswered: h2.NewBudget(maxUnanswered), started: time.Now()}
	a.captures = &captureSet{agent: a}
	a.tunnels, err = tunnel.NewServer(tunnel.Config{
		Key:           cfg.Key,
		PingInterval:  cfg.PingInterval,
		PingTimeout:   cfg.PingTimeout,
		ResumeTimeout: cfg.ResumeTimeout,
		MaxFlows:      cfg.MaxFlows,
		Budget:        a.budget,
		Log:           cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	if err := a.listen(); err != nil {
		a.stopListening()
		return nil, fmt.Errorf("agent: %w", err)
	}
	return a, nil
}

func (a *Agent) listen() error {
	if _, err := a.captures.add(a.cfg.Captures); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", a.cfg.ControlPort))
	if err != nil {
		return fmt.Errorf("control port: %w", err)
	}
	a.control = append(a.control, l)
	a.cfg.ControlPort = portOf(l.Addr())
	l, err = net.Listen("tcp6", fmt.Sprintf("[::1]:%d", a.cfg.ControlPort))
	if err != nil {
		a.cfg.Log.Debug("control port is not on ::1", "err", err)
		return nil
	}
	a.control = append(a.control, l)
	return nil
}

func (a *Agent) stopListening() {
	for _, l := range a.control {
		_ = l.Close()
	}
	a.captures.close()
}

// ControlPort is where laptops reach the agent, on loopback.
func (a *Agent) ControlPort() uint16 { return a.cfg.ControlPort }

// CapturePorts returns the ports that captures listen on: those of
// Config.Captures in their order, then those that sessions have added.
func (a *Agent) CapturePorts() []uint16 {
	var ports []uint16
	for _, c := range a.captures.list() {
		ports = append(ports, c.spec().Listen)
	}
	return ports
}

func portOf(a net.Addr) uint16 {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return 0
	}
	return p.Port()
}

// errIdle and errDrained are why Run ends well.
var (
	errIdle    = errors.New("unused for too long")
	errDrained = errors.New("drained")
)

// Run serves until ctx ends and the captured connections have drained, or the
// agent was idle for too long; both are nil. It may be called once.
func (a *Agent) Run(ctx context.Context) (err error) {
	if a.poller, err = newPoller(); err != nil {
		a.stopListening()
		return fmt.Errorf("agent: %w", err)
	}
	defer a.poller.close()
	serving, stop := context.WithCancelCause(context.Background())
	var wg sync.WaitGroup
	for _, l := range a.control {
		wg.Go(func() { a.serveControl(serving, l) })
	}
	a.captures.serve(serving)
	wg.Go(func() { a.watch(serving, ctx, stop) })
	a.cfg.Log.Info("agent listens", "control", a.cfg.ControlPort, "captures", a.captures.list().ports())

	<-serving.Done()
	a.cfg.Log.Info("agent ends", "reason", context.Cause(serving))
	a.stopListening()
	wg.Wait()
	a.captures.wait()
	return nil
}

// watch ends serving when asked ends and nothing is left to do, or nobody has
// used the agent for too long.
func (a *Agent) watch(serving, asked context.Context, stop context.CancelCauseFunc) {
	idle := time.NewTicker(max(min(a.cfg.IdleExit/10, 5*time.Second), time.Millisecond))
	defer idle.Stop()
	if a.cfg.IdleExit == 0 {
		idle.Stop()
	}
	for {
		select {
		case <-serving.Done():
			return
		case <-asked.Done():
			a.drain(serving)
			stop(errDrained)
			return
		case <-idle.C:
			if since, ok := a.reg.idleSince(); ok && time.Since(since) >= a.cfg.IdleExit {
				stop(errIdle)
				return
			}
		}
	}
}
