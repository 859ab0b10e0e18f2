//go:build linux

package netsim_test

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/netsim"
)

func TestCut(t *testing.T) {
	n := overTCP(t, netsim.Link{}, echo)
	for range 3 {
		a, b := n.connect(), n.connect()
		n.echo(a)
		n.echo(b)
		n.Cut()
		n.isReset(a)
		n.isReset(b)
	}
	n.echo(n.connect())
	if st := n.Stats(); st.Ever != 7 {
		t.Errorf("%+v, want 7 connections ever", st)
	}
}

// Cut tells both ends at once, and loses what is under way.
func TestCutAtBothEnds(t *testing.T) {
	simulate(t, netsim.Link{Delay: delay}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		s.tell(client, "lost")
		opening := s.connect()
		time.Sleep(delay / 2)
		synctest.Wait()
		begin := s.now()
		s.Cut()
		s.ends(client, syscall.ECONNRESET)
		s.ends(server, syscall.ECONNRESET)
		s.ends(opening, syscall.ECONNRESET)
		s.at("all resets", begin)
		synctest.Wait()
		if st := s.Stats(); st.Now != 0 || st.Ever != 2 {
			t.Errorf("after Cut: %+v", st)
		}
	})
}

func TestFreeze(t *testing.T) {
	simulate(t, netsim.Link{Delay: delay}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		s.tell(client, "hello")
		s.hear(server, "hello")
		s.tell(client, "under way")
		s.Freeze()
		_ = client.CloseWrite()
		fresh := s.connect()
		never := s.silent(server)
		if len(s.servers) != 0 {
			t.Error("a new connection gets through a black hole")
		}
		if st := s.Stats(); st.Now != 2 || st.Up.Out != 5 {
			t.Errorf("frozen: %+v", st)
		}
		s.Thaw()
		begin := s.now()
		if err := <-never; err != nil {
			t.Errorf("read after Thaw: %v", err)
		}
		s.at("held bytes", begin+delay)
		s.hear(server, "nder way")
		s.ends(server, io.EOF)
		s.tell(server, "answer")
		s.hear(client, "answer")
		s.tell(fresh, "x")
		s.hear(<-s.servers, "x")
	})
}

// A black hole swallows resets and refusals too.
func TestFreezeTellsNobody(t *testing.T) {
	simulate(t, netsim.Link{}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		s.Freeze()
		s.Refuse(true)
		_ = server.Reset()
		told := s.silent(client)
		refused := s.silent(s.connect())
		s.Thaw()
		for _, ended := range []<-chan error{told, refused} {
			if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("after Thaw: %v, want a reset", err)
			}
		}
		s.Freeze()
		s.Freeze()
		s.Thaw()
		s.Refuse(false)
		client = s.connect()
		s.tell(client, "x")
		s.hear(<-s.servers, "x")
	})
}

func TestHalfOpen(t *testing.T) {
	simulate(t, netsim.Link{Delay: delay}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		s.tell(client, "x")
		s.hear(server, "x")
		s.tell(server, "under way")
		s.HalfOpen()
		s.ends(server, syscall.ECONNRESET)
		for range 100 {
			if _, err := client.Write(make([]byte, 1<<20)); err != nil {
				t.Fatalf("a half-open connection does not swallow: %v", err)
			}
		}
		told := s.silent(client)

		fresh := s.connect()
		s.tell(fresh, "y")
		s.hear(<-s.servers, "y")
		synctest.Wait()
		if st := s.Stats(); st.Now != 2 || st.Up.Out != 2 || st.Down.Out != 0 {
			t.Errorf("half-open: %+v", st)
		}
		_ = client.CloseWrite()
		synctest.Wait()
		if len(told) != 0 {
			t.Errorf("a FIN into a half-open connection is answered: %v", <-told)
		}
		if st := s.Stats(); st.Now != 1 {
			t.Errorf("after the laptop's FIN: %+v", st)
		}
		_ = fresh.Reset()
		s.Cut()
		if err := <-told; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after Cut: %v", err)
		}
	})
}

