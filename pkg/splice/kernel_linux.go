package splice

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipeSize is how much is moved at a time, at most: what io.Copy takes.
const pipeSize = 1 << 20

// inKernel copies src to dst until EOF, without the bytes leaving the kernel. ok is
// false if these are no two TCP connections. io.Copy does the same, but keeps a pipe
// while there is nothing to copy: four open files more for each pair.
func inKernel(dst, src Conn) (n int64, ok bool, err error) {
	from, isTCP := src.(*net.TCPConn)
	to, alsoTCP := dst.(*net.TCPConn)
	if !isTCP || !alsoTCP {
		return 0, false, nil
	}
	in, err1 := from.SyscallConn()
	out, err2 := to.SyscallConn()
	if err := errors.Join(err1, err2); err != nil {
		return 0, true, err
	}
	m := newMover()
	fill := func(fd uintptr) (done bool) {
		_, m.err = m.fill(int(fd))
		return !errors.Is(m.err, unix.EAGAIN)
	}
	for {
		err := in.Read(fill)
		if err == nil {
			err = os.NewSyscallError("splice", m.err)
		}
		if err != nil || m.size == 0 {
			return n, true, err
		}
		moved, err := m.empty(out)
		n += int64(moved)
		if err != nil {
			return n, true, err
		}
	}
}

// Descriptor is a Polled, and a TCP connection, that the kernel can copy from.
type Descriptor interface {
	Polled
	syscall.Conn
	// TryCall is TryRead by another call, which returns what read(2) does.
	TryCall(call func(fd int) (int, error), ready func()) (int, error)
}

// from is TryRead into m, of a connection that is a Descriptor.
func (m *mover) from(src Polled, ready func()) (size int, err error) {
	d, ok := src.(Descriptor)
	if !ok {
		return 0, fmt.Errorf("%s has no descriptor", src.RemoteAddr())
	}
	return d.TryCall(m.fill, ready)
}

// to writes what from has read.
func (m *mover) to(dst Polled) (moved int, err error) {
	d, ok := dst.(Descriptor)
	if !ok {
		m.release()
		return 0, fmt.Errorf("%s has no descriptor", dst.RemoteAddr())
	}
	out, err := d.SyscallConn()
	if err != nil {
		m.release()
		return 0, err
	}
	return m.empty(out)
}

// empty writes what there is.
func (m *mover) empty(out syscall.RawConn) (moved int, err error) {
	defer m.release()
	size := m.size
	if err = out.Write(m.drain); err == nil {
		err = m.err
	}
	return size - m.size, err
}

func newMover() *mover { return &mover{} }

// mover moves what there is from one socket to another: through a pipe, or through a
// buffer where no more files can be opened.
type mover struct {
	pipe   pipe
	buffer *[]byte // nil: there is a pipe
	begin  int     // of what is left in buffer
	size   int     // of what is left
	err    error   // of a call
}

// pipe is a pipe of the kernel. The zero value is none.
type pipe struct{ r, w int }

// idlePipes are pipes to be used again, with nothing in them.
var idlePipes = make(chan pipe, 32)

func (m *mover) acquire() {
	select {
	case m.pipe = <-idlePipes:
		return
	default:
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		m.buffer = buffers.Get().(*[]byte)
		return
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // else it is smaller
	m.pipe = pipe{fds[0], fds[1]}
}

// release gives back what acquire took. A pipe that still has bytes is closed.
func (m *mover) release() {
	if m.buffer != nil {
		buffers.Put(m.buffer)
		m.buffer = nil
		return
	}
	if m.size == 0 {
		select {
		case idlePipes <- m.pipe:
			return
		default:
		}
	}
	_ = unix.Close(m.pipe.r)
	_ = unix.Close(m.pipe.w)
}

// fill takes what there is. If that is nothing, it keeps neither pipe nor buffer.
func (m *mover) fill(fd int) (n int, err error) {
	m.acquire()
	m.size, m.begin = 0, 0
	for {
		if m.buffer != nil {
			n, err = unix.Read(fd, *m.buffer)
		} else {
			var moved int64
			moved, err = unix.Splice(fd, nil, m.pipe.w, nil, pipeSize, unix.SPLICE_F_NONBLOCK)
			n = int(moved)
		}
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil || n <= 0 {
		m.release()
		return 0, err
	}
	m.size = n
	return n, nil
}

// drain passes it on.
func (m *mover) drain(fd uintptr) (done bool) {
	for m.size > 0 {
		var n int
		if m.buffer != nil {
			n, m.err = unix.Write(int(fd), (*m.buffer)[m.begin:m.begin+m.size])
		} else {
			var moved int64
			moved, m.err = unix.Splice(m.pipe.r, nil, int(fd), nil, m.size, unix.SPLICE_F_NONBLOCK)
			n = int(moved)
		}
		switch {
		case m.err == nil:
			m.begin += n
			m.size -= n
		case errors.Is(m.err, unix.EAGAIN):
			return false
		case !errors.Is(m.err, unix.EINTR):
			m.err = os.NewSyscallError("splice", m.err)
			return true
		}
	}
	return true
}
