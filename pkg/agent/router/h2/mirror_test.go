package h2

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// lateMirror has a connection when nobody waits for it any more.
type lateMirror struct{ *scene }

// Open implements Taker.
func (m lateMirror) Open(ctx context.Context) (splice.Conn, error) {
	<-ctx.Done()
	return dial(context.WithoutCancel(ctx), m.me)
}

// Taken implements Taker.
func (lateMirror) Taken() {}

// TestMirrorThatComesTooLate: a connection for copies that is had when the relay has
// ended ends too.
func TestMirrorThatComesTooLate(t *testing.T) {
	t.Parallel()
	s := newScene(t, "")
	client, app := s.actors["client"], s.actors["app"]
	client.say("HEADERS 1 ends " + get + " x-mirror=late")
	app.expect("HEADERS 1 ends " + get + " x-mirror=late")
	client.say("RST 1 CANCEL") // and its copy
	app.expect("RST 1 CANCEL")
	_ = client.conn.Close()
	_ = app.conn.Close()
	late := accept(t, s.me)
	defer func() { _ = late.Close() }()
	if n, err := late.(*net.TCPConn).Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the mirror's connection goes on: %d bytes, %v", n, err)
	}
}

// TestMirrorEndsWithTheAnswer: of a request that the app does not take as a whole, the
// mirror does not wait for the rest.
func TestMirrorEndsWithTheAnswer(t *testing.T) {
	s := newScene(t, "")
	s.play(`
		client> HEADERS 1 ` + get + ` x-mirror=me
		app<    HEADERS 1 ` + get + ` x-mirror=me
		me+
		me<     HEADERS 1 ` + get + ` x-mirror=me
		app>    RST 1 NO_ERROR
		client< RST 1 NO_ERROR
		me<     RST 1 CANCEL`)
}
