package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pkg/sftp"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

const (
	// askLimit bounds one question: a laptop that is away for a moment is waited for.
	askLimit = time.Minute
	// dialLimit bounds a new connection.
	dialLimit = 10 * time.Second
	// redialPause is between new connections that fail, as long as somebody waits for one.
	redialPause = time.Second
)

// remote is the server, over connections that are made anew when they end.
type remote struct {
	open func(ctx context.Context) (io.ReadWriteCloser, error)
	ctx  context.Context // ends with it
	end  context.CancelCauseFunc
	wg   sync.WaitGroup // whatever it has begun

	mu      sync.Mutex
	client  *sftp.Client
	dialing *dialing // nil: nobody waits for a connection
}

// dialing is a new connection on its way.
type dialing struct {
	done   chan struct{} // closed when the rest is there
	client *sftp.Client
	err    error
}

func newRemote(open func(ctx context.Context) (io.ReadWriteCloser, error)) *remote {
	r := &remote{open: open}
	r.ctx, r.end = context.WithCancelCause(context.Background())
	return r
}

var errClosed = errors.New("the files are not shown any more")

// get returns the connection that there is, or a new one. It tries once, and waits for
// dialLimit at most.
func (r *remote) get() (*sftp.Client, error) { return r.connect(r.ctx) }

// connect is get that waits no longer than ctx. All who wait share one new connection.
func (r *remote) connect(ctx context.Context) (*sftp.Client, error) {
	r.mu.Lock()
	if r.ctx.Err() != nil || r.client != nil {
		defer r.mu.Unlock()
		return r.client, context.Cause(r.ctx)
	}
	if r.dialing == nil {
		r.dialing = &dialing{done: make(chan struct{})}
		r.wg.Go(r.dial)
	}
	d := r.dialing
	r.mu.Unlock()
	select {
	case <-d.done:
		return d.client, d.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// dial makes a connection for those who wait, and waits for its end.
func (r *remote) dial() {
	client, err := r.newClient()
	r.mu.Lock()
	d, ended := r.dialing, r.ctx.Err() != nil
	if d.client, d.err = client, err; ended {
		d.client, d.err = nil, context.Cause(r.ctx)
	}
	r.client, r.dialing = d.client, nil
	r.mu.Unlock()
	close(d.done)
	switch {
	case client == nil:
	case ended:
		_ = client.Close()
	default:
		_ = client.Wait()
		r.drop(client)
	}
}

func (r *remote) newClient() (*sftp.Client, error) {
	ctx, cancel := context.WithTimeoutCause(r.ctx, dialLimit, fmt.Errorf("no answer within %s", dialLimit))
	defer cancel()
	conn, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	client, err := sftp.NewClientPipe(conn, conn, sftp.MaxPacketUnchecked(api.MaxRead))
	if !stop() || err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ask for files: %w", errors.Join(err, context.Cause(ctx)))
	}
	return client, nil
}

// reach returns a connection as soon as there is one, unless ctx ends before. A server that
// refuses to show files is not asked again.
func (r *remote) reach(ctx context.Context) (*sftp.Client, error) {
	var last error
	for {
		client, err := r.connect(ctx)
		var refused *tunnel.RefusedError
		switch {
		case err == nil, errors.As(err, &refused):
			return client, err
		case ctx.Err() == nil:
			last = err
		case last == nil:
			return nil, context.Cause(ctx)
		default:
			// What kind of error it is says nothing about files.
			return nil, fmt.Errorf("%w: %s", context.Cause(ctx), last.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(redialPause):
		}
	}
}

// drop ends a connection, so that the next question is asked over another.
func (r *remote) drop(client *sftp.Client) {
	r.mu.Lock()
	if r.client == client {
		r.client = nil
	}
	r.mu.Unlock()
	_ = client.Close()
}

// close ends everything: questions that wait fail.
func (r *remote) close() {
	r.mu.Lock()
	r.end(errClosed)
	client := r.client
	r.client = nil
	r.mu.Unlock()
	if client != nil {
		_ = client.Close()
	}
	r.wg.Wait()
}

// begin has something done that ends with the connections. It reports whether: not after
// close.
func (r *remote) begin(do func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return false
	}
	r.wg.Go(do)
	return true
}

// errLate is that a question was not answered in time.
var errLate = fmt.Errorf("no answer within %s", askLimit)

// limited returns the context of one question.
func (r *remote) limited() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(r.ctx, askLimit, errLate)
}

// ask asks a question, a second time over another connection if the first was lost.
func ask[T any](r *remote, question func(*sftp.Client) (T, error)) (answer T, err error) {
	ctx, cancel := r.limited()
	defer cancel()
	for range 2 {
		client, err := r.reach(ctx)
		if err != nil {
			return answer, err
		}
		answer, err = bounded(ctx, r, client, func() (T, error) { return question(client) })
		if !isLost(err) {
			return answer, err
		}
		r.drop(client)
	}
	return answer, sftp.ErrSSHFxConnectionLost
}

