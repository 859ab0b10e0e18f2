package mount

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/files"
	"github.com/kubectl-tele/kubectl-tele/pkg/splice"
)

// needFUSE skips a test where this machine cannot mount.
func needFUSE(t *testing.T) {
	t.Helper()
	err := available()
	if err == nil {
		var device *os.File
		if device, err = os.OpenFile("/dev/fuse", os.O_RDWR, 0); err == nil {
			_ = device.Close()
			return
		}
	}
	cannot(t, "files cannot be mounted: %v", err)
}

// cannot skips a test that this machine cannot run. In CI that is a failure.
func cannot(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf("NOT TESTED: "+format, args...)
}

// mounted shows the folder there, to be written, in the folder here until the test ends.
func mounted(t *testing.T, there string) (here string, a *agents) {
	t.Helper()
	needFUSE(t)
	before := goleak.IgnoreCurrent()
	a = &agents{dir: there, write: true}
	m, err := New(t.Context(), Config{
		Dir: t.TempDir() + "/m", Write: true, Open: a.open, Log: slog.New(slog.DiscardHandler),
		Socket: func(ctx context.Context, path string) (splice.Conn, error) {
			return files.DialSocket(ctx, a.volumes(), path)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		a.cut()
		// The library's own end when the kernel lets the mount go, which others may hold.
		var of []goleak.Option
		for _, name := range []string{"loop", "Serve", "Unmount"} {
			of = append(of, goleak.IgnoreAnyFunction("github.com/hanwen/go-fuse/v2/fuse.(*Server)."+name))
		}
		goleak.VerifyNone(t, append(of, before)...)
	})
	return m.cfg.Dir + "/v", a
}

// TestCloseWhileHeld: a mount namespace that has a copy of the mount holds nothing up.
func TestCloseWhileHeld(t *testing.T) {
	needFUSE(t)
	a := &agents{dir: t.TempDir()}
	m, err := New(t.Context(), Config{Dir: t.TempDir() + "/m", Open: a.open, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.cut)
	holder := exec.Command("unshare", "-m", "sh", "-c", "echo held && read line")
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err == nil {
		err = holder.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = holder.Wait()
	})
	if said, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		cannot(t, "no mount namespace can be made: %q, %v", said, err)
	}
	closed := make(chan error, 1)
	go func() { closed <- m.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * unmountLimit):
		t.Error("it is not closed")
	}
	if entries, err := os.ReadDir(m.cfg.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func open(t *testing.T, name string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// stale waits until nothing is believed any more of what was said of files.
func stale(t *testing.T) {
	t.Helper()
	time.Sleep(2*fresh + fresh/10)
}

func say(t *testing.T, f *os.File, text string) {
	t.Helper()
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
}

func wantText(t *testing.T, name, want string) {
	t.Helper()
	if text, err := os.ReadFile(name); err != nil || string(text) != want {
		t.Errorf("%s is %.100q, %v; want %.100q", name, text, err, want)
	}
}

// TestAppend: what is appended here and there is kept, whoever was first.
func TestAppend(t *testing.T) {
	there := t.TempDir()
	here, _ := mounted(t, there)
	big := strings.Repeat("0123456789", 30_000)
	for name, flags := range map[string]int{"new": os.O_WRONLY | os.O_CREATE, "old": os.O_RDWR} {
		if name == "old" {
			put(t, there+"/old", "", 0o644)
		}
		laptop := open(t, here+"/"+name, flags|os.O_APPEND)
		pod := open(t, there+"/"+name, os.O_WRONLY|os.O_APPEND)
		say(t, laptop, "laptop 1\n")
		say(t, pod, "pod 1\n")
		say(t, laptop, "laptop 2\n")
		say(t, pod, big)
		say(t, laptop, big)
		say(t, laptop, "laptop 3\n")
		want := "laptop 1\npod 1\nlaptop 2\n" + big + big + "laptop 3\n"
		wantText(t, there+"/"+name, want)
		if info, err := laptop.Stat(); err != nil || info.Size() != int64(len(want)) {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		wantText(t, here+"/"+name, want)
	}
}

// TestReplacedWhileOpen: an open file is read to its end after it was replaced there, and
// who opens it now gets the other.
func TestReplacedWhileOpen(t *testing.T) {
	there := t.TempDir()
	here, _ := mounted(t, there)
	want := bytes.Repeat([]byte("0123456789abcdef"), 4<<20)
	put(t, there+"/log", string(want), 0o644)
	f := open(t, here+"/log", os.O_RDONLY)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(f, got[:8<<20]); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(there+"/log", there+"/log.1"); err != nil {
		t.Fatal(err)
	}
	put(t, there+"/log", "new\n", 0o644)
	wantAttributes := func() {
		t.Helper()
		if info, err := f.Stat(); err != nil || info.Size() != int64(len(want)) {
			t.Errorf("it has %v, %v", info, err)
		}
	}
	stale(t)
	for size := 8 << 20; size < len(want); size += 8 << 20 {
		if n, err := io.ReadFull(f, got[size:size+8<<20]); err != nil {
			t.Fatalf("after %d bytes: %v", size+n, err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Error("it was not read as it is")
	}
	wantAttributes()
	wantText(t, here+"/log", "new\n")
	wantAttributes()
	if err := os.Remove(there + "/log.1"); err != nil {
		t.Fatal(err)
	}
	stale(t)
	wantAttributes()
}

// TestOpenOfReplaced: a file that was replaced since it was looked at is whole.
func TestOpenOfReplaced(t *testing.T) {
	there := t.TempDir()
	here, _ := mounted(t, there)
	put(t, there+"/f", "short", 0o644)
	for _, want := range []string{"longer than before", "s", strings.Repeat("long", 10_000)} {
		if _, err := os.Stat(here + "/f"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadDir(here); err != nil {
			t.Fatal(err)
		}
		put(t, there+"/next", want, 0o644)
		if err := os.Rename(there+"/next", there+"/f"); err != nil {
			t.Fatal(err)
		}
		wantText(t, here+"/f", want)
		if info, err := os.Stat(here + "/f"); err != nil || info.Size() != int64(len(want)) {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// TestUnlinkedWhileOpen: a file without a name goes on for who has it open.
func TestUnlinkedWhileOpen(t *testing.T) {
	there := t.TempDir()
	here, _ := mounted(t, there)
	f := open(t, here+"/tmp", os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err := os.Remove(here + "/tmp"); err != nil {
		t.Fatal(err)
	}
	works(t, f)
	if left, err := os.ReadDir(there); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// A folder that is gone is not the one above all.
	if err := os.Mkdir(here+"/d", 0o700); err != nil {
		t.Fatal(err)
	}
	d := open(t, here+"/d", os.O_RDONLY)
	if err := os.Remove(here + "/d"); err != nil {
		t.Fatal(err)
	}
	stale(t)
	if names, err := d.Readdirnames(-1); len(names) > 0 {
		t.Errorf("a folder that is gone has %v, %v", names, err)
	}
	if info, err := d.Stat(); !errors.Is(err, syscall.ESTALE) && !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a folder that is gone: %v, %v", info, err)
	}
}

// works writes, reads and cuts an open file that has no content.
func works(t *testing.T, f *os.File) {
	t.Helper()
	say(t, f, "hello world")
	b := make([]byte, 20)
	if n, err := f.ReadAt(b, 0); string(b[:n]) != "hello world" {
		t.Errorf("read %q, %v", b[:n], err)
	}
	for _, size := range []int64{11, 5} {
		if err := f.Truncate(size); err != nil {
			t.Errorf("truncate: %v", err)
		}
		stale(t)
		if info, err := f.Stat(); err != nil || info.Size() != size || !info.Mode().IsRegular() {
			t.Errorf("it has %v, %v; want %d bytes", info, err, size)
		}
		if n, err := f.ReadAt(b, 0); string(b[:n]) != "hello world"[:size] {
			t.Errorf("read %q, %v", b[:n], err)
		}
	}
}

// TestMovedWhileOpen: the two files of a rename stay what they are for who has them open.
func TestMovedWhileOpen(t *testing.T) {
	there := t.TempDir()
	here, _ := mounted(t, there)
	put(t, there+"/f", "the old one", 0o644)
	old, next := open(t, here+"/f", os.O_RDONLY), open(t, here+"/next", os.O_RDWR|os.O_CREATE)
	if err := os.Rename(here+"/next", here+"/f"); err != nil {
		t.Fatal(err)
	}
	works(t, next)
	for range 2 {
		if info, err := old.Stat(); err != nil || info.Size() != 11 {
			t.Errorf("the old one: %v, %v", info, err)
		}
		b := make([]byte, 20)
		if n, err := old.ReadAt(b, 0); string(b[:n]) != "the old one" {
			t.Errorf("of the old one is read %q, %v", b[:n], err)
		}
		wantText(t, here+"/f", "hello")
		stale(t)
	}
}

// TestHandlesEndWithTheConnection: who opens a file again after the connection was lost is not
// held up by those who have it open from before, and these are told.
func TestHandlesEndWithTheConnection(t *testing.T) {
	there := t.TempDir()
	here, a := mounted(t, there)
	put(t, there+"/f", "text", 0o644)
	before := open(t, here+"/f", os.O_RDONLY)
	a.cut()
	wantText(t, here+"/f", "text")
	stale(t)
	if info, err := os.Stat(here + "/f"); err != nil || info.Size() != 4 {
		t.Errorf("%v, %v", info, err)
	}
	put(t, there+"/f", "other text", 0o644)
	stale(t)
	if _, err := before.ReadAt(make([]byte, 4), 0); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("from before: %v", err)
	}
}

// TestSocketLink: a socket is a link to a listener, of which the server is not asked.
func TestSocketLink(t *testing.T) {
	needFUSE(t)
	t.Setenv("TMPDIR", t.TempDir())
	there := t.TempDir()
	original, err := net.Listen("unix", there+"/s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = original.Close() })
	here, _ := mounted(t, there)
	conn, err := net.Dial("unix", here+"/s")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if far, err := original.Accept(); err != nil {
		t.Error(err)
	} else {
		_ = far.Close()
	}
	// What takes its place is no socket, even if it has its number.
	to, err := os.Readlink(here + "/s")
	if err != nil || !strings.HasPrefix(to, os.TempDir()) {
		t.Errorf("it leads to %q, %v", to, err)
	}
	_ = original.Close()
	symlink(t, "elsewhere", there+"/s")
	stale(t)
	if to, err := os.Readlink(here + "/s"); err != nil || to != "elsewhere" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
}

// TestReadlinkAway: a link is asked for once while the server is away.
func TestReadlinkAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &agents{away: true}
		m := &Mount{remote: newRemote(a.open), local: newSockets(nil, slog.New(slog.DiscardHandler))}
		defer m.end()
		n := &node{mount: m}
		fs.NewNodeFS(n, nil)
		begin := time.Now()
		if to, failed := n.Readlink(t.Context()); failed != syscall.EIO || time.Since(begin) != askLimit {
			t.Errorf("%q, %v after %s", to, failed, time.Since(begin))
		}
	})
}

// faulty is a folder of files that fail late.
type faulty struct{ fs.Inode }

func (r *faulty) OnAdd(ctx context.Context) {
	r.AddChild("quota", r.NewPersistentInode(ctx, &overQuota{}, fs.StableAttr{}), false)
	r.AddChild("full", r.NewPersistentInode(ctx, &full{}, fs.StableAttr{}), false)
}

type overQuota struct{ fs.MemRegularFile }

func (*overQuota) Flush(context.Context, fs.FileHandle) syscall.Errno { return syscall.EDQUOT }

type full struct{ fs.MemRegularFile }

func (*full) Write(context.Context, fs.FileHandle, []byte, int64) (uint32, syscall.Errno) {
	return 0, syscall.ENOSPC
}

// TestLateErrors: what a file system there says of a write when the file is closed is heard
// here.
func TestLateErrors(t *testing.T) {
	needFUSE(t)
	there := t.TempDir()
	server, err := fs.Mount(there, &faulty{}, &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Unmount() })
	here, _ := mounted(t, there)
	f := open(t, here+"/quota", os.O_WRONLY)
	if err := f.Close(); err != nil {
		t.Errorf("closed unwritten: %v", err)
	}
	f = open(t, here+"/quota", os.O_WRONLY)
	say(t, f, "text")
	if err := f.Sync(); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("fsync: %v", err)
	}
	say(t, f, "text")
	if err := f.Close(); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("close: %v", err)
	}
	f = open(t, here+"/full", os.O_WRONLY)
	if _, err := io.WriteString(f, "text"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %v", err)
	}
}

// TestFlushKeepsOpen: one of several descriptors of an open file can be closed.
func TestFlushKeepsOpen(t *testing.T) {
	there := t.TempDir()
	here, _ := mounted(t, there)
	f := open(t, here+"/f", os.O_WRONLY|os.O_CREATE)
	for _, text := range []string{"one ", "two ", "three"} {
		say(t, f, text)
		fd, err := syscall.Dup(int(f.Fd()))
		if err == nil {
			err = syscall.Close(fd)
		}
		if err != nil {
			t.Error(err)
		}
	}
	wantText(t, there+"/f", "one two three")
}
