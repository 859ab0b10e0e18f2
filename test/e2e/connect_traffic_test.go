//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// testHalfClose: the server answers 3 s after the client's FIN, and all of the
// answer arrives.
func testHalfClose(t *testing.T, c connected) {
	conn, err := c.Dial(t.Context(), "tcp", "slowfin.shop:7")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	begin := time.Now()
	if _, err := io.WriteString(conn, "question"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	took := time.Since(begin)
	if err != nil || !bytes.Equal(answer, api.SlowFinAnswer()) {
		t.Errorf("%d bytes of %d after %s, %v", len(answer), api.SlowFinBytes, took, err)
	}
	if took < finDelay {
		t.Errorf("answered after %s: it did not wait for the FIN", took)
	}
}

// testBodies: 64 MiB each way, with nothing lost, doubled or changed.
func testBodies(t *testing.T, c connected) {
	const size = 64 << 20
	want := api.ContentSum(size)
	client := &http.Client{Transport: c.Transport(), Timeout: patience}

	begin := time.Now()
	reply, err := client.Get(fmt.Sprintf("http://front.shop/big?bytes=%d", size))
	if err != nil {
		t.Fatal(err)
	}
	got, err := api.ReadSum(reply.Body)
	_ = reply.Body.Close()
	if err != nil || got != want {
		t.Errorf("down: %+v, %v, not %+v", got, err, want)
	}
	t.Logf("down: %.0f MiB/s", size/(1<<20)/time.Since(begin).Seconds())

	begin = time.Now()
	reply, err = client.Post("http://front.shop/sink", "application/octet-stream", io.LimitReader(api.Content(size), size))
	if err != nil {
		t.Fatal(err)
	}
	var sunk api.Sum
	err = json.NewDecoder(reply.Body).Decode(&sunk)
	_ = reply.Body.Close()
	if err != nil || sunk != want {
		t.Errorf("up: %+v, %v, not %+v", sunk, err, want)
	}
	t.Logf("up: %.0f MiB/s", size/(1<<20)/time.Since(begin).Seconds())
}

// testMany: 200 requests at once, a connection each.
func testMany(t *testing.T, c connected) {
	const many = 200
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	var wg sync.WaitGroup
	for range many {
		wg.Go(func() {
			if echo, err := get(ctx, c.Desk, "http://front.shop"); err != nil || !isPodOf("front")(echo.Pod) {
				t.Errorf("one of %d requests at once: answered by %q, %v", many, echo.Pod, err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d requests at once: %.2f s", many, time.Since(begin).Seconds())
}
