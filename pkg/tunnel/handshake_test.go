package tunnel

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
)

func TestHandshakeFails(t *testing.T) {
	other := bytes.Repeat([]byte{8}, 32)
	for _, test := range []struct {
		name          string
		laptop, agent func(lane net.Conn) error
		want          error
	}{
		{"keys differ", dialWith(testKey), acceptWith(other), ErrUnauthenticated},
		{"laptop without the key", func(c net.Conn) error {
			// Takes the agent's word for it and proves with a key of its own.
			fr := newFrameReader(c)
			hello := clientHello{version: version, versionMin: versionMin}
			first := hello.encode()
			_, _ = c.Write(first)
			b, err := readHello(fr, helloServer)
			if err != nil {
				return err
			}
			answer, err := parseServerHello(b)
			if err != nil {
				return err
			}
			p := prove(other, proofOfClient, first, answer.unproven(nil))
			_, _ = c.Write(appendClientProof(nil, p, 0))
			_, _, err = fr.next()
			if err == nil {
				err = ErrUnauthenticated // GOAWAY
			}
			return err
		}, acceptWith(testKey), ErrUnauthenticated},
		{"laptop reflects the agent's proof", func(c net.Conn) error {
			fr := newFrameReader(c)
			hello := clientHello{version: version, versionMin: versionMin}
			_, _ = c.Write(hello.encode())
			b, err := readHello(fr, helloServer)
			if err != nil {
				return err
			}
			answer, err := parseServerHello(b)
			if err != nil {
				return err
			}
			_, _ = c.Write(appendClientProof(nil, answer.proof, 0))
			_, _, _ = fr.next()
			return ErrUnauthenticated
		}, acceptWith(testKey), ErrUnauthenticated},
		{"laptop too new", func(c net.Conn) error {
			hello := clientHello{version: version + 5, versionMin: version + 1}
			_, _ = c.Write(hello.encode())
			_, err := readHello(newFrameReader(c), helloServer)
			return err
		}, acceptWith(testKey), ErrVersion},
		{"lane of no tunnel", func(c net.Conn) error {
			fr := newFrameReader(c)
			_, err := helloFromClient(c, fr, Config{Key: testKey}, clientHello{join: true, lane: 1}, nothing)
			return err
		}, acceptWith(testKey), ErrUnknownTunnel},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachLane(t, func(t *testing.T, lane lanes) {
				c, s := lane(t)
				defer func() { _, _ = c.Close(), s.Close() }()
				result := make(chan error)
				go func() { result <- test.agent(s) }()
				if err := test.laptop(c); !errors.Is(err, test.want) {
					t.Errorf("laptop: %v", err)
				}
				_ = c.Close()
				if err := <-result; !errors.Is(err, test.want) {
					t.Errorf("agent: %v", err)
				}
			})
		})
	}
}

func dialWith(key []byte) func(net.Conn) error {
	return func(c net.Conn) error {
		t, err := Dial(context.Background(), once(c), final(Config{Key: key}))
		if err == nil {
			_ = t.Close()
		}
		return err
	}
}

func acceptWith(key []byte) func(net.Conn) error {
	return func(c net.Conn) error {
		t, err := accept(context.Background(), c, Config{Key: key})
		if err == nil {
			_ = t.Close()
		}
		return err
	}
}

// TestNewerLaptop: versions overlap, so the lower is spoken; unknown features
// are not chosen.
func TestNewerLaptop(t *testing.T) {
	v, features, err := negotiate(&clientHello{version: version + 3, versionMin: versionMin, features: 1<<63 | allFeatures})
	if v != version || features != allFeatures || err != nil {
		t.Errorf("chose %d, %#x, %v", v, features, err)
	}
}

func TestConfig(t *testing.T) {
	for _, bad := range []Config{
		{},
		{Key: testKey[:31]},
		{Key: testKey, Session: string(make([]byte, 256))},
		{Key: testKey, PingInterval: 5, PingTimeout: 9},
		{Key: testKey, MaxFlows: -1},
	} {
		if _, err := bad.withDefaults(); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
