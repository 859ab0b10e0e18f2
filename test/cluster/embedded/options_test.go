package embedded

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestOptionsComplete(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/home/u/.cache")
	for _, tt := range []struct {
		name, envName, envDir string
		opt                   Options
		wantName, wantDir     string
		wantErr               string
	}{
		{name: "zero", wantName: "tele", wantDir: "/home/u/.cache/kubectl-tele/cluster/tele"},
		{name: "environment", envName: "two", envDir: "/x/two", wantName: "two", wantDir: "/x/two"},
		{name: "fields win", envName: "two", envDir: "/x/two", opt: Options{Name: "one", Dir: "/y"}, wantName: "one", wantDir: "/y"},
		{name: "upper case", opt: Options{Name: "Tele"}, wantErr: `"Tele"`},
		{name: "hyphen", opt: Options{Name: "tele-l"}, wantErr: "letters and digits"},
		{name: "too long", opt: Options{Name: strings.Repeat("a", maxName+1)}, wantErr: "letters and digits"},
		{name: "hidden folder", opt: Options{Dir: "/var/lib/x"}, wantErr: "/var/lib"},
		{name: "neighbour of a hidden folder", opt: Options{Dir: "/var/library"}, wantName: "tele", wantDir: "/var/library"},
		{name: "space", opt: Options{Dir: "/a b"}, wantErr: "cannot hold"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TELE_CLUSTER_NAME", tt.envName)
			t.Setenv("TELE_CLUSTER_DIR", tt.envDir)
			got, err := tt.opt.complete()
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != tt.wantName || got.Dir != filepath.FromSlash(tt.wantDir) {
				t.Errorf("name %q folder %q, want %q and %q", got.Name, got.Dir, tt.wantName, tt.wantDir)
			}
			got.Log("a nil Log is made usable")
		})
	}
}
