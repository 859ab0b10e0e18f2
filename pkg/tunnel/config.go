package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config is the same for both ends. The zero value of each field but Key is
// its default.
type Config struct {
	// Key is the agent's secret, 32 bytes. Both ends prove that they know it;
	// it is never sent. A peer that does not know it gets ErrUnauthenticated.
	Key []byte
	// Session is the laptop's session ID, at most 255 bytes; only Dial sends
	// it, and the agent reads it from PeerSession.
	Session string
	// PingInterval is how often the peer is asked for a sign of life. Default 1 s.
	PingInterval time.Duration
	// PingTimeout is how long nothing at all may arrive before a connection
	// is given up, and the tunnel is lost (see Tunnel.Lost). Default 4 s; at
	// least twice PingInterval. Time during which this process itself did not
	// run does not count.
	PingTimeout time.Duration
	// ResumeTimeout is how long a tunnel without any connection waits for one
	// before it dies. Default 10 min; at least PingTimeout.
	ResumeTimeout time.Duration
	// MinLanes and MaxLanes bound how many lanes a laptop has, more while they
	// are busy. Defaults 1 and 8; at most 16.
	MinLanes, MaxLanes int
	// MaxLaneAge is the age that no connection of a lane reaches: before, the
	// laptop replaces it. Default 50 min.
	MaxLaneAge time.Duration
	// Lanes, if set, bounds the laptop's lanes together with other tunnels'.
	Lanes *LaneLimit
	// Final, if set, is asked by the laptop after a failed attempt to bring a
	// lane up again: it says why the agent cannot come back, nil if it may.
	Final func(ctx context.Context, err error) error
	// MaxFlows is how many flows the peer may have open at once; more are
	// refused. Default 20,000.
	MaxFlows int
	// Backlog is how many opens may wait for AcceptFlow and an answer; more
	// are refused. Default 1,024.
	Backlog int
	// Budget bounds the bytes all flows may hold in buffers; tunnels may
	// share one. Default: one of 128 MiB for this tunnel.
	Budget *Budget
	// Log gets the tunnel's life at debug level, nothing per flow. Default: nowhere.
	Log *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Key) != 32 {
		return c, fmt.Errorf("tunnel key has %d bytes, not 32", len(c.Key))
	}
	if len(c.Session) > maxSession {
		return c, fmt.Errorf("session id has %d bytes, more than %d", len(c.Session), maxSession)
	}
	if c.PingInterval == 0 {
		c.PingInterval = time.Second
	}
	if c.PingTimeout == 0 {
		c.PingTimeout = 4 * c.PingInterval
	}
	if c.PingInterval < 0 || c.PingTimeout < 2*c.PingInterval {
		return c, fmt.Errorf("ping timeout %v is less than twice the interval %v", c.PingTimeout, c.PingInterval)
	}
	if c.ResumeTimeout == 0 {
		c.ResumeTimeout = 10 * time.Minute
	}
	if c.MinLanes == 0 {
		c.MinLanes = 1
	}
	if c.MaxLanes == 0 {
		c.MaxLanes = max(8, c.MinLanes)
	}
	if c.MinLanes < 1 || c.MaxLanes < c.MinLanes || c.MaxLanes > maxLanes {
		return c, fmt.Errorf("%d to %d lanes, not between 1 and %d", c.MinLanes, c.MaxLanes, maxLanes)
	}
	if c.MaxLaneAge == 0 {
		c.MaxLaneAge = 50 * time.Minute
	}
	if c.MaxLaneAge < 0 || c.ResumeTimeout < 0 {
		return c, errors.New("tunnel times are negative")
	}
	if c.MaxFlows == 0 {
		c.MaxFlows = 20_000
	}
	if c.Backlog == 0 {
		c.Backlog = 1024
	}
	if c.MaxFlows < 0 || c.Backlog < 0 {
		return c, errors.New("tunnel limits are negative")
	}
	if c.Budget == nil {
		c.Budget = NewBudget(128 << 20)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
