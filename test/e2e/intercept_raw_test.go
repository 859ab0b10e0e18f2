//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptRaw: what a personal intercept does not take reaches the app byte for
// byte, and the app's answer the client, whatever it is; and each side sees the other
// end as it does without the intercept.
func TestInterceptRaw(t *testing.T) {
	t.Parallel()
	app := manifests.Raw("iraw", manifests.Options{Replicas: 1})
	player := manifests.HTTP("iraw-player", manifests.Options{Replicas: 1, NoService: true})
	deploy(t, app, player)
	name := app.Deployment.Name
	all := conversations()

	alone := playAll(t, name, onlyEndpoint(t, name, func(context.Context, string) error { return nil }), all)
	for i, c := range all {
		toClient, toApp := c.Of()
		sameBytes(t, c.Name+": alone, the client", alone[i].Client.Got, toClient)
		sameBytes(t, c.Name+": alone, the app", alone[i].App.Got, toApp)
	}
	if t.Failed() {
		return
	}

	desk := newDesk(t)
	l := listen(t, desk)
	serveOn(t, l, named("alice"))
	timed(t, desk, "intercept", name, "--port", portOf(l)+":tcp", "--personal")
	agent := onlyEndpoint(t, name, func(ctx context.Context, address string) error { return answersAlice(ctx, t, address) })
	asked := l.n.Load()
	behind := playAll(t, name, agent, all)
	if n := l.n.Load(); n != asked {
		t.Errorf("alice's handler was given %d connections by requests that are not hers", n-asked)
	}
	for i, c := range all {
		was, is := alone[i], behind[i]
		sameBytes(t, c.Name+": behind the agent, the client", is.Client.Got, was.Client.Got)
		sameBytes(t, c.Name+": behind the agent, the app", is.App.Got, was.App.Got)
		if is.Client.End != was.Client.End || is.App.End != was.App.End {
			t.Errorf("%s: behind the agent the client's end is %q and the app's %q, without it %q and %q",
				c.Name, is.Client.End, is.App.End, was.Client.End, was.App.End)
		}
		if is.Others != was.Others {
			t.Errorf("%s: behind the agent the app got %d more connections, without it %d", c.Name, is.Others, was.Others)
		}
	}
	timed(t, desk, "leave", name)
	nothingLeft(t, name)
}

// playAll plays conversations with the app of that name, from its player's pod.
func playAll(t *testing.T, name, address string, all []api.Conversation) []api.Played {
	t.Helper()
	pods, players := podsOf(t, name), podsOf(t, name+"-player")
	if len(pods) != 1 || len(players) != 1 {
		t.Fatalf("%d pods of %s and %d of its player, not 1 of each", len(pods), name, len(players))
	}
	control := "http://" + net.JoinHostPort(pods[0].Status.PodIP, strconv.Itoa(manifests.AdminPort))
	script, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	result, err := held(ctx, players[0].Name, script, "play", address, control)
	if err != nil {
		t.Fatal(err)
	}
	var played []api.Played
	if err := json.Unmarshal([]byte(result.Stdout), &played); err != nil || len(played) != len(all) {
		t.Fatalf("%d of %d conversations were played: %v: %s", len(played), len(all), err, result.Stderr)
	}
	for _, p := range played {
		if p.Error != "" {
			t.Errorf("%s: not played: %s", p.Name, p.Error)
		}
	}
	return played
}

// onlyEndpoint waits until a Service has one endpoint, that of the app's only pod,
// which is as wanted, and returns its address.
func onlyEndpoint(t *testing.T, name string, want func(ctx context.Context, address string) error) (address string) {
	t.Helper()
	poll(t, "service/"+name+" has the endpoint that is wanted", func(ctx context.Context) error {
		all, err := endpoints(ctx, name)
		if err != nil {
			return err
		}
		pods := podsOf(t, name)
		if len(all) != 1 || len(pods) != 1 {
			return fmt.Errorf("endpoints %v of %d pods", all, len(pods))
		}
		address = all[0]
		if host, _, err := net.SplitHostPort(address); err != nil || host != pods[0].Status.PodIP {
			return fmt.Errorf("endpoint %s is not the pod's, %s", address, pods[0].Status.PodIP)
		}
		return want(ctx, address)
	})
	return address
}

// answersAlice reports whether a request of alice's is answered at her laptop.
func answersAlice(ctx context.Context, t *testing.T, address string) error {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	result, err := held(ctx, someClient(t), nil, "call", "-header", "X-Tele-User:alice", "http://"+address)
	if err != nil {
		return err
	}
	var answer api.Call
	var echo api.Echo
	if err := json.Unmarshal([]byte(result.Stdout), &answer); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(answer.Body), &echo); err != nil || echo.Pod != "alice" {
		return errors.New("alice's request is answered by " + answer.Body + answer.Error)
	}
	return nil
}

// sameBytes fails the test where two texts begin to differ.
func sameBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	n := 0
	for n < len(got) && n < len(want) && got[n] == want[n] {
		n++
	}
	from := max(0, n-20)
	t.Errorf("%s got %d bytes, want %d; from byte %d on it got %.120q, want %.120q", what, len(got), len(want), from, got[from:], want[from:])
}
