package helper

import (
	"context"
	"log/slog"

	"github.com/kubectl-tele/kubectl-tele/pkg/tun"
)

type journal struct{}

func openJournal(string) (*journal, error) { return nil, tun.ErrUnsupported }
func (*journal) Read() ([]byte, error)     { return nil, tun.ErrUnsupported }
func (*journal) Write([]byte) error        { return tun.ErrUnsupported }
func (*journal) Release() error            { return nil }
func (*journal) Remove() error             { return nil }

// Serve is not there yet.
func Serve(context.Context, string, int, Host, *slog.Logger) error { return tun.ErrUnsupported }

// Listener is not there yet.
type Listener struct{}

// Listen is not there yet.
func Listen(string) (*Listener, error) { return nil, tun.ErrUnsupported }

// Path is empty.
func (*Listener) Path() string { return "" }

// Accept fails.
func (*Listener) Accept(context.Context) (*Client, error) { return nil, tun.ErrUnsupported }

// Close has nothing to close.
func (*Listener) Close() error { return nil }

// Client is not there yet.
type Client struct{}

// OpenTUN fails.
func (*Client) OpenTUN(context.Context, int) (tun.Device, error) { return nil, tun.ErrUnsupported }

// SetNetwork fails.
func (*Client) SetNetwork(context.Context, tun.Network) error { return tun.ErrUnsupported }

// SetDNS fails.
func (*Client) SetDNS(context.Context, DNS) error { return tun.ErrUnsupported }

// Done is closed.
func (*Client) Done() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Close has nothing to close.
func (*Client) Close() error { return nil }
