//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptWebSocket: a connection that was HTTP once stays open and
// carries messages of any size both ways.
func TestInterceptWebSocket(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("iws", manifests.Options{Replicas: 1})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	l := listen(t, desk)
	serveOn(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var upgrader websocket.Upgrader
		conn, err := upgrader.Upgrade(w, r, http.Header{"X-Pod": {laptopName}})
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		for {
			kind, data, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, data) != nil {
				return
			}
		}
	}))
	timed(t, desk, "intercept", name, "--port", portOf(l))
	followed(t, serviceURL(t, name), l)

	dialer := &websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) {
		return dialInCluster(t, strings.TrimPrefix(serviceURL(t, name), "http://"))
	}}
	conn, resp, err := dialer.DialContext(t.Context(), "ws://"+name+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if by := resp.Header.Get("X-Pod"); by != laptopName {
		t.Errorf("upgraded by %q", by)
	}
	for _, size := range []int{0, 1, 200, 70_000, 3 << 20} {
		sent := bytes.Repeat([]byte("x"), size)
		if err := conn.WriteMessage(websocket.BinaryMessage, sent); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.ReadMessage(); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("echo of %d bytes: %d bytes, %v", size, len(got), err)
		}
	}
	_ = conn.Close()
	timed(t, desk, "leave", name)
	nothingLeft(t, name)
}

// laptopService echoes, in the laptop's name.
type laptopService struct {
	testgrpc.UnimplementedTestServiceServer
}

func (laptopService) UnaryCall(_ context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	return &testgrpc.SimpleResponse{Payload: in.GetPayload(), ServerId: laptopName}, nil
}

func (laptopService) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

// TestInterceptGRPC: unary calls and a stream in both directions over HTTP/2
// without TLS.
func TestInterceptGRPC(t *testing.T) {
	t.Parallel()
	app := manifests.GRPC("igrpc", manifests.Options{Replicas: 1})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	l := listen(t, desk)
	server := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(server, laptopService{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		server.Stop()
		wg.Wait()
	})
	timed(t, desk, "intercept", name, "--port", portOf(l))
	followed(t, serviceURL(t, name), l)

	conn, err := grpc.NewClient("passthrough:///"+name, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			return dialInCluster(t, strings.TrimPrefix(serviceURL(t, name), "http://"))
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := testgrpc.NewTestServiceClient(conn)
	body := bytes.Repeat([]byte("y"), 1<<20)
	answer, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: body}})
	if err != nil || answer.GetServerId() != laptopName || !bytes.Equal(answer.GetPayload().GetBody(), body) {
		t.Fatalf("unary call: answered by %q with %d bytes, %v", answer.GetServerId(), len(answer.GetPayload().GetBody()), err)
	}

	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	const messages = 200
	for i := range messages {
		sent := body[:i*100]
		if err := stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: sent}}); err != nil {
			t.Fatal(err)
		}
		if got, err := stream.Recv(); err != nil || !bytes.Equal(got.GetPayload().GetBody(), sent) {
			t.Fatalf("message %d: %d bytes, %v", i, len(got.GetPayload().GetBody()), err)
		}
	}
	t.Logf("%d messages there and back: %d ms", messages, time.Since(begin).Milliseconds())
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end of the stream: %v", err)
	}
	_ = conn.Close()
	timed(t, desk, "leave", name)
	nothingLeft(t, name)
}
