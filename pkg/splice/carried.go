package splice

import (
	"errors"
	"io"
)

// Carried makes a Carrier of any connection. It takes a goroutine to read the connection
// as long as that lasts, and one to write it while there is something to write.
func Carried(c Conn) Carrier { return carried{c} }

type carried struct{ Conn }

// Reset resets the connection itself in the way that it has for it.
func (c carried) Reset() error { return Reset(c.Conn) }

func (c carried) CopyTo(w io.Writer, done func(n int64, err error)) {
	go func() {
		b := buffers.Get().(*[]byte)
		defer buffers.Put(b)
		done(io.CopyBuffer(onlyWriter{w}, onlyReader{c.Conn}, *b))
	}()
}

func (c carried) CopyFrom(try func(p []byte, ready func()) (int, error), done func(n int64, err error)) {
	go c.take(try, 0, done)
}

// take writes what there is, and then leaves it to ready to go on. n bytes have been
// written before.
func (c carried) take(try func(p []byte, ready func()) (int, error), n int64, done func(int64, error)) {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for {
		size, err := try(*b, func() { go c.take(try, n, done) })
		if size == 0 && err == nil {
			return
		}
		wrote, writeErr := c.Write((*b)[:size])
		n += int64(wrote)
		switch {
		case writeErr != nil:
			done(n, writeErr)
			return
		case errors.Is(err, io.EOF):
			done(n, nil)
			return
		case err != nil:
			done(n, err)
			return
		}
	}
}

// The connections have ways of their own to copy, which a Carrier is there to replace.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
