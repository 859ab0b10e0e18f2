package tunnel

import (
	"errors"
	"io"
	"sync/atomic"
)

// Buffers of a lane, in bytes. Each Read and Write of a port-forward stream
// is a pass through client, API server, kubelet and runtime.
const (
	helloBuffer = 4 << 10
	readBuffer  = 128 << 10
	// writeFull is the length of a write in bulk, exactly, as far as there is
	// enough: the runtime and the kubelet pass on 32 KiB at a time, and what
	// is a little more costs them another turn.
	writeFull = 128 << 10
	// maxBatch is the largest buffer that is kept for writes: control frames
	// and datagrams may exceed writeFull.
	maxBatch = 2 * writeFull
)

// frameReader cuts what arrives on a lane into frames.
type frameReader struct {
	lane io.Reader
	buf  []byte
	r, w int // buf[r:w] is read and not yet parsed
	// received grows by the bytes of each Read: the peer's signs of life.
	received atomic.Uint64
}

func newFrameReader(lane io.Reader) *frameReader {
	return &frameReader{lane: lane, buf: make([]byte, helloBuffer)}
}

// grow makes room for frames of any type.
func (fr *frameReader) grow() {
	buf := make([]byte, readBuffer)
	fr.w = copy(buf, fr.buf[fr.r:fr.w])
	fr.r, fr.buf = 0, buf
}

// next returns a frame whose header is checked. The body is valid until the
// next call. The error is io.EOF only between two frames.
func (fr *frameReader) next() (header, []byte, error) {
	if err := fr.fill(headerSize); err != nil {
		return header{}, nil, err
	}
	h, err := parseHeader(fr.buf[fr.r:])
	if err != nil {
		return h, nil, err
	}
	if headerSize+h.length > len(fr.buf) {
		return h, nil, malformed("%s before the end of the handshake", h)
	}
	if err := fr.fill(headerSize + h.length); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return h, nil, err
	}
	start := fr.r + headerSize
	fr.r = start + h.length
	return h, fr.buf[start:fr.r:fr.r], nil
}

// fill reads until n bytes, at most the buffer's length, are there.
func (fr *frameReader) fill(n int) error {
	if fr.w-fr.r >= n {
		return nil
	}
	fr.w = copy(fr.buf, fr.buf[fr.r:fr.w])
	fr.r = 0
	for idle := 0; fr.w < n; {
		k, err := fr.lane.Read(fr.buf[fr.w:])
		fr.w += k
		fr.received.Add(uint64(k))
		switch {
		case fr.w >= n:
		case errors.Is(err, io.EOF) && fr.w > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case k == 0:
			if idle++; idle == 100 {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}
