package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Options choose a cluster. The zero value is the one that commands and tests share.
type Options struct {
	// Name prefixes everything the kernel knows by name: network namespaces and
	// cgroups. Default $TELE_CLUSTER_NAME, else "tele".
	Name string
	// Dir is the state folder. It is made by Up and removed by Down.
	// Default $TELE_CLUSTER_DIR, else kubectl-tele/cluster/NAME in the user's cache folder.
	Dir string
	// Log is told what is being done, one line a call. Default: nobody.
	Log func(string)
}

// maxName keeps "NAME-l-LAPTOP" usable as a name of whatever the kernel has.
const maxName = 12

var nameSyntax = regexp.MustCompile(`^[a-z]([a-z0-9]*[a-z0-9])?$`)

func (o Options) complete() (Options, error) {
	if o.Name == "" {
		o.Name = os.Getenv("TELE_CLUSTER_NAME")
	}
	if o.Name == "" {
		o.Name = "tele"
	}
	if len(o.Name) > maxName || !nameSyntax.MatchString(o.Name) {
		return o, fmt.Errorf("cluster name %q: want up to %d lower case letters and digits", o.Name, maxName)
	}
	if o.Dir == "" {
		o.Dir = os.Getenv("TELE_CLUSTER_DIR")
	}
	if o.Dir == "" {
		cache, err := cacheDir()
		if err != nil {
			return o, err
		}
		o.Dir = filepath.Join(cache, o.Name)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, err
	}
	o.Dir = dir
	for _, masked := range maskedDirs {
		if o.Dir == masked || strings.HasPrefix(o.Dir, masked+"/") {
			return o, fmt.Errorf("cluster folder %s: cannot be below %s, which the cluster's processes see empty", o.Dir, masked)
		}
	}
	if strings.ContainsAny(o.Dir, " \t\n\"'\\:,") {
		return o, fmt.Errorf("cluster folder %q: component configuration cannot hold this path", o.Dir)
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	return o, nil
}

// cacheDir is where built components, and by default states, are kept.
func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(cache, "kubectl-tele", "cluster"), nil
}

// ErrNotRunning is returned by Open when no cluster is up.
var ErrNotRunning = errors.New("the cluster is not running")

// The names of what the cluster makes.
func (o Options) netns() string           { return o.Name }
func (o Options) laptopPrefix() string    { return o.Name + "-l-" }
func (o Options) path(p ...string) string { return filepath.Join(append([]string{o.Dir}, p...)...) }
func (o Options) logf(format string, a ...any) {
	o.Log(fmt.Sprintf(format, a...))
}
