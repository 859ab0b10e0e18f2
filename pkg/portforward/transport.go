package portforward

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/proxy"
)

// carrier is an established connection to the API server. Closing raw, the
// innermost socket, ends it at once even when the network is dead: closing a
// TLS connection would first try to say goodbye.
type carrier struct {
	net.Conn
	raw    net.Conn
	gather *gatherer // below TLS; nil without
}

// writeAll writes the parts, one after the other, with as few writes to the
// network as can be.
func (c *carrier) writeAll(parts ...[]byte) error {
	if c.gather != nil {
		c.gather.hold()
	}
	var err error
	for _, p := range parts {
		if len(p) > 0 && err == nil {
			_, err = c.Write(p)
		}
	}
	if c.gather != nil {
		err = cmp.Or(err, c.gather.flush())
	}
	return err
}

func (c *carrier) Close() error { return c.raw.Close() }

// connect dials the API server, directly or through the proxy that applies
// to req. register is called with the raw socket as soon as there is one.
func (d *Dialer) connect(ctx context.Context, req *http.Request, register func(net.Conn)) (*carrier, error) {
	c := &carrier{}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := d.dial(ctx, network, address)
		if err == nil {
			c.raw = raw
			register(raw)
		}
		return raw, err
	}
	conn, err := d.dialVia(ctx, req, dial)
	if err == nil && req.URL.Scheme == "https" {
		c.gather = newGatherer(conn)
		conn, err = handshake(ctx, c.gather, d.tls, req.URL.Hostname())
	}
	if err != nil {
		if c.raw != nil {
			_ = c.raw.Close()
		}
		return nil, err
	}
	c.Conn = conn
	return c, nil
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Dial and DialContext make a dialFunc what x/net/proxy wants.
func (f dialFunc) Dial(network, address string) (net.Conn, error) {
	return f(context.Background(), network, address)
}

func (f dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

func (d *Dialer) dialVia(ctx context.Context, req *http.Request, dial dialFunc) (net.Conn, error) {
	target := hostPort(req.URL)
	via, err := d.proxy(req)
	switch {
	case err != nil:
		return nil, fmt.Errorf("proxy for %s: %w", req.URL.Host, err)
	case via == nil:
		return dial(ctx, "tcp", target)
	}
	var conn net.Conn
	switch via.Scheme {
	case "http", "https", "":
		conn, err = dialHTTPProxy(ctx, via, target, dial)
	case "socks5", "socks5h":
		conn, err = dialSOCKS(ctx, via, target, dial)
	default:
		err = fmt.Errorf("scheme %q is not supported", via.Scheme)
	}
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", via.Redacted(), err)
	}
	return conn, nil
}

func dialSOCKS(ctx context.Context, via *url.URL, target string, dial dialFunc) (net.Conn, error) {
	var auth *proxy.Auth
	if via.User != nil {
		password, _ := via.User.Password()
		auth = &proxy.Auth{User: via.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", hostPort(via), auth, dial)
	if err != nil {
		return nil, err
	}
	cd, ok := d.(proxy.ContextDialer)
	if !ok {
		return nil, errors.New("SOCKS dialer takes no context")
	}
	return cd.DialContext(ctx, "tcp", target)
}

func dialHTTPProxy(ctx context.Context, via *url.URL, target string, dial dialFunc) (net.Conn, error) {
	conn, err := dial(ctx, "tcp", hostPort(via))
	if err == nil && via.Scheme == "https" {
		conn, err = handshake(ctx, conn, &tls.Config{MinVersion: tls.VersionTLS12}, via.Hostname())
	}
	if err != nil {
		return nil, err
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	if u := via.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("ask for %s: %w", target, err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", target, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("connection to %s refused: %s", target, resp.Status)
	}
	if r.Buffered() > 0 {
		// The client speaks first in TLS and in HTTP.
		return nil, fmt.Errorf("connection to %s: data before the request", target)
	}
	return conn, nil
}

func handshake(ctx context.Context, conn net.Conn, cfg *tls.Config, host string) (net.Conn, error) {
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with %s: %w", host, err)
	}
	return c, nil
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		switch u.Scheme {
		case "https":
			port = "443"
		case "socks5", "socks5h":
			port = "1080"
		default:
			port = "80"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}
