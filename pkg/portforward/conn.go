package portforward

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"github.com/moby/spdystream/spdy"
	corev1 "k8s.io/api/core/v1"
)

// The two streams of a connection. A client's stream ids are odd and grow.
const (
	errorStream = 1
	dataStream  = 3
)

const (
	headerLen = 8
	recordLen = 16 << 10 // the largest record of TLS
	// readBuffer is a record: larger reads go past it.
	readBuffer = recordLen
	// maxPayload bounds a frame: receivers hold a whole one in memory.
	maxPayload = 128 << 10
	// maxMessage bounds what is kept of an error message.
	maxMessage = 4 << 10
	maxPongs   = 16
	errorWait  = time.Second
)

// conn is the data stream of a port-forward as a net.Conn. Read and Write may
// be called concurrently with each other and with everything else.
//
// After a Write that timed out, and after a Read that timed out over a
// WebSocket, the connection is done for; over SPDY a Read may be repeated.
type conn struct {
	carrier *carrier
	target  Addr
	fragile bool                  // a read timeout breaks the carrier
	err     atomic.Pointer[error] // why the connection ended, once it has

	// Lock order: rmu before wmu.
	rmu     sync.Mutex
	r       *bufio.Reader
	left    int        // unread bytes of the current frame's payload
	into    payload    // where they go
	fin     bool       // the current frame is the data stream's last, or was
	errFin  bool       // the error stream has ended
	waiting bool       // for the error stream, see step
	message []byte     // what came on the error stream
	opened  bool       // the data stream was answered
	wmu     sync.Mutex // held while writing
	wbuf    []byte
	pongMu  sync.Mutex // never held while doing anything else
	pongs   []byte     // encoded PING frames to send back
}

type payload uint8

const (
	discard payload = iota
	deliver
	remember
)

// openStreams asks for the two streams and returns when the data stream is
// answered. The caller bounds it by closing the socket.
func openStreams(a *attempt, target Addr) (*conn, error) {
	k := &conn{carrier: a.conn, r: a.reader, target: target, fragile: a.protocol == WebSocket}
	var buf bytes.Buffer
	framer, err := spdy.NewFramer(&buf, nil)
	if err != nil {
		return nil, fmt.Errorf("open streams: %w", err)
	}
	for _, stream := range []struct {
		id   spdy.StreamId
		kind string
	}{{errorStream, corev1.StreamTypeError}, {dataStream, corev1.StreamTypeData}} {
		h := http.Header{}
		h.Set(corev1.StreamType, stream.kind)
		h.Set(corev1.PortHeader, strconv.Itoa(int(target.Port)))
		h.Set(corev1.PortForwardRequestIDHeader, "0")
		if err := framer.WriteFrame(&spdy.SynStreamFrame{StreamId: stream.id, Headers: h}); err != nil {
			return nil, fmt.Errorf("open streams: %w", err)
		}
	}
	// Nothing is ever written to the error stream.
	buf.Write(appendHeader(nil, errorStream, uint8(spdy.DataFlagFin), 0))
	if _, err := k.carrier.Write(buf.Bytes()); err != nil {
		return nil, fmt.Errorf("open streams: %w", err)
	}
	for !k.opened {
		if err := k.step(); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// appendHeader encodes the header of a DATA frame.
func appendHeader(b []byte, stream uint32, flags uint8, length int) []byte {
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, uint32(flags)<<24|uint32(length))
}

// Read returns io.EOF after the pod's end has closed the connection, and a
// *RemoteError when the node reported a failure.
func (k *conn) Read(p []byte) (int, error) {
	k.rmu.Lock()
	defer k.rmu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if err := k.err.Load(); err != nil {
			return 0, *err
		}
		if k.left > 0 && k.into == deliver {
			n, err := k.r.Read(p[:min(len(p), k.left)])
			k.left -= n
			if n > 0 {
				return n, nil
			}
			if err != nil {
				return 0, k.endRead(lost(err))
			}
			continue
		}
		if err := k.step(); err != nil {
			if remote := (*RemoteError)(nil); k.fin && !errors.As(err, &remote) {
				err = io.EOF // all the data was delivered
			}
			return 0, k.endRead(err)
		}
	}
}

// Ready reports whether Read would return what has arrived already, at the most
// after waiting for the rest of a record that has begun to arrive.
func (k *conn) Ready() bool {
	k.rmu.Lock()
	defer k.rmu.Unlock()
	return k.left > 0 && k.into == deliver && k.r.Buffered() > 0 || k.carrier.gather.ready()
}

// step takes in one frame header, or some payload that is not delivered, or
// the end of the connection. A timeout leaves everything in place.
//
// A node that cannot reach the port ends the data stream first and says why
// afterwards, so the end of the data is the end of the connection only once
// the error stream has ended too, or has been silent for errorWait.
func (k *conn) step() error {
	switch {
	case k.left > 0 && k.into == remember && len(k.message) < maxMessage:
		b, err := k.r.Peek(min(k.left, maxMessage-len(k.message)))
		if len(b) == 0 {
			return lost(err)
		}
		k.message = append(k.message, b...)
		return k.skip(len(b))
	case k.left > 0:
		return k.skip(min(k.left, readBuffer))
	case len(k.message) > 0:
		return &RemoteError{k.target, string(bytes.ToValidUTF8(k.message, []byte("?")))}
	case k.fin && k.errFin:
		return io.EOF
	case k.fin && !k.waiting:
		k.waiting = true
		_ = k.carrier.SetReadDeadline(time.Now().Add(errorWait))
	}
	b, err := k.r.Peek(headerLen)
	if err != nil {
		return lost(err)
	}
	word, flags, length := binary.BigEndian.Uint32(b), b[4], int(binary.BigEndian.Uint32(b[4:])&0xffffff)
	if word>>31 == 1 {
		return k.control(spdy.ControlFrameType(word), flags, length)
	}
	k.left, k.into = length, discard
	switch word {
	case dataStream:
		k.opened = true
		k.into = deliver
		k.fin = k.fin || flags&uint8(spdy.DataFlagFin) != 0
	case errorStream:
		k.into = remember
		k.errFin = k.errFin || flags&uint8(spdy.DataFlagFin) != 0
	}
	_, err = k.r.Discard(headerLen)
	return err
}

