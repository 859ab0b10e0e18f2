package tunnel

import (
	"encoding/binary"
	"strings"
)

// Target is what a flow is opened to. The tunnel carries it and knows one
// thing about it: flows to Network "udp", or to one that ends in "/udp", keep
// datagram boundaries.
type Target struct {
	// Network: "tcp" or "udp", dial Address, an "IP:port"; "agent", a service
	// of the peer named by Address; "intercept" or "intercept/udp", a captured
	// connection or association of the intercept with the ID Address. 1 to 16
	// bytes.
	Network string
	// Address has at most 255 bytes.
	Address string
	// Meta has at most 4 KiB, opaque to the tunnel; JSON by convention.
	Meta []byte
}

// String is network and address.
func (t Target) String() string { return t.Network + " " + t.Address }

func (t Target) datagram() bool { return t.Network == "udp" || strings.HasSuffix(t.Network, "/udp") }

func (t Target) check() error {
	if len(t.Network) == 0 || len(t.Network) > maxNetwork || len(t.Address) > maxAddress || len(t.Meta) > maxMeta {
		return malformed("target with a network of %d, an address of %d and meta of %d bytes",
			len(t.Network), len(t.Address), len(t.Meta))
	}
	return nil
}

// appendOpen appends an OPEN frame; target is checked.
func appendOpen(b []byte, flow uint32, window uint32, target Target) []byte {
	length := 4 + 1 + len(target.Network) + 1 + len(target.Address) + 2 + len(target.Meta)
	b = appendHeader(b, typeOpen, 0, length, flow)
	b = binary.BigEndian.AppendUint32(b, window)
	b = append(b, byte(len(target.Network)))
	b = append(b, target.Network...)
	b = append(b, byte(len(target.Address)))
	b = append(b, target.Address...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(target.Meta)))
	return append(b, target.Meta...)
}

func parseOpen(b []byte) (window uint32, target Target, err error) {
	r := body{b: b}
	window = r.uint32()
	target.Network = string(r.bytes(int(r.uint8())))
	target.Address = string(r.bytes(int(r.uint8())))
	if n := int(r.uint16()); n > 0 {
		target.Meta = append([]byte(nil), r.bytes(n)...)
	}
	if err := r.done("OPEN"); err != nil {
		return 0, Target{}, err
	}
	if err := target.check(); err != nil {
		return 0, Target{}, err
	}
	return window, target, checkWindow(window)
}

func checkWindow(window uint32) error {
	if window > windowLimit {
		return malformed("credit of %d bytes", window)
	}
	return nil
}

func appendOpened(b []byte, flow, window uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, typeOpened, 0, 4, flow), window)
}

func parseOpened(b []byte) (uint32, error) {
	r := body{b: b}
	window := r.uint32()
	if err := r.done("OPENED"); err != nil {
		return 0, err
	}
	return window, checkWindow(window)
}

func appendRefused(b []byte, flow uint32, reason Reason, message string) []byte {
	message = clip(message)
	b = appendHeader(b, typeRefused, 0, 1+len(message), flow)
	return append(append(b, byte(reason)), message...)
}

// parseRefused takes a reason it does not know for Failed: reasons may be
// added without a new version.
func parseRefused(b []byte) (Reason, string, error) {
	r := body{b: b}
	reason := Reason(r.uint8())
	message := strings.ToValidUTF8(string(r.rest()), "?")
	if !reason.valid() {
		reason = Failed
	}
	return reason, message, r.done("REFUSED")
}

func appendGoaway(code goawayCode, message string) []byte {
	message = clip(message)
	b := appendHeader(nil, typeGoaway, 0, 1+len(message), 0)
	return append(append(b, byte(code)), message...)
}

func parseGoaway(b []byte) (goawayCode, string, error) {
	r := body{b: b}
	code := goawayCode(r.uint8())
	message := strings.ToValidUTF8(string(r.rest()), "?")
	return code, message, r.done("GOAWAY")
}

func appendFin(b []byte, flow uint32, offset uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(b, typeFin, 0, 8, flow), offset)
}

func appendReset(b []byte, flow uint32) []byte {
	return appendHeader(b, typeReset, 0, 0, flow)
}

func appendWindow(b []byte, flow uint32, consumed, limit uint64) []byte {
	b = appendHeader(b, typeWindow, 0, 16, flow)
	b = binary.BigEndian.AppendUint64(b, consumed)
	return binary.BigEndian.AppendUint64(b, limit)
}

func parseWindow(b []byte) (consumed, limit uint64, err error) {
	r := body{b: b}
	consumed, limit = r.uint64(), r.uint64()
	if err := r.done("WINDOW"); err != nil {
		return 0, 0, err
	}
	if limit < consumed || limit-consumed > windowLimit {
		return 0, 0, malformed("WINDOW from %d to %d", consumed, limit)
	}
	return consumed, limit, nil
}

// clip cuts a message to what fits, at a rune's border.
func clip(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage]
	}
	return strings.ToValidUTF8(s, "")
}

// body reads a frame's body field by field. Reading past the end gives zeroes
// and is an error in done, and so are bytes left over.
type body struct {
	b     []byte
	short bool
}

func (r *body) bytes(n int) []byte {
	if n > len(r.b) {
		r.short, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *body) rest() []byte { return r.bytes(len(r.b)) }

func (r *body) uint8() uint8 {
	if p := r.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *body) uint16() uint16 {
	if p := r.bytes(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *body) uint32() uint32 {
	if p := r.bytes(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (r *body) uint64() uint64 {
	if p := r.bytes(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *body) done(name string) error {
	if r.short || len(r.b) != 0 {
		return malformed("%s whose lengths do not add up", name)
	}
	return nil
}
