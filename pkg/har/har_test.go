package har

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestFile: it is whole after each entry, and what was written is read.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.har")
	w, err := Create(path, Creator{"test", "1"}, "localhost:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	var wrote []Entry
	for n := range 3 {
		f, err := Read(path)
		if err != nil || f.Log.Version != "1.2" || f.Log.Handler != "localhost:8080" || len(f.Log.Entries) != n {
			t.Fatalf("after %d entries: %+v, %v", n, f, err)
		}
		e := Entry{
			Started: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Millis: 1.5,
			Request:  NewRequest("HTTP/1.1", "POST", "a", "/b?c=d%20e&f", Message{Fields: []Pair{{"content-type", "x/y"}}, Body: []byte("hé")}, 3),
			Response: NewResponse("HTTP/1.1", 302, Message{Fields: []Pair{{"Location", "/x"}}, Body: []byte{0xff, 0}, Cut: true}, 9),
		}
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
		wrote = append(wrote, e)
	}
	f, err := Read(path)
	if err != nil || !reflect.DeepEqual(f.Log.Entries, wrote) || w.Entries() != 3 {
		t.Errorf("read\n\t%+v, %v, not\n\t%+v", f.Log.Entries, err, wrote)
	}
	r := f.Log.Entries[0].Request
	if r.URL != "http://a/b?c=d%20e&f" || !reflect.DeepEqual(r.QueryString, []Pair{{"c", "d e"}, {"f", ""}}) || r.PostData.MimeType != "x/y" {
		t.Errorf("request %+v", r)
	}
	if b, err := r.PostData.Bytes(); err != nil || string(b) != "hé" {
		t.Errorf("body %q, %v", b, err)
	}
	binary := NewRequest("HTTP/2", "POST", "a", "/", Message{Body: []byte{0xff}}, 1).PostData
	if b, err := binary.Bytes(); err != nil || !bytes.Equal(b, []byte{0xff}) || binary.Encoding != "base64" {
		t.Errorf("binary body %x of %+v, %v", b, binary, err)
	}
	if got := f.Log.Entries[0].Response; got.RedirectURL != "/x" || got.Content.Encoding != "base64" || !got.Content.Cut {
		t.Errorf("response %+v", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Create(path, Creator{}, ""); !errors.Is(err, fs.ErrExist) {
		t.Errorf("created over another: %v", err)
	}
}

// TestConcurrentEntries each stand in the file once.
func TestConcurrentEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.har")
	w, err := Create(path, Creator{}, "")
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	for n := range 50 {
		writing.Go(func() {
			if err := w.Add(Entry{Millis: float64(n), Error: strings.Repeat("e", n)}); err != nil {
				t.Error(err)
			}
		})
	}
	writing.Wait()
	_ = w.Close()
	f, err := Read(path)
	if err != nil || len(f.Log.Entries) != 50 {
		t.Errorf("%d entries, %v", len(f.Log.Entries), err)
	}
}

// TestForms: where a program keeps the parameters alone.
func TestForms(t *testing.T) {
	params := []Pair{{"a", "b c"}, {"d&", "é"}}
	form := &PostData{MimeType: "application/x-www-form-urlencoded; charset=utf-8", Params: params}
	if b, err := form.Bytes(); err != nil || string(b) != "a=b+c&d%26=%C3%A9" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := (&PostData{MimeType: "multipart/form-data", Params: params}).Bytes(); err == nil {
		t.Errorf("another form is sent as %q", b)
	}
}

// TestReadMark of byte order, which is no part of the text.
func TestReadMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.har")
	if err := os.WriteFile(path, []byte("\ufeff{\"log\": {\"version\": \"1.2\"}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := Read(path); err != nil || f.Log.Version != "1.2" {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestReadFaulty files: a clear error.
func TestReadFaulty(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "no JSON": "hello", "another thing": `{"a":1}`, "a list": `[]`} {
		path := filepath.Join(t.TempDir(), "a.har")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "is no HTTP archive") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
