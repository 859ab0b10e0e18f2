//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/tap"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// interopCases are those of gRPC's interop client that need no credentials:
// https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
var interopCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
	"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "custom_metadata",
	"status_code_and_message", "special_status_message", "unimplemented_method", "unimplemented_service",
}

// givesUp are the cases that may give up before anybody is asked.
var givesUp = []string{"timeout_on_sleeping_server", "cancel_after_begin"}

// TestInterceptInterop: gRPC's interop client and server do not see a personal
// intercept, neither past it nor through it to a laptop.
func TestInterceptInterop(t *testing.T) {
	t.Parallel()
	app := manifests.Interop("iio", manifests.Options{Replicas: 1})
	caller := manifests.HTTP("iio-caller", manifests.Options{Replicas: 1, NoService: true})
	deploy(t, app, caller)
	name := app.Deployment.Name
	pods := podsOf(t, caller.Deployment.Name)
	if len(pods) != 1 {
		t.Fatalf("%d pods to call from, not 1", len(pods))
	}
	desk := newDesk(t)
	l := listen(t, desk)
	asked := laptopInterop(t, l)

	for _, pass := range []struct {
		name  string
		begin func(t *testing.T) (address string)
		args  []string
		hers  bool
	}{
		{"alone", func(t *testing.T) string {
			return onlyEndpoint(t, name, func(context.Context, string) error { return nil })
		}, nil, false},
		{"past the intercept", func(t *testing.T) string {
			timed(t, desk, "intercept", name, "--port", portOf(l), "--personal")
			return onlyEndpoint(t, name, func(ctx context.Context, address string) error {
				before := asked.Load()
				_, err := interopCall(ctx, pods[0].Name, "-header", alicesHeader, address, "empty_unary")
				if err == nil && asked.Load() == before {
					err = errors.New("alice's call is answered by the app")
				}
				return err
			})
		}, nil, false},
		{"through the intercept", func(t *testing.T) string {
			return onlyEndpoint(t, name, func(context.Context, string) error { return nil })
		}, []string{"-header", alicesHeader}, true},
	} {
		address := pass.begin(t)
		for _, cases := range append(slices.Collect(slices.Chunk(interopCases, 1)), interopCases) {
			title := cases[0]
			if len(cases) > 1 {
				title = "all on one connection"
			}
			t.Run(title+", "+pass.name, func(t *testing.T) {
				before := asked.Load()
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				calls, err := interopCall(ctx, pods[0].Name, slices.Concat(pass.args, []string{address}, cases)...)
				if err != nil {
					t.Fatal(err)
				}
				got := int(asked.Load() - before)
				most, least := 0, 0
				if pass.hers {
					most, least = calls, calls
				}
				for _, c := range cases {
					if pass.hers && slices.Contains(givesUp, c) {
						least--
					}
				}
				if got < least || got > most {
					t.Errorf("alice's handler got %d of %d calls, want %d to %d", got, calls, least, most)
				}
			})
		}
	}
	timed(t, desk, "leave", name)
	nothingLeft(t, name)
}

// alicesHeader is what makes a call hers.
const alicesHeader = "x-tele-user:alice"

// interopCall runs cases of the interop client in a pod and returns how many calls it
// made. The error has what the client says.
func interopCall(ctx context.Context, pod string, args ...string) (calls int, err error) {
	result, err := held(ctx, pod, nil, append([]string{"interop-call"}, args...)...)
	if err != nil {
		return 0, err
	}
	if calls, err = strconv.Atoi(strings.TrimSpace(result.Stdout)); err != nil || result.Code != 0 {
		return 0, fmt.Errorf("interop-call %v ends with code %d and says %q: %s", args, result.Code, result.Stdout, result.Stderr)
	}
	return calls, nil
}

// laptopInterop serves gRPC's interop server at a laptop and counts its calls, those of
// methods that it does not have too.
func laptopInterop(t *testing.T, l *counted) *atomic.Int32 {
	t.Helper()
	var n atomic.Int32
	server := grpc.NewServer(grpc.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) {
		n.Add(1)
		return ctx, nil
	}))
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		server.Stop()
		wg.Wait()
	})
	return &n
}
