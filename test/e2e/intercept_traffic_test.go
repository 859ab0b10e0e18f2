//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

const namespace = manifests.Namespace

// call makes one request from inside the cluster.
func call(t *testing.T, args ...string) api.Call {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := held(ctx, someClient(t), nil, append([]string{"call"}, args...)...)
	if err != nil && result.Stdout == "" {
		return api.Call{Error: err.Error()} // the exec was not made: who polls looks again
	}
	if err != nil {
		t.Fatal(err)
	}
	var out api.Call
	if err := json.Unmarshal([]byte(result.Stdout), &out); err != nil {
		t.Fatalf("call %v: %v: %s", args, err, result.Stderr)
	}
	return out
}

// answeredBy is the pod that answers a request from inside the cluster, or
// what went wrong.
func answeredBy(t *testing.T, url string) string {
	t.Helper()
	c := call(t, url)
	var echo api.Echo
	if !c.OK() || json.Unmarshal([]byte(c.Body), &echo) != nil {
		return fmt.Sprintf("status %d: %s%s", c.Status, c.Error, c.Body)
	}
	return echo.Pod
}

// reachable waits until a Service answers from everywhere: pods are ready some
// time before all nodes know.
func reachable(t *testing.T, url string, args ...string) {
	t.Helper()
	for _, pod := range clients(t) {
		poll(t, url+" is reached from pod "+pod, func(ctx context.Context) error {
			result, err := held(ctx, pod, nil, slices.Concat([]string{"load", "-fresh", "-count", "20"}, args, []string{url})...)
			if err == nil && result.Code != 0 {
				err = errors.New(result.Stderr)
			}
			return err
		})
	}
}

// loop asks a URL from inside the cluster, again and again.
type loop struct {
	url   string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{}
	log   bytes.Buffer // may be read after done

	mu      sync.Mutex
	samples []api.Sample
	changed chan struct{}
	total   api.Load
}

// startLoop begins asking as soon as there are answers; what ends it is stop, or the test's end.
func startLoop(t *testing.T, url string, args ...string) *loop {
	t.Helper()
	var protocol []string // HTTP, whatever else the loop asks by
	if strings.HasPrefix(url, "udp:") {
		protocol = []string{"-protocol", "udp"}
	}
	reachable(t, url, protocol...)
	args = append(args, protocol...)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	args = append([]string{"held", "load", "-for", "10m", "-every", "25ms", "-stdin", "-trace"}, args...)
	l := &loop{url: url, cmd: inCluster(ctx, t, append(args, url)...), done: make(chan struct{}), changed: make(chan struct{})}
	stdin, err := l.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.stdin = stdin
	l.cmd.Stderr = &l.log
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(l.done)
		l.read(json.NewDecoder(stdout))
		_ = l.stdin.Close()
		_ = l.cmd.Wait() // its log and samples say what failed
	}()
	t.Cleanup(func() {
		_ = l.stdin.Close()
		defer cancel()
		select {
		case <-l.done:
		case <-time.After(30 * time.Second):
			cancel()
			<-l.done
		}
	})
	l.wait(t, "a first answer", func(api.Sample) bool { return true })
	return l
}

// read takes samples, and at last the sums, up to the NUL behind them.
func (l *loop) read(lines *json.Decoder) {
	for {
		var line struct {
			api.Sample
			*api.Load
		}
		if lines.Decode(&line) != nil {
			return
		}
		l.mu.Lock()
		if line.Load != nil {
			l.total = *line.Load
		} else {
			l.samples = append(l.samples, line.Sample)
		}
		close(l.changed)
		l.changed = make(chan struct{})
		l.mu.Unlock()
	}
}

// wait returns when a request, begun after wait was, is wanted.
func (l *loop) wait(t *testing.T, what string, want func(api.Sample) bool) {
	t.Helper()
	l.since(t, time.Now(), what, want)
}

// since returns the first request begun after a moment that is wanted.
func (l *loop) since(t *testing.T, begin time.Time, what string, want func(api.Sample) bool) api.Sample {
	t.Helper()
	limit := time.After(patience)
	for n := 0; ; {
		l.mu.Lock()
		changed, samples := l.changed, l.samples[n:]
		l.mu.Unlock()
		for _, s := range samples {
			if s.Begin.After(begin) && want(s) {
				return s
			}
		}
		n += len(samples)
		select {
		case <-changed:
		case <-l.done:
			t.Fatalf("%s: the loop ended before %s: %s", l.url, what, l.log.String())
		case <-limit:
			t.Fatalf("%s: no sign of %s within %s; last: %+v", l.url, what, patience, samples)
		}
	}
}

