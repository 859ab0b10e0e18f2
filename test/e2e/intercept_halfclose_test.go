//go:build linux

package e2e

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// finDelay is how long after the client's FIN the answers come. Whatever takes
// a FIN for the end of both directions loses them.
const finDelay = 3 * time.Second

// TestInterceptHalfClose: a client that has closed its side gets the whole
// answer, from the laptop and, past the agent, from the app.
func TestInterceptHalfClose(t *testing.T) {
	t.Parallel()
	app := manifests.SlowFin("ih", manifests.Options{ServicePort: 7, Replicas: 1})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	var got atomic.Value
	l := listen(t, desk)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { slowAnswer(conn, &got) })
		}
	})
	stop := sync.OnceFunc(func() {
		_ = l.Close()
		wg.Wait()
	})
	t.Cleanup(stop)
	timed(t, desk, "intercept", name, "--port", portOf(l))
	followed(t, serviceURL(t, name), l)

	address := strings.TrimPrefix(serviceURL(t, name), "http://")
	whole(t, "laptop", address)
	if got.Load() != "question" {
		t.Errorf("the handler got %q", got.Load())
	}
	stop()
	whole(t, "app, past the agent", address)
	timed(t, desk, "leave", name)
	nothingLeft(t, name)
}

// slowAnswer is the handler; it keeps what it is asked.
func slowAnswer(conn net.Conn, got *atomic.Value) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	question, err := io.ReadAll(conn)
	if err != nil || len(question) == 0 { // whoever only looks whether somebody listens
		return
	}
	got.Store(string(question))
	<-time.After(finDelay)
	_, _ = conn.Write(api.SlowFinAnswer())
}

// whole asks, closes its side, and wants all of the answer.
func whole(t *testing.T, who, address string) {
	t.Helper()
	conn, err := dialInCluster(t, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	begin := time.Now()
	if _, err := io.WriteString(conn, "question"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	took := time.Since(begin)
	if err != nil || !bytes.Equal(answer, api.SlowFinAnswer()) {
		t.Errorf("%s: %d bytes of %d after %s, %v", who, len(answer), api.SlowFinBytes, took, err)
	}
	if took < finDelay {
		t.Errorf("%s: answered after %s: it did not wait for the FIN", who, took)
	}
}
