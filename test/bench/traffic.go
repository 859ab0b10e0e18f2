//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// many is the number of connections in the rows with several.
const many = 32

// The rows. Their names are what -rows selects from.
const (
	rowStart      = "start to first answer"
	rowDown       = "down, 1 connection"
	rowDownMany   = "down, 32 connections"
	rowUp         = "up, 1 connection"
	rowUpMany     = "up, 32 connections"
	rowSmall      = "small request, 1 connection, p50"
	rowSmallMany  = "small requests, 32 connections"
	rowNew        = "new connections, 1 at a time"
	rowNewMany    = "new connections, 32 at a time"
	rowTail       = "small request, p99"
	rowMedianBulk = "small request during a download, p50"
	rowTailBulk   = "small request during a download, p99"
)

// client is an HTTP client at the laptop that goes one way, whatever the URL.
func (b *stage) client(w Way, connections int, fresh bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: b.dialer(w), DisableKeepAlives: fresh, DisableCompression: true,
		MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
	}}
}

// bulkBuffer is what a bulk transfer reads and writes at once.
const bulkBuffer = 256 << 10

// bulkClient is client with large buffers, which would be much of a small
// request's cost.
func (b *stage) bulkClient(w Way, connections int) *http.Client {
	client := b.client(w, connections, false)
	transport := client.Transport.(*http.Transport)
	transport.ReadBufferSize, transport.WriteBufferSize = bulkBuffer, bulkBuffer
	return client
}

// buffers are those that answers are read into.
var buffers = sync.Pool{New: func() any { return new([bulkBuffer]byte) }}

// discard reads to the end and returns how much that was.
func discard(r io.Reader) (int64, error) {
	buffer := buffers.Get().(*[bulkBuffer]byte)
	defer buffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buffer[:])
}

// base is the URL of the app; where it leads is the client's to say.
const base = "http://bench"

// mover moves n bytes over one connection.
type mover func(ctx context.Context, client *http.Client, n int64) error

// bulk moves bytes over n connections at once and returns MB a second.
func (b *stage) bulk(ctx context.Context, w Way, n int, bytes int64, move mover) (float64, error) {
	if w == Bare4 {
		n *= 4
	}
	client := b.bulkClient(w, n)
	defer client.CloseIdleConnections()
	share := bytes / int64(n)
	errs := make([]error, n)
	for i := range n { // the connections are there before the clock runs
		errs[i] = b.ask(ctx, client)
	}
	started := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = errors.Join(errs[i], move(ctx, client, share)) })
	}
	wg.Wait()
	return float64(share*int64(n)) / 1e6 / time.Since(started).Seconds(), errors.Join(errs...)
}

func (b *stage) download(ctx context.Context, client *http.Client, n int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/big?bytes=%d", base, n), nil)
	if err != nil {
		return err
	}
	return answer(client, request, n)
}

func (b *stage) upload(ctx context.Context, client *http.Client, n int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/discard", io.LimitReader(zeros{}, n))
	if err != nil {
		return err
	}
	request.ContentLength = n
	return answer(client, request, -1)
}

// ask is a small request.
func (b *stage) ask(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/healthz", nil)
	if err != nil {
		return err
	}
	return answer(client, request, -1)
}

// answer does a request and checks its length, unless that is negative.
func answer(client *http.Client, request *http.Request, want int64) error {
	reply, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = reply.Body.Close() }()
	got, err := discard(reply.Body)
	switch {
	case err != nil:
		return err
	case reply.StatusCode != http.StatusOK:
		return errors.New(reply.Status)
	case want >= 0 && got != want:
		return fmt.Errorf("%d bytes, not %d", got, want)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// requests counts small requests of n workers and returns how many a second.
func (b *stage) requests(ctx context.Context, w Way, n int, fresh bool) (float64, error) {
	client := b.client(w, n, fresh)
	defer client.CloseIdleConnections()
	counts := make([]int, n)
	errs := make([]error, n)
	started := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for errs[i] == nil && time.Since(started) < b.settings.requests {
				errs[i] = b.ask(ctx, client)
				counts[i]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, c := range counts {
		total += c
	}
	return float64(total) / time.Since(started).Seconds(), errors.Join(errs...)
}

// latency is how long a small request takes on a connection of its own, in ms.
func (b *stage) latency(ctx context.Context, w Way, q float64) (float64, error) {
	client := b.client(w, 1, false)
	defer client.CloseIdleConnections()
	if err := b.ask(ctx, client); err != nil {
		return 0, err
	}
	var took []float64
	for started := time.Now(); time.Since(started) < b.settings.requests; {
		begin := time.Now()
		if err := b.ask(ctx, client); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begin).Seconds()*1e3)
	}
	return quantile(took, q), nil
}

// duringBulk is latency while a download that never ends runs the same way.
func (b *stage) duringBulk(ctx context.Context, w Way, q float64) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := b.bulkClient(w, 1)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/big?bytes=%d", base, int64(1)<<40), nil)
	if err != nil {
		return 0, err
	}
	reply, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	var early error // why the download has ended, once it has
	ended := make(chan struct{})
	defer func() {
		cancel()
		<-ended
		_ = reply.Body.Close()
	}()
	started := make(chan struct{})
	go func() {
		_, err := io.CopyN(io.Discard, reply.Body, 16<<20)
		close(started)
		if err == nil {
			_, err = discard(reply.Body)
		}
		early = err
		close(ended)
	}()
	<-started
	v, err := b.latency(ctx, w, q)
	select {
	case <-ended:
		err = errors.Join(err, fmt.Errorf("the download ended: %w", early))
	default:
	}
	return v, err
}
