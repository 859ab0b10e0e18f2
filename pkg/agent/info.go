package agent

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// Info is the agent's state now. What cannot be read is left out.
func (a *Agent) Info() api.Info {
	info := api.Info{
		Version:   a.cfg.Version,
		Features:  a.features(),
		UpSeconds: time.Since(a.started).Seconds(),
		Pod:       a.cfg.Pod,
		PodIPs:    a.cfg.PodIPs,
		Sessions:  a.reg.live(),
		Captures:  []api.CaptureInfo{},
		Readers:   a.reg.readers(),
	}
	for _, c := range a.captures.list() {
		info.Captures = append(info.Captures, c.info())
	}
	a.readFile(a.cfg.Files.ResolvConf, func(r io.Reader) {
		info.Nameservers, info.Search = parseResolvConf(r)
	})
	a.readFile(a.cfg.Files.Route, func(r io.Reader) {
		info.Routes = append(info.Routes, parseRoutes(r)...)
	})
	a.readFile(a.cfg.Files.IPv6Route, func(r io.Reader) {
		info.Routes = append(info.Routes, parseIPv6Routes(r)...)
	})
	return info
}

func (a *Agent) features() []api.Feature {
	f := []api.Feature{api.FeatureRules, api.FeatureMatch, api.FeatureDown, api.FeatureMirror, api.FeatureTakeOver, api.FeatureListen, api.FeatureWatch, api.FeatureReaders, api.FeatureUDP}
	if canProbe {
		f = append(f, api.FeatureProbe)
	}
	if len(a.cfg.Volumes) > 0 {
		f = append(f, api.FeatureFiles)
	}
	return f
}

func (a *Agent) readFile(path string, parse func(io.Reader)) {
	f, err := os.Open(path)
	if err != nil {
		a.cfg.Log.Debug("fact not read", "err", err)
		return
	}
	defer func() { _ = f.Close() }()
	parse(io.LimitReader(f, 1<<20))
}

// parseResolvConf reads nameservers and the last search list.
func parseResolvConf(r io.Reader) (servers []netip.Addr, search []string) {
	for s := bufio.NewScanner(r); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				servers = append(servers, a)
			}
		case "search", "domain":
			search = fields[1:]
		}
	}
	return servers, search
}
