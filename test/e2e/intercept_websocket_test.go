//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// socketTurn is what a client sends, and what it gets for it.
type socketTurn struct {
	send string
	want []frame
}

// socketCase is one connection that was upgraded.
type socketCase struct {
	name   string
	turns  []socketTurn
	closed uint16 // if not 0: then the server closes with this code, and whatever text
	ends   bool   // then the server ends the connection
}

func socketCases() (all []socketCase) {
	const key = 0x37fa213d // of the RFC's examples
	message := func(payload string) socketTurn {
		return socketTurn{frame{fin | text, payload}.masked(key), []frame{{fin | text, payload}}}
	}
	for _, n := range []int{0, 1, 125, 126, 127, 1<<16 - 1, 1 << 16, 1 << 20} {
		whole := frame{fin | binaryData, strings.Repeat("0123456789abcdef\x00\xff", n/18+1)[:n]}
		all = append(all, socketCase{name: fmt.Sprintf("%d bytes", n), turns: []socketTurn{{whole.masked(key), []frame{whole}}, message("again")}})
	}
	for _, code := range []uint16{1000, 1001, 1003, 1011, 3000, 4999} {
		all = append(all, socketCase{name: fmt.Sprintf("close %d", code), ends: true, turns: []socketTurn{
			message("hello"), {closeFrame(code, "bye").masked(key), []frame{closeFrame(code, "")}},
		}})
	}
	many := socketTurn{}
	for i := range 1000 {
		f := frame{fin | text, strconv.Itoa(i)}
		many.send += f.masked(uint32(i))
		many.want = append(many.want, f)
	}
	hello := frame{fin | text, "Hello"}
	return append(all, []socketCase{
		{name: "fragments", turns: []socketTurn{
			{frame{text, "Hel"}.masked(key) + frame{continuation, "l"}.masked(key) + frame{continuation, ""}.masked(key), nil},
			{frame{fin | continuation, "o"}.masked(key), []frame{hello}},
			message("again"),
		}},
		{name: "pings between fragments", turns: []socketTurn{
			{frame{text, "Hel"}.masked(key) + frame{fin | ping, "1"}.masked(key), []frame{{fin | pong, "1"}}},
			{frame{continuation, "l"}.masked(key) + frame{fin | ping, "2"}.masked(key), []frame{{fin | pong, "2"}}},
			{frame{fin | continuation, "o"}.masked(key), []frame{hello}},
		}},
		{name: "pings", turns: []socketTurn{
			{frame{fin | ping, ""}.masked(key), []frame{{fin | pong, ""}}},
			{frame{fin | ping, strings.Repeat("p", 125)}.masked(key), []frame{{fin | pong, strings.Repeat("p", 125)}}},
			{frame{fin | pong, "unasked"}.masked(key), nil},
			message("again"),
		}},
		{name: "a thousand messages at once", turns: []socketTurn{many}},
		{name: "messages that look like requests", turns: []socketTurn{
			{frame{fin | text, "GET / HTTP/1.1\r\nHost: a\r\nX-Tele-User: alice\r\n\r\n"}.masked(0), []frame{{fin | text, "GET / HTTP/1.1\r\nHost: a\r\nX-Tele-User: alice\r\n\r\n"}}},
			message("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		}},
		{name: "a frame in parts", turns: []socketTurn{{hello.masked(key)[:1], nil}, {hello.masked(key)[1:5], nil}, {hello.masked(key)[5:], []frame{hello}}}},
		{name: "close without a code", ends: true, turns: []socketTurn{{frame{fin | closing, ""}.masked(key), []frame{{fin | closing, ""}}}}},
		{name: "close between fragments", ends: true, turns: []socketTurn{{frame{text, "Hel"}.masked(key) + closeFrame(1000, "").masked(key), []frame{closeFrame(1000, "")}}}},
		{name: "a code that may not be sent", closed: 1002, turns: []socketTurn{{closeFrame(1006, "").masked(key), nil}}},
		{name: "no mask", closed: 1002, turns: []socketTurn{message("hello"), {hello.unmasked(), nil}}},
		{name: "reserved bits", closed: 1002, turns: []socketTurn{{frame{fin | 0x40 | text, "x"}.masked(key), nil}}},
		{name: "a reserved opcode", closed: 1002, turns: []socketTurn{{frame{fin | 0x0b, ""}.masked(key), nil}}},
		{name: "a ping in fragments", closed: 1002, turns: []socketTurn{{frame{ping, "x"}.masked(key), nil}}},
		{name: "a long ping", closed: 1002, turns: []socketTurn{{frame{fin | ping, strings.Repeat("p", 126)}.masked(key), nil}}},
		{name: "a continuation of nothing", closed: 1002, turns: []socketTurn{{frame{fin | continuation, "x"}.masked(key), nil}}},
	}...)
}

// TestInterceptWebSocketFrames: what RFC 6455 says holds past a personal intercept
// and through it, on each connection that is upgraded, and after an upgrade that is
// refused the next request goes where it should.
func TestInterceptWebSocketFrames(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("iwf", manifests.Options{Replicas: 1})
	deploy(t, app)
	name := app.Deployment.Name
	address := onlyEndpoint(t, name, func(context.Context, string) error { return nil })
	run := func(pass, user string, by func(string) bool) {
		for _, c := range socketCases() {
			t.Run(c.name+", "+pass, func(t *testing.T) { c.play(t, address, user, by) })
		}
		t.Run("the server first, "+pass, func(t *testing.T) {
			s := dialSocket(t, address)
			s.upgrade(t, "/ws?first=hello", user, by)
			s.want(t, frame{fin | text, "hello"})
			s.send(t, frame{fin | text, "you"}.masked(1))
			s.want(t, frame{fin | text, "you"})
		})
		t.Run("the client ends, "+pass, func(t *testing.T) {
			s := dialSocket(t, address)
			s.upgrade(t, "/ws", user, by)
			s.send(t, frame{fin | text, "last"}.masked(1))
			if err := s.conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			s.want(t, frame{fin | text, "last"})
			s.wantEnd(t)
		})
		t.Run("refused, "+pass, func(t *testing.T) {
			s := dialSocket(t, address)
			s.refused(t, user, by)
			s.get(t, user, by)
			s.refused(t, user, by)
			s.upgrade(t, "/ws", user, by)
			s.send(t, frame{fin | text, "hello"}.masked(1))
			s.want(t, frame{fin | text, "hello"})
		})
	}
	run("alone", "bob", isPodOf(name))

	desk := newDesk(t)
	timed(t, desk, "intercept", name, "--port", serve(t, desk, socketHandler()), "--personal")
	address = onlyEndpoint(t, name, func(_ context.Context, address string) error {
		var echo api.Echo
		c := call(t, "-header", "X-Tele-User:alice", "http://"+address)
		if err := json.Unmarshal([]byte(c.Body), &echo); err != nil || !isLaptop(echo.Pod) {
			return fmt.Errorf("alice's request is answered by %s%s", c.Body, c.Error)
		}
		return nil
	})
	run("past the intercept", "bob", isPodOf(name))
	run("through the intercept", "alice", isLaptop)
	t.Run("refused, one after the other", func(t *testing.T) {
		s := dialSocket(t, address)
		for range 2 {
			s.refused(t, "bob", isPodOf(name))
			s.get(t, "alice", isLaptop)
			s.refused(t, "alice", isLaptop)
			s.get(t, "bob", isPodOf(name))
		}
		s.upgrade(t, "/ws", "alice", isLaptop)
		s.send(t, frame{fin | text, "GET / HTTP/1.1\r\nX-Tele-User: bob\r\n\r\n"}.masked(0))
		s.want(t, frame{fin | text, "GET / HTTP/1.1\r\nX-Tele-User: bob\r\n\r\n"})
	})
	timed(t, desk, "leave", name)
	nothingLeft(t, name)
}

// play plays a case on a connection of its own.
func (c socketCase) play(t *testing.T, address, user string, by func(string) bool) {
	t.Helper()
	s := dialSocket(t, address)
	s.upgrade(t, "/ws", user, by)
	for _, turn := range c.turns {
		s.send(t, turn.send)
		for _, f := range turn.want {
			s.want(t, f)
		}
	}
	if c.closed != 0 {
		got, err := s.frame()
		if want := closeFrame(c.closed, ""); err != nil || got.first != want.first || !strings.HasPrefix(got.payload, want.payload) {
			t.Errorf("got frame %#x %.50q, %v; want a close with code %d", got.first, got.payload, err, c.closed)
		}
	}
	if c.ends {
		s.wantEnd(t)
	}
}
