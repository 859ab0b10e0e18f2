package agent

import (
	"container/list"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/datagram"
)

const (
	// retired is how long answers of an association are passed on, at rest, after its
	// client's datagrams have begun to go elsewhere.
	retired = 2 * time.Second
	// askAgain is how long an association that a session did not take stays with the app
	// before the session is asked again.
	askAgain = 2 * time.Second
	// keptFor is how long a datagram that nobody has answered is kept, and maxKept how many
	// of an association are: the app gets them when the session turns out not to take them.
	keptFor = 2 * time.Second
	maxKept = 16
)

// association is what one client sends to a captured port of UDP, and what is answered.
type association struct {
	capture *udpCapture
	key     associationKey
	element *list.Element // of capture.used; guarded by capture.mu
	holder  *claim        // who is to have it; nil is the app
	beside  *association  // with the app in place of the holder, who is asked again; may be nil
	ctx     context.Context
	end     context.CancelFunc

	mu     sync.Mutex
	to     datagramConn // nil: it is not known yet
	kept   []keptDatagram
	last   time.Time // when a datagram passed
	idle   time.Duration
	app    bool      // the holder, if there is one, does not have it
	missed time.Time // since when
	over   bool
}

// datagramConn is a way for datagrams: to a session or to the app.
type datagramConn interface {
	Write([]byte) (int, error)
	SetReadDeadline(time.Time) error
	Close() error
}

type keptDatagram struct {
	data []byte
	at   time.Time
}

func newAssociation(ctx context.Context, c *udpCapture, key associationKey, holder *claim) *association {
	a := &association{capture: c, key: key, holder: holder, app: holder == nil, last: time.Now(), idle: c.idleLimit()}
	a.ctx, a.end = context.WithCancel(ctx)
	return a
}

// serves reports whether the association is one for the holder of the port. ask is true if
// the app has it, and the holder is to be asked again.
func (a *association) serves(holder *claim) (serving, ask bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.holder == holder && !a.over, !a.missed.IsZero() && time.Since(a.missed) >= askAgain
}

// retire ends the association when its answers have come in.
func (a *association) retire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle = retired
	if a.to != nil {
		_ = a.to.SetReadDeadline(a.last.Add(a.idle))
	}
}

// send passes the client's datagram on, or keeps it until it is known where to. What the
// way does not take is lost, as datagrams may be. It returns false if the association is
// over.
func (a *association) send(p []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return false
	}
	a.last = time.Now()
	a.expireLocked()
	if !a.app || a.to == nil {
		a.keepLocked(p)
	}
	if a.to != nil {
		_, _ = a.to.Write(p)
	}
	return true
}

// keepLocked keeps a datagram: of those that wait to be sent at all the first, of others the
// last, and for these no more than half of the room.
func (a *association) keepLocked(p []byte) {
	room := a.capture.agent.unanswered
	if a.to != nil && len(a.kept) >= maxKept {
		a.dropLocked(1)
	}
	if len(a.kept) >= maxKept || a.to != nil && room.Held()+int64(len(p)) > maxUnanswered/2 || !room.Take(len(p)) {
		return
	}
	a.kept = append(a.kept, keptDatagram{append([]byte(nil), p...), a.last})
}

// expireLocked gives up what nobody has answered for long.
func (a *association) expireLocked() {
	n := 0
	for n < len(a.kept) && time.Since(a.kept[n].at) > keptFor {
		n++
	}
	a.dropLocked(n)
}

// dropLocked gives up the oldest n that are kept.
func (a *association) dropLocked(n int) {
	for _, k := range a.kept[:n] {
		a.capture.agent.unanswered.Give(len(k.data))
	}
	if a.kept = a.kept[n:]; len(a.kept) == 0 {
		a.kept = nil
	}
}

