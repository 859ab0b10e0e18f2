//go:build unix

package cluster

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestArchiver: behind an archive the script waits for the end of its input; where there is no
// tar it ends at once.
func TestArchiver(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	script := exec.CommandContext(ctx, sh, "-c", archiver, "tar", "."+dir)
	in, err := script.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := script.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	files := 0
	for r := tar.NewReader(out); ; files++ {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	_ = in.Close()
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	if err := script.Wait(); err != nil || files != 2 {
		t.Errorf("%d files, %v", files, err)
	}

	script = exec.CommandContext(ctx, sh, "-c", archiver, "tar", "."+dir)
	script.Env = []string{"PATH=" + dir}
	if in, err = script.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	var exit *exec.ExitError
	if err := script.Run(); !errors.As(err, &exit) || exit.ExitCode() != 127 {
		t.Errorf("without tar: %v", err)
	}
}