// bounded gives a question on a connection up when ctx ends, and the connection with it.
func bounded[T any](ctx context.Context, r *remote, client *sftp.Client, question func() (T, error)) (value T, err error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	if !r.begin(func() {
		value, err := question()
		done <- answer{value, err}
	}) {
		return value, errClosed
	}
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		r.drop(client)
		return value, context.Cause(ctx)
	}
}

func isLost(err error) bool {
	return errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, io.ErrUnexpectedEOF)
}

// namedError returns the error that a server has named for want of a code.
func namedError(err error) (errno syscall.Errno, ok bool) {
	var status *sftp.StatusError
	if !errors.As(err, &status) {
		return 0, false
	}
	// sftp: "NAME" (CODE)
	_, rest, _ := strings.Cut(status.Error(), `"`)
	name, _, _ := strings.Cut(rest, `"`)
	return api.FileError(name)
}

func (r *remote) lstat(name string) (fs.FileInfo, error) {
	return ask(r, func(c *sftp.Client) (fs.FileInfo, error) { return c.Lstat(name) })
}

func (r *remote) list(name string) ([]fs.FileInfo, error) {
	return ask(r, func(c *sftp.Client) ([]fs.FileInfo, error) { return c.ReadDir(name) })
}

// identityOf is what the server says that tells a file from others at its path; "" if it
// does not say. A folder is whatever folder is at its path: a program that works in it goes
// on when the server is replaced.
func identityOf(info fs.FileInfo) string {
	if stat, ok := info.Sys().(*sftp.FileStat); ok && !info.IsDir() {
		for _, attr := range stat.Extended {
			if attr.ExtType == api.FileIdentity {
				return attr.ExtData
			}
		}
	}
	return ""
}

func (r *remote) readlink(name string) (string, error) {
	return ask(r, func(c *sftp.Client) (string, error) { return c.ReadLink(name) })
}

// opened is an open file. It ends with the connection that it was opened over.
type opened struct {
	remote *remote
	client *sftp.Client
	file   *sftp.File
}

// openFile opens a file with flags of package os.
func (r *remote) openFile(name string, flags int) (o *opened, err error) {
	open := func(c *sftp.Client) (*opened, error) {
		f, err := c.OpenFile(name, flags)
		if err != nil {
			return nil, err
		}
		return &opened{r, c, f}, nil
	}
	if flags == os.O_RDONLY {
		return ask(r, open)
	}
	err = r.tell(func(c *sftp.Client) (err error) {
		o, err = open(c)
		return err
	})
	return o, err
}

// tell has something changed. It is not told a second time.
func (r *remote) tell(do func(*sftp.Client) error) error {
	ctx, cancel := r.limited()
	defer cancel()
	client, err := r.reach(ctx)
	if err != nil {
		return err
	}
	_, err = bounded(ctx, r, client, func() (struct{}, error) { return struct{}{}, do(client) })
	return err
}

// ofFile is bounded for a question about an open file.
func ofFile[T any](o *opened, question func() (T, error)) (T, error) {
	ctx, cancel := o.remote.limited()
	defer cancel()
	return bounded(ctx, o.remote, o.client, question)
}

// readAt reads into b, a buffer that is not used again if an error is returned.
func (o *opened) readAt(b []byte, offset int64) (int, error) {
	n, err := ofFile(o, func() (int, error) { return o.file.ReadAt(b, offset) })
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// stat describes the file, whatever is at its path now.
func (o *opened) stat() (fs.FileInfo, error) {
	return ofFile(o, o.file.Stat)
}

// made gives a new file its mode, and describes it.
func (o *opened) made(mode fs.FileMode) (fs.FileInfo, error) {
	return ofFile(o, func() (fs.FileInfo, error) {
		if err := o.file.Chmod(mode); err != nil {
			return nil, err
		}
		return o.file.Stat()
	})
}

// writeAt writes b, which is the caller's again.
func (o *opened) writeAt(b []byte, offset int64) (int, error) {
	b = slices.Clone(b) // what is late may still be sent
	return ofFile(o, func() (int, error) { return o.file.WriteAt(b, offset) })
}

// flush returns what the server's file system says late of what was written.
func (o *opened) flush() error {
	_, err := ofFile(o, func() (struct{}, error) {
		return struct{}{}, o.file.SetExtendedData("", []sftp.StatExtended{{ExtType: api.FileFlush}})
	})
	return err
}

// close ends the file. It does not wait.
func (o *opened) close() { o.remote.begin(func() { _ = o.file.Close() }) }

// recent remembers what a listing said of each entry, for those who ask one by one.
type recent struct {
	mu    sync.Mutex
	until time.Time
	infos map[string]fs.FileInfo // by path
}

// maxRecent bounds how many entries are remembered.
const maxRecent = 50_000

func (r *recent) put(dir string, all []fs.FileInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.infos == nil || now.After(r.until) || len(r.infos)+len(all) > maxRecent {
		r.infos, r.until = map[string]fs.FileInfo{}, now.Add(fresh)
	}
	for _, info := range all[:min(len(all), maxRecent)] {
		r.infos[join(dir, info.Name())] = info
	}
}

// forget is for when something was changed.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.infos = nil
}

func (r *recent) get(name string) fs.FileInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().After(r.until) {
		r.infos = nil
	}
	return r.infos[name]
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}
