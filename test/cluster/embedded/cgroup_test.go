package embedded

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// files makes files with the given content below a folder.
func files(t *testing.T, dir string, content map[string]string) {
	t.Helper()
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCgroupHierarchies(t *testing.T) {
	v1, v2 := t.TempDir(), t.TempDir()
	files(t, v1, map[string]string{"cpu/cgroup.procs": "", "memory/cgroup.procs": "", "other/file": ""})
	files(t, v2, map[string]string{"cgroup.controllers": "cpu", "cgroup.procs": "", "system.slice/cgroup.procs": ""})
	if got, want := cgroupHierarchies(v1), []string{filepath.Join(v1, "cpu"), filepath.Join(v1, "memory")}; !slices.Equal(got, want) {
		t.Errorf("v1: %q, want %q", got, want)
	}
	if got, want := cgroupHierarchies(v2), []string{v2}; !slices.Equal(got, want) {
		t.Errorf("v2: %q, want %q", got, want)
	}
}

func TestMakeCgroup(t *testing.T) {
	t.Run("v1 cpuset", func(t *testing.T) {
		root := t.TempDir()
		files(t, root, map[string]string{"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n"})
		dir := filepath.Join(root, "x")
		for range 2 { // twice is fine
			if err := makeCgroup(dir); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(filepath.Join(dir, "cpuset.cpus")); err != nil || string(got) != "0-1\n" {
			t.Errorf("cpuset.cpus %q, %v", got, err)
		}
	})
	t.Run("v2", func(t *testing.T) {
		root := t.TempDir()
		files(t, root, map[string]string{"cgroup.controllers": "memory\n"})
		if err := makeCgroup(filepath.Join(root, "x")); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control")); err != nil || string(got) != "+memory" {
			t.Errorf("cgroup.subtree_control %q, %v", got, err)
		}
	})
}
