package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller tells many connections when they can be read, on one goroutine. The
// Go runtime does the same for goroutines, which at rest take several times
// the memory of what else belongs to a connection.
type poller struct {
	file *os.File // epoll(7), itself polled by the runtime
	raw  syscall.RawConn
	done chan struct{}

	mu    sync.Mutex
	last  uint64
	conns map[uint64]*polled
}

// edges: an event is told once, when something comes.
const edges = 1 << 31

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), conns: map[uint64]*polled{}}
	p.raw, err = p.file.SyscallConn()
	if err == nil {
		err = p.file.SetReadDeadline(time.Time{}) // fails if the runtime does not poll it
	}
	if err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("poll connections: %w", err)
	}
	go p.run()
	return p, nil
}

// close ends the poller, after its connections.
func (p *poller) close() {
	_ = p.file.Close()
	<-p.done
}

func (p *poller) run() {
	defer close(p.done)
	var events [128]syscall.EpollEvent
	_ = p.raw.Read(func(fd uintptr) (done bool) {
		for {
			n, err := syscall.EpollWait(int(fd), events[:], 0)
			switch {
			case errors.Is(err, syscall.EINTR):
				continue
			case n <= 0:
				return false
			}
			for _, e := range events[:n] {
				p.tell(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
			}
			if n < len(events) {
				return false
			}
		}
	}) // until the file is closed
}

func (p *poller) tell(id uint64) {
	p.mu.Lock()
	c := p.conns[id]
	p.mu.Unlock()
	if c != nil {
		c.readiness.Set()
	}
}

// add makes a connection polled, which the caller has to close.
func (p *poller) add(conn *net.TCPConn) (*polled, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &polled{TCPConn: conn, poller: p, raw: raw}
	p.mu.Lock()
	p.last++
	c.id = p.last
	p.conns[c.id] = c
	p.mu.Unlock()
	closed := raw.Control(func(fd uintptr) {
		err = p.watch(int(fd), c.id)
	})
	if err := errors.Join(closed, err); err != nil {
		p.remove(c)
		return nil, err
	}
	return c, nil
}

func (p *poller) watch(fd int, id uint64) error {
	var err error
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | edges, Fd: int32(id), Pad: int32(id >> 32)}
	closed := p.raw.Control(func(epoll uintptr) {
		err = os.NewSyscallError("epoll_ctl", syscall.EpollCtl(int(epoll), syscall.EPOLL_CTL_ADD, fd, &event))
	})
	return errors.Join(closed, err)
}

// remove forgets a connection; the kernel does when it is closed.
func (p *poller) remove(c *polled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c.id)
}

// TryRead implements splice.Polled.
func (c *polled) TryRead(b []byte, ready func()) (n int, err error) {
	return c.TryCall(func(fd int) (int, error) { return syscall.Read(fd, b) }, ready)
}

// TryCall implements splice.Descriptor.
func (c *polled) TryCall(call func(fd int) (int, error), ready func()) (n int, err error) {
	for {
		closed := c.raw.Read(func(fd uintptr) (done bool) {
			n, err = call(int(fd))
			return true
		})
		switch {
		case closed != nil:
			return 0, closed
		case err == nil && n == 0:
			return 0, c.end()
		case err == nil:
			return n, nil
		case errors.Is(err, syscall.EINTR):
		case !errors.Is(err, syscall.EAGAIN):
			return 0, os.NewSyscallError("read", err)
		case c.readiness.Wait(ready):
			return 0, nil
		}
	}
}

// end tells a reset from a FIN, which is io.EOF, when a read gets nothing: the
// kernel says once that there was one, and a write may have been told.
func (c *polled) end() error {
	if c.finished.Load() {
		return io.EOF // nobody writes any more, and the state is that of an end
	}
	var info *unix.TCPInfo
	var err error
	closed := c.raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	switch {
	case closed != nil:
		return closed
	case err != nil:
		return os.NewSyscallError("getsockopt", err)
	case info.State == unix.BPF_TCP_CLOSE:
		return os.NewSyscallError("read", syscall.ECONNRESET)
	default:
		return io.EOF
	}
}
