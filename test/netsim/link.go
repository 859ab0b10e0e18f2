package netsim

import (
	"sync"
	"time"
)

// DefaultWindow is Link.Window when that is 0: enough for 500 MB/s at a round
// trip of 120 ms.
const DefaultWindow = 64 << 20

// Link is what the way between laptop and API server is like. The zero Link
// passes everything on at once. Negative values count as 0.
type Link struct {
	// Delay is how long a byte is under way, in each direction: the round trip
	// is twice that. It does not limit how many bytes a second pass.
	// A new connection takes one round trip before its first byte leaves the
	// laptop, as the TCP handshake would.
	Delay time.Duration
	// Rate is how many bytes a second pass in each direction, over all
	// connections together, which share it evenly; 0: as many as there are.
	Rate int
	// Window is how many bytes of one connection are under way in one
	// direction at most, to within a read; then the sender has to wait.
	// 0: DefaultWindow. Where the receiver is the bottleneck, this many bytes
	// queue up: a smaller window makes for less delay under load.
	Window int
}

func (l Link) window() int64 {
	if l.Window <= 0 {
		return DefaultWindow
	}
	return int64(l.Window)
}

// direct says whether bytes need not be stamped and queued.
func (l Link) direct() bool { return l.Delay <= 0 && l.Rate <= 0 }

// quantum is how much of a connection is read at once, so that a slow link
// goes round the connections in small steps: 2 ms each.
func (l Link) quantum() int {
	if l.Rate <= 0 {
		return chunkSize
	}
	return min(max(l.Rate/500, 1500), chunkSize)
}

// ahead is how far a sender may be ahead of its link's rate, so that a timer
// that fires late does not cost rate.
const ahead = 5 * time.Millisecond

// lane is one direction of a link, which all connections share.
type lane struct {
	mu   sync.Mutex
	free time.Time // when the last byte so far has left; guarded by mu
}

// send says when n bytes will have left, after all that others have sent.
func (l *lane) send(now time.Time, n, rate int) time.Time {
	if rate <= 0 {
		return now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(rate))
	return l.free
}

// clear forgets what has been sent, for a link with another rate.
func (l *lane) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free = time.Time{}
}
