//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// Route is how small requests from inside the cluster fare on one way through an agent.
type Route struct {
	Case        Case    `json:"case"`
	Protocol    string  `json:"protocol"`
	Connections int     `json:"connections"`
	P50         float64 `json:"p50"` // ms
	P99         float64 `json:"p99"` // ms
	PerSecond   float64 `json:"perSecond"`
}

// Case is what stands between a client and who answers it.
type Case string

// The cases.
const (
	AppAlone    Case = "app alone"
	PassThrough Case = "agent that passes on" // nobody intercepts
	NoMatch     Case = "rule that does not match"
	Match       Case = "rule that matches"
	Global      Case = "global intercept"
)

// rowRoutes is the name of all of it, for -rows.
const rowRoutes = "requests in the cluster"

// mine is the header of the requests that are meant.
const mine = "X-Tele-User:alice"

// routes measures all cases, one after the other.
func (b *stage) routes(ctx context.Context, report *Report) error {
	handler, err := b.handler(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = handler.Close() }()
	_, port, err := net.SplitHostPort(handler.Addr().String())
	if err != nil {
		return err
	}
	intercept := func(args ...string) error {
		return must(b.desk.Tele(ctx, append([]string{"intercept", appName, "--port", port, "--quiet"}, args...)...))
	}
	measure := func(c Case, args ...string) error {
		for _, protocol := range []string{"http1", "http2"} {
			for _, n := range []int{1, 32} {
				b.say(fmt.Sprintf("requests: %s, %s, %d at once", c, protocol, n))
				route, err := b.route(ctx, c, protocol, n, args...)
				if err != nil {
					return fmt.Errorf("%s: %w", c, err)
				}
				report.Routes = append(report.Routes, route)
			}
		}
		return nil
	}
	if err := errors.Join(b.answeredBy(ctx, false), measure(AppAlone)); err != nil {
		return err
	}
	if err := intercept("--personal"); err != nil {
		return err
	}
	if err := errors.Join(measure(NoMatch), measure(Match, "-header", mine)); err != nil {
		return err
	}
	if err := must(b.desk.Tele(ctx, "leave", appName)); err != nil {
		return err
	}
	if err := intercept(); err != nil {
		return err
	}
	if err := measure(Global); err != nil {
		return err
	}
	session, err := b.session(ctx)
	if err != nil {
		return err
	}
	if err := syscall.Kill(session.PID, syscall.SIGKILL); err != nil {
		return err
	}
	if err := b.answeredBy(ctx, false); err != nil {
		return err
	}
	return errors.Join(measure(PassThrough), must(b.desk.Tele(ctx, "clean", appName, "--force")), b.datagrams(ctx, report))
}

// route measures one case with so many connections, or streams of one.
func (b *stage) route(ctx context.Context, c Case, protocol string, n int, args ...string) (Route, error) {
	url := "http://" + appName + "." + manifests.Namespace + "/healthz"
	if protocol == udp {
		url = "udp://" + udpName + "." + manifests.Namespace + ":7"
	}
	args = append([]string{"-for", b.settings.requests.String(), "-workers", strconv.Itoa(n), "-protocol", protocol}, args...)
	l, err := b.load(ctx, append(args, url)...)
	if err != nil {
		return Route{}, err
	}
	return Route{
		Case: c, Protocol: protocol, Connections: n, P50: float64(l.P50) / 1000, P99: float64(l.P99) / 1000,
		PerSecond: float64(l.Requests) / b.settings.requests.Seconds(),
	}, nil
}

// load asks from inside the cluster; no request may fail.
func (b *stage) load(ctx context.Context, args ...string) (l api.Load, err error) {
	cmd := b.desk.Rig().Cluster.KubectlCommand(ctx, "admin", append([]string{
		"exec", "-n", manifests.Namespace, "deploy/" + clientName, "--", manifests.Binary, "load",
	}, args...)...)
	result, err := rig.Run(cmd)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal([]byte(result.Stdout), &l); err != nil {
		return l, fmt.Errorf("%w: %s", err, result.Stderr)
	}
	if l.Failed > 0 || l.Requests == 0 {
		return l, fmt.Errorf("%d of %d requests failed: %v", l.Failed, l.Requests, l.Failures)
	}
	return l, nil
}

// route returns what one connection was measured at.
func (r Report) route(c Case, protocol string) (Route, bool) {
	for _, route := range r.Routes {
		if route.Case == c && route.Protocol == protocol && route.Connections == 1 {
			return route, true
		}
	}
	return Route{}, false
}

// routeAims compares the cases.
func routeAims(r Report) (list []Aim) {
	for _, protocol := range []string{"http1", "http2"} {
		alone, ok := r.route(AppAlone, protocol)
		if !ok {
			continue
		}
		for c, most := range map[Case]float64{PassThrough: 0.3, NoMatch: 0.4} {
			if route, ok := r.route(c, protocol); ok {
				list = append(list, atMost(fmt.Sprintf("%s request, p50: %s, more than %s", protocol, c, AppAlone), route.P50-alone.P50, most, "ms"))
			}
		}
		match, ok1 := r.route(Match, protocol)
		global, ok2 := r.route(Global, protocol)
		if ok1 && ok2 {
			list = append(list, atMost(fmt.Sprintf("%s request, p50: %s / %s", protocol, Match, Global), match.P50/global.P50, 1.1, ""))
		}
	}
	return list
}
