package cluster

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/client-go/kubernetes/fake"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each run of a session is another session to an agent, and a command without a
// session none that counts.
func TestOwnerSession(t *testing.T) {
	sessions := map[string]bool{}
	for _, id := range []string{"abc", "abc", ""} {
		c, err := New(Config{Client: fake.NewClientset(), Owner: agent.Owner{Session: id}})
		if err != nil {
			t.Fatal(err)
		}
		got := c.Owner().Session
		if prefix := map[string]string{"abc": "abc-", "": AskPrefix}[id]; !strings.HasPrefix(got, prefix) || len(got) != len(prefix)+16 {
			t.Errorf("session of %q is %q", id, got)
		}
		sessions[got] = true
	}
	if len(sessions) != 3 {
		t.Errorf("sessions are not unique: %v", sessions)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a cluster without a client was made")
	}
}

func TestDialWithoutConnection(t *testing.T) {
	c, err := New(Config{Client: fake.NewClientset()})
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := c.DialAgent(t.Context(), "pod", 1); err == nil {
		_ = conn.Close()
		t.Error("dialled an agent without a connection to the API server")
	}
}

// agents listens for tunnels in place of an agent.
func agents(t *testing.T, key []byte) (dial func(context.Context, string, uint16) (net.Conn, error), accepted <-chan *tunnel.Tunnel) {
	t.Helper()
	server, err := tunnel.NewServer(tunnel.Config{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	tunnels := make(chan *tunnel.Tunnel, 8)
	return func(context.Context, string, uint16) (net.Conn, error) {
		c, s := net.Pipe()
		wg.Go(func() {
			if t, first, err := server.Handle(context.Background(), s); err == nil && first {
				tunnels <- t
			}
		})
		return c, nil
	}, tunnels
}

// A link announces the session and its use, refuses what the agent opens when it
// serves nothing, and dials another tunnel when the agent has lost the first.
func TestLink(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	dial, accepted := agents(t, key)
	c, err := New(Config{Client: fake.NewClientset(), Owner: agent.Owner{Session: "abc"}, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	l := c.NewLink(LinkConfig{Pod: "pod", Port: 1, Key: key, Use: "use"})
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()

	first := <-accepted
	if got, want := first.PeerSession(), c.Owner().Session+"-use"; got != want {
		t.Errorf("session %q, want %q", got, want)
	}
	if _, err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var st api.AgentStatus
	if l.Status(&st); !st.Up || st.Error != "" {
		t.Errorf("status %+v", st)
	}
	var refused *tunnel.RefusedError
	if _, err := first.Open(t.Context(), tunnel.Target{Network: "tcp", Address: "a:1"}); !errors.As(err, &refused) {
		t.Errorf("opened a flow to a link that serves nothing: %v", err)
	}
	_ = first.Close()
	second := <-accepted

	over := errors.New("over")
	cancel(over)
	if err := <-ended; !errors.Is(err, over) {
		t.Errorf("the link ended with %v, want the cause", err)
	}
	if _, err := l.Wait(t.Context()); !errors.Is(err, over) {
		t.Errorf("waiting for a link that has ended: %v", err)
	}
	_ = second.Close()
}

// A link ends when the agent does not know its key.
func TestLinkEndsWithoutTheKey(t *testing.T) {
	dial, _ := agents(t, bytes.Repeat([]byte{7}, 32))
	c, err := New(Config{Client: fake.NewClientset(), Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	l := c.NewLink(LinkConfig{Pod: "pod", Port: 1, Key: bytes.Repeat([]byte{8}, 32)})
	if err := l.Run(t.Context()); !errors.Is(err, tunnel.ErrUnauthenticated) {
		t.Errorf("the link ended with %v", err)
	}
}
