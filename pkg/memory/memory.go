// Package memory gives back to the system what a burst of traffic has taken,
// which the Go runtime alone does minutes later: an agent lives beside other
// people's programs, and a session on somebody's laptop.
package memory

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// interval is how often the runtime is asked, which takes microseconds.
	interval = 5 * time.Second
	// quiet is how much is allocated in an interval without traffic, at most.
	quiet = 1 << 20
	// worthwhile is what makes two garbage collections worth their while.
	worthwhile = 4 << 20
)

// GiveBack gives memory back whenever it is quiet after a burst, until stop,
// which waits for its goroutine.
func GiveBack() (stop func()) {
	ticker := time.NewTicker(interval)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		g := newGiver()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				g.tick()
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(end)
		<-ended
	}
}

type giver struct {
	samples   []metrics.Sample
	allocated uint64 // in all, at the last tick
	floor     uint64 // the least that was held since something was given back
}

func newGiver() *giver {
	return &giver{samples: []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}}
}

// read returns what has been allocated in all, and what is held now.
func (g *giver) read() (allocated, held uint64) {
	metrics.Read(g.samples)
	return g.samples[0].Value.Uint64(), g.samples[1].Value.Uint64() - g.samples[2].Value.Uint64()
}

func (g *giver) tick() {
	allocated, held := g.read()
	busy := allocated-g.allocated > quiet
	g.allocated = allocated
	if g.floor == 0 || held < g.floor {
		g.floor = held
	}
	if busy || held < g.floor+worthwhile {
		return
	}
	// What a sync.Pool holds outlives one collection; FreeOSMemory is another.
	runtime.GC()
	debug.FreeOSMemory()
	g.allocated, g.floor = g.read()
}
