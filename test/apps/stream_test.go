package main

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

func TestTCPEcho(t *testing.T) {
	t.Setenv("POD_NAME", "p")
	t.Setenv("VERSION", "v1")
	conn := dialTCP(t, start(t, "tcp", "-banner"))
	go func() {
		_, _ = io.Copy(conn, api.Content(1<<20))
		_ = conn.CloseWrite()
	}()
	banner := make([]byte, len("pod p v1\n"))
	if _, err := io.ReadFull(conn, banner); err != nil || string(banner) != "pod p v1\n" {
		t.Errorf("banner %q, %v", banner, err)
	}
	if got, err := api.ReadSum(conn); err != nil || got != api.ContentSum(1<<20) {
		t.Errorf("echo %+v, %v", got, err)
	}
}

// An open connection outlives SIGTERM until it ends or -drain has passed.
func TestTCPDrains(t *testing.T) {
	addr, stop := startMode(t, "tcp")
	conn := dialTCP(t, addr)
	if _, err := io.WriteString(conn, "a"); err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := io.ReadFull(conn, one); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	waitRefused(t, addr)
	if _, err := io.WriteString(conn, "b"); err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseWrite()
	if rest, err := io.ReadAll(conn); err != nil || string(rest) != "b" {
		t.Errorf("after SIGTERM: %q, %v", rest, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}

	addr, stop = startMode(t, "tcp", "-drain", "10ms")
	idle := dialTCP(t, addr)
	if _, err := io.WriteString(idle, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(idle, one); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil { // although idle is open
		t.Error(err)
	}
}

func TestSlowFin(t *testing.T) {
	conn := dialTCP(t, start(t, "slowfin", "-delay", "50ms"))
	if _, err := io.WriteString(conn, "question"); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(answer, api.SlowFinAnswer()) {
		t.Errorf("answer of %d bytes, %v", len(answer), err)
	}
}

func TestDial(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), []string{"dial", start(t, "slowfin", "-delay", "50ms")}, strings.NewReader("question"), &out, io.Discard)
	if err != nil || !bytes.Equal(out.Bytes(), api.SlowFinAnswer()) {
		t.Errorf("answer of %d bytes, %v", out.Len(), err)
	}
}

func TestUDPEcho(t *testing.T) {
	conn, err := net.Dial("udp", start(t, "udp"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, size := range []int{0, 1, 1400, 65507} {
		sent := make([]byte, size)
		if _, err := io.ReadFull(api.Content(int64(size)), sent); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 70_000)
		n, err := conn.Read(got)
		if err != nil || !bytes.Equal(got[:n], sent) {
			t.Errorf("%d bytes: %d came back, %v", size, n, err)
		}
	}
}

func TestGRPC(t *testing.T) {
	t.Setenv("POD_NAME", "g-1")
	t.Setenv("VERSION", "v3")
	conn, err := grpc.NewClient(start(t, "grpc"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	health, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", health, err)
	}
	client := testgrpc.NewTestServiceClient(conn)
	if _, err := client.EmptyCall(t.Context(), &testgrpc.Empty{}); err != nil {
		t.Error(err)
	}
	var header metadata.MD
	payload := &testgrpc.Payload{Body: []byte(strings.Repeat("x", 1<<20))}
	got, err := client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{Payload: payload}, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetServerId() != "g-1" || got.GetHostname() != "v3" || !bytes.Equal(got.GetPayload().GetBody(), payload.GetBody()) {
		t.Errorf("unary: from %s %s, %d bytes", got.GetServerId(), got.GetHostname(), len(got.GetPayload().GetBody()))
	}
	if pods := header.Get("x-pod"); len(pods) != 1 || pods[0] != "g-1" {
		t.Errorf("header x-pod = %q", pods)
	}
	_, err = client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{ResponseStatus: &testgrpc.EchoStatus{Code: int32(codes.Aborted), Message: "asked for"}})
	if status.Code(err) != codes.Aborted {
		t.Errorf("asked for Aborted, got %v", err)
	}
	_, err = client.UnaryCall(t.Context(), &testgrpc.SimpleRequest{ResponseSize: -1})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("negative size: %v", err)
	}
	duplex(t, client)
}

func duplex(t *testing.T, client testgrpc.TestServiceClient) {
	t.Helper()
	stream, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"one", "two"} {
		if err := stream.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: []byte(body)}}); err != nil {
			t.Fatal(err)
		}
		in, err := stream.Recv()
		if err != nil || string(in.GetPayload().GetBody()) != body {
			t.Errorf("echo of %q: %q, %v", body, in.GetPayload().GetBody(), err)
		}
	}
	sized := &testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 5}, {Size: 7}}}
	if err := stream.Send(sized); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{5, 7} {
		in, err := stream.Recv()
		if err != nil || len(in.GetPayload().GetBody()) != want {
			t.Errorf("asked for %d bytes: %d, %v", want, len(in.GetPayload().GetBody()), err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF { //nolint:errorlint // Recv's contract is io.EOF itself
		t.Errorf("at the end: %v", err)
	}
}
