package osdns

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	resolvedDir  = "/run/systemd/resolve/"
	resolvedStub = resolvedDir + "stub-resolv.conf"
)

// stubs are the addresses at which systemd-resolved answers.
var stubs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 53}), netip.AddrFrom4([4]byte{127, 0, 0, 54})}

// resolved is the backend for systemd-resolved. Its settings belong to the
// link and go with it; the names of other links are not touched. Upstream is
// systemd-resolved itself, which knows those.
type resolved struct{ *system }

// usesResolved reports whether programs on this machine ask systemd-resolved.
func usesResolved(o Options) bool {
	path, err := o.resolveLink(resolvConfPath)
	if err != nil {
		return false
	}
	if strings.HasPrefix(path, resolvedDir) {
		return true
	}
	content, err := readFile(o.path(path))
	return err == nil && slices.ContainsFunc(parseResolvConf(content).servers, func(a netip.Addr) bool { return slices.Contains(stubs, a) })
}

func (r resolved) Set(dev string, c Config) error {
	if err := check(dev, c); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.Empty() {
		return r.clear()
	}
	if path, err := r.resolveLink(resolvConfPath); err == nil && strings.HasPrefix(path, resolvedDir) && path != resolvedStub {
		return &hintError{
			fmt.Errorf("%s leads to %s: programs here do not ask systemd-resolved, which rewrites that file", resolvConfPath, path),
			fmt.Sprintf("ln -sf %s %s", resolvedStub, resolvConfPath),
		}
	}
	if _, err := r.takeOver(dev); err != nil {
		return explain(err, r.JournalDir)
	}
	rec := &record{Backend: r.backend, Device: dev}
	if err := r.journal.save(rec); err != nil {
		return errors.Join(err, r.revert(rec))
	}
	for _, args := range resolvectl(dev, c) {
		if _, err := r.Run("resolvectl", args...); err != nil {
			return errors.Join(&hintError{
				fmt.Errorf("tell systemd-resolved: %w", err),
				fmt.Sprintf("%s names systemd-resolved: is it running, and is resolvectl installed?", resolvConfPath),
			}, r.revert(rec))
		}
	}
	return nil
}

// resolvectl lists what to tell: only names of the cluster are for us.
// Search domains of other networks come with their own links.
func resolvectl(dev string, c Config) [][]string {
	servers := []string{"dns", dev}
	for _, s := range c.Servers {
		servers = append(servers, s.String())
	}
	domains := []string{"domain", dev}
	for _, s := range c.Search {
		if slices.ContainsFunc(c.Domains, func(d string) bool { return s == d || strings.HasSuffix(s, "."+d) }) {
			domains = append(domains, s)
		}
	}
	for _, d := range c.Domains {
		if !slices.Contains(domains[2:], d) { // a search domain is a route already
			domains = append(domains, "~"+d)
		}
	}
	return [][]string{
		servers, domains,
		{"default-route", dev, "false"},
		{"llmnr", dev, "no"},
		{"mdns", dev, "no"},
		{"dnssec", dev, "no"},
		{"dnsovertls", dev, "no"},
		{"flush-caches"},
	}
}

// revertResolved makes systemd-resolved forget the link; a link that is gone
// is forgotten already.
func (s *system) revertResolved(dev string) error {
	if _, err := s.Run("resolvectl", "revert", dev); err != nil {
		if _, gone := os.Stat(s.path(filepath.Join("/sys/class/net", dev))); !errors.Is(gone, fs.ErrNotExist) {
			return fmt.Errorf("tell systemd-resolved to forget link %s: %w", dev, err)
		}
	}
	_, _ = s.Run("resolvectl", "flush-caches")
	return nil
}
