//go:build unix

package mount

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// tree is what a folder has: what files say, where links lead, and "/" for folders.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, name)
		switch {
		case err != nil || rel == ".":
		case e.IsDir():
			all[rel] = "/"
		case e.Type() == fs.ModeSymlink:
			all[rel], err = os.Readlink(name)
			all[rel] = "-> " + all[rel]
		default:
			var text []byte
			text, err = os.ReadFile(name)
			all[rel] = string(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func put(t *testing.T, name, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

func TestCopy(t *testing.T) {
	a := &agents{dir: t.TempDir()}
	put(t, a.dir+"/..1/key", "first", 0o400)
	symlink(t, "..1", a.dir+"/..data")
	symlink(t, "..data/key", a.dir+"/key")
	put(t, a.dir+"/sub/deep/run.sh", "#!/bin/sh\n", 0o755)
	put(t, a.dir+"/big", strings.Repeat("0123456789", 100_000), 0o644)
	symlink(t, "/etc/passwd", a.dir+"/far")
	symlink(t, "sub/../../../../far", a.dir+"/evil")
	if err := syscall.Mkfifo(a.dir+"/pipe", 0o666); err != nil {
		t.Fatal(err)
	}
	changed := time.Unix(1_700_000_000, 0)
	if err := os.Chtimes(a.dir+"/big", changed, changed); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() + "/copy"
	copied, err := Copy(t.Context(), Config{Dir: dir, Open: a.open})
	if err != nil {
		t.Fatal(err)
	}
	if copied.Files != 3 || copied.Bytes != 1_000_015 || !slices.Equal(copied.Left, []string{"/v/evil: the link leads out of the copy", "/v/pipe: no file, folder or link"}) {
		t.Errorf("copied %+v", copied)
	}
	want := map[string]string{
		"v": "/", "v/..1": "/", "v/..1/key": "first", "v/..data": "-> ..1", "v/key": "-> ..data/key", "v/sub": "/", "v/sub/deep": "/",
		"v/sub/deep/run.sh": "#!/bin/sh\n", "v/big": strings.Repeat("0123456789", 100_000), "v/far": "-> ../etc/passwd",
	}
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("the copy has %v", slices.Sorted(maps.Keys(got)))
	}
	for name, mode := range map[string]fs.FileMode{"": 0o700, "/v/..1/key": 0o600, "/v/sub/deep/run.sh": 0o700} {
		if info, err := os.Stat(dir + name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if info, err := os.Stat(dir + "/v/big"); err != nil || !info.ModTime().Equal(changed) {
		t.Errorf("big: %v, %v", info, err)
	}
	// A link is found where the container has it, and what is there is not written through it.
	if _, err := os.Stat(dir + "/v/far"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("through a link: %v", err)
	}
	if _, err := Copy(t.Context(), Config{Dir: dir, Open: a.open}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a second copy to the same place: %v", err)
	}
}

// TestCopyFails: what was copied before a failure does not stay.
func TestCopyFails(t *testing.T) {
	a := &agents{dir: t.TempDir()}
	put(t, a.dir+"/f", "text", 0o600)
	failure := errors.New("nobody is there")
	ctx, cancel := context.WithCancelCause(t.Context())
	for what, open := range map[string]func(context.Context) (io.ReadWriteCloser, error){
		"at once": func(context.Context) (io.ReadWriteCloser, error) { return nil, failure },
		"later": func(context.Context) (io.ReadWriteCloser, error) {
			conn, err := a.open(t.Context())
			return &cutConn{conn, 20}, err
		},
		"interrupted": func(context.Context) (io.ReadWriteCloser, error) {
			cancel(failure)
			return a.open(t.Context())
		},
	} {
		dir := t.TempDir()
		own := dir + "/own"
		if copied, err := Copy(ctx, Config{Dir: own, Open: open}); err == nil || what != "later" && !errors.Is(err, failure) {
			t.Errorf("%s: %+v, %v", what, copied, err)
		}
		if got := tree(t, dir); len(got) > 0 {
			t.Errorf("%s: left %v", what, got)
		}
		ctx, cancel = context.WithCancelCause(t.Context())
	}
	cancel(nil)
}

// cutConn ends after some reads.
type cutConn struct {
	io.ReadWriteCloser
	left int
}

func (c *cutConn) Read(p []byte) (int, error) {
	if c.left--; c.left < 0 {
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return c.ReadWriteCloser.Read(p[:min(len(p), 9)])
}

// TestCopyOfAMoment: a volume that the kubelet changes while it is copied is copied again,
// and never a link without what it leads to.
func TestCopyOfAMoment(t *testing.T) {
	a := &agents{dir: t.TempDir()}
	put(t, a.dir+"/..1/key", "first", 0o600)
	symlink(t, "..1", a.dir+"/..data")
	symlink(t, "..data/key", a.dir+"/key")
	rotate := func() {
		put(t, a.dir+"/..2/key", "second", 0o600)
		symlink(t, "..2", a.dir+"/..new")
		if err := errors.Join(os.Rename(a.dir+"/..new", a.dir+"/..data"), os.RemoveAll(a.dir+"/..1")); err != nil {
			t.Error(err)
		}
	}
	for n := 1; ; n++ {
		dir := t.TempDir()
		reads := 0
		copied, err := Copy(t.Context(), Config{Dir: dir, Open: func(ctx context.Context) (io.ReadWriteCloser, error) {
			conn, err := a.open(ctx)
			return &hookConn{conn, func() {
				if reads++; reads == n {
					rotate()
				}
			}}, err
		}})
		if err != nil || len(copied.Left) > 0 {
			t.Fatalf("change at read %d: %+v, %v", n, copied, err)
		}
		got := tree(t, dir)
		text, err := os.ReadFile(dir + "/v/key")
		if err != nil || len(got) != 5 || string(text) != "first" && string(text) != "second" {
			t.Errorf("change at read %d: %q, %v of %v", n, text, err, got)
		}
		if reads < n { // it has changed after the copy, if at all
			break
		}
		if err := errors.Join(os.RemoveAll(a.dir+"/..2"), os.Remove(a.dir+"/..data")); err != nil {
			t.Fatal(err)
		}
		put(t, a.dir+"/..1/key", "first", 0o600)
		symlink(t, "..1", a.dir+"/..data")
	}
}

// hookConn calls hook before each read.
type hookConn struct {
	io.ReadWriteCloser
	hook func()
}

func (c *hookConn) Read(p []byte) (int, error) {
	c.hook()
	return c.ReadWriteCloser.Read(p)
}

// archive is a tar archive of these entries; one without a type is a file.
func archive(t *testing.T, all ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range all {
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, 4
		}
		h.Mode = 0o755
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("text")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t *testing.T, dir string, tries ...io.Reader) (Copied, error) {
	t.Helper()
	return Unpack(t.Context(), dir, func(context.Context) (io.ReadCloser, error) {
		next := tries[0]
		if len(tries) > 1 {
			tries = tries[1:]
		}
		return io.NopCloser(next), nil
	})
}

// TestUnpack: an archive is written below the folder, whatever names and links it has.
func TestUnpack(t *testing.T) {
	outside := t.TempDir()
	dir := t.TempDir()
	all := archive(t,
		tar.Header{Name: "./etc/app/", Typeflag: tar.TypeDir}, tar.Header{Name: "./etc/app/a"}, tar.Header{Name: "etc/b"},
		tar.Header{Name: "etc/c", Typeflag: tar.TypeSymlink, Linkname: "b"}, tar.Header{Name: "etc/d", Typeflag: tar.TypeLink, Linkname: "etc/b"},
		tar.Header{Name: "../up"}, tar.Header{Name: "/abs"}, tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: outside},
		tar.Header{Name: "etc/b"}, tar.Header{Name: "etc/pipe", Typeflag: tar.TypeFifo},
		tar.Header{Name: "etc/e", Typeflag: tar.TypeLink, Linkname: "etc/absent"},
	)
	copied, err := unpack(t, dir, bytes.NewReader(all))
	if err != nil || copied.Files != 4 || !slices.Equal(copied.Left, []string{"/etc/b: its name is taken by another", "/etc/e: another name of what is not copied", "/etc/pipe: no file, folder or link"}) {
		t.Errorf("%+v, %v", copied, err)
	}
	want := map[string]string{
		"etc": "/", "etc/app": "/", "etc/app/a": "text", "etc/b": "text", "etc/c": "-> b", "etc/d": "text",
		"up": "text", "abs": "text", "out": "-> " + outside[1:],
	}
	if got := tree(t, dir); !maps.Equal(got, want) {
		t.Errorf("unpacked %v", got)
	}

	// A second name of a link would lead elsewhere.
	deep := archive(t, tar.Header{Name: "v/l", Typeflag: tar.TypeSymlink, Linkname: "../secret"}, tar.Header{Name: "out", Typeflag: tar.TypeLink, Linkname: "v/l"})
	dir = t.TempDir()
	if copied, err := unpack(t, dir, bytes.NewReader(deep)); err != nil || !slices.Equal(copied.Left, []string{"/out: the link leads out of the copy"}) {
		t.Errorf("%+v, %v", copied, err)
	}
	if got := tree(t, dir); !maps.Equal(got, map[string]string{"v": "/", "v/l": "-> ../secret"}) {
		t.Errorf("unpacked %v", got)
	}

	// Through a link that leads out nothing is written.
	evil := archive(t, tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: outside}, tar.Header{Name: "out/x"})
	dir = t.TempDir()
	if copied, err := unpack(t, dir, bytes.NewReader(evil)); err != nil || !slices.Equal(copied.Left, []string{"/out/x: its name is taken by another"}) {
		t.Errorf("%+v, %v", copied, err)
	}
	if got := tree(t, outside); len(got) > 0 {
		t.Errorf("outside is %v", got)
	}

	// One that is cut off anywhere is no archive; asked for again, it is.
	for n := range len(all) - 512 {
		if n%97 != 0 {
			continue
		}
		dir := t.TempDir()
		if copied, err := unpack(t, dir, bytes.NewReader(all[:n])); !errors.Is(err, errCutOff) || len(tree(t, dir)) > 0 {
			t.Fatalf("cut off after %d: %+v, %v", n, copied, err)
		}
		if copied, err := unpack(t, dir, bytes.NewReader(all[:n]), bytes.NewReader(all)); err != nil || copied.Files != 4 || len(copied.Left) != 3 {
			t.Fatalf("cut off after %d, then whole: %+v, %v", n, copied, err)
		}
	}

	// What the command says at its end is told, and what it says instead is the error.
	said := errors.New("tar: ./etc/secret: Permission denied")
	copied, err = unpack(t, t.TempDir(), io.MultiReader(bytes.NewReader(all), failing{said}))
	if err != nil || !slices.Contains(copied.Left, said.Error()) {
		t.Errorf("%+v, %v", copied, err)
	}
	if _, err := unpack(t, t.TempDir(), failing{said}); !errors.Is(err, said) {
		t.Errorf("instead of an archive: %v", err)
	}
}

// TestUnpackTooMuch: neither depth nor number of what is not copied has a limit that others set.
func TestUnpackTooMuch(t *testing.T) {
	dir := t.TempDir()
	headers := []tar.Header{{Name: strings.Repeat("d/", 3000) + "f"}, {Name: "f"}}
	for n := range 2 * maxLeft {
		headers = append(headers, tar.Header{Name: "pipe" + strconv.Itoa(n), Typeflag: tar.TypeFifo})
	}
	copied, err := unpack(t, dir, bytes.NewReader(archive(t, headers...)))
	if err != nil || copied.Files != 1 || len(copied.Left) != maxLeft || copied.More != maxLeft+1 {
		t.Errorf("%d files, %d left, %d more, %v", copied.Files, len(copied.Left), copied.More, err)
	}
	if lines := copied.Lines(); len(lines) != maxLines+1 || lines[maxLines] != "not copied: 1991 more" {
		t.Errorf("told %q", lines)
	}
	if got := tree(t, dir); !maps.Equal(got, map[string]string{"f": "text"}) {
		t.Errorf("unpacked %v", got)
	}
}

// TestUnpackBesideOthers: on failure only what was copied goes.
func TestUnpackBesideOthers(t *testing.T) {
	dir := t.TempDir()
	_, err := Unpack(t.Context(), dir, func(context.Context) (io.ReadCloser, error) {
		put(t, dir+"/mine", "text", 0o600)
		return io.NopCloser(io.MultiReader(bytes.NewReader(archive(t, tar.Header{Name: "a/b"})[:1024]), failing{errors.New("gone")})), nil
	})
	if err == nil || !maps.Equal(tree(t, dir), map[string]string{"mine": "text"}) {
		t.Errorf("%v: %v", tree(t, dir), err)
	}
}

func TestConfine(t *testing.T) {
	for link, want := range map[[2]string]string{
		{"a", "b"}:            "b",
		{"v/a", "../w/b"}:     "../w/b",
		{"v/a", "/v/b"}:       "../v/b",
		{"a", "/v//b/"}:       "v/b",
		{"v/w/a", "/"}:        "../../",
		{"v/a", "./../v/b"}:   "./../v/b",
		{"v/a", "../.."}:      "",
		{"a", ".."}:           "",
		{"v/w/x/a", "b/.."}:   "", // b may be a link to the top
		{"v/w/x/a", "b/../c"}: "",
	} {
		got, ok := confine(link[0], link[1])
		if ok != (want != "") || ok && filepath.Clean(got) != filepath.Clean(want) {
			t.Errorf("%s to %s: %q, %v; want %q", link[0], link[1], got, ok, want)
		}
	}
}

// TestCopyOfMany: what is copied is counted, however many are at it.
func TestCopyOfMany(t *testing.T) {
	a := &agents{dir: t.TempDir()}
	for n := range 100 {
		put(t, fmt.Sprintf("%s/f%d", a.dir, n), "text", 0o600)
		put(t, fmt.Sprintf("%s/d%d/f", a.dir, n), "text", 0o600)
	}
	copied, err := Copy(t.Context(), Config{Dir: t.TempDir(), Open: a.open})
	if err != nil || copied.Files != 200 || copied.Bytes != 800 || len(copied.Left) > 0 {
		t.Errorf("%+v, %v", copied, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestUnpackWaitsNotForEver: an archive of which nothing comes is given up, at its end too.
func TestUnpackWaitsNotForEver(t *testing.T) {
	all := archive(t, tar.Header{Name: "a"})
	for _, said := range [][]byte{nil, all[:600], all} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer func() { _ = far.Close() }()
			go func() { _, _ = far.Write(said) }()
			copied, err := Unpack(t.Context(), dir, func(context.Context) (io.ReadCloser, error) { return near, nil })
			whole := len(said) == len(all)
			if whole && (err != nil || copied.Files != 1 || !slices.Contains(copied.Left, errLate.Error())) || !whole && !errors.Is(err, errLate) {
				t.Errorf("after %d bytes: %+v, %v", len(said), copied, err)
			}
		})
	}
}
