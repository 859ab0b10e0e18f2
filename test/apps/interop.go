package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// runInterop serves gRPC's own interop server.
func runInterop(ctx context.Context, s settings, _ []string) error {
	server := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(server, interop.NewTestServer())
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return serveGRPC(ctx, s, "interop", server)
}

// interopCases are the cases of gRPC's interop client that need no credentials. Each
// ends this process when it fails.
var interopCases = map[string]func(context.Context, *grpc.ClientConn){
	"empty_unary":                 with(interop.DoEmptyUnaryCall),
	"large_unary":                 with(interop.DoLargeUnaryCall),
	"client_streaming":            with(interop.DoClientStreaming),
	"server_streaming":            with(interop.DoServerStreaming),
	"ping_pong":                   with(interop.DoPingPong),
	"empty_stream":                with(interop.DoEmptyStream),
	"timeout_on_sleeping_server":  with(interop.DoTimeoutOnSleepingServer),
	"cancel_after_begin":          with(interop.DoCancelAfterBegin),
	"cancel_after_first_response": with(interop.DoCancelAfterFirstResponse),
	"custom_metadata":             with(interop.DoCustomMetadata),
	"status_code_and_message":     with(interop.DoStatusCodeAndMessage),
	"special_status_message":      with(interop.DoSpecialStatusMessage),
	"unimplemented_method":        interop.DoUnimplementedMethod,
	"unimplemented_service": func(ctx context.Context, conn *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(conn))
	},
}

// with is a case that needs a client of the TestService.
func with(do func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, conn *grpc.ClientConn) { do(ctx, testgrpc.NewTestServiceClient(conn)) }
}

// runInteropCall runs cases of gRPC's interop client, one after the other on one
// connection, and prints how many calls it made. What fails is on standard error.
func runInteropCall(ctx context.Context, s settings, args []string) error {
	if len(args) < 2 {
		return errors.New("interop-call: want HOST:PORT and cases")
	}
	var calls atomic.Int32
	mark := func(ctx context.Context) context.Context {
		calls.Add(1)
		for _, h := range s.headers {
			k, v, _ := strings.Cut(h, ":")
			ctx = metadata.AppendToOutgoingContext(ctx, k, v)
		}
		return ctx
	}
	conn, err := grpc.NewClient("passthrough:///"+args[0], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(mark(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(mark(ctx), desc, cc, method, opts...)
		}))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, name := range args[1:] {
		do, ok := interopCases[name]
		if !ok {
			return fmt.Errorf("interop-call: unknown case %q, not one of %s", name, slices.Sorted(maps.Keys(interopCases)))
		}
		do(ctx, conn)
	}
	_, err = fmt.Fprintln(s.out, calls.Load())
	return err
}
