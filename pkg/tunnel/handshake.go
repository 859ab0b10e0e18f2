package tunnel

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// closeTimeout bounds the last write on a lane.
const closeTimeout = time.Second

// Dial is the laptop's end. It dials a lane and proves and checks knowledge
// of the key on it, all within ctx; afterwards ctx means nothing to the
// tunnel. dial is kept: further lanes, and further connections of a lane,
// come from it.
func Dial(ctx context.Context, dial func(context.Context) (net.Conn, error), cfg Config) (*Tunnel, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	var id tunnelID
	_, _ = rand.Read(id[:])
	t := newTunnel(cfg, true, id, cfg.Session)
	t.dial = dial
	conn, fr, err := t.dialLane(ctx, clientHello{tunnel: id}, func() uint64 { return 0 })
	if err != nil {
		t.cancel()
		return nil, err
	}
	if err := t.start(conn, fr.frameReader); err != nil {
		t.cancel()
		return nil, err
	}
	t.keepLanes()
	return t, nil
}

// joined is what the handshake leaves: what was read and not yet handled, and
// how much of ours the peer has handled.
type joined struct {
	*frameReader
	peerReceived uint64
}

// dialLane dials a connection for the lane that hello names, and does the
// handshake. release is called when the peer has proven itself: it ends the
// lane's former connection and says how much has been handled.
func (t *Tunnel) dialLane(ctx context.Context, hello clientHello, release func() uint64) (net.Conn, joined, error) {
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, joined{}, fmt.Errorf("dial lane: %w", err)
	}
	j := joined{frameReader: newFrameReader(conn)}
	err = handshake(ctx, conn, func() (err error) {
		j.peerReceived, err = helloFromClient(conn, j.frameReader, t.cfg, hello, release)
		return err
	})
	if err != nil {
		return nil, joined{}, fmt.Errorf("handshake with agent: %w", err)
	}
	return conn, j, nil
}

// handshake runs hello, which ends when ctx does. After an error the lane is
// closed, and the peer was told why if that was possible.
func handshake(ctx context.Context, lane net.Conn, hello func() error) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = lane.Close()
		close(ended)
	})
	err := hello()
	if !stop() {
		<-ended
		return context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	if !isGoaway(err) && !errors.Is(err, io.EOF) {
		abort := time.AfterFunc(closeTimeout, func() { _ = lane.Close() })
		_, _ = lane.Write(appendGoaway(codeOf(err), err.Error()))
		abort.Stop()
	}
	_ = lane.Close()
	return err
}

// goawayError is a peer that left during the handshake.
type goawayError struct{ error }

func (e *goawayError) Unwrap() error { return e.error }

func isGoaway(err error) bool {
	_, left := errors.AsType[*goawayError](err)
	return left
}

func helloFromClient(lane net.Conn, fr *frameReader, cfg Config, hello clientHello, release func() uint64) (peerReceived uint64, err error) {
	hello.version, hello.versionMin, hello.features, hello.session = version, versionMin, allFeatures, cfg.Session
	_, _ = rand.Read(hello.nonce[:])
	first := hello.encode()
	if _, err := lane.Write(first); err != nil {
		return 0, fmt.Errorf("send HELLO: %w", err)
	}
	b, err := readHello(fr, helloServer)
	if err != nil {
		return 0, err
	}
	answer, err := parseServerHello(b)
	if err != nil {
		return 0, err
	}
	second := answer.unproven(nil)
	if !prove(cfg.Key, proofOfServer, first, second).equal(answer.proof[:]) {
		return 0, ErrUnauthenticated
	}
	// Only now: before the proof these are anybody's words.
	if answer.version < versionMin || answer.version > version || answer.features&^allFeatures != 0 {
		return 0, fmt.Errorf("%w: agent chose version %d, features %#x", ErrVersion, answer.version, answer.features)
	}
	third := appendClientProof(nil, prove(cfg.Key, proofOfClient, first, second), release())
	if _, err := lane.Write(third); err != nil {
		return 0, fmt.Errorf("send HELLO: %w", err)
	}
	if b, err = readHello(fr, helloJoined); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// helloFromServer returns what an authenticated client asks for, and how much
// of the lane it has handled.
func helloFromServer(lane net.Conn, fr *frameReader, cfg Config) (hello *clientHello, received uint64, err error) {
	b, err := readHello(fr, helloClient)
	if err != nil {
		return nil, 0, err
	}
	if hello, err = parseClientHello(b); err != nil {
		return nil, 0, err
	}
	first := hello.encode()
	var answer serverHello
	if answer.version, answer.features, err = negotiate(hello); err != nil {
		return nil, 0, err
	}
	_, _ = rand.Read(answer.nonce[:])
	second := answer.unproven(nil)
	answer.proof = prove(cfg.Key, proofOfServer, first, second)
	if _, err := lane.Write(answer.append(nil)); err != nil {
		return nil, 0, fmt.Errorf("send HELLO: %w", err)
	}
	if b, err = readHello(fr, helloProof); err != nil {
		return nil, 0, err
	}
	if !prove(cfg.Key, proofOfClient, first, second).equal(b[:len(proof{})]) {
		return nil, 0, ErrUnauthenticated
	}
	return hello, binary.BigEndian.Uint64(b[len(proof{}):]), nil
}

// readHello returns the body of the next frame, which has to be that step of
// HELLO; a GOAWAY instead becomes its error.
func readHello(fr *frameReader, step uint8) ([]byte, error) {
	h, b, err := fr.next()
	if err != nil {
		return nil, fmt.Errorf("receive HELLO: %w", err)
	}
	switch {
	case h.typ == typeGoaway:
		code, message, err := parseGoaway(b)
		if err != nil {
			return nil, err
		}
		return nil, &goawayError{code.peerError(message)}
	case h.typ != typeHello || h.flags != step:
		return nil, malformed("%s instead of HELLO %d", h, step)
	case step == helloProof && len(b) != helloLength3, step == helloJoined && len(b) != helloLength4:
		return nil, malformed("HELLO %d of %d bytes", step, len(b))
	}
	return b, nil
}
