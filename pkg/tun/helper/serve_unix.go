//go:build linux || darwin

package helper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

const (
	dialLimit  = 10 * time.Second // the session listens before it starts us
	helloLimit = 10 * time.Second // and speaks at once
	writeLimit = 5 * time.Second  // the session always reads
)

// Serve is the root side. It connects to the session's socket, after checking
// that folder, socket and peer belong to uid, carries out what the session
// asks for and the rules allow, and returns when the session is gone or ctx
// ends, after host has undone everything. host is closed in any case.
//
// The error is nil if the session asked for the end, or just went away, and
// everything was undone.
//
// While it runs, the process ignores what a terminal sends to its processes
// (SIGHUP, SIGINT, SIGQUIT, SIGTSTP), and SIGPIPE: the session's end is what
// counts. SIGTERM is the caller's, who ends ctx by it.
func Serve(ctx context.Context, socket string, uid int, host Host, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	signals := []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGPIPE}
	signal.Ignore(signals...)
	defer signal.Reset(signals...)

	err := serve(ctx, socket, uid, host, log)
	if undo := host.Close(); undo != nil {
		err = errors.Join(err, undo)
	}
	if err != nil {
		return fmt.Errorf("helper: %w", err)
	}
	return nil
}

func serve(ctx context.Context, socket string, uid int, host Host, log *slog.Logger) error {
	if err := checkSocket(socket, uid); err != nil {
		return err
	}
	dialer := net.Dialer{Timeout: dialLimit}
	c, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return fmt.Errorf("socket %s: not a unix socket", socket)
	}
	defer func() { _ = conn.Close() }()
	if err := checkPeer(conn, uid); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s := &server{conn: conn, host: host, log: log, routes: tun.Routes}
	err = s.loop()
	if ctx.Err() != nil {
		return nil // asked to end
	}
	return err
}

// server is one conversation.
type server struct {
	conn   *net.UnixConn
	host   Host
	log    *slog.Logger
	routes func() ([]tun.Route, error)

	greeted bool
	dev     string      // empty until open-tun
	now     tun.Network // what dev has
	dns     DNS
}

// refusal is an error by the rules: nothing was tried.
type refusal struct{ error }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

// loop returns nil when the session has closed the conversation or is gone.
func (s *server) loop() error {
	in := bufio.NewReaderSize(s.conn, maxLine)
	if err := s.conn.SetReadDeadline(time.Now().Add(helloLimit)); err != nil {
		return err
	}
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET):
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("message longer than %d bytes", maxLine)
		case err != nil:
			return fmt.Errorf("read: %w", err)
		}
		var req request
		if err := decode(line, &req); err != nil {
			return s.quit(req, fmt.Errorf("message: %w", err))
		}
		if err := req.shape(); err != nil {
			return s.quit(req, fmt.Errorf("request %.20q: %w", req.Op, err))
		}
		if !s.greeted && req.Op != opHello {
			return s.quit(req, fmt.Errorf("request %.20q before hello", req.Op))
		}
		if req.Op == opClose {
			// The answer reports whether everything was undone.
			err := s.host.Close()
			return errors.Join(err, s.answer(req, reply{}, nil, err))
		}
		name, file, err := s.handle(req)
		if err != nil {
			s.log.Info("request failed", "op", req.Op, "err", err)
		}
		err = s.answer(req, reply{Name: name}, file, err)
		if file != nil {
			_ = file.Close() // the session's copy is what keeps the device
		}
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// quit tells the session why the conversation ends.
func (s *server) quit(req request, err error) error {
	_ = s.answer(req, reply{}, nil, refusal{err})
	return err
}

func (s *server) answer(req request, r reply, file *os.File, failed error) error {
	r.ID = req.ID
	if failed != nil {
		_, r.Refused = errors.AsType[refusal](failed)
		r.Error = failed.Error()
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	line = append(line, '\n')
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if file == nil {
		_, err = s.conn.Write(line)
	} else {
		// The descriptor travels with the line's first byte.
		err = withFD(file, func(fd int) error {
			_, _, err := s.conn.WriteMsgUnix(line, unix.UnixRights(fd), nil)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// withFD does not put the file into blocking mode, as File.Fd would.
func withFD(file *os.File, use func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var used error
	if err := raw.Control(func(fd uintptr) { used = use(int(fd)) }); err != nil {
		return err
	}
	return used
}

// handle carries out one request. A file returned is to be sent.
func (s *server) handle(req request) (name string, file *os.File, err error) {
	switch req.Op {
	case opHello:
		if s.greeted {
			return "", nil, refuse("hello twice")
		}
		if req.Version != protocol {
			return "", nil, refuse("version %d, this is %d", req.Version, protocol)
		}
		s.greeted = true
		return "", nil, s.conn.SetReadDeadline(time.Time{})
	case opOpenTUN:
		if s.dev != "" {
			return "", nil, refuse("a device is open already")
		}
		if req.MTU < 1280 || req.MTU > tun.MaxMTU {
			return "", nil, refuse("mtu %d: not within 1280 to %d", req.MTU, tun.MaxMTU)
		}
		file, name, err := s.host.OpenTUN(req.MTU)
		if err != nil {
			return "", nil, err
		}
		s.dev = name
		return name, file, nil
	case opSetNetwork:
		return "", nil, s.setNetwork(*req.Network)
	default:
		return "", nil, s.setDNS(*req.DNS)
	}
}

func (s *server) setNetwork(n tun.Network) error {
	if s.dev == "" {
		return refuse("no device is open")
	}
	existing, err := s.routes()
	if err != nil {
		return err
	}
	if err := checkNetwork(s.dev, s.now, n, existing); err != nil {
		return refusal{err}
	}
	if err := checkDNS(s.dns, n); err != nil {
		return refuse("dns that is set: %w", err)
	}
	if err := s.host.SetNetwork(s.dev, n); err != nil {
		return err
	}
	s.now = n
	return nil
}

func (s *server) setDNS(d DNS) error {
	if s.dev == "" {
		return refuse("no device is open")
	}
	if err := checkDNS(d, s.now); err != nil {
		return refusal{err}
	}
	if err := s.host.SetDNS(s.dev, d); err != nil {
		return err
	}
	s.dns = d
	return nil
}
