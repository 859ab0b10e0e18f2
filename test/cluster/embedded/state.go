package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2/maybe"
)

// state is what any process needs to use a running cluster. It is written
// before the first thing is made, and again whenever a component starts.
type state struct {
	Name       string                `json:"name"`
	Ready      bool                  `json:"ready"` // the boot went through
	Booted     time.Time             `json:"booted"`
	Boot       time.Duration         `json:"boot"` // how long it took
	Components components            `json:"components"`
	Foreign    *foreign              `json:"foreign,omitempty"` // the cluster is elsewhere
	Init       process               `json:"init"`
	Processes  map[string]*component `json:"processes"` // by component name
}

// component is one long-lived program of the cluster.
type component struct {
	process
	NetNS  string   `json:"netns"` // file of its network namespace; empty: the machine's own
	Cgroup string   `json:"cgroup"`
	Argv   []string `json:"argv"`
	// Listen is an address in the cluster's network that the program, then one
	// that otherwise sees what the machine sees, gets a listener for.
	Listen string `json:"listen,omitempty"`
}

func loadState(dir string) (*state, error) {
	text, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("read state of the cluster in %s: %w", dir, err)
	}
	return &s, nil
}

// save replaces the file in one step, so that readers see old or new.
func (s *state) save(dir string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return maybe.WriteFile(filepath.Join(dir, "state.json"), append(text, '\n'), 0o600)
}

// lock serialises what changes the cluster's set of processes and laptops,
// between processes. It lies beside the folder, which comes and goes.
func (o Options) lock(ctx context.Context) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(o.Dir), 0o755); err != nil {
		return nil, err
	}
	return lockFile(ctx, o.Dir+".lock", func() { o.Log("waiting for another process that is changing the cluster") })
}

// lockFile takes the lock that keeps two boots apart, waiting until ctx ends.
// waiting is called once if somebody else holds it.
func lockFile(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	lock := flock.New(path)
	locked, err := lock.TryLock()
	if err == nil && !locked {
		waiting()
		if locked, err = lock.TryLockContext(ctx, 100*time.Millisecond); ctx.Err() != nil && !locked {
			err = fmt.Errorf("held by another process: %w", context.Cause(ctx))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = lock.Unlock() }, nil
}

// Cluster is a running cluster. It holds nothing open; its methods may be
// called from several goroutines, and from several processes at once.
type Cluster struct {
	opt Options
	run runner

	mu    sync.Mutex
	state *state // guarded by mu

	kubelets sync.Mutex // held while one starts
}

func newCluster(opt Options, s *state) *Cluster {
	return &Cluster{opt: opt, run: run, state: s}
}

// update changes the state and writes it down.
func (c *Cluster) update(change func(*state)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c.state)
	return c.state.save(c.opt.Dir)
}

func (c *Cluster) view(look func(*state)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	look(c.state)
}
