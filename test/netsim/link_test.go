//go:build linux

package netsim_test

import (
	"bytes"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/netsim"
)

const delay = 20 * time.Millisecond

// A new connection takes a round trip, and so does each question and answer.
func TestDelay(t *testing.T) {
	simulate(t, netsim.Link{Delay: delay}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		s.at("SYN", delay)
		s.tell(client, "one")
		s.hear(server, "one")
		s.at("first question", 3*delay)
		s.tell(server, "two")
		s.hear(client, "two")
		s.at("first answer", 4*delay)
		s.tell(client, "three")
		s.hear(server, "three")
		s.at("second question", 5*delay)

		s.tell(client, "late") // Set is for what follows
		s.Set(netsim.Link{Delay: time.Second})
		s.tell(client, "later")
		s.hear(server, "late")
		s.at("sent before Set", 6*delay)
		s.hear(server, "later")
		s.at("sent after Set", 5*delay+time.Second)

		s.tell(client, "first") // and does not overtake
		s.Set(netsim.Link{})
		s.tell(client, "second")
		s.hear(server, "firstsecond")
		s.at("sent over a faster link", 5*delay+2*time.Second)
		s.tell(client, "at once")
		s.hear(server, "at once")
		s.at("sent without delay", 5*delay+2*time.Second)
	})
}

func TestServerSpeaksFirst(t *testing.T) {
	simulate(t, netsim.Link{Delay: delay}, func(t *testing.T, s *sim) {
		client := s.connect()
		s.tell(<-s.servers, "220 hello")
		s.hear(client, "220 hello")
		s.at("greeting", 2*delay)
	})
}

// The bytes under way are bound by the window, not by the delay.
func TestDelayDoesNotCapRate(t *testing.T) {
	const size = 60 << 20
	simulate(t, netsim.Link{Delay: time.Hour}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		begin := s.now()
		if _, err := client.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if took := s.now() - begin; took != time.Hour { // the handshake's second half
			t.Errorf("sending takes %s", took)
		}
		synctest.Wait()
		if up := s.Stats().Up; up != (netsim.Bytes{In: size}) {
			t.Errorf("under way: %+v, want %d", up, size)
		}
		if _, err := io.ReadFull(server, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		s.at("last byte", 3*time.Hour)
	})
}

func TestWindow(t *testing.T) {
	const window, size = 1 << 20, 3 << 20
	simulate(t, netsim.Link{Delay: time.Second, Window: window}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		go func() { _, _ = client.Write(make([]byte, size)) }()
		time.Sleep(1500 * time.Millisecond) // on the simulated clock
		synctest.Wait()
		if up := s.Stats().Up; up.In != window || up.Out != 0 {
			t.Errorf("under way: %+v, want %d", up, window)
		}
		if _, err := io.ReadFull(server, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		s.at("last byte", 5*time.Second) // handshake, then a window each second
	})
}

// Two connections share the rate, and a third that says little is not behind
// what they have queued.
func TestRate(t *testing.T) {
	const rate, size = 1 << 20, 2 << 20
	simulate(t, netsim.Link{Delay: delay, Rate: rate}, func(t *testing.T, s *sim) {
		var done [2]time.Duration
		ended := make(chan struct{})
		for i := range done {
			client := s.connect()
			server := <-s.servers
			go func() { _, _ = client.Write(make([]byte, size)) }()
			go func() {
				_, _ = io.ReadFull(server, make([]byte, size))
				done[i] = s.now()
				ended <- struct{}{}
			}()
		}
		little := s.connect()
		server := <-s.servers
		time.Sleep(time.Second)
		begin := s.now()
		s.tell(little, "x")
		s.hear(server, "x")
		if took := s.now() - begin; took < delay || took > delay+20*time.Millisecond {
			t.Errorf("one byte beside two transfers takes %s", took)
		}
		for range done {
			<-ended
		}
		first, last := min(done[0], done[1]), max(done[0], done[1])
		// From when the first is open, 4 MiB at 1 MiB/s.
		if want := 3*delay + 4*time.Second; last < want || last > want+20*time.Millisecond {
			t.Errorf("both end after %s, want %s", last, want)
		}
		if last-first > 200*time.Millisecond {
			t.Errorf("one ends after %s, the other after %s", first, last)
		}
	})
}

// An end arrives after what was sent before it, and not at once.
func TestHalfClose(t *testing.T) {
	simulate(t, netsim.Link{Delay: delay}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		s.tell(client, "question")
		_ = client.CloseWrite()
		s.hear(server, "question")
		s.ends(server, io.EOF)
		s.at("FIN", 3*delay)
		time.Sleep(time.Minute)
		s.tell(server, "answer")
		_ = server.CloseWrite()
		s.hear(client, "answer")
		s.ends(client, io.EOF)
		s.at("FIN back", 4*delay+time.Minute)
		synctest.Wait()
		if st := s.Stats(); st != (netsim.Stats{Ever: 1, Up: netsim.Bytes{In: 8, Out: 8}, Down: netsim.Bytes{In: 6, Out: 6}}) {
			t.Errorf("after both ends: %+v", st)
		}
	})
}

func TestResetArrivesInOrder(t *testing.T) {
	for _, up := range []bool{true, false} {
		simulate(t, netsim.Link{Delay: delay}, func(t *testing.T, s *sim) {
			from := s.connect()
			to := <-s.servers
			open := 2 * delay
			if !up {
				from, to, open = to, from, delay
			}
			s.tell(from, "last words")
			_ = from.Reset()
			s.hear(to, "last words")
			s.ends(to, syscall.ECONNRESET)
			s.at("RST", open+delay)
		})
	}
}

// Who writes to a connection that is reset at its other end is told, although
// it never reads.
func TestResetFoundByWriting(t *testing.T) {
	simulate(t, netsim.Link{}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		_ = server.CloseWrite()
		s.ends(client, io.EOF)
		_ = server.Close() // the kernel answers bytes for it with a RST
		_, _ = client.Write([]byte("x"))
		synctest.Wait()
		if _, err := client.Write([]byte("x")); err == nil {
			t.Error("bytes for a closed connection are taken")
		}
	})
}

// Bytes arrive as they were sent, whatever happens to the link meanwhile.
func TestOrder(t *testing.T) {
	const size = 1 << 20
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * 7 / 3 >> (i % 5))
	}
	simulate(t, netsim.Link{Delay: delay, Rate: size / 2}, func(t *testing.T, s *sim) {
		client := s.connect()
		server := <-s.servers
		go func() {
			for i, step := 0, 1; i < size; i, step = i+step, step*5%65521 {
				step = min(step, size-i)
				_, _ = client.Write(sent[i : i+step])
			}
			_ = client.CloseWrite()
		}()
		done := make(chan struct{})
		go func() {
			defer close(done)
			err := s.Run(t.Context(), netsim.Join(
				netsim.Quiet(5*delay), netsim.Frozen(time.Second),
				netsim.Every(7*delay, time.Second, func(r *netsim.Relay) { r.Set(netsim.Link{Delay: delay / 4, Rate: size / 2}) }),
				netsim.Script{{0, func(r *netsim.Relay) {
					if out := s.Stats().Up.Out; out > size*3/4 {
						t.Errorf("%d bytes have arrived before the last change", out)
					}
					r.Set(netsim.Link{Window: 1})
				}}},
			))
			if err != nil {
				t.Error(err)
			}
		}()
		got, err := io.ReadAll(server)
		<-done
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes arrive, %v, not the %d that were sent", len(got), err, size)
		}
	})
}
