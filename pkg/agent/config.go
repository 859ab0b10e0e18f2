package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// Config is an agent's. The zero value of a duration is its default.
type Config struct {
	// Key is the tunnel's key, of api.KeyBytes.
	Key []byte
	// ControlPort is listened on at 127.0.0.1, and ::1 where there is one.
	// 0: any free port.
	ControlPort uint16
	// Captures are listened on at all addresses. With captures, PodIPs has
	// to have an address.
	Captures []api.Capture
	// Volumes are shown to sessions, to read alone.
	Volumes []api.Volume
	Pod     string
	PodIPs  []netip.Addr
	// Version is shown in Info.
	Version string
	// IdleExit ends Run when no session has been there for so long. 0: never.
	IdleExit time.Duration
	// DrainLimit is how long Run goes on, after its context ended, while the
	// app still accepts connections or some are open. Default 5 min.
	DrainLimit time.Duration
	// DrainPoll is how often the app is asked meanwhile. Default 500 ms.
	DrainPoll time.Duration
	// DialTimeout bounds the dials for laptops. Default 30 s.
	DialTimeout time.Duration
	// OfferTimeout is how long a session that is alive may take to accept a
	// captured connection before it goes to the app. Default 10 s.
	OfferTimeout time.Duration
	// MaxRouted bounds the connections to one captured port that are looked into
	// at a time, for the sake of memory: each takes up to 80 KiB while a head is
	// incomplete, 20 KiB at rest. What comes beyond goes to the app as it is.
	// Default 512, which is 40 MiB at the worst.
	MaxRouted int
	// MaxAssociations bounds the associations of one captured port of UDP at a time: the one
	// at rest for the longest goes when another comes. Default 2048.
	MaxAssociations int
	// ProbeHold is how long a probe's connection is held at most, and a bound
	// of its dial. Default 10 s.
	ProbeHold time.Duration
	// PingInterval, PingTimeout and ResumeTimeout are the tunnels'; see
	// tunnel.Config.
	PingInterval, PingTimeout, ResumeTimeout time.Duration
	// Memory bounds the buffers of all tunnels. Default 64 MiB.
	Memory int64
	// MaxFlows is how many flows one session may have. Default 20,000.
	MaxFlows int
	// AllowLoopback lifts the ban on loopback addresses, both as the pod's
	// and for laptops to dial. For tests.
	AllowLoopback bool
	// Files are where facts about the pod are read from. Default: the real ones.
	Files Files
	Log   *slog.Logger
}

// Files are paths; empty means the usual one.
type Files struct{ ResolvConf, Route, IPv6Route string }

func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&c.DrainLimit, 5 * time.Minute},
		{&c.DrainPoll, 500 * time.Millisecond},
		{&c.DialTimeout, 30 * time.Second},
		{&c.OfferTimeout, 10 * time.Second},
		{&c.ProbeHold, 10 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if c.Memory == 0 {
		c.Memory = 64 << 20
	}
	if c.MaxAssociations == 0 {
		c.MaxAssociations = 2048
	}
	if c.MaxRouted == 0 {
		c.MaxRouted = 512
	}
	for _, f := range []struct {
		v *string
		d string
	}{
		{&c.Files.ResolvConf, "/etc/resolv.conf"},
		{&c.Files.Route, "/proc/net/route"},
		{&c.Files.IPv6Route, "/proc/net/ipv6_route"},
	} {
		if *f.v == "" {
			*f.v = f.d
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if len(c.Key) != api.KeyBytes {
		return c, fmt.Errorf("key has %d bytes, not %d", len(c.Key), api.KeyBytes)
	}
	for _, ip := range c.PodIPs {
		if ip.IsUnspecified() || ip.IsLoopback() && !c.AllowLoopback {
			return c, fmt.Errorf("pod address %s is not one that connections to the app may use", ip)
		}
	}
	return c, c.checkCaptures(nil, c.Captures)
}

// errListened is a port that the agent is to listen on a second time.
var errListened = errors.New("is listened on twice")

// checkCaptures returns an error unless captures can be added to those that
// there are. A Listen of 0 is any port.
func (c Config) checkCaptures(old, added []api.Capture) error {
	if len(added) > 0 && len(c.PodIPs) == 0 {
		return errors.New("captures need the pod's address")
	}
	listens := map[uint16]bool{}
	for _, capture := range old {
		listens[capture.Listen] = true
	}
	for _, capture := range added {
		if capture.Listen != 0 && (listens[capture.Listen] || capture.Listen == c.ControlPort) {
			return fmt.Errorf("port %d %w", capture.Listen, errListened)
		}
		listens[capture.Listen] = true
	}
	for _, capture := range slices.Concat(old, added) {
		if capture.App == 0 || listens[capture.App] && !c.AllowLoopback {
			return fmt.Errorf("capture %s forwards to itself or to no port", capture)
		}
	}
	return nil
}
