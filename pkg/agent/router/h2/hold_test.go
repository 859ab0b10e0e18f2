package h2

import (
	"fmt"
	"strings"
	"testing"
)

// TestHandlerThatDoesNotRead delays nobody else: what is held for it is bounded, and
// what is more than that is reset.
func TestHandlerThatDoesNotRead(t *testing.T) {
	s := newScene(t, "")
	client, app := s.actors["client"], s.actors["app"]
	s.play(`
		client> HEADERS 1 ` + post + mine + `
		client< WINDOW 1 196609
		me+
		me< HEADERS 1 ` + post + mine)
	reset := 0
	for id := 3; id < 60; id += 4 {
		client.say(fmt.Sprintf("HEADERS %d %s%s", id, post, mine))
		client.say(fmt.Sprintf("ZEROS %d 245760", id))
		client.say(fmt.Sprintf("HEADERS %d ends %s", id+2, get))
		app.expect(fmt.Sprintf("HEADERS %d ends %s", id+2, get))
		app.say(fmt.Sprintf("HEADERS %d ends %s", id+2, ok))
		for answered := false; !answered; {
			switch heard := client.hear(); {
			case strings.HasPrefix(heard, "WINDOW"):
			case heard == fmt.Sprintf("RST %d ENHANCE_YOUR_CALM", id):
				reset++
			case heard == fmt.Sprintf("HEADERS %d ends %s", id+2, ok):
				answered = true
			default:
				t.Fatalf("the client heard %s", heard)
			}
		}
		if held := s.budget.Held(); held > s.budget.max {
			t.Fatalf("%d bytes are held", held)
		}
	}
	if reset == 0 || reset > 12 {
		t.Errorf("%d of 15 streams were reset", reset)
	}
	client.say("RST 3 CANCEL")
	client.say("PING 12345678")
	app.expect("PING 12345678")
	if held, most := s.budget.Held(), s.budget.max-245_760+65_536; held > most {
		t.Errorf("%d bytes are held after a stream was cancelled, more than %d", held, most)
	}
}

// TestClientThatDoesNotRead is not waited for without end: what it makes others say is
// bounded.
func TestClientThatDoesNotRead(t *testing.T) {
	s := newScene(t, "")
	client := s.actors["client"]
	// Each frame asks for a reset that the client does not read.
	for id := 1; ; id += 2 {
		err := client.frames.WriteHeaders(malformed(uint32(id)))
		if err != nil {
			t.Logf("ended after %d malformed requests: %v", id/2, err)
			break
		}
		if id > 2_000_000 {
			t.Fatal("goes on for ever")
		}
	}
}

// TestTightBudget: while much waits to be written to others, a client that does not
// read may have little waiting.
func TestTightBudget(t *testing.T) {
	s := newScene(t, "")
	others := s.budget.max + 1
	s.budget.unsent.Add(others)
	defer s.budget.unsent.Add(-others)
	client := s.actors["client"]
	for id := uint32(1); client.frames.WriteHeaders(malformed(id)) == nil; id += 2 {
		if id > 2_000_000 {
			t.Fatal("goes on for ever")
		}
	}
	err := <-s.ended
	s.ended <- err
	var waited int
	if _, scanned := fmt.Sscan(err.Error(), &waited); scanned != nil || waited > maxOut+1000 {
		t.Errorf("ended by %v, after more than %d bytes", err, maxOut)
	}
}

// TestManyResets of streams that a handler was to get: they leave nothing.
func TestManyResets(t *testing.T) {
	s := newScene(t, "")
	client := s.actors["client"]
	s.taken = make(chan struct{}, 200_000)
	hold := s.hold()
	for id := 1; id < 20_000; id += 2 {
		client.say(fmt.Sprintf("HEADERS %d ends %s%s", id, get, mine))
		client.say(fmt.Sprintf("RST %d CANCEL", id))
	}
	client.say("PING 12345678")
	s.actors["app"].expect("PING 12345678")
	close(hold)
	s.play(`
		client> HEADERS 20001 ends ` + get + mine + `
		me+
		me< HEADERS 20001 ends ` + get + mine)
}

// TestLargeHeads of requests that a handler does not answer are not remembered, nor
// held for it, without end.
func TestLargeHeads(t *testing.T) {
	large := " x=" + strings.Repeat("ab~Q", 12_000) + "!"
	for _, reached := range []bool{true, false} {
		t.Run(fmt.Sprintf("reached %v", reached), func(t *testing.T) {
			s := newScene(t, "")
			hold := s.hold()
			if reached {
				close(hold)
			} else {
				defer close(hold)
			}
			client := s.actors["client"]
			for id := range 60 {
				client.say(fmt.Sprintf("HEADERS %d ends %s%s%s", 2*id+1, get, mine, large))
				if reached && id == 0 {
					s.play("me+")
				}
				if reached {
					s.actors["me"].expect(fmt.Sprintf("HEADERS %d ends %s%s%s", 2*id+1, get, mine, large))
				}
			}
			client.say("PING 12345678")
			s.actors["app"].expect("PING 12345678")
			if held, most := s.budget.Held(), s.budget.max+heldAnyway; held > most || held < s.budget.max/2 {
				t.Errorf("%d bytes are held, not at most %d", held, most)
			}
		})
	}
}
