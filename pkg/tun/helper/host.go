package helper

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

// Host carries out what a session asks for and the rules allow.
type Host interface {
	// OpenTUN makes a device and returns its file, for the caller to close,
	// and its name.
	OpenTUN(mtu int) (*os.File, string, error)

	// SetNetwork makes n everything that dev has. It may be repeated.
	SetNetwork(dev string, n tun.Network) error

	// SetDNS makes d everything that the resolver knows about dev. It may be
	// repeated.
	SetDNS(dev string, d DNS) error

	// Close undoes everything.
	Close() error
}

// Router is what a Host needs of tun.Router.
type Router interface {
	Set(dev string, n tun.Network) error
	CleanUp(dev string, n tun.Network) error // of a crashed predecessor
}

// HostConfig says of what a Host is made.
type HostConfig struct {
	// Router defaults to tun.NewRouter.
	Router Router

	// OpenTUN defaults to tun.OpenFile.
	OpenTUN func(mtu int) (*os.File, string, error)

	// SetDNS makes d everything that the resolver knows about dev; an empty d
	// removes it all. Nil: DNS is not supported.
	SetDNS func(dev string, d DNS) error

	// CleanUpDNS undoes what a crashed predecessor's SetDNS had done. Nil:
	// there is nothing to undo.
	CleanUpDNS func() error

	// Journal is the path of the file that is written before anything is
	// changed. Its folder must exist and belong to root alone. Empty: none.
	Journal string

	// Log gets what could not be undone. Nil discards it.
	Log *slog.Logger
}

func (c HostConfig) withDefaults() HostConfig {
	if c.Router == nil {
		c.Router = tun.NewRouter()
	}
	if c.OpenTUN == nil {
		c.OpenTUN = tun.OpenFile
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// record is the content of a journal: what may be in place.
type record struct {
	Dev     string      `json:"dev"`
	Network tun.Network `json:"network"`
	DNS     bool        `json:"dns"`
}

// ErrInUse is returned for a journal whose process is alive.
var ErrInUse = errors.New("in use by a running helper")

// NewHost returns a Host that changes this machine, after undoing what a
// crashed predecessor with the same journal has left.
func NewHost(cfg HostConfig) (Host, error) {
	cfg = cfg.withDefaults()
	h := &host{cfg: cfg}
	if cfg.Journal == "" {
		return h, nil
	}
	j, err := openJournal(cfg.Journal)
	if err != nil {
		return nil, err
	}
	if err := undoCrashed(cfg, j); err != nil {
		_ = j.Release()
		return nil, err
	}
	h.journal = j
	return h, nil
}

// cleanUp undoes what a crashed predecessor with the journal of cfg has left,
// and removes the journal. It returns ErrInUse if that process is alive, and
// nil if there is no journal.
func cleanUp(cfg HostConfig) error {
	cfg = cfg.withDefaults()
	if _, err := os.Lstat(cfg.Journal); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	j, err := openJournal(cfg.Journal)
	if err != nil {
		return err
	}
	if err := undoCrashed(cfg, j); err != nil {
		_ = j.Release()
		return err
	}
	return j.Remove()
}

// undoCrashed leaves the journal as it is unless everything was undone.
func undoCrashed(cfg HostConfig, j *journal) error {
	content, err := j.Read()
	if err != nil {
		return err
	}
	if len(content) == 0 {
		return nil
	}
	var left record
	if err := json.Unmarshal(content, &left); err != nil {
		// Nobody but us writes it, and each writing is atomic.
		return fmt.Errorf("journal %s: %w", cfg.Journal, err)
	}
	if left.DNS && cfg.CleanUpDNS != nil {
		if err := cfg.CleanUpDNS(); err != nil {
			return fmt.Errorf("undo dns of a crashed helper: %w", err)
		}
	}
	if left.Dev != "" {
		if err := cfg.Router.CleanUp(left.Dev, left.Network); err != nil {
			return fmt.Errorf("undo routes of a crashed helper: %w", err)
		}
	}
	cfg.Log.Info("undid what a crashed helper had left", "dev", left.Dev)
	return j.Write(nil)
}

// host is the real Host.
type host struct {
	cfg     HostConfig
	journal *journal // nil without a path

	mu     sync.Mutex // one change at a time
	now    record
	closed bool
}

func (h *host) note() error {
	if h.journal == nil {
		return nil
	}
	content, err := json.Marshal(h.now)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return h.journal.Write(content)
}

func (h *host) OpenTUN(mtu int) (*os.File, string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, "", os.ErrClosed
	}
	file, name, err := h.cfg.OpenTUN(mtu)
	if err != nil {
		return nil, "", err
	}
	return file, name, nil
}

func (h *host) SetNetwork(dev string, n tun.Network) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return os.ErrClosed
	}
	// Until it is done, both the old and the new may be in place.
	before := h.now
	h.now.Dev = dev
	h.now.Network = tun.Network{
		Addrs:  append(append(before.Network.Addrs[:0:0], before.Network.Addrs...), n.Addrs...),
		Routes: append(append(before.Network.Routes[:0:0], before.Network.Routes...), n.Routes...),
	}
	if err := h.note(); err != nil {
		h.now = before
		return err
	}
	if err := h.cfg.Router.Set(dev, n); err != nil {
		return err
	}
	h.now.Network = n
	return h.note()
}

func (h *host) SetDNS(dev string, d DNS) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return os.ErrClosed
	case h.cfg.SetDNS == nil && d.Empty():
		return nil
	case h.cfg.SetDNS == nil:
		return fmt.Errorf("dns: %w", tun.ErrUnsupported)
	}
	h.now.Dev, h.now.DNS = dev, true
	if err := h.note(); err != nil {
		return err
	}
	if err := h.cfg.SetDNS(dev, d); err != nil {
		return err
	}
	h.now.DNS = !d.Empty()
	return h.note()
}

// Close undoes DNS first, so that no name leads to addresses without a way.
// What fails is tried no further but reported, and stays in the journal.
func (h *host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	var errs []error
	if h.now.DNS {
		if err := h.cfg.SetDNS(h.now.Dev, DNS{}); err != nil {
			errs = append(errs, fmt.Errorf("undo dns: %w", err))
		} else {
			h.now.DNS = false
		}
	}
	if h.now.Dev != "" && (len(h.now.Network.Addrs) > 0 || len(h.now.Network.Routes) > 0) {
		if err := h.cfg.Router.Set(h.now.Dev, tun.Network{}); err != nil {
			errs = append(errs, fmt.Errorf("undo routes: %w", err))
		} else {
			h.now.Network = tun.Network{}
		}
	}
	if h.journal != nil {
		if len(errs) == 0 {
			errs = append(errs, h.journal.Remove())
		} else {
			errs = append(errs, h.note(), h.journal.Release())
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		h.cfg.Log.Error("not everything was undone", "err", err)
	}
	return err
}
