//go:build linux

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/netsim"
)

// farAway is a laptop on another continent.
const farAway = 20 * time.Millisecond

// connectBy connects a new laptop over a network that can be made bad.
func connectBy(t *testing.T, link netsim.Link) (connected, *netsim.Relay) {
	t.Helper()
	desk := newDesk(t)
	relay, err := desk.Relay(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := relay.Close(); err != nil {
			t.Errorf("close the relay: %v", err)
		}
	})
	c := connected{desk, machineOf(t, desk)}
	c.connect(t)
	return c, relay
}

// TestConnectFarAway: a long round trip changes nothing but the time, and new
// connections go on after all that there were have been cut.
func TestConnectFarAway(t *testing.T) {
	t.Parallel()
	c, relay := connectBy(t, netsim.Link{Delay: farAway / 2})
	if got := c.network(t).Agent.RTT; got < farAway {
		t.Errorf("the round trip takes %s, below the %s of the network", got, farAway)
	}
	testBodies(t, c)
	begin := time.Now()
	relay.Cut()
	took := c.answers(t, begin)
	t.Logf("answers %.2f s after the cut", took.Seconds())
	if took > soon {
		t.Errorf("answers %s after the cut, not within %s", took, soon)
	}
	tele(t, c.Desk, "quit")
	c.asBefore(t, time.Now(), soon)
	poll(t, "no connection to the API server is left", func(context.Context) error {
		if st := relay.Stats(); st.Up.In == 0 || st.Now != 0 {
			return fmt.Errorf("the relay has %+v", st)
		}
		return nil
	})
}
