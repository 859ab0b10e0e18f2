package router

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// http2 relays a connection whose client has begun with HTTP/2's preface. Whether
// the app speaks it too is seen from what it says to that.
func (r *relay) http2() error {
	if err := r.app.stop(); err != nil {
		return err
	}
	if r.isEnding() {
		return r.endIf(true)
	}
	app, said := r.app.conn, r.app.early
	opened := h2.Opening(r.in[len(h2.Preface):])
	if _, err := app.Write(r.in[:len(h2.Preface)+opened]); err != nil {
		return err
	}
	r.in = r.in[len(h2.Preface):]
	why := Opacity("")
	_ = app.SetReadDeadline(time.Now().Add(headLimit))
	for why == "" && len(said) < h2.HeaderSize {
		buf := make([]byte, h2.HeaderSize)
		n, err := app.Read(buf)
		said = append(said, buf[:n]...)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			why = TooSlow
		case errors.Is(err, io.EOF):
			why = NotHTTP
		case err != nil:
			return err
		}
	}
	_ = app.SetReadDeadline(time.Time{})
	if why == "" && !h2.MayBegin(said) {
		why = NotHTTP
	}
	if why == "" {
		return h2.Serve(r.ctx, h2.Config{
			Client: r.client, App: app, ClientSent: r.in, AppSent: said, Opened: opened > 0,
			Pick: r.pickHTTP2, Mirrors: r.mirrorsHTTP2, DialApp: r.cfg.DialApp, Watch: r.cfg.Watch, Held: r.cfg.Held, Log: r.cfg.Log,
		})
	}
	r.cfg.Opaque(why)
	if _, err := r.client.Write(said); err != nil {
		return err
	}
	if _, err := app.Write(r.in[opened:]); err != nil {
		return err
	}
	_, err := splice.Splice(r.ctx, r.client, app)
	return err
}

// pickHTTP2 returns who takes a request of HTTP/2.
func (r *relay) pickHTTP2(fields []hpack.HeaderField) h2.Taker {
	req, err := requestOf(fields)
	if err != nil {
		return nil
	}
	return r.cfg.Pick(Subject{req})
}

// mirrorsHTTP2 returns who gets a copy of a request of HTTP/2.
func (r *relay) mirrorsHTTP2(fields []hpack.HeaderField) []Mirror {
	if r.cfg.Mirrors == nil {
		return nil
	}
	req, err := requestOf(fields)
	if err != nil {
		return nil
	}
	return r.cfg.Mirrors(Subject{req})
}

// requestOf returns what rules look at of a request of HTTP/2. Its authority is what
// the header Host is of HTTP/1.
func requestOf(fields []hpack.HeaderField) (*request, error) {
	r := &request{}
	for _, f := range fields {
		switch f.Name {
		case ":method":
			r.method = f.Value
		case ":path":
			r.target = f.Value
		case ":authority":
			r.fields = append(r.fields, field{"host", f.Value})
		case "host":
			if len(r.values("Host")) == 0 {
				r.fields = append(r.fields, field{f.Name, f.Value})
			}
		default:
			if !f.IsPseudo() {
				r.fields = append(r.fields, field{f.Name, f.Value})
			}
		}
	}
	return r, r.parseTarget()
}

// begin notes that the client does not speak HTTP/2. An app that has spoken before
// it is passed on, and not understood.
func (r *relay) begin() Opacity {
	r.state.Lock()
	defer r.state.Unlock()
	if r.begun || len(r.app.early) == 0 {
		r.begun = true
		return ""
	}
	r.app.saidEarlyLocked()
	return Unasked
}

// keepEarly keeps what an app says before its client does, if it may be the
// beginning of HTTP/2: servers of gRPC do not wait for the client.
func (u *upstream) keepEarly(b []byte) (rest []byte) {
	u.relay.state.Lock()
	defer u.relay.state.Unlock()
	if !u.app || u.relay.begun {
		return b
	}
	u.early = append(u.early, b...)
	if !h2.MayBegin(u.early) || len(u.early) > maxHead {
		u.saidEarlyLocked()
	}
	return nil
}

// saidEarlyLocked passes on what was kept. There is room for it: nothing has been
// sent to the client before.
func (u *upstream) saidEarlyLocked() {
	u.relay.begun = true
	if len(u.early) > 0 {
		_ = u.write(u.early)
		u.early = nil
		u.unasked = Unasked
	}
}
