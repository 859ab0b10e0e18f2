// Package version says which build this is. It owns nothing else, and both
// binaries import it.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version and Commit are set by the linker (see the Makefile). A binary built
// by plain `go build` keeps the defaults and takes the commit from the build
// information where there is one.
var (
	Version = "v0.0.0-dev"
	Commit  = ""
)

// Info is what `kubectl tele version` prints.
type Info struct {
	Version   string `json:"version"`
	Commit    string `json:"commit"`
	GoVersion string `json:"goVersion"`
	Platform  string `json:"platform"`
}

// Get returns the facts of the running binary.
func Get() Info {
	return Info{
		Version:   Version,
		Commit:    commit(),
		GoVersion: runtime.Version(),
		Platform:  runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// String is one line for people.
func (i Info) String() string {
	return fmt.Sprintf("%s (commit %s, %s, %s)", i.Version, i.Commit, i.GoVersion, i.Platform)
}

// AgentImage is the agent's image that belongs to this build.
func AgentImage() string { return "ghcr.io/kubectl-tele/tele-agent:" + Version }

func commit() string {
	if Commit != "" {
		return Commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
