package mount

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// TestClearSockets: folders of processes that have ended go, others stay.
func TestClearSockets(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	own, foreign := folderOf(os.Getpid())+"-1", fmt.Sprintf("%s-%d-1-1", fsName, os.Getuid()+1)
	for _, name := range []string{own, foreign, fmt.Sprintf("%s-%d-%d-77-1", fsName, os.Getuid(), ended.Process.Pid), fmt.Sprintf("%s-%d-%d-77-1", fsName, os.Getuid(), os.Getpid())} {
		put(t, os.TempDir()+"/"+name+"/0", "", 0o600)
	}
	clearSockets()
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) != 2 {
		t.Errorf("left %v, %v", left, err)
	}
	for _, name := range []string{own, foreign} {
		if _, err := os.Stat(os.TempDir() + "/" + name); err != nil {
			t.Error(err)
		}
	}
}
