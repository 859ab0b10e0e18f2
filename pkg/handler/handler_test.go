package handler_test

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/kubectl-tele/kubectl-tele/pkg/handler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCheck(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	if err := handler.Localhost(port).Check(t.Context()); err != nil {
		t.Errorf("a listening handler: %v", err)
	}
	_ = l.Close()
	if err := handler.Localhost(port).Check(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a handler that does not listen: %v, want connection refused", err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	cause := errors.New("the session ends")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := handler.Handler("127.0.0.1:9").Dial(ctx); !errors.Is(err, cause) {
		t.Errorf("got %v, want the cause %v", err, cause)
	}
}
