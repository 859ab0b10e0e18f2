//go:build linux

package netsim_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
	"github.com/kubectl-tele/kubectl-tele/test/netsim"
)

// waitFor waits until what has happened in the relay shows in its counts.
func waitFor(t *testing.T, n tcp, is func(netsim.Stats) bool) {
	t.Helper()
	for begin := time.Now(); !is(n.Stats()); runtime.Gosched() {
		if time.Since(begin) > time.Minute {
			t.Fatalf("after a minute: %+v", n.Stats())
		}
	}
}

// Many connections at once, each way all that is sent and in order, on links
// of every kind and across freezes.
func TestIntegrity(t *testing.T) {
	const conns, size = 12, 6 << 20
	for name, link := range map[string]netsim.Link{
		"Direct": {}, "Delayed": {Delay: 3 * time.Millisecond}, "Paced": {Rate: 400 << 20},
		"Both": {Delay: 2 * time.Millisecond, Rate: 400 << 20}, "Narrow": {Delay: time.Millisecond, Window: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			n := overTCP(t, link, echo)
			ctx, cancel := context.WithCancel(t.Context())
			var all, clients sync.WaitGroup
			all.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					_ = n.Run(ctx, netsim.Join(netsim.Quiet(10*time.Millisecond), netsim.Frozen(5*time.Millisecond)))
					n.Set([]netsim.Link{link, {Delay: time.Duration(i%4) * time.Millisecond}}[i%2])
				}
				n.Thaw()
			})
			for i := range conns {
				clients.Go(func() {
					if err := transfer(n.connect(), uint64(i), size); err != nil {
						t.Errorf("connection %d: %v", i, err)
					}
				})
			}
			clients.Wait()
			cancel()
			all.Wait()
			waitFor(t, n, func(st netsim.Stats) bool { return st.Now == 0 })
			want := netsim.Bytes{In: conns * size, Out: conns * size}
			if st := n.Stats(); st != (netsim.Stats{Ever: conns, Up: want, Down: want}) {
				t.Errorf("%+v, want %+v each way", st, want)
			}
		})
	}
}

// transfer sends bytes that the seed makes in pieces of every size, and wants
// the same to come back.
func transfer(c *net.TCPConn, seed uint64, size int) error {
	random := rand.NewChaCha8([32]byte{byte(seed)})
	sent, got := sha256.New(), sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 300<<10)
		for left := size; left > 0; {
			b := buf[:min(left, 1+int(random.Uint64()%uint64(1<<(random.Uint64()%19))))]
			_, _ = random.Read(b)
			_, _ = sent.Write(b)
			if _, err := c.Write(b); err != nil {
				return
			}
			left -= len(b)
		}
		_ = c.CloseWrite()
	})
	n, err := io.Copy(got, c)
	wg.Wait()
	_ = c.Close()
	if err != nil {
		return err
	}
	if a, b := sent.Sum(nil), got.Sum(nil); string(a) != string(b) || n != int64(size) {
		return fmt.Errorf("%d bytes with sum %x come back, %d with %x were sent", n, b, size, a)
	}
	return nil
}

func TestResetIsPassedOn(t *testing.T) {
	for name, link := range map[string]netsim.Link{"direct": {}, "delayed": {Delay: time.Millisecond}} {
		t.Run("from the laptop, "+name, func(t *testing.T) {
			ended := make(chan error, 1)
			n := overTCP(t, link, func(c *net.TCPConn) {
				_, _ = c.Read(make([]byte, 1))
				_, err := c.Read(make([]byte, 1))
				ended <- err
			})
			client := n.connect()
			_, _ = client.Write([]byte("x"))
			waitFor(t, n, func(st netsim.Stats) bool { return st.Up.Out == 1 })
			_ = splice.Reset(client)
			if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the server reads %v", err)
			}
		})
		t.Run("from the server, "+name, func(t *testing.T) {
			n := overTCP(t, link, func(c *net.TCPConn) {
				_, _ = c.Read(make([]byte, 1))
				_ = splice.Reset(c)
			})
			client := n.connect()
			_, _ = client.Write([]byte("x"))
			n.isReset(client)
		})
	}
}

