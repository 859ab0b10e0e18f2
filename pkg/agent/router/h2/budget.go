package h2

import "sync/atomic"

// Budget bounds the bytes that the connections of one agent hold for peers that do
// not take them, as many again that wait to be written, and half as many of what is
// noted for those who watch. It is safe for concurrent use.
type Budget struct {
	held   atomic.Int64
	unsent atomic.Int64
	noted  atomic.Int64
	max    int64
}

// NewBudget returns a budget of so many bytes.
func NewBudget(bytes int64) *Budget { return &Budget{max: bytes} }

// Held returns how many bytes are held now, wait to be written, or are noted.
func (b *Budget) Held() int64 { return b.held.Load() + b.unsent.Load() + b.noted.Load() }

// note reports whether n more bytes may be noted, and counts them if so.
func (b *Budget) note(n int) bool {
	if b.noted.Add(int64(n)) > b.max/2 {
		b.noted.Add(int64(-n))
		return false
	}
	return true
}

// take reports whether n more bytes may be held, and counts them if so. What must be
// held always may.
func (b *Budget) take(n int, must bool) bool {
	if b.held.Add(int64(n)) > b.max && !must {
		b.held.Add(int64(-n))
		return false
	}
	return true
}

// Take reports whether n more bytes may be held, and counts them if so; Give gives
// them back.
func (b *Budget) Take(n int) bool { return b.take(n, false) }

// Give gives bytes back.
func (b *Budget) Give(n int) { b.held.Add(int64(-n)) }

// ample reports whether less than half of it is used.
func (b *Budget) ample() bool { return b.held.Load() < b.max/2 }

// tight reports whether so much waits to be written that none may have much.
func (b *Budget) tight() bool { return b.unsent.Load() > b.max }
