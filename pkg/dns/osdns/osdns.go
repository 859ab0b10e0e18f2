package osdns

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
)

// Config is what the operating system is to do. The zero Config means that
// nothing of ours is to remain.
type Config struct {
	Servers []netip.Addr // of ours, asked on port 53
	Search  []string     // completes short names, in this order
	Domains []string     // names below these are for Servers, where the system can tell names apart
	Ndots   int          // names with fewer dots are completed first; 0 leaves it as it is
}

// Empty reports whether c asks for nothing.
func (c Config) Empty() bool {
	return len(c.Servers) == 0 && len(c.Search) == 0 && len(c.Domains) == 0 && c.Ndots == 0
}

// Upstream is what the system asked before ours.
type Upstream struct {
	Servers []netip.AddrPort
	Search  []string
}

// Configurator changes one machine. It is safe for concurrent use.
type Configurator interface {
	// Set makes c all that the system does for the link dev on our account. It
	// takes over what a crashed predecessor left, and fails with ErrInUse while
	// another process has something set. After an error nothing of ours is in
	// force. Only a c that takes away may return a *ChangedError; it is done
	// all the same.
	Set(dev string, c Config) error

	// Upstream reads the resolvers and search domains that are in force
	// without ours. It needs no privilege.
	Upstream() (Upstream, error)

	// Close takes away what this Configurator has set, and nothing else.
	Close() error
}

// Runner runs a command and returns what it printed on both outputs.
type Runner func(name string, args ...string) ([]byte, error)

// Options say where the system is. The zero Options mean this machine.
type Options struct {
	Root string // all paths are below this folder, symbolic links too; "" means /

	// JournalDir is the folder of the journal, below Root; default
	// DefaultJournalDir. Nothing in it is secret, and Upstream reads it
	// without privilege if it may.
	JournalDir string

	Run Runner // default: runs the command, for at most 10 s
}

func (o Options) withDefaults() Options {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.JournalDir == "" {
		o.JournalDir = DefaultJournalDir
	}
	if o.Run == nil {
		o.Run = run
	}
	return o
}

// path is where a path of the system is.
func (o Options) path(p string) string { return filepath.Join(o.Root, p) }

const maxServers = 3 // more are ignored by resolver libraries

var (
	goodName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)
	goodDev  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
)

// check refuses what could do anything but what Config says: these values end
// up in files and on command lines of root.
func check(dev string, c Config) error {
	if c.Empty() {
		return nil
	}
	if !goodDev.MatchString(dev) {
		return fmt.Errorf("set DNS: %.40q is no name of a link", dev)
	}
	if len(c.Servers) == 0 || len(c.Servers) > maxServers {
		return fmt.Errorf("set DNS: %d servers, want 1 to %d", len(c.Servers), maxServers)
	}
	for _, s := range c.Servers {
		if !s.IsValid() || s.IsUnspecified() || s.IsMulticast() || s.Zone() != "" {
			return fmt.Errorf("set DNS: %s cannot be a server", s)
		}
	}
	for _, name := range slices.Concat(c.Search, c.Domains) {
		if len(name) > 253 || !goodName.MatchString(name) {
			return fmt.Errorf("set DNS: %.40q is no domain", name)
		}
	}
	if c.Ndots < 0 || c.Ndots > 15 {
		return fmt.Errorf("set DNS: ndots %d, want 0 to 15", c.Ndots)
	}
	return nil
}
