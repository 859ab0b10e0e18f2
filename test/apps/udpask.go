package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

const (
	// who begins a datagram to the UDP application that is answered with an api.Echo behind
	// it and a line's end.
	who = "who "
	// askAgain is how long an answer is waited for before a datagram is sent again, as
	// resolvers do.
	askAgain = time.Second
)

// whoAnswers returns what the UDP application answers to a datagram.
func whoAnswers(id identity, datagram []byte) []byte {
	if !strings.HasPrefix(string(datagram), who) {
		return datagram
	}
	echo, _ := json.Marshal(api.Echo{Pod: id.Pod, Version: id.Version})
	return append(append(append([]byte{}, datagram...), '\n'), echo...)
}

// udpAsker asks the UDP application who it is, from one socket, or from one for each
// question.
type udpAsker struct {
	fresh  bool
	number atomic.Int64

	mu   sync.Mutex
	kept net.Conn
}

func (a *udpAsker) conn(address string) (conn net.Conn, done func(), err error) {
	if a.fresh {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return nil, nil, err
		}
		return conn, func() { _ = conn.Close() }, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept == nil {
		if a.kept, err = net.Dial("udp", address); err != nil {
			return nil, nil, err
		}
	}
	return a.kept, func() {}, nil
}

func (a *udpAsker) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kept != nil {
		_ = a.kept.Close()
	}
}

func (a *udpAsker) ask(ctx context.Context, c callRequest, out *api.Call) error {
	u, err := url.Parse(c.url)
	if err != nil {
		return err
	}
	conn, done, err := a.conn(u.Host)
	if err != nil {
		return err
	}
	defer done()
	question := fmt.Sprintf("%s%d", who, a.number.Add(1))
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		if _, err := conn.Write([]byte(question)); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(askAgain))
		for {
			n, err := conn.Read(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if errors.Is(err, syscall.ECONNREFUSED) {
				// The pod that this socket led to has ended, which the node will notice.
				time.Sleep(askAgain / 10)
				break
			}
			if err != nil {
				return err
			}
			asked, answer, _ := strings.Cut(string(buffer[:n]), "\n")
			if asked != question {
				continue // of one before, late
			}
			var echo api.Echo
			if err := json.Unmarshal([]byte(answer), &echo); err != nil {
				return err
			}
			return answeredBy(out, echo.Pod, echo.Version)
		}
	}
	return fmt.Errorf("no answer: %w", context.Cause(ctx))
}
