package netsim

import (
	"context"
	"slices"
	"time"
)

// Fault is anything that can be done to a relay: a method of it, as in
// (*Relay).Cut, or a func that calls several.
type Fault func(*Relay)

// Step does a fault some time after the step before, or after the start.
type Step struct {
	After time.Duration
	Do    Fault // nil: nothing, only time passes
}

// Script is steps in order. Scripts are joined with Join.
type Script []Step

// Join is one script after the other.
func Join(scripts ...Script) Script { return slices.Concat(scripts...) }

// Every does a fault each period for that long, the first time after one period.
func Every(period, long time.Duration, fault Fault) Script {
	var s Script
	for t := period; period > 0 && t <= long; t += period {
		s = append(s, Step{period, fault})
	}
	return append(s, Step{After: long - time.Duration(len(s))*period})
}

// Frozen freezes the network now, and thaws it after that long.
func Frozen(long time.Duration) Script {
	return Script{{0, (*Relay).Freeze}, {long, (*Relay).Thaw}}
}

// Quiet does nothing for that long.
func Quiet(long time.Duration) Script { return Script{{After: long}} }

// Run plays a script and returns when it is done. When ctx ends before, it
// returns why, and the network stays as it is then. A late step does not make
// later ones late.
func (r *Relay) Run(ctx context.Context, script Script) error {
	next := time.Now()
	for _, step := range script {
		next = next.Add(step.After)
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		if step.Do != nil {
			step.Do(r)
		}
	}
	return nil
}
