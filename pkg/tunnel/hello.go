package tunnel

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Versions of the protocol this package speaks. Features are added by bits,
// not versions, where an older peer can do without.
const (
	version     = 1
	versionMin  = 1
	allFeatures = 0 // none yet
)

var magic = [4]byte{'T', 'E', 'L', 'E'}

type (
	nonce    [32]byte
	tunnelID [16]byte
	proof    [sha256.Size]byte
)

// clientHello is the first frame on a lane.
type clientHello struct {
	version, versionMin uint16
	features            uint64
	tunnel              tunnelID // the same on every lane of a tunnel
	join                bool     // a tunnel that there is; otherwise lane 0 makes it
	lane                uint32
	nonce               nonce
	session             string
}

func (h *clientHello) encode() []byte {
	b := appendHeader(nil, typeHello, helloClient, helloLength1+len(h.session), 0)
	b = append(b, magic[:]...)
	b = binary.BigEndian.AppendUint16(b, h.version)
	b = binary.BigEndian.AppendUint16(b, h.versionMin)
	b = binary.BigEndian.AppendUint64(b, h.features)
	b = append(b, h.tunnel[:]...)
	b = append(b, 0)
	if h.join {
		b[len(b)-1] = 1
	}
	b = binary.BigEndian.AppendUint32(b, h.lane)
	b = append(b, h.nonce[:]...)
	b = append(b, byte(len(h.session)))
	return append(b, h.session...)
}

func parseClientHello(b []byte) (*clientHello, error) {
	var (
		h clientHello
		m [4]byte
		r = body{b: b}
	)
	copy(m[:], r.bytes(len(m)))
	h.version, h.versionMin, h.features = r.uint16(), r.uint16(), r.uint64()
	copy(h.tunnel[:], r.bytes(len(h.tunnel)))
	join := r.uint8()
	h.join = join == 1
	h.lane = r.uint32()
	copy(h.nonce[:], r.bytes(len(h.nonce)))
	h.session = string(r.bytes(int(r.uint8())))
	if err := r.done("HELLO"); err != nil {
		return nil, err
	}
	switch {
	case m != magic:
		return nil, malformed("HELLO with magic %q", m[:])
	case h.versionMin > h.version || h.versionMin == 0:
		return nil, malformed("HELLO with versions %d to %d", h.versionMin, h.version)
	case join > 1 || !h.join && h.lane != 0 || h.lane > maxLaneNumber:
		return nil, malformed("HELLO of lane %d, join %d", h.lane, join)
	case !utf8.ValidString(h.session):
		return nil, malformed("HELLO with session %q", h.session)
	}
	return &h, nil
}

// serverHello answers it.
type serverHello struct {
	version  uint16 // chosen: what both speak
	features uint64 // chosen: what both have
	nonce    nonce
	proof    proof
}

// unproven appends the fields that the proof covers, header included.
func (h *serverHello) unproven(b []byte) []byte {
	b = appendHeader(b, typeHello, helloServer, helloLength2, 0)
	b = append(b, magic[:]...)
	b = binary.BigEndian.AppendUint16(b, h.version)
	b = binary.BigEndian.AppendUint64(b, h.features)
	return append(b, h.nonce[:]...)
}

func (h *serverHello) append(b []byte) []byte { return append(h.unproven(b), h.proof[:]...) }

func parseServerHello(b []byte) (*serverHello, error) {
	var (
		h serverHello
		m [4]byte
		r = body{b: b}
	)
	copy(m[:], r.bytes(len(m)))
	h.version, h.features = r.uint16(), r.uint64()
	copy(h.nonce[:], r.bytes(len(h.nonce)))
	copy(h.proof[:], r.bytes(len(h.proof)))
	if err := r.done("HELLO"); err != nil {
		return nil, err
	}
	if m != magic {
		return nil, malformed("HELLO with magic %q", m[:])
	}
	return &h, nil
}

// negotiate chooses the version and the features for a client.
func negotiate(c *clientHello) (uint16, uint64, error) {
	if c.versionMin > version || c.version < versionMin {
		return 0, 0, fmt.Errorf("%w: laptop speaks %d to %d, agent %d to %d",
			ErrVersion, c.versionMin, c.version, versionMin, version)
	}
	return min(c.version, version), c.features & allFeatures, nil
}

// prove is the proof of knowing key, bound to who says it and to both HELLOs
// (frames as sent, the server's without its proof) and so to both nonces.
func prove(key []byte, who string, client, server []byte) proof {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("tele tunnel " + who))
	for _, p := range [][]byte{client, server} {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		mac.Write(p)
	}
	return proof(mac.Sum(nil))
}

const (
	proofOfServer = "server"
	proofOfClient = "client"
)

func (p proof) equal(q []byte) bool { return hmac.Equal(p[:], q) }

// appendClientProof is HELLO 3: the proof, and how much of the lane the client has
// handled.
func appendClientProof(b []byte, p proof, received uint64) []byte {
	b = appendHeader(b, typeHello, helloProof, helloLength3, 0)
	b = append(b, p[:]...)
	return binary.BigEndian.AppendUint64(b, received)
}

// appendJoined is HELLO 4: how much of the lane the server has handled.
func appendJoined(b []byte, received uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(b, typeHello, helloJoined, helloLength4, 0), received)
}