// A connection that is not yet through is half-open too, and ends with its reset.
func TestHalfOpenWhileOpening(t *testing.T) {
	simulate(t, netsim.Link{Delay: delay}, func(t *testing.T, s *sim) {
		client := s.connect()
		synctest.Wait()
		s.HalfOpen()
		s.tell(client, "swallowed")
		ended := s.silent(client)
		_ = client.Reset()
		if err := <-ended; err == nil {
			t.Error("a half-open connection has an answer")
		}
		synctest.Wait()
		if st := s.Stats(); st.Now != 0 {
			t.Errorf("after the laptop's reset: %+v", st)
		}
	})
}

func TestHalfOpenTCP(t *testing.T) {
	serverEnds := make(chan error, 1)
	n := overTCP(t, netsim.Link{}, func(c *net.TCPConn) {
		_, err := io.Copy(io.Discard, c)
		serverEnds <- err
	})
	client := n.connect()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, n, func(st netsim.Stats) bool { return st.Up.Out == 1 })
	n.HalfOpen()
	if err := <-serverEnds; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the server's side ends with %v, want a reset", err)
	}
	const size = 64 << 20 // more than all kernel buffers take
	if _, err := client.Write(make([]byte, size)); err != nil {
		t.Errorf("a half-open connection does not swallow: %v", err)
	}
	waitFor(t, n, func(st netsim.Stats) bool { return st.Up.In == size+1 })
	_ = client.SetLinger(0)
	_ = client.Close()
	waitFor(t, n, func(st netsim.Stats) bool { return st.Now == 0 })
}

func TestRefuse(t *testing.T) {
	n := overTCP(t, netsim.Link{}, echo)
	before := n.connect()
	n.echo(before)
	n.Refuse(true)
	if refused, err := net.Dial("tcp", n.Addr().String()); err == nil {
		n.isReset(refused)
		_ = refused.Close()
	} else if !errors.Is(err, syscall.ECONNRESET) { // it came while the dial looked
		t.Errorf("dial: %v, want a reset", err)
	}
	n.echo(before)
	n.Refuse(false)
	n.echo(n.connect())
	if st := n.Stats(); st.Ever != 2 {
		t.Errorf("%+v, want 2 connections ever", st)
	}
}

func TestScript(t *testing.T) {
	simulate(t, netsim.Link{}, func(t *testing.T, s *sim) {
		var cuts []time.Duration
		cut := func(r *netsim.Relay) {
			r.Cut()
			cuts = append(cuts, s.now())
		}
		lives := make(chan time.Duration, 20)
		go func() { // a client that comes back at once
			for len(lives) < 10 {
				begin := s.now()
				client := s.connect()
				_, _ = client.Read(make([]byte, 1))
				lives <- s.now() - begin
			}
		}()
		err := s.Run(t.Context(), netsim.Join(netsim.Every(time.Second, 10500*time.Millisecond, cut), netsim.Frozen(20*time.Second)))
		if err != nil {
			t.Error(err)
		}
		s.at("end of the script", 30500*time.Millisecond)
		if len(cuts) != 10 || cuts[0] != time.Second || cuts[9] != 10*time.Second {
			t.Errorf("cuts at %v, want one each second", cuts)
		}
		for range 10 {
			if d := <-lives; d != time.Second {
				t.Errorf("a connection lives %s, want 1s", d)
			}
		}
		s.tell(s.connect(), "thawed")
	})
}

var errOver = errors.New("over")

func TestScriptEndsWithItsContext(t *testing.T) {
	simulate(t, netsim.Link{}, func(t *testing.T, s *sim) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errOver)
		defer cancel()
		if err := s.Run(ctx, netsim.Frozen(time.Hour)); !errors.Is(err, errOver) {
			t.Errorf("error %v", err)
		}
		s.at("end of the script", time.Minute)
	})
}
