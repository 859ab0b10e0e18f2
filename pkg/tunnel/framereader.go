package tunnel

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
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

// Readier is what a lane's connection may be to have more read at once.
type Readier interface {
	// Ready says that Read returns what has arrived already, at the most after
	// waiting for the rest of what has begun to arrive.
	Ready() bool
}

// frameReader cuts what arrives on a lane into frames.
type frameReader struct {
	lane  io.Reader
	ready func() bool // of a Readier; else nil
	buf   []byte
	r, w  int // buf[r:w] is read and not yet parsed
	// received grows by the bytes of each Read: the peer's signs of life.
	received atomic.Uint64
}

func newFrameReader(lane io.Reader) *frameReader {
	fr := &frameReader{lane: lane, buf: make([]byte, helloBuffer)}
	if r, ok := lane.(Readier); ok {
		fr.ready = r.Ready
	}
	return fr
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

// nextRun is next, but joins the DATA frames of one flow that have arrived
// one behind the other into one of any length, so that they cost one write.
// size is their length on the lane.
func (fr *frameReader) nextRun() (h header, b []byte, size int, err error) {
	if h, b, err = fr.next(); err != nil || h.typ != typeData {
		return h, b, headerSize + h.length, err
	}
	size = headerSize + h.length
	end := binary.BigEndian.Uint64(b) + uint64(len(b)-8)
	first := fr.r - len(b)
	for fr.w-fr.r >= dataHeader {
		// What is wrong with it is for the next call to find.
		more, err := parseHeader(fr.buf[fr.r:])
		if err != nil || more.typ != typeData || more.flow != h.flow || fr.w-fr.r < headerSize+more.length ||
			binary.BigEndian.Uint64(fr.buf[fr.r+headerSize:]) != end {
			break
		}
		n := more.length - 8
		b = fr.buf[first : first+len(b)+n]
		copy(b[len(b)-n:], fr.buf[fr.r+dataHeader:fr.r+dataHeader+n])
		h.length += n
		h.flags |= more.flags
		fr.r += dataHeader + n
		size += dataHeader + n
		end += uint64(n)
	}
	return h, slices.Clip(b), size, nil
}

// fill reads until n bytes, at most the buffer's length, are there, and what
// more can be had without waiting.
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
			fr.drain()
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

// drain reads what is ready. An error comes again with the next Read.
func (fr *frameReader) drain() {
	for fr.ready != nil && fr.w < len(fr.buf) && fr.ready() {
		k, err := fr.lane.Read(fr.buf[fr.w:])
		fr.w += k
		fr.received.Add(uint64(k))
		if k == 0 || err != nil {
			return
		}
	}
}