// loss is the time in which a session was lost: some moment of it, that is.
type loss struct{ from, to time.Time }

// stop ends the loop; no request of it may have failed, but for those that were
// on their way when a session was lost.
func (l *loop) stop(t *testing.T, lost ...loss) api.Load {
	t.Helper()
	_, _ = l.stdin.Write([]byte{'\n'}) // a loop that has ended has said why
	select {
	case <-l.done:
	case <-time.After(patience):
		t.Fatalf("%s: the loop does not end", l.url)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	failed := slices.ContainsFunc(l.samples, func(s api.Sample) bool {
		return s.Failure != "" && !slices.ContainsFunc(lost, func(at loss) bool {
			return s.Begin.Before(at.to) && s.End().After(at.from)
		})
	})
	if l.total.Requests == 0 || l.total.Requests != len(l.samples) || failed {
		t.Errorf("%v: %d of %d requests failed:\n%s", l.cmd.Args, l.total.Failed, l.total.Requests, l.log.String())
	}
	return l.total
}

// late is how long after begin the last request began that was answered by
// somebody not wanted any more; 0 is none.
func (l *loop) late(begin, end time.Time, unwanted func(api.Sample) bool) time.Duration {
	all := l.between(begin, end, unwanted)
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Begin.Sub(begin)
}

// between returns the requests begun between two moments that are wanted.
func (l *loop) between(begin, end time.Time, wanted func(api.Sample) bool) (all []api.Sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.samples {
		if s.Begin.After(begin) && s.Begin.Before(end) && wanted(s) {
			all = append(all, s)
		}
	}
	return all
}

// runLoad runs `apps load` to its end; requests may fail.
func runLoad(t *testing.T, args ...string) api.Load {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	result, err := held(ctx, someClient(t), nil, append([]string{"load"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var l api.Load
	if err := json.Unmarshal([]byte(result.Stdout), &l); err != nil {
		t.Fatalf("load %v: %v: %s", args, err, result.Stderr)
	}
	return l
}

// byLaptop is for wait.
func byLaptop(s api.Sample) bool {
	return s.Failure == "" && strings.HasPrefix(s.By, laptopName+" ")
}

// byApp is for wait.
func byApp(s api.Sample) bool {
	return s.Failure == "" && !strings.HasPrefix(s.By, laptopName+" ")
}

// dialInCluster is a TCP connection made inside the cluster, by way of exec.
func dialInCluster(t *testing.T, address string) (*execConn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	c := &execConn{cmd: inCluster(ctx, t, "dial", address), cancel: cancel}
	c.cmd.Stderr = &c.log
	var err error
	if c.in, err = c.cmd.StdinPipe(); err == nil {
		c.out, err = c.cmd.StdoutPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return c, nil
}

// execConn is the standard streams of `apps dial`, as a connection. Deadlines
// do nothing: the test's own limit ends it.
type execConn struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.ReadCloser
	log    bytes.Buffer
	cancel context.CancelFunc
	once   sync.Once
}

func (c *execConn) Read(b []byte) (int, error)  { return c.out.Read(b) }
func (c *execConn) Write(b []byte) (int, error) { return c.in.Write(b) }
func (c *execConn) CloseWrite() error           { return c.in.Close() }

func (c *execConn) Close() error {
	c.once.Do(func() {
		_ = c.in.Close()
		c.cancel()
		_ = c.cmd.Wait()
	})
	return nil
}

func (c *execConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *execConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *execConn) SetDeadline(time.Time) error      { return nil }
func (c *execConn) SetReadDeadline(time.Time) error  { return nil }
func (c *execConn) SetWriteDeadline(time.Time) error { return nil }

// poll looks again and again until there is no error; what names the wait.
func poll(t *testing.T, what string, look func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last error
	for {
		err := look(ctx)
		if err == nil {
			return
		}
		if last == nil || !errors.Is(err, context.DeadlineExceeded) {
			last = err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, patience, last)
		}
	}
}

// otherImage is the test applications under another name, on every node.
var otherImage = sync.OnceValues(func() (string, error) {
	const name = "localhost/tele-test-apps:2"
	dir, err := os.MkdirTemp("", "tele-e2e-image-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return name, world.LoadApps(ctx, dir, name)
})
