package har

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// tail ends the file: each entry is written in its place, and the tail again, so that
// the file is whole whenever no entry is being written.
const tail = "\n]}}\n"

// MaxFile bounds a file, in bytes.
const MaxFile = 1 << 30

// ErrFull is returned for an entry for which there is no room.
var ErrFull = fmt.Errorf("the file has %d MiB", MaxFile>>20)

// Writer writes entries to a file, one after the other. Its methods may be called
// concurrently.
type Writer struct {
	mu   sync.Mutex
	file *os.File
	size int64 // without the tail
	n    int
}

// Create makes a new file, that its owner alone may read. It is an error if there is
// one.
func Create(path string, creator Creator, handler string) (*Writer, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(File{Log{Version: "1.2", Creator: creator, Handler: handler, Entries: []Entry{}}})
	if err == nil {
		head = head[:len(head)-len("]}}")]
		_, err = file.Write(append(head, tail...))
	}
	if err != nil {
		_ = file.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return &Writer{file: file, size: int64(len(head))}, nil
}

// Add writes an entry.
func (w *Writer) Add(e Entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before := "\n"
	if w.n > 0 {
		before = ",\n"
	}
	data = append([]byte(before), data...)
	if w.size+int64(len(data)) > MaxFile {
		return ErrFull
	}
	if _, err := w.file.WriteAt(append(data, tail...), w.size); err != nil {
		_, again := w.file.WriteAt([]byte(tail), w.size) // which has been there before
		return errors.Join(err, again, w.file.Truncate(w.size+int64(len(tail))))
	}
	w.size += int64(len(data))
	w.n++
	return nil
}

// Entries returns how many have been written.
func (w *Writer) Entries() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// Close closes the file.
func (w *Writer) Close() error { return w.file.Close() }

// Read reads a file, of any program.
func Read(path string) (File, error) {
	file, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer func() { _ = file.Close() }()
	var f struct {
		Log *Log `json:"log"`
	}
	in := bufio.NewReader(io.LimitReader(file, MaxFile+int64(len(tail))))
	const mark = "\ufeff" // of byte order, which some programs write
	if b, _ := in.Peek(len(mark)); string(b) == mark {
		_, _ = in.Discard(len(mark))
	}
	d := json.NewDecoder(in)
	if err := d.Decode(&f); err != nil {
		return File{}, fmt.Errorf("%s is no HTTP archive: %w", path, err)
	}
	if f.Log == nil {
		return File{}, errors.New(path + " is no HTTP archive: it has no log")
	}
	return File{*f.Log}, nil
}
