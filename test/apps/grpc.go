package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// maxMessage bounds what a gRPC request may ask for.
const maxMessage = 64 << 20

// echoService is interop's TestService as an echo: every payload comes back,
// with the pod's name as server id and its version as host name. A request
// that asks for a size gets that many zero bytes instead, one that asks for a
// status gets it.
type echoService struct {
	testgrpc.UnimplementedTestServiceServer
	identity
}

func (s *echoService) EmptyCall(context.Context, *testgrpc.Empty) (*testgrpc.Empty, error) {
	return &testgrpc.Empty{}, nil
}

func (s *echoService) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if err := asked(in.GetResponseStatus()); err != nil {
		return nil, err
	}
	payload, err := answer(in.GetPayload(), in.GetResponseSize())
	if err != nil {
		return nil, err
	}
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-pod", s.Pod, "x-version", s.Version)); err != nil {
		return nil, err
	}
	return &testgrpc.SimpleResponse{Payload: payload, ServerId: s.Pod, Hostname: s.Version}, nil
}

func (s *echoService) FullDuplexCall(stream testgrpc.TestService_FullDuplexCallServer) error {
	if err := stream.SendHeader(metadata.Pairs("x-pod", s.Pod, "x-version", s.Version)); err != nil {
		return err
	}
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := asked(in.GetResponseStatus()); err != nil {
			return err
		}
		if len(in.GetResponseParameters()) == 0 {
			if err := stream.Send(&testgrpc.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
				return err
			}
		}
		if err := s.stream(in, stream.Send); err != nil {
			return err
		}
	}
}

func (s *echoService) StreamingOutputCall(in *testgrpc.StreamingOutputCallRequest, stream testgrpc.TestService_StreamingOutputCallServer) error {
	return s.stream(in, stream.Send)
}

func (s *echoService) stream(in *testgrpc.StreamingOutputCallRequest, send func(*testgrpc.StreamingOutputCallResponse) error) error {
	for _, p := range in.GetResponseParameters() {
		payload, err := answer(in.GetPayload(), p.GetSize())
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(p.GetIntervalUs()) * time.Microsecond)
		if err := send(&testgrpc.StreamingOutputCallResponse{Payload: payload}); err != nil {
			return err
		}
	}
	return nil
}

func asked(s *testgrpc.EchoStatus) error {
	if s.GetCode() == 0 {
		return nil
	}
	return status.Error(codes.Code(s.GetCode()), s.GetMessage())
}

func answer(in *testgrpc.Payload, size int32) (*testgrpc.Payload, error) {
	switch {
	case size < 0 || size > maxMessage:
		return nil, status.Errorf(codes.InvalidArgument, "response size %d", size)
	case size == 0:
		return in, nil
	}
	return &testgrpc.Payload{Body: make([]byte, size)}, nil
}

func newGRPC(id identity) *grpc.Server {
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	testgrpc.RegisterTestServiceServer(server, &echoService{identity: id})
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	return server
}

func runGRPC(ctx context.Context, s settings, _ []string) error {
	return serveGRPC(ctx, s, "grpc", newGRPC(s.identity))
}

// serveGRPC serves until ctx ends, and then what has begun.
func serveGRPC(ctx context.Context, s settings, mode string, server *grpc.Server) error {
	listeners, err := listen(s.addrs)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		fmt.Fprintf(s.log, "%s: listening on %s\n", mode, l.Addr())
		wg.Go(func() {
			if err := server.Serve(l); err != nil {
				failed <- err
			}
		})
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	limit := time.AfterFunc(s.drain, server.Stop)
	defer limit.Stop()
	server.GracefulStop()
	wg.Wait()
	return err
}
