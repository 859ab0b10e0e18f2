package portforward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// ExecAddr is a command in a container of a pod; it implements net.Addr.
type ExecAddr struct {
	Namespace, Pod, Container string
	Command                   []string
}

// Network is "exec".
func (ExecAddr) Network() string { return "exec" }

func (a ExecAddr) String() string {
	return fmt.Sprintf("command %q in pod %s/%s", a.Command, a.Namespace, a.Pod)
}

// Exec runs a command inside a container and returns its standard input and
// output as one connection, for users who may exec but not port-forward. It is
// slower than Dial: stdin and stdout are copied once more at each end.
//
// Exec returns at once; that the command could not be started, and what it
// says on its standard error before it fails, come as the error of Read and
// Write. A refusal by the API server satisfies apierrors.IsForbidden and so
// on. Close ends the connection, which the command sees as the end of its input;
// CloseWrite ends that input alone.
func (d *Dialer) Exec(target ExecAddr) (net.Conn, error) {
	if err := (Addr{target.Namespace, target.Pod, 1}).validate(); err != nil {
		return nil, err
	}
	if len(target.Command) == 0 {
		return nil, fmt.Errorf("exec in pod %s/%s: no command", target.Namespace, target.Pod)
	}
	executor, err := d.executor(target)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	near, far := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	c := &execConn{Conn: near, target: target, cancel: cancel, far: far}
	go func() {
		err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: input{far, c}, Stdout: far, Stderr: &c.stderr})
		c.end(err)
		_ = far.Close()
		cancel()
	}()
	return c, nil
}

// executor tries SPDY first, as Dial does.
func (d *Dialer) executor(target ExecAddr) (remotecommand.Executor, error) {
	u := *d.base
	u.Path = path.Join(u.Path, "namespaces", target.Namespace, "pods", target.Pod, "exec")
	options := corev1.PodExecOptions{Container: target.Container, Command: target.Command, Stdin: true, Stdout: true, Stderr: true}
	query, err := scheme.ParameterCodec.EncodeParameters(&options, corev1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	u.RawQuery = query.Encode()
	spdy, err := remotecommand.NewSPDYExecutor(d.config, http.MethodPost, &u)
	if err != nil {
		return nil, err
	}
	ws, err := remotecommand.NewWebSocketExecutor(d.config, http.MethodGet, u.String())
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(spdy, ws, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err) || apierrors.IsForbidden(err)
	})
}

// execConn is the near end of a pipe whose far end is the command's input and
// output.
type execConn struct {
	net.Conn
	target ExecAddr
	cancel context.CancelFunc
	stderr tail
	far    net.Conn

	mu      sync.Mutex
	err     error // why it ended, before the far end is closed
	written bool  // nothing more is written
}

// input is what the command reads.
type input struct {
	net.Conn
	of *execConn
}

func (i input) Read(p []byte) (int, error) {
	n, err := i.Conn.Read(p)
	if errors.Is(err, io.ErrClosedPipe) { // the command has ended
		return n, io.EOF
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		i.of.mu.Lock()
		defer i.of.mu.Unlock()
		if i.of.written {
			err = io.EOF
		}
	}
	return n, err
}

// CloseWrite ends the command's input, after what was written.
func (c *execConn) CloseWrite() error {
	c.mu.Lock()
	c.written = true
	c.mu.Unlock()
	return c.far.SetReadDeadline(time.Unix(1, 0)) // a pipe: what Write returned for was read
}

// end notes why the command ended.
func (c *execConn) end(err error) {
	var status exec.CodeExitError
	switch {
	case err == nil:
		err = io.EOF
	case errors.As(err, &status) && c.stderr.String() != "":
		err = fmt.Errorf("%s: %w: %s", c.target, err, c.stderr.String())
	default:
		err = fmt.Errorf("%s: %w", c.target, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

// why replaces what a pipe says of its end.
func (c *execConn) why(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	return err
}

func (c *execConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.why(err)
}

func (c *execConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.why(err)
}

// Close ends the command's connection; its goroutine ends soon after.
func (c *execConn) Close() error {
	c.mu.Lock()
	if c.err == nil || errors.Is(c.err, io.EOF) {
		c.err = fmt.Errorf("%s: %w", c.target, net.ErrClosed)
	}
	c.mu.Unlock()
	c.cancel()
	return c.Conn.Close()
}

func (c *execConn) RemoteAddr() net.Addr { return c.target }

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(len(t.text)-maxMessage, 0):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return text(bytes.TrimSpace(t.text))
}
