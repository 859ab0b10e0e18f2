package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// loadOptions say how `apps load` asks.
type loadOptions struct {
	duration time.Duration
	count    int
	workers  int
	every    time.Duration
	fresh    bool
	protocol string
	id       string
	timeout  time.Duration
	stdin    bool
	trace    bool
}

func (o *loadOptions) register(flags *flag.FlagSet) {
	flags.DurationVar(&o.duration, "for", 10*time.Second, "load: how long")
	flags.IntVar(&o.count, "count", 0, "load: stop after that many requests (0: only -for counts)")
	flags.IntVar(&o.workers, "workers", 1, "load: how many at once")
	flags.DurationVar(&o.every, "every", 0, "load: pause of each worker between two requests")
	flags.BoolVar(&o.fresh, "fresh", false, "load: a new connection for each request")
	flags.StringVar(&o.protocol, "protocol", "http1", "load: http1, http2, grpc, websocket or udp")
	flags.StringVar(&o.id, "id", "", "load: what the header X-Id of each request begins with, a number after it")
	flags.DurationVar(&o.timeout, "timeout", 10*time.Second, "load: limit of one request")
	flags.BoolVar(&o.stdin, "stdin", false, "load: stop when standard input says anything or ends, too")
	flags.BoolVar(&o.trace, "trace", false, "load: print a line of JSON for each request")
}

// runLoad asks one URL again and again until -for or -count is over, it gets
// SIGTERM or, with -stdin, its standard input has something or ends; each failure is told on
// stderr at once, the api.Load on stdout at the end, with -trace after an
// api.Sample for each request. It fails when a request did.
func runLoad(ctx context.Context, s settings, args []string) error {
	if len(args) != 1 {
		return errors.New("load: want one URL")
	}
	if s.load.workers < 1 {
		return errors.New("load: want at least one worker")
	}
	ask, done, err := asker(s.load, args[0])
	if err != nil {
		return err
	}
	defer done()
	until, cancel := context.WithTimeout(ctx, s.load.duration)
	defer cancel()
	if s.load.stdin {
		go func() {
			_, _ = s.in.Read(make([]byte, 1))
			cancel()
		}()
	}

	result := &tally{load: api.Load{Answers: map[string]int{}}, left: s.load.count}
	if s.load.trace {
		result.trace = json.NewEncoder(s.out)
	}
	var wg sync.WaitGroup
	var number atomic.Int64
	for range s.load.workers {
		wg.Go(func() {
			for until.Err() == nil && result.take(s.load.count > 0) {
				// A request that has begun is finished: only its own limit ends it.
				limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.load.timeout)
				request, id := callRequest{url: args[0], method: s.method, bytes: s.bytes, headers: s.headers}, ""
				if s.load.id != "" {
					id = fmt.Sprintf("%s-%d", s.load.id, number.Add(1))
					// The key lets net/http send it again where a server closes an idle connection.
					request.headers = append(slices.Clone(request.headers), "X-Id:"+id, "Idempotency-Key:"+id)
				}
				begin := time.Now()
				out := ask(limited, request)
				cancel()
				if failure := result.add(begin, id, out); failure != "" {
					fmt.Fprintln(s.log, "load:", failure)
				}
				select {
				case <-until.Done():
				case <-time.After(s.load.every):
				}
			}
		})
	}
	wg.Wait()
	result.sum()
	if err := json.NewEncoder(s.out).Encode(result.load); err != nil {
		return err
	}
	if result.load.Failed > 0 {
		return fmt.Errorf("load: %d of %d requests failed", result.load.Failed, result.load.Requests)
	}
	return nil
}

// tally adds up what several workers see.
type tally struct {
	mu    sync.Mutex
	load  api.Load
	left  int
	trace *json.Encoder // nil: no trace
	took  []int64       // microseconds, of what was answered
}

// sum computes what takes all requests.
func (t *tally) sum() {
	if n := len(t.took); n > 0 {
		slices.Sort(t.took)
		t.load.P50, t.load.P99 = t.took[n/2], t.took[n*99/100]
	}
}

// take says whether one more request is to be made.
func (t *tally) take(counted bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if counted && t.left == 0 {
		return false
	}
	t.left--
	return true
}

// add counts one outcome and returns its failure, if it is one.
func (t *tally) add(begin time.Time, id string, c api.Call) string {
	took := time.Since(begin).Microseconds()
	failure := ""
	if !c.OK() {
		failure = fmt.Sprintf("%s: status %d after %d ms: %s", time.Now().Format(time.TimeOnly), c.Status, c.Millis, c.Error)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trace != nil {
		_ = t.trace.Encode(api.Sample{ID: id, Begin: begin, Millis: c.Millis, By: answerer(c), Failure: failure}) // stdout is gone: nobody reads
	}
	t.load.Requests++
	t.load.MaxMillis = max(t.load.MaxMillis, c.Millis)
	if failure != "" {
		t.load.Failed++
		if len(t.load.Failures) < 20 {
			t.load.Failures = append(t.load.Failures, failure)
		}
		return failure
	}
	t.load.Answers[answerer(c)]++
	t.took = append(t.took, took)
	return ""
}

func answerer(c api.Call) string {
	var echo api.Echo
	if json.Unmarshal([]byte(c.Body), &echo) == nil && echo.Pod != "" {
		return echo.Pod + " " + echo.Version
	}
	return c.Body[:min(len(c.Body), 40)]
}
