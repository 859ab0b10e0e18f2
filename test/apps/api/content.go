package api

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"sync"
)

// block is what Content repeats. Its length is a prime, so that a lost or
// doubled buffer of any usual size changes all that follows.
var block = sync.OnceValue(func() []byte {
	b := make([]byte, 65521)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
})

// Content returns n bytes of a content that is the same for everyone.
func Content(n int64) io.Reader {
	return io.LimitReader(&content{}, n)
}

// ContentSum is the Sum of Content(n).
func ContentSum(n int64) Sum {
	sum, _ := ReadSum(Content(n)) // Content never fails
	return sum
}

// ReadSum reads r to its end.
func ReadSum(r io.Reader) (Sum, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return Sum{Bytes: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}

type content struct{ offset int }

func (c *content) Read(p []byte) (int, error) {
	b := block()
	n := copy(p, b[c.offset:])
	c.offset = (c.offset + n) % len(b)
	return n, nil
}

// SlowFinBytes is the length of the slowfin application's answer.
const SlowFinBytes = 300_000

// SlowFinAnswer is what slowfin answers to any client, some time after the
// client has closed its side.
func SlowFinAnswer() []byte {
	b, _ := io.ReadAll(Content(SlowFinBytes)) // Content never fails
	return b
}
