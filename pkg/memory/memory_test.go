package memory

import (
	"runtime"
	"sync"
	"testing"
)

func TestGivesBackWhatABurstTook(t *testing.T) {
	const burst = 64 << 20
	g := newGiver()
	g.tick()
	_, before := g.read()

	pool := sync.Pool{}
	buf := make([]byte, burst)
	for i := range buf {
		buf[i] = 1
	}
	pool.Put(&buf)
	buf = nil
	g.tick() // not quiet
	if _, held := g.read(); held < before+burst {
		t.Errorf("%d MiB held while it is busy, %d before", held>>20, before>>20)
	}
	g.tick()
	if _, held := g.read(); held > before+burst/4 {
		t.Errorf("%d MiB held when it is quiet, %d before", held>>20, before>>20)
	}
	runtime.KeepAlive(&pool)
}

func TestLeavesAloneWhatIsInUse(t *testing.T) {
	g := newGiver()
	g.tick()
	kept := make([]byte, 32<<20)
	collections := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumGC
	}
	for range 3 {
		g.tick()
	}
	before := collections()
	for range 10 {
		g.tick()
	}
	if n := collections() - before; n != 0 {
		t.Errorf("%d collections for nothing", n)
	}
	runtime.KeepAlive(kept)
}
