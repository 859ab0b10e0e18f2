package tunnel

import "sync/atomic"

// Credit, in bytes.
const (
	startWindow = 512 << 10
	minWindow   = 16 << 10
	// windowGrowth is what a flow's credit is multiplied by: from the start to
	// the most in three round trips.
	windowGrowth = 4
)

// Budget bounds what the flows of one or more tunnels hold in memory. Safe
// for concurrent use.
//
// Half of it is for credit grown beyond a flow's start; the other half is
// divided into the starting credits. Credit is a promise that most flows
// never use, so together they may exceed the budget: over is what keeps the
// memory itself within it.
type Budget struct {
	limit   int64
	held    atomic.Int64 // capacity of all chunks in use
	grown   atomic.Int64 // credit granted beyond the start
	tunnels atomic.Int64
}

// NewBudget allows limit bytes, at least 1 MiB.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: max(limit, 1<<20)}
}

// Held is the number of bytes that are in buffers now.
func (b *Budget) Held() int64 { return b.held.Load() }

// window is the starting credit of the next of n flows.
func (b *Budget) window(n int) uint64 {
	share := uint64(b.limit) / 2 / uint64(n+1)
	return min(max(share, minWindow), startWindow)
}

// grow reserves n more bytes of credit, or says that there are none.
func (b *Budget) grow(n uint64) bool {
	if b.grown.Add(int64(n)) > b.limit/2 {
		b.grown.Add(-int64(n))
		return false
	}
	return true
}

func (b *Budget) shrink(n uint64) { b.grown.Add(-int64(n)) }

// tight says that buffers should stay small.
func (b *Budget) tight() bool { return b.held.Load() > b.limit/2 }

// over says that a tunnel holding held bytes has to give some back: the
// budget is exceeded, and this tunnel holds at least its fair share.
func (b *Budget) over(held int64) bool {
	return b.held.Load() > b.limit && held*max(b.tunnels.Load(), 1) >= b.limit
}