// control takes in the header and first words of a control frame and marks
// the rest to be discarded: no header the server sends matters here, and so
// none needs to be decompressed.
func (k *conn) control(kind spdy.ControlFrameType, flags uint8, length int) error {
	if kind == spdy.TypeGoAway {
		return errLost
	}
	var word uint32 // the first of the payload: a stream's or a ping's id
	taken := headerLen
	if length >= 4 {
		b, err := k.r.Peek(headerLen + 4)
		if err != nil {
			return lost(err)
		}
		word, taken = binary.BigEndian.Uint32(b[headerLen:])&0x7fffffff, len(b)
		if kind == spdy.TypePing && length == 4 && word%2 == 0 { // even: the server's own
			k.pong(b)
		}
	}
	if _, err := k.r.Discard(taken); err != nil {
		return err
	}
	k.left, k.into = length-(taken-headerLen), discard
	fin := flags&uint8(spdy.ControlFlagFin) != 0
	switch {
	case word == errorStream && (fin || kind == spdy.TypeRstStream):
		k.errFin = true
	case word == dataStream && kind == spdy.TypeRstStream:
		return fmt.Errorf("%s: %w", k.target, syscall.ECONNRESET)
	case word == dataStream && (kind == spdy.TypeSynReply || kind == spdy.TypeHeaders):
		k.opened = true
		k.fin = k.fin || fin
	}
	return nil
}

func (k *conn) skip(n int) error {
	n, err := k.r.Discard(n)
	k.left -= n
	return lost(err)
}

// lost names the end of the carrier, which is never the end of the stream.
func lost(err error) error {
	var gone *websocket.CloseError
	switch {
	case errors.Is(err, io.EOF):
		return errLost
	case errors.As(err, &gone):
		return fmt.Errorf("%w (%w)", errLost, gone)
	}
	return err
}

// pong queues the answer to a ping and sends it unless a Write is under way,
// which then sends it. Waiting for that Write here could deadlock with a peer
// that reads only after we do.
func (k *conn) pong(frame []byte) {
	k.pongMu.Lock()
	if len(k.pongs) < maxPongs*len(frame) {
		k.pongs = append(k.pongs, frame...)
	}
	k.pongMu.Unlock()
	if k.wmu.TryLock() {
		k.writePongs()
		k.wmu.Unlock()
	}
}

// writePongs is called with wmu held. Its error shows at the next Write or Read.
func (k *conn) writePongs() {
	k.pongMu.Lock()
	b := k.pongs
	k.pongs = nil
	k.pongMu.Unlock()
	if len(b) > 0 {
		_, _ = k.carrier.Write(b)
	}
}

// Write sends p in frames of at most 128 KiB, each handed to the socket
// together with its header. After an error nothing more can be written.
func (k *conn) Write(p []byte) (int, error) {
	k.wmu.Lock()
	defer k.wmu.Unlock()
	written := 0
	for len(p) > 0 {
		if err := k.ended(); err != nil {
			return written, err
		}
		n := min(len(p), maxPayload)
		first := min(n, recordLen-headerLen)
		k.wbuf = append(appendHeader(k.wbuf[:0], dataStream, 0, n), p[:first]...)
		if err := k.carrier.writeAll(k.wbuf, p[first:n]); err != nil {
			// Half a frame may be on its way: nothing may follow it.
			_ = k.carrier.Close()
			if known := k.ended(); known != nil {
				return written, known
			}
			err = fmt.Errorf("write to %s: %w", k.target, err)
			k.err.Store(&err)
			return written, err
		}
		written += n
		p = p[n:]
	}
	k.writePongs()
	return written, nil
}

// ended is why nothing can be written any more. The pod's end closing its
// direction is no reason.
func (k *conn) ended() error {
	if err := k.err.Load(); err != nil && !errors.Is(*err, io.EOF) {
		return *err
	}
	return nil
}

// endRead records why reading failed, and returns it or what was recorded
// before. A timeout ends nothing that can still be read.
func (k *conn) endRead(err error) error {
	if temporary(err) && !k.fragile || k.err.CompareAndSwap(nil, &err) {
		return err
	}
	return *k.err.Load()
}

// Close closes the socket, both directions at once, without a word to the
// other end and without waiting for the network.
func (k *conn) Close() error {
	closed := fmt.Errorf("%s: %w", k.target, net.ErrClosed)
	if old := k.err.Swap(&closed); old != nil && errors.Is(*old, net.ErrClosed) {
		return nil
	}
	return k.carrier.Close()
}

func (k *conn) LocalAddr() net.Addr                { return k.carrier.LocalAddr() }
func (k *conn) RemoteAddr() net.Addr               { return k.target }
func (k *conn) SetDeadline(t time.Time) error      { return k.carrier.SetDeadline(t) }
func (k *conn) SetReadDeadline(t time.Time) error  { return k.carrier.SetReadDeadline(t) }
func (k *conn) SetWriteDeadline(t time.Time) error { return k.carrier.SetWriteDeadline(t) }
