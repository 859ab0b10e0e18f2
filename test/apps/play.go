package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// runPlay plays the client in conversations with a raw application: it reads them
// from standard input and writes an []api.Played.
func runPlay(ctx context.Context, s settings, args []string) error {
	if len(args) != 2 {
		return errors.New("play: want the HOST:PORT of what is played, and the URL where it is told")
	}
	var all []api.Conversation
	if err := json.NewDecoder(s.in).Decode(&all); err != nil {
		return fmt.Errorf("play: read conversations: %w", err)
	}
	client := newClient()
	defer client.CloseIdleConnections()
	var out []api.Played
	for _, c := range all {
		p, err := converse(ctx, client, c, args[0], args[1])
		if err != nil {
			p.Error = err.Error()
		}
		p.Name = c.Name
		out = append(out, p)
	}
	return json.NewEncoder(s.out).Encode(out)
}

// converse plays one conversation.
func converse(ctx context.Context, client *http.Client, c api.Conversation, address, control string) (api.Played, error) {
	var out api.Played
	script, err := json.Marshal(c)
	if err != nil {
		return out, err
	}
	if err := tell(ctx, client, http.MethodPost, control+"/play", script, nil); err != nil {
		return out, err
	}
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return out, err
	}
	side := play(conn.(*net.TCPConn), c, false)
	_ = conn.Close()
	err = tell(ctx, client, http.MethodGet, control+"/played", nil, &out)
	out.Client = side
	return out, err
}

// tell makes one request; out, if it is not nil, is what the answer's JSON goes to.
func tell(ctx context.Context, client *http.Client, method, url string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers %s", url, resp.Status)
	case out == nil:
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// play plays one side of a conversation. The connection stays to be closed.
func play(conn *net.TCPConn, c api.Conversation, app bool) api.Side {
	_ = conn.SetDeadline(time.Now().Add(api.ConversationLimit))
	in := &intake{}
	in.grown.L = &in.mu
	var wg sync.WaitGroup
	wg.Go(func() { in.read(conn) })
	defer wg.Wait()
	said, ended := 0, false // what the other side has said before the turn, and whether that was all
	closed := false
	for _, t := range c.Turns {
		switch {
		case t.App != app:
			said, ended = said+len(t.Send), ended || t.FIN
			continue
		case t.After > 0:
			in.wait(t.After)
		case ended:
			in.waitEnd()
		default:
			in.wait(said)
		}
		_, _ = conn.Write(t.Send) // a connection that has gone shows in what is read
		switch {
		case t.Reset:
			side := in.side()
			side.End = api.EndOwn
			_ = conn.SetLinger(0)
			_ = conn.Close()
			return side
		case t.FIN:
			closed = true
			_ = conn.CloseWrite()
		}
	}
	if !closed && !app {
		_ = conn.CloseWrite()
	}
	in.waitEnd()
	if !closed && app {
		_ = conn.CloseWrite()
	}
	return in.side()
}

// intake is what one side has received.
type intake struct {
	mu    sync.Mutex
	grown sync.Cond
	got   []byte
	end   string // "": there may be more
}

// read reads to the end.
func (in *intake) read(conn net.Conn) {
	buf := make([]byte, 64<<10)
	for end := ""; end == ""; {
		n, err := conn.Read(buf)
		switch {
		case errors.Is(err, io.EOF):
			end = api.EndFIN
		case errors.Is(err, syscall.ECONNRESET):
			end = api.EndReset
		case errors.Is(err, os.ErrDeadlineExceeded):
			end = api.EndLimit
		case err != nil:
			end = err.Error()
		}
		in.mu.Lock()
		in.got, in.end = append(in.got, buf[:n]...), end
		in.grown.Broadcast()
		in.mu.Unlock()
	}
}

// wait waits until n bytes have been received, or no more come.
func (in *intake) wait(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.got) < n && in.end == "" {
		in.grown.Wait()
	}
}

func (in *intake) waitEnd() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.end == "" {
		in.grown.Wait()
	}
}

func (in *intake) side() api.Side {
	in.mu.Lock()
	defer in.mu.Unlock()
	return api.Side{Got: append([]byte{}, in.got...), End: in.end}
}
