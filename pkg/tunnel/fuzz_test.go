package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"
)

// FuzzFrame: whatever a header and body say, parsing never panics, and what
// parses is what would have been sent.
func FuzzFrame(f *testing.F) {
	target := Target{Network: "tcp", Address: "10.0.0.1:80", Meta: []byte("{}")}
	hello := clientHello{version: version, versionMin: versionMin, session: "laptop"}
	for _, b := range [][]byte{
		appendOpen(nil, 1, startWindow, target),
		appendOpened(nil, 1, startWindow),
		appendRefused(nil, 1, Conflict, "held by alice"),
		rawData(1, flagLimited, 7, 100),
		appendFin(nil, 1, 107),
		appendReset(nil, 1),
		appendWindow(nil, 1, 100, 100+startWindow),
		rawDatagram(3, 0, 512),
		rawDatagram(3, flagMore, maxChunk),
		binary.BigEndian.AppendUint64(appendHeader(nil, typePing, 0, 8, 0), 1),
		appendGoaway(goawayVersion, "too old"),
		hello.encode(),
		(&serverHello{version: version}).append(nil),
		nil,
		{1},
		bytes.Repeat([]byte{255}, 64),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		fr := newFrameReader(bytes.NewReader(in))
		fr.grow()
		for {
			start := fr.r
			h, b, err := fr.next()
			if err != nil {
				return
			}
			if h.length != len(b) || fr.r-max(start, 0) < 0 {
				t.Fatalf("%v with a body of %d bytes", h, len(b))
			}
			var again []byte
			switch h.typ {
			case typeOpen:
				if window, target, err := parseOpen(b); err == nil {
					again = appendOpen(nil, h.flow, window, target)
				}
			case typeOpened:
				if window, err := parseOpened(b); err == nil {
					again = appendOpened(nil, h.flow, window)
				}
			case typeRefused:
				if reason, message, err := parseRefused(b); err == nil && b[0] == byte(reason) && message == string(b[1:]) {
					again = appendRefused(nil, h.flow, reason, message)
				}
			case typeWindow:
				if consumed, limit, err := parseWindow(b); err == nil {
					again = appendWindow(nil, h.flow, consumed, limit)
				}
			case typeGoaway:
				if code, message, err := parseGoaway(b); err == nil && message == string(b[1:]) {
					again = appendGoaway(code, message)
				}
			case typeHello:
				if hello, err := parseClientHello(b); err == nil && h.flags == helloClient {
					again = hello.encode()
				}
				if hello, err := parseServerHello(b); err == nil && h.flags == helloServer {
					again = hello.append(nil)
				}
			}
			if again != nil && !bytes.Equal(again[headerSize:], b) {
				t.Fatalf("%v parsed and written again differs:\n%x\n%x", h, b, again[headerSize:])
			}
		}
	})
}

// scriptConn is a lane on which a fixed text arrives; it swallows answers.
type scriptConn struct {
	net.Conn // nil
	r        *bytes.Reader
}

func (c *scriptConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c *scriptConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *scriptConn) Close() error                     { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzHello: an agent takes no first words for a session without the key.
func FuzzHello(f *testing.F) {
	hello := clientHello{version: version, versionMin: versionMin, session: "laptop"}
	f.Add(hello.encode())
	f.Add(join(hello.encode(), appendHeader(nil, typeHello, helloProof, 40, 0), make([]byte, 40)))
	f.Add(appendGoaway(goawayClosed, "bye"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		tun, err := accept(context.Background(), &scriptConn{r: bytes.NewReader(in)}, Config{Key: testKey})
		if err == nil {
			_ = tun.Close()
			t.Fatal("let in without the key")
		}
		if _, err := Dial(context.Background(), func(context.Context) (net.Conn, error) {
			return &scriptConn{r: bytes.NewReader(in)}, nil
		}, Config{Key: testKey}); err == nil {
			t.Fatal("took an agent without the key for one")
		}
	})
}

// FuzzPeer: an authenticated peer says anything. The tunnel answers, ends and
// holds nothing.
func FuzzPeer(f *testing.F) {
	tcp, udp := appendOpen(nil, 1, startWindow, Target{Network: "tcp"}), appendOpen(nil, 3, 0, Target{Network: "udp"})
	f.Add(join(tcp, rawData(1, flagLimited, 0, 1000), appendWindow(nil, 1, 0, windowLimit), appendFin(nil, 1, 1000)))
	f.Add(join(tcp, rawData(1, 0, 0, 10), appendReset(nil, 1), rawData(1, 0, 10, 10)))
	f.Add(join(udp, rawDatagram(3, 0, 10), rawDatagram(3, flagMore, maxChunk), rawDatagram(3, 0, 5), appendFin(nil, 3, 0)))
	f.Add(join(tcp, udp, appendOpen(nil, 5, 0, Target{Network: "no"}), appendGoaway(0, "bye")))
	f.Fuzz(func(t *testing.T, in []byte) {
		// The heartbeat would only slow this down.
		cfg, err := Config{Key: testKey, PingInterval: time.Hour, Budget: NewBudget(1 << 20)}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		lane := &scriptConn{r: bytes.NewReader(in)}
		tun := newTunnel(cfg, false, tunnelID{}, "")
		if err := tun.start(lane, newFrameReader(lane)); err != nil {
			t.Fatal(err)
		}
		if x := tun.allLanes()[0].current(); x != nil {
			go func() { // there will be no other connection
				<-x.gone
				_ = tun.Close()
			}()
		} else {
			_ = tun.Close()
		}
		for {
			r, err := tun.AcceptFlow(context.Background())
			if err != nil {
				break
			}
			if r.Target().Network == "no" {
				_ = r.Refuse(Unknown, "no")
				continue
			}
			if flow, err := r.Accept(); err == nil {
				_, _ = flow.Write([]byte("answer"))
				_ = flow.SetReadDeadline(time.Now().Add(time.Millisecond))
				_, _ = flow.Read(make([]byte, 100))
				_ = flow.Close()
			}
		}
		_ = tun.Close()
		if held := tun.cfg.Budget.Held(); held != 0 {
			t.Fatalf("%d bytes held", held)
		}
		if grown := tun.cfg.Budget.grown.Load(); grown != 0 {
			t.Fatalf("%d bytes of credit grown", grown)
		}
	})
}
