package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// runFill makes files in a folder, COUNT small ones below DIR/small, of which every
// hundredth has the word needle, and DIR/large of SIZE bytes, whose SHA-256 it prints.
func runFill(_ context.Context, s settings, args []string) error {
	if len(args) != 3 {
		return errors.New("fill DIR COUNT SIZE")
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	size, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	for n := range count {
		dir := filepath.Join(args[0], "small", strconv.Itoa(n/100))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		text := fmt.Sprintf("file %d\n", n)
		if n%100 == 0 {
			text += "needle\n"
		}
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), []byte(text), 0o600); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(args[0], "large"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, sum), &counting{}, size)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%x\n", sum.Sum(nil))
	return err
}

// counting reads as blocks that differ from each other.
type counting struct {
	n    uint64
	rest bytes.Buffer
}

func (c *counting) Read(b []byte) (int, error) {
	for c.rest.Len() < len(b) {
		c.n++
		var word [8]byte
		binary.BigEndian.PutUint64(word[:], c.n)
		_, _ = c.rest.Write(bytes.Repeat(word[:], 512))
	}
	return c.rest.Read(b)
}
