//go:build linux

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptInForce: from the moment that intercept returns until leave begins,
// every request reaches the laptop; from the moment that leave returns, none does.
// The app's pods take their time to stop, so that connections which clients keep
// alive to them could go on.
func TestInterceptInForce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		o    manifests.Options
		args []string // of the loop
	}{
		{"KeptAlive", manifests.Options{PreStop: 8}, nil},
		{"Numeric", manifests.Options{PortName: "-"}, []string{"-fresh"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			app := manifests.HTTP("if"+map[bool]string{true: "n", false: "k"}[tt.args != nil], tt.o)
			deploy(t, app)
			desk := newDesk(t)
			name := app.Deployment.Name
			url := serviceURL(t, name)
			loops := make([]*loop, len(clients(t))) // the next one is at the next client pod
			for i := range loops {
				loops[i] = startLoop(t, url, tt.args...)
			}
			said := teleSays(t, desk, "intercept", name, "--port", serve(t, desk, http.HandlerFunc(echo))).Stderr
			begun := time.Now()
			// On a machine so busy that the nodes are late, that is what it has to say.
			inForce := !strings.Contains(said, "was not seen to lead to the agents")
			t.Logf("in force: %t: %s", inForce, said)
			for _, l := range loops {
				l.since(t, begun, "the laptop", byLaptop)
			}
			nodes := map[string]bool{}
			for _, a := range sessionOf(t, desk).Intercepts[0].Agents {
				nodes[a.Node] = true
			}
			left := time.Now()
			timed(t, desk, "leave", name)
			over := time.Now()
			for i, l := range loops {
				l.since(t, over, "the app", byApp)
				if late := l.late(begun, left, byApp); late > 0 && inForce && len(nodes) == len(loops) {
					t.Errorf("client %d: the app answered %s after intercept had returned", i, late)
				}
				if late := l.late(over, time.Now(), byLaptop); late > 0 {
					t.Errorf("client %d: the laptop answered %s after leave had returned", i, late)
				}
				l.stop(t)
			}
			nothingLeft(t, name)
		})
	}
}
