package tunnel

import (
	"context"
	"crypto/rand"
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
// tunnel. dial is kept: further lanes will come from it.
func Dial(ctx context.Context, dial func(context.Context) (net.Conn, error), cfg Config) (*Tunnel, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	lane, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("dial lane: %w", err)
	}
	fr := newFrameReader(lane)
	err = handshake(ctx, lane, func() error { return helloFromClient(lane, fr, cfg) })
	if err != nil {
		return nil, fmt.Errorf("handshake with agent: %w", err)
	}
	return start(lane, fr, cfg, true, ""), nil
}

// Accept is the agent's end of a lane that was dialed to it. The lane belongs
// to the tunnel from the call on; it is closed when Accept fails.
func Accept(ctx context.Context, lane net.Conn, cfg Config) (*Tunnel, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		_ = lane.Close()
		return nil, err
	}
	var session string
	fr := newFrameReader(lane)
	err = handshake(ctx, lane, func() (err error) {
		session, err = helloFromServer(lane, fr, cfg)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("handshake with laptop: %w", err)
	}
	return start(lane, fr, cfg, false, session), nil
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
	if _, left := errors.AsType[*goawayError](err); !left && !errors.Is(err, io.EOF) {
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

func helloFromClient(lane net.Conn, fr *frameReader, cfg Config) error {
	hello := clientHello{version: version, versionMin: versionMin, features: allFeatures, session: cfg.Session}
	_, _ = rand.Read(hello.tunnel[:])
	_, _ = rand.Read(hello.nonce[:])
	first := hello.encode()
	if _, err := lane.Write(first); err != nil {
		return fmt.Errorf("send HELLO: %w", err)
	}
	b, err := readHello(fr, helloServer)
	if err != nil {
		return err
	}
	answer, err := parseServerHello(b)
	if err != nil {
		return err
	}
	second := answer.unproven(nil)
	if !prove(cfg.Key, proofOfServer, first, second).equal(answer.proof[:]) {
		return ErrUnauthenticated
	}
	// Only now: before the proof these are anybody's words.
	if answer.version < versionMin || answer.version > version || answer.features&^allFeatures != 0 {
		return fmt.Errorf("%w: agent chose version %d, features %#x", ErrVersion, answer.version, answer.features)
	}
	mine := prove(cfg.Key, proofOfClient, first, second)
	third := append(appendHeader(nil, typeHello, helloProof, helloLength3, 0), mine[:]...)
	if _, err := lane.Write(third); err != nil {
		return fmt.Errorf("send HELLO: %w", err)
	}
	return nil
}

func helloFromServer(lane net.Conn, fr *frameReader, cfg Config) (session string, err error) {
	b, err := readHello(fr, helloClient)
	if err != nil {
		return "", err
	}
	hello, err := parseClientHello(b)
	if err != nil {
		return "", err
	}
	first := hello.encode()
	var answer serverHello
	if answer.version, answer.features, err = negotiate(hello); err != nil {
		return "", err
	}
	if hello.lane != 0 {
		return "", fmt.Errorf("%w: lane %d of a tunnel that has one", ErrVersion, hello.lane)
	}
	_, _ = rand.Read(answer.nonce[:])
	second := answer.unproven(nil)
	answer.proof = prove(cfg.Key, proofOfServer, first, second)
	if _, err := lane.Write(answer.append(nil)); err != nil {
		return "", fmt.Errorf("send HELLO: %w", err)
	}
	if b, err = readHello(fr, helloProof); err != nil {
		return "", err
	}
	if !prove(cfg.Key, proofOfClient, first, second).equal(b) {
		return "", ErrUnauthenticated
	}
	return hello.session, nil
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
	case step == helloProof && len(b) != helloLength3:
		return nil, malformed("HELLO %d of %d bytes", step, len(b))
	}
	return b, nil
}