// run is the life of the association.
func (a *association) run() {
	defer func() {
		a.end()
		a.mu.Lock()
		a.over = true
		a.dropLocked(len(a.kept))
		a.mu.Unlock()
		a.capture.forget(a)
	}()
	log := a.capture.agent.cfg.Log
	if a.holder != nil {
		err := a.runSession()
		if err == nil || a.ctx.Err() != nil {
			return
		}
		log.Debug("session did not take the association", "client", a.key.client, "err", err)
		a.fallBack()
		if before := a.beside; before != nil && a.capture.putBack(a, before) {
			a.giveTo(before)
			return
		}
	}
	if err := a.runApp(); err != nil {
		log.Debug("association with the app ended", "client", a.key.client, "err", err)
	}
}

// fallBack has what nobody answered go to the app.
func (a *association) fallBack() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.to, a.app, a.missed = nil, true, time.Now()
	a.expireLocked()
}

// giveTo has the app go on with another association what this one has asked in vain for.
func (a *association) giveTo(before *association) {
	before.mu.Lock()
	before.missed, before.idle = time.Now(), before.capture.idleLimit()
	before.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	for _, k := range a.kept {
		before.send(k.data)
	}
}

// join makes to the way of the client's datagrams, from those that are kept on.
func (a *association) join(to datagramConn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.kept {
		_, _ = to.Write(k.data)
	}
	if a.app || a.capture.agent.unanswered.Held() > maxUnanswered/2 { // others wait to be sent at all
		a.dropLocked(len(a.kept))
	}
	a.to = to
}

// runSession returns nil when the session had the association until it was at rest.
func (a *association) runSession() error {
	flow, err := a.capture.agent.offer(a.ctx, a.holder, api.NetworkDatagrams, api.Captured{
		Port: a.capture.Port(), Remote: a.key.client.String(), Local: a.key.socket.LocalAddr().String(),
	})
	if err != nil {
		return err
	}
	defer func() { _ = flow.Close() }()
	defer context.AfterFunc(a.ctx, func() { _ = flow.Close() })()
	defer context.AfterFunc(a.holder.ended, a.retire)()
	a.holder.taken.Add(1)
	if a.beside != nil {
		a.beside.retire()
	}
	a.join(flow)
	return a.answers(flow, func(take func([]byte)) error {
		p, err := flow.ReadPacket()
		if err == nil {
			take(p)
		}
		return err
	})
}

// runApp returns when the app had the association until it was at rest. Where the holder
// refuses what it does not take, nobody has it. What the app refuses the port does, too,
// for a moment, unless a session serves others there.
func (a *association) runApp() error {
	if a.holder != nil && a.holder.refuses() {
		select {
		case <-time.After(askAgain):
		case <-a.ctx.Done():
		}
		return nil
	}
	asked := a.key.socket.LocalAddr().(*net.UDPAddr)
	conn, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: asked.IP, Port: int(a.capture.App)})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(a.ctx, func() { _ = conn.Close() })()
	a.join(conn)
	return a.answers(conn, func(take func([]byte)) error {
		err := datagram.Read(conn, func(p []byte) error {
			take(p)
			return nil
		})
		switch {
		case !errors.Is(err, syscall.ECONNREFUSED):
			return err
		case a.capture.agent.reg.of(a.capture.Port()) == nil:
			_ = a.key.socket.Close()
			return err
		}
		return nil // a session serves others here
	})
}

// answers passes on what read takes from to until the association is at rest, which is
// no error.
func (a *association) answers(to datagramConn, read func(take func([]byte)) error) error {
	answer := func(p []byte) {
		a.mu.Lock()
		a.last = time.Now()
		a.dropLocked(len(a.kept))
		a.mu.Unlock()
		_, _ = a.key.socket.WriteToUDPAddrPort(p, a.key.client)
	}
	for {
		a.mu.Lock()
		a.expireLocked()
		until := a.last.Add(a.idle)
		wake := until
		if len(a.kept) > 0 {
			wake = a.kept[0].at.Add(keptFor)
		}
		_ = to.SetReadDeadline(wake)
		a.mu.Unlock()
		if time.Now().After(until) {
			return nil
		}
		switch err := read(answer); {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		case a.ctx.Err() != nil:
			return nil
		default:
			return err
		}
	}
}
