//go:build linux || darwin

package helper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

const (
	// askLimit bounds a request whose context has no end of its own: the
	// helper changes kernel tables and small files.
	askLimit = 30 * time.Second

	// closeLimit bounds the wait for everything to be undone.
	closeLimit = 10 * time.Second
)

// ErrGone is returned when the helper has ended.
var ErrGone = errors.New("helper is gone")

// Client is the session's end of a conversation with its helper. One request
// is under way at a time. A request that is given up on ends the
// conversation, since its outcome is unknown.
type Client struct {
	conn *net.UnixConn

	asking sync.Mutex // held over a request and its answer
	nextID uint64     // guarded by asking

	answers chan answered // from the read loop to ask
	quit    chan struct{} // closed when nobody will ask any more
	done    chan struct{} // closed when the read loop has ended

	quitOnce  sync.Once
	closeOnce sync.Once
	closeErr  error
}

// answered is one answer and the descriptor that came with it, or nil.
type answered struct {
	reply
	file *os.File
}

func newClient(conn *net.UnixConn) *Client {
	c := &Client{conn: conn, answers: make(chan answered), quit: make(chan struct{}), done: make(chan struct{})}
	go c.read()
	return c
}

// Done is closed when the helper has ended, or the conversation was closed.
func (c *Client) Done() <-chan struct{} { return c.done }

// OpenTUN has the helper make a device, once.
func (c *Client) OpenTUN(ctx context.Context, mtu int) (tun.Device, error) {
	r, file, err := c.ask(ctx, request{Op: opOpenTUN, MTU: mtu})
	if err != nil {
		return nil, err
	}
	if file == nil {
		return nil, errors.New("helper sent no descriptor")
	}
	return tun.FromFile(file, r.Name, mtu)
}

// SetNetwork makes n everything that the device has. It may be repeated; an
// empty n removes everything. Ranges that the helper's rules forbid give an
// *Error with Refused, and change nothing.
func (c *Client) SetNetwork(ctx context.Context, n tun.Network) error {
	return c.tell(ctx, request{Op: opSetNetwork, Network: &n})
}

// SetDNS makes d everything that the resolver knows about the device. It may
// be repeated; an empty d removes everything.
func (c *Client) SetDNS(ctx context.Context, d DNS) error {
	return c.tell(ctx, request{Op: opSetDNS, DNS: &d})
}

// Close has the helper undo everything and end, waits for that, and returns
// what could not be undone.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		err := c.tell(ctx, request{Op: opClose})
		c.hangUp()
		<-c.done
		if !errors.Is(err, ErrGone) {
			c.closeErr = err
		}
	})
	return c.closeErr
}

// hangUp ends the conversation, and with it the read loop.
func (c *Client) hangUp() {
	c.quitOnce.Do(func() { close(c.quit) })
	_ = c.conn.Close()
}

func (c *Client) tell(ctx context.Context, req request) error {
	_, file, err := c.ask(ctx, req)
	if file != nil {
		_ = file.Close()
	}
	return err
}

func (c *Client) ask(ctx context.Context, req request) (reply, *os.File, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askLimit)
		defer cancel()
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	if err := ctx.Err(); err != nil {
		return reply{}, nil, fmt.Errorf("helper: %s: %w", req.Op, err)
	}
	c.nextID++
	req.ID = c.nextID
	line, err := json.Marshal(req)
	if err != nil {
		return reply{}, nil, fmt.Errorf("helper: %s: %w", req.Op, err)
	}
	if len(line) >= maxLine {
		return reply{}, nil, &Error{Op: req.Op, Message: "message too long", Refused: true}
	}
	deadline, _ := ctx.Deadline()
	_ = c.conn.SetWriteDeadline(deadline)
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		c.hangUp()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return reply{}, nil, fmt.Errorf("helper: %s: %w", req.Op, err)
		}
		return reply{}, nil, fmt.Errorf("helper: %s: %w", req.Op, ErrGone)
	}
	select {
	case a := <-c.answers:
		switch {
		case a.ID != req.ID:
			c.hangUp()
			err = fmt.Errorf("helper: %s: answer %d to request %d", req.Op, a.ID, req.ID)
		case a.Error != "":
			err = &Error{Op: req.Op, Message: a.Error, Refused: a.Refused}
		default:
			return a.reply, a.file, nil
		}
		if a.file != nil {
			_ = a.file.Close()
		}
		return reply{}, nil, err
	case <-c.done:
		return reply{}, nil, fmt.Errorf("helper: %s: %w", req.Op, ErrGone)
	case <-ctx.Done():
		c.hangUp()
		return reply{}, nil, fmt.Errorf("helper: %s: %w", req.Op, context.Cause(ctx))
	}
}

// read hands on answers until the helper is gone or says what it should not.
func (c *Client) read() {
	defer close(c.done)
	defer func() { _ = c.conn.Close() }()
	var (
		pending []byte
		files   []*os.File
		buf     = make([]byte, 4096)
		oob     = make([]byte, unix.CmsgSpace(4*8))
	)
	defer func() { closeAll(files) }()
	for {
		n, oobn, _, _, err := c.conn.ReadMsgUnix(buf, oob)
		files = append(files, descriptors(oob[:oobn])...)
		if err != nil || n == 0 {
			return
		}
		pending = append(pending, buf[:n]...)
		if len(pending) > maxLine {
			return
		}
		for {
			line, rest, whole := bytes.Cut(pending, []byte{'\n'})
			if !whole {
				break
			}
			pending = rest
			var a answered
			if decode(line, &a.reply) != nil || len(files) > 1 {
				return
			}
			if len(files) == 1 {
				a.file, files = files[0], nil
			}
			if !c.hand(a) {
				return
			}
		}
	}
}

// hand gives an answer to the one who asked. It reports false if the
// conversation ended meanwhile.
func (c *Client) hand(a answered) bool {
	select {
	case c.answers <- a:
		return true
	case <-c.quit:
		if a.file != nil {
			_ = a.file.Close()
		}
		return false
	}
}

// descriptors takes over all that came along.
func descriptors(oob []byte) []*os.File {
	if len(oob) == 0 {
		return nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "tun"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
