//go:build !linux

package splice

// inKernel copies nothing: it is for Linux.
func inKernel(_, _ Conn) (n int64, ok bool, err error) { return 0, false, nil }

// mover moves what there is from one connection to another.
type mover struct {
	buffer *[]byte
	size   int
}

func newMover() *mover { return &mover{} }

// from is TryRead into m.
func (m *mover) from(src Polled, ready func()) (size int, err error) {
	m.buffer = buffers.Get().(*[]byte)
	m.size, err = src.TryRead(*m.buffer, ready)
	if m.size == 0 {
		buffers.Put(m.buffer)
	}
	return m.size, err
}

// to writes what from has read.
func (m *mover) to(dst Polled) (moved int, err error) {
	defer buffers.Put(m.buffer)
	return dst.Write((*m.buffer)[:m.size])
}