// TestNotDialed: what cannot be dialed is reset, a round trip later.
func TestNotDialed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		clients := &wireListener{conns: make(chan net.Conn), ended: make(chan struct{})}
		relay := netsim.New(clients, func(context.Context) (net.Conn, error) { return nil, errors.New("no") }, netsim.Link{Delay: delay})
		near, far := wires()
		clients.conns <- far
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if took := time.Since(begin); took != 2*delay {
			t.Errorf("reset after %s, want %s", took, 2*delay)
		}
		_ = relay.Close()
	})
}

// TestClose: whatever connections are doing, Close ends them and waits.
func TestClose(t *testing.T) {
	for name, prepare := range map[string]func(s *sim, client *wire){
		"opening":   func(*sim, *wire) {},
		"open":      func(s *sim, _ *wire) { <-s.servers },
		"frozen":    func(s *sim, _ *wire) { <-s.servers; s.Freeze(); s.connect() },
		"half-open": func(s *sim, _ *wire) { <-s.servers; s.HalfOpen() },
		"under way": func(s *sim, client *wire) { s.tell(client, "x") },
		"full": func(s *sim, client *wire) {
			s.Set(netsim.Link{Delay: time.Hour, Window: 1})
			s.tell(client, "x")
			go func() { _, _ = client.Write([]byte("y")) }()
		},
		"half-closed": func(s *sim, client *wire) {
			_ = client.CloseWrite()
			s.ends(<-s.servers, io.EOF)
		},
		"unread": func(s *sim, client *wire) {
			s.tell(client, "x")
			time.Sleep(time.Second) // on the simulated clock
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, netsim.Link{Delay: delay}, func(t *testing.T, s *sim) {
				client := s.connect()
				prepare(s, client)
				synctest.Wait()
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				s.ends(client, syscall.ECONNRESET)
				if st := s.Stats(); st.Now != 0 {
					t.Errorf("after Close: %+v", st)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // while dialing
		clients := &wireListener{conns: make(chan net.Conn), ended: make(chan struct{})}
		relay := netsim.New(clients, func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, netsim.Link{})
		near, far := wires()
		clients.conns <- far
		synctest.Wait()
		_ = relay.Close()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	})
}

// BenchmarkRelay is one bulk transfer over loopback; Without is the same
// without a relay.
func BenchmarkRelay(b *testing.B) {
	const piece = 256 << 10
	for _, bench := range []struct {
		name string
		link *netsim.Link
	}{{"Without", nil}, {"Direct", &netsim.Link{}}, {"Delay20ms", &netsim.Link{Delay: delay}}, {"Rate4GB", &netsim.Link{Rate: 4 << 30}}} {
		b.Run(bench.name, func(b *testing.B) {
			server, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			address := server.Addr().String()
			if bench.link != nil {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				var dialer net.Dialer
				relay := netsim.New(listener, func(ctx context.Context) (net.Conn, error) {
					return dialer.DialContext(ctx, "tcp", server.Addr().String())
				}, *bench.link)
				defer func() { _ = relay.Close() }()
				address = relay.Addr().String()
			}
			client, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			accepted, err := server.Accept()
			if err != nil {
				b.Fatal(err)
			}
			_ = server.Close()
			defer func() { _ = accepted.Close() }()
			b.SetBytes(piece)
			b.ReportAllocs()
			var sender sync.WaitGroup
			sender.Go(func() {
				buf := make([]byte, piece)
				for range b.N {
					_, _ = client.Write(buf)
				}
				_ = client.Close()
			})
			b.ResetTimer()
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{accepted}, make([]byte, piece))
			b.StopTimer()
			if err != nil || n != int64(b.N)*piece {
				b.Fatalf("%d bytes of %d, %v", n, int64(b.N)*piece, err)
			}
			sender.Wait()
		})
	}
}
