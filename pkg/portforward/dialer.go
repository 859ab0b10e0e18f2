package portforward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	pathvalidation "k8s.io/apimachinery/pkg/api/validation/path"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

// dialLimit bounds a Dial whose context has no earlier deadline: long enough
// for an exec credential plugin that asks a distant identity provider.
const dialLimit = 30 * time.Second

// Protocol is how a connection is carried through the API server.
type Protocol uint32

// The two carriers, in the order in which a new Dialer tries them.
const (
	SPDY      Protocol = iota // Upgrade: SPDY/3.1, needs create on pods/portforward
	WebSocket                 // SPDY frames in WebSocket messages, needs get (from Kubernetes 1.35 create too)
)

func (p Protocol) String() string {
	if p == WebSocket {
		return "websocket"
	}
	return "spdy"
}

func (p Protocol) other() Protocol { return WebSocket - p }

// Dialer dials ports of pods of one cluster. It is safe for concurrent use.
type Dialer struct {
	config    *rest.Config
	base      *url.URL // scheme, host and path up to and including /api/v1
	transport http.RoundTripper
	tls       *tls.Config // nil for plain HTTP
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	proxy     func(*http.Request) (*url.URL, error)
	preferred atomic.Uint32 // a Protocol
}

// New makes a Dialer for the cluster and the identity of cfg, including its
// credential plugin, impersonation, proxy and Dial function. It does no I/O.
func New(cfg *rest.Config) (*Dialer, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.APIPath = "/api"
	cfg.GroupVersion = &corev1.SchemeGroupVersion
	base, version, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("address of the API server %q: %w", cfg.Host, err)
	}
	base.Path = path.Join(base.Path, version)

	d := &Dialer{config: cfg, base: base, dial: cfg.Dial, proxy: cfg.Proxy}
	if d.dial == nil {
		d.dial = (&net.Dialer{}).DialContext
	}
	if d.proxy == nil {
		d.proxy = utilnet.NewProxierWithNoProxyCIDR(http.ProxyFromEnvironment)
	}
	if base.Scheme == "https" {
		if d.tls, err = rest.TLSConfigFor(cfg); err != nil {
			return nil, fmt.Errorf("TLS configuration for %s: %w", base.Host, err)
		}
		if d.tls == nil {
			d.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		d.tls = d.tls.Clone()
		d.tls.NextProtos = []string{"http/1.1"} // an upgrade is not possible over HTTP/2
	}
	if d.transport, err = rest.HTTPWrappersForConfig(cfg, upgrader{d}); err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", base.Host, err)
	}
	return d, nil
}

// Protocol is what the next Dial tries first.
func (d *Dialer) Protocol() Protocol { return Protocol(d.preferred.Load()) }

// Dial opens one connection to a port inside a pod. It returns when the
// pod's container runtime has accepted the stream, which says nothing yet
// about the port: that nobody listens on it comes as a *RemoteError, mostly
// from the first Read.
//
// ctx bounds dialing only. Callers must always have a Read pending, or what
// the pod sends, errors included, waits in the sockets on the way.
//
// Refusals by the API server satisfy apierrors.IsForbidden, IsNotFound and so on.
func (d *Dialer) Dial(ctx context.Context, namespace, pod string, port uint16) (net.Conn, error) {
	target := Addr{Namespace: namespace, Pod: pod, Port: port}
	if err := target.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()

	first := d.Protocol()
	conn, err := d.dialRetry(ctx, first, target)
	if err == nil {
		return conn, nil
	}
	if !worthOther(err) || ctx.Err() != nil {
		return nil, fmt.Errorf("port-forward to %s: %w", target, err)
	}
	conn, err2 := d.dialRetry(ctx, first.other(), target)
	if err2 != nil {
		// The second refusal says more only when it comes from behind
		// the hurdle that stopped the first.
		if !worthOther(err2) && apiStatus(err2) {
			err = err2
		}
		return nil, fmt.Errorf("port-forward to %s: %w", target, err)
	}
	// What stopped the first may have passed meanwhile: a kubelet did not know
	// the pod yet, for example.
	if again, err := d.dialRetry(ctx, first, target); err == nil {
		_ = conn.Close()
		return again, nil
	}
	d.preferred.CompareAndSwap(uint32(first), uint32(first.other()))
	return conn, nil
}

// dialRetry dials again once after a 401: the credential plugin renews an
// expired token when it sees one, but does not repeat the request.
func (d *Dialer) dialRetry(ctx context.Context, p Protocol, target Addr) (net.Conn, error) {
	conn, err := d.upgrade(ctx, p, target)
	if apierrors.IsUnauthorized(err) {
		return d.upgrade(ctx, p, target)
	}
	return conn, err
}

// worthOther reports whether the other protocol may get through where this
// error stopped one: whatever stands between us and the API server does not
// know the upgrade, or the API server does not grant its verb.
func worthOther(err error) bool {
	var refused *upgradeError
	return errors.As(err, &refused) || apierrors.IsForbidden(err)
}

func apiStatus(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// Addr is a port of a pod; it implements net.Addr.
type Addr struct {
	Namespace, Pod string
	Port           uint16
}

// Network is "portforward".
func (Addr) Network() string { return "portforward" }

func (a Addr) String() string { return fmt.Sprintf("pod %s/%s port %d", a.Namespace, a.Pod, a.Port) }

func (a Addr) validate() error {
	for _, s := range []string{a.Namespace, a.Pod} {
		if s == "" {
			return fmt.Errorf("port-forward to %s: empty name", a)
		}
		if bad := pathvalidation.IsValidPathSegmentName(s); len(bad) > 0 {
			return fmt.Errorf("port-forward to %s: name %q %s", a, s, bad[0])
		}
	}
	if a.Port == 0 {
		return fmt.Errorf("port-forward to %s: port must be 1 to 65535", a)
	}
	return nil
}
