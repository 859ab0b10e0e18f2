//go:build unix

package files

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// serveFor serves volumes to a client that ends with the test.
func serveFor(t *testing.T, volumes ...api.Volume) *sftp.Client {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(far, volumes) }()
	client, err := sftp.NewClientPipe(near, near, sftp.MaxPacketUnchecked(api.MaxRead))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = near.Close()
		if err := <-served; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("served: %v", err)
		}
	})
	return client
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

// volumes are four, as a kubelet makes them, one of them below another and one a file.
func volumes(t *testing.T) (dir string, all []api.Volume) {
	dir = t.TempDir()
	write(t, dir+"/0/..2026/app.yaml", "a: 1\n")
	link(t, "..2026", dir+"/0/..data")
	link(t, "..data/app.yaml", dir+"/0/app.yaml")
	write(t, dir+"/1/password", "s3cret")
	write(t, dir+"/v/2", "one file")
	write(t, dir+"/outside", "not to be seen")
	link(t, "../outside", dir+"/1/out")
	link(t, dir+"/outside", dir+"/1/far")
	if err := syscall.Mkfifo(dir+"/1/pipe", 0o666); err != nil {
		t.Fatal(err)
	}
	return dir, []api.Volume{
		{Here: dir + "/0", Path: "/etc/app"},
		{Here: dir + "/1", Path: "/etc/app/deep/secret"},
		{Here: dir + "/v/2", Path: "/etc/hosts.d/one"},
		{Here: dir + "/absent", Path: "/absent"},
	}
}

