package tunnel

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestManyFlows opens 10,000 flows that stay, then 20,000 short ones: memory
// and goroutines return to where they were.
func TestManyFlows(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	a, b := pair(t, tcpLane, Config{}, Config{})
	goroutines := runtime.NumGoroutine()
	before := heap()
	const idle = 10_000
	flows := make([]*Flow, 0, 2*idle)
	for range idle {
		f, g := flowPair(t, a, b, "tcp")
		flows = append(flows, f, g)
	}
	per := (heap() - before) / (2 * idle)
	t.Logf("an idle flow takes %d bytes on each end", per)
	if per > 1500 {
		t.Errorf("an idle flow takes %d bytes", per)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	for _, f := range flows {
		_ = f.Close()
	}
	waitFor(t, func() bool { return a.Stats().Flows == 0 && b.Stats().Flows == 0 })

	const workers = 16
	var wg sync.WaitGroup
	go func() {
		for {
			r, err := b.AcceptFlow(t.Context())
			if err != nil {
				return
			}
			f, err := r.Accept()
			if err != nil {
				continue
			}
			wg.Go(func() {
				_, _ = io.Copy(f, f)
				_ = f.Close()
			})
		}
	}()
	var errs [workers]error
	start := time.Now()
	for w := range workers {
		wg.Go(func() {
			for range 20_000 / workers {
				f, err := a.Open(t.Context(), Target{Network: "tcp"})
				if err != nil {
					errs[w] = err
					return
				}
				_, _ = f.Write([]byte("ping"))
				_ = f.CloseWrite()
				if got, err := io.ReadAll(f); string(got) != "ping" {
					errs[w] = errors.Join(errors.New("wrong echo: "+string(got)), err)
					return
				}
				_ = f.Close()
			}
		})
	}
	wg.Wait()
	t.Logf("20,000 short flows in %v", time.Since(start))
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return a.Stats().Flows == 0 && b.Stats().Flows == 0 })
	clear(flows)
	if left := heap() - before; left > 2<<20 {
		t.Errorf("%d bytes more than before", left)
	}
	waitFor(t, func() bool { return a.Stats().Held == 0 && b.Stats().Held == 0 })
}

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
