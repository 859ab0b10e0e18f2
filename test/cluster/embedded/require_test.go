package embedded

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestRequire(t *testing.T) {
	for _, tt := range []struct {
		name    string
		goos    string
		uid     int
		has     []string // programs; the CNI plugins count as one
		apt     []error  // answers of apt-get, in turn; nil: it installs everything
		wantRun []string // beginnings of commands
		wantErr string
	}{
		{name: "all there", has: []string{"ip", "runc", cniPlugins}},
		{name: "not root", uid: 1000, wantErr: "only root"},
		{name: "not Linux", goos: "darwin", wantErr: "needs Linux, this is darwin"},
		{
			name: "installs", has: []string{"apt-get", "ip"}, apt: []error{nil},
			wantRun: []string{"apt-get install containernetworking-plugins runc"},
		},
		{
			name: "fresh machine", has: []string{"apt-get", "ip", cniPlugins}, apt: []error{errors.New("unable to locate"), errNone, nil},
			wantRun: []string{"apt-get install runc", "apt-get update", "apt-get install runc"},
		},
		{
			name: "apt cannot", has: []string{"apt-get", "ip", cniPlugins}, apt: []error{errors.New("offline"), errors.New("offline")},
			wantRun: []string{"apt-get install runc", "apt-get update"}, wantErr: "apt-get install --no-install-recommends runc",
		},
		{name: "no apt", has: []string{"runc"}, wantErr: "--no-install-recommends containernetworking-plugins iproute2 (or"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			has := slices.Clone(tt.has)
			var ran []string
			m := machine{goos: "linux", uid: tt.uid}
			if tt.goos != "" {
				m.goos = tt.goos
			}
			m.lookPath = func(name string) (string, error) {
				if slices.Contains(has, name) {
					return "/bin/" + name, nil
				}
				return "", fs.ErrNotExist
			}
			m.stat = func(string) (os.FileInfo, error) {
				_, err := m.lookPath(cniPlugins)
				return nil, err
			}
			m.run = func(_ context.Context, _ string, argv ...string) (string, error) {
				argv = slices.DeleteFunc(slices.Clone(argv), func(a string) bool {
					return strings.HasPrefix(a, "-") || a == "env" || strings.Contains(a, "=")
				})
				ran = append(ran, strings.Join(argv, " "))
				answer := tt.apt[len(ran)-1]
				if answer == nil {
					has = append(has, "ip", "runc", cniPlugins)
				}
				if errors.Is(answer, errNone) {
					answer = nil
				}
				return "", answer
			}
			err := m.require(t.Context(), []tool{{"ip", "iproute2"}, {"runc", "runc"}, {cniPlugins, "containernetworking-plugins"}}, func(string) {})
			if tt.wantErr == "" && err != nil || tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
			if !slices.Equal(ran, tt.wantRun) {
				t.Errorf("ran %q, want %q", ran, tt.wantRun)
			}
		})
	}
}

// errNone: the command succeeds and installs nothing.
var errNone = errors.New("none")