func TestTree(t *testing.T) {
	dir, all := volumes(t)
	client := serveFor(t, all...)
	for folder, want := range map[string]string{
		"/":                    "etc",
		"/etc":                 "app hosts.d",
		"/etc/app":             "..2026 ..data app.yaml deep",
		"/etc/app/deep":        "secret",
		"/etc/app/deep/secret": "far out password pipe",
		"/etc/hosts.d":         "one",
	} {
		infos, err := client.ReadDir(folder)
		var names []string
		for _, info := range infos {
			names = append(names, info.Name())
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s has %s, %v; want %s", folder, got, err, want)
		}
		if info, err := client.Lstat(folder); err != nil || !info.IsDir() {
			t.Errorf("%s: %v, %v", folder, info, err)
		}
	}
	for name, want := range map[string]string{
		"/etc/app/app.yaml": "a: 1\n", "/etc/app/..data/app.yaml": "a: 1\n", "/etc/app/deep/secret/password": "s3cret", "/etc/hosts.d/one": "one file",
	} {
		f, err := client.Open(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	info, err := client.Lstat("/etc/hosts.d/one")
	if err != nil || info.Mode() != 0o640 || info.Size() != 8 || info.Name() != "one" {
		t.Errorf("%+v, %v", info, err)
	}
	// A rotation is seen, since links stay links.
	if to, err := client.ReadLink("/etc/app/..data"); err != nil || to != "..2026" {
		t.Errorf("..data leads to %q, %v", to, err)
	}
	if info, err := client.Lstat("/etc/app/app.yaml"); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("app.yaml: %v, %v", info, err)
	}
	write(t, dir+"/0/..2027/app.yaml", "a: 2\n")
	link(t, "..2027", dir+"/0/..next")
	if err := os.Rename(dir+"/0/..next", dir+"/0/..data"); err != nil {
		t.Fatal(err)
	}
	f, err := client.Open("/etc/app/app.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || string(got) != "a: 2\n" {
		t.Errorf("after a rotation: %q, %v", got, err)
	}
}

// TestRefused: what is outside is not seen, nothing is changed, and nobody waits.
func TestRefused(t *testing.T) {
	dir, all := volumes(t)
	client := serveFor(t, all...)
	for _, name := range []string{
		"/etc/app/deep/secret/out", "/etc/app/deep/secret/far", "/etc/app/../../outside", "/../../etc/passwd", "/etc/app/deep/secret/pipe",
		"/etc", "/etc/app", "/absent", "/etc/app/nothing", "/etc/hosts.d/one/more", "/etc/apple",
	} {
		if f, err := client.Open(name); err == nil {
			text, err := io.ReadAll(f)
			t.Errorf("%s was opened: %q, %v", name, text, err)
		}
	}
	if _, err := client.Lstat("/etc/app/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	for what, do := range map[string]func() error{
		"write":   func() error { _, err := client.Create("/etc/app/new"); return err },
		"append":  func() error { _, err := client.OpenFile("/etc/app/app.yaml", os.O_WRONLY|os.O_APPEND); return err },
		"remove":  func() error { return client.Remove("/etc/app/app.yaml") },
		"rename":  func() error { return client.Rename("/etc/app/app.yaml", "/etc/app/b") },
		"mkdir":   func() error { return client.Mkdir("/etc/app/d") },
		"chmod":   func() error { return client.Chmod("/etc/app/app.yaml", 0o777) },
		"link":    func() error { return client.Link("/etc/app/app.yaml", "/etc/app/l") },
		"symlink": func() error { return client.Symlink("/", "/etc/app/root") },
	} {
		if err := do(); err == nil {
			t.Errorf("%s was done", what)
		}
	}
	if entries, err := os.ReadDir(dir + "/0"); err != nil || len(entries) != 3 {
		t.Errorf("the volume has %v, %v", entries, err)
	}
	for n := range maxOpen {
		if _, err := client.Open("/etc/app/app.yaml"); err != nil {
			t.Fatalf("file %d: %v", n, err)
		}
	}
	if _, err := client.Open("/etc/app/app.yaml"); err == nil {
		t.Error("one more than may be was opened")
	}
}

// TestFolders: folders of any size are read whole, each entry once, and cost no more places
// than are open.
func TestFolders(t *testing.T) {
	dir, all := volumes(t)
	const n = 1500
	for i := range n {
		write(t, fmt.Sprintf("%s/0/deep%d", dir, i), "")
	}
	write(t, dir+"/0/deep/hidden", "by the volume of deep/secret")
	write(t, dir+"/file", "no folder")
	client := serveFor(t, append(all, api.Volume{Here: dir + "/file/0", Path: "/etc/broken"})...)
	for range maxOpen + 1 {
		if _, err := client.ReadDir("/etc/app/deep"); err != nil {
			t.Fatal(err)
		}
		if _, err := client.ReadDir("/etc/app/deep/secret/pipe"); err == nil {
			t.Fatal("a pipe was read as a folder")
		}
	}
	infos, err := client.ReadDir("/etc/app")
	seen := map[string]int{}
	for _, info := range infos {
		seen[info.Name()]++
	}
	if err != nil || len(infos) != n+4 || len(seen) != n+4 || seen["deep"] != 1 {
		t.Errorf("%d entries, %d names, %d of deep, %v", len(infos), len(seen), seen["deep"], err)
	}
	// What cannot be opened is there, and says so.
	if info, err := client.Lstat("/etc/broken"); err != nil || !info.IsDir() {
		t.Errorf("broken: %v, %v", info, err)
	}
	for what, err := range map[string]error{
		"list": second(client.ReadDir("/etc/broken")), "open": second(client.Open("/etc/broken/a")), "stat": second(client.Lstat("/etc/broken/a")),
		"link": second(client.ReadLink("/etc/broken/a")),
	} {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s what is in it: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestWrite: what may be written is, and what may not be says why.
func TestWrite(t *testing.T) {
	dir, all := volumes(t)
	all[0].Write, all[1].Write = true, true
	client := serveFor(t, all...)
	f, err := client.OpenFile("/etc/app/new", os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("hello world"), 0); err != nil {
		t.Error(err)
	}
	b := make([]byte, 5)
	if _, err := f.ReadAt(b, 6); err != nil || string(b) != "world" {
		t.Errorf("read back %q, %v", b, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	end, err := client.OpenFile("/etc/app/new", os.O_WRONLY|os.O_APPEND)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := end.WriteAt([]byte(" again"), 3); err != nil {
		t.Error(err)
	}
	if err := end.Close(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(dir + "/0/new"); err != nil || string(text) != "hello world again" {
		t.Errorf("appended to: %q, %v", text, err)
	}
	at := time.Unix(1_700_000_000, 0)
	for what, do := range map[string]func() error{
		"truncate": func() error { return client.Truncate("/etc/app/new", 5) },
		"chmod":    func() error { return client.Chmod("/etc/app/new", 0o751) },
		"mkdir":    func() error { return client.Mkdir("/etc/app/d") },
		"symlink":  func() error { return client.Symlink("../new", "/etc/app/link") },
		"another":  func() error { return second(client.OpenFile("/etc/app/deep/secret/password", os.O_WRONLY|os.O_TRUNC)) },
	} {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(client.Chtimes("/etc/app/new", at, at), client.PosixRename("/etc/app/new", "/etc/app/d/moved")); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(dir + "/0/d/moved"); err != nil || string(text) != "hello" {
		t.Errorf("moved is %q, %v", text, err)
	}
	if info, err := os.Stat(dir + "/0/d/moved"); err != nil || info.Mode() != 0o751 || !info.ModTime().Equal(at) {
		t.Errorf("moved: %v, %v", info, err)
	}
	if to, err := os.Readlink(dir + "/0/link"); err != nil || to != "../new" {
		t.Errorf("link leads to %q, %v", to, err)
	}
	for what, test := range map[string]struct {
		do   func() error
		says string
	}{
		"a folder that has something": {func() error { return client.RemoveDirectory("/etc/app/d") }, "ENOTEMPTY"},
		"to another volume":           {func() error { return client.PosixRename("/etc/app/d/moved", "/etc/app/deep/secret/moved") }, "EXDEV"},
		"over another, unasked":       {func() error { return client.Rename("/etc/app/d/moved", "/etc/app/app.yaml") }, "EEXIST"},
		"a file that is there":        {func() error { return second(client.OpenFile("/etc/app/d/moved", os.O_WRONLY|os.O_CREATE|os.O_EXCL)) }, "EEXIST"},
		"in no volume":                {func() error { return client.Mkdir("/etc/new") }, "EROFS"},
		"a volume to read":            {func() error { return second(client.OpenFile("/etc/hosts.d/one", os.O_WRONLY)) }, "EROFS"},
		"a pipe":                      {func() error { return second(client.OpenFile("/etc/app/deep/secret/pipe", os.O_WRONLY)) }, "not a regular file"},
		"a link that leads out":       {func() error { return second(client.OpenFile("/etc/app/deep/secret/out", os.O_WRONLY)) }, "escapes"},
		"through a link to outside":   {func() error { return client.Symlink("x", "/etc/app/deep/secret/far/x") }, ""},
		"the owner":                   {func() error { return client.Chown("/etc/app/d/moved", 1, 1) }, "permission denied"},
		"a hard link":                 {func() error { return client.Link("/etc/app/d/moved", "/etc/app/hard") }, "permission denied"},
	} {
		if err := test.do(); err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(test.says)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(client.Remove("/etc/app/d/moved"), client.RemoveDirectory("/etc/app/d"), client.Remove("/etc/app/link")); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(dir + "/outside"); err != nil || string(text) != "not to be seen" {
		t.Errorf("outside is %q, %v", text, err)
	}
	if entries, err := os.ReadDir(dir + "/0"); err != nil || len(entries) != 3 {
		t.Errorf("the volume has %v, %v", entries, err)
	}
}

// TestHandles: what is asked of and done to an open file is about that file, whatever has come
// to its path.
func TestHandles(t *testing.T) {
	dir, all := volumes(t)
	all[1].Write = true
	client := serveFor(t, all...)
	const name = "/etc/app/deep/secret/password"
	reader, err := client.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	writer, err := client.OpenFile(name, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/1/password"); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/1/password", "another one")
	if err := errors.Join(writer.Truncate(3), writer.Chmod(0o600)); err != nil {
		t.Error(err)
	}
	for _, f := range []*sftp.File{reader, writer} {
		if info, err := f.Stat(); err != nil || info.Size() != 3 || info.Mode() != 0o600 {
			t.Errorf("it has %v, %v", info, err)
		}
	}
	if err := reader.Chmod(0o777); err == nil {
		t.Error("a file that is open to be read was changed")
	}
	if err := errors.Join(reader.Close(), writer.Close()); err != nil {
		t.Error(err)
	}
	if info, err := client.Stat(name); err != nil || info.Size() != 11 || info.Mode() != 0o640 {
		t.Errorf("the other: %v, %v", info, err)
	}
	if _, err := reader.Stat(); err == nil {
		t.Error("a closed file was described")
	}
}

// TestCutOffAttributes: attributes that are announced and do not come are an error.
func TestCutOffAttributes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", "text")
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(far, []api.Volume{{Here: dir, Path: "/v", Write: true}}) }()
	ask := func(packet string) []byte {
		t.Helper()
		if _, err := near.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(packet))), packet...)); err != nil {
			t.Fatal(err)
		}
		var size [4]byte
		if _, err := io.ReadFull(near, size[:]); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(near, answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	ask("\x01\x00\x00\x00\x03")                                                                  // INIT, version 3
	answer := ask("\x09\x00\x00\x00\x01" + "\x00\x00\x00\x04/v/f" + "\x00\x00\x00\x01" + "\x00") // SETSTAT with a size of one byte
	if want := "\x65\x00\x00\x00\x01\x00\x00\x00\x05"; !strings.HasPrefix(string(answer), want) {
		t.Errorf("answered %q, want %q", answer, want) // STATUS, BAD_MESSAGE
	}
	_ = near.Close()
	if err := <-served; err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}
