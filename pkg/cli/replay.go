package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/har"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
)

type replayOptions struct {
	f       *factory
	file    string
	only    []int
	to      string
	timeout time.Duration
	output  output
}

func newReplayCommand(f *factory) *cobra.Command {
	o := &replayOptions{f: f}
	cmd := &cobra.Command{
		Use:     "replay FILE.har",
		GroupID: groupOther,
		Short:   "Send recorded requests to a handler again",
		Long: `Send the requests of an HTTP archive, as intercept --record makes it, to the handler
again, one after the other in their order: as often as a debugger needs, without the
cluster. Each is sent in the protocol that it came in. The answers are compared with
the recorded ones by their status alone.

Requests that cannot be sent as they were (upgrades, bodies that were too long to be
kept) are left out, and said. The exit code is 1 if a request was not answered.`,
		Example: `  # All requests, to the handler that answered them
  kubectl tele replay back.har

  # The third alone, to another port
  kubectl tele replay back.har --only 3 --to localhost:9000`,
		RunE: runE(o),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"har"}, cobra.ShellCompDirectiveFilterFileExt
		},
	}
	cmd.Flags().IntSliceVar(&o.only, "only", nil, "send only the `N`th request, counted from 1; may be repeated")
	cmd.Flags().StringVar(&o.to, "to", "", "`HOST:PORT` to send to (default: the handler of the record)")
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Hour, "how long an answer may take: a debugger may stand still")
	o.output.addFlag(cmd)
	return cmd
}

func (o *replayOptions) complete(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError(fmt.Errorf("one file is needed, not %d", len(args)), "kubectl tele replay FILE.har")
	}
	o.file = args[0]
	return nil
}

func (o *replayOptions) validate() error {
	if o.to != "" {
		if _, _, err := net.SplitHostPort(o.to); err != nil {
			return usageError(fmt.Errorf("--to %s is not HOST:PORT", o.to), "--to localhost:9000")
		}
	}
	if o.timeout <= 0 {
		return usageError(errors.New("--timeout must be more than 0"))
	}
	return o.output.validate()
}

// replayed is a request that was sent again, or why it was not.
type replayed struct {
	N       int     `json:"n"`
	Method  string  `json:"method"`
	URL     string  `json:"url"`
	Status  int     `json:"status"`
	Was     int     `json:"was"`
	Millis  float64 `json:"millis"`
	LeftOut string  `json:"leftOut,omitempty"`
	Error   string  `json:"error,omitempty"`
}

func (o *replayOptions) run(ctx context.Context) error {
	archive, err := har.Read(o.file)
	if err != nil {
		return fmt.Errorf("read the record: %w", err)
	}
	entries := archive.Log.Entries
	for _, n := range o.only {
		if n < 1 || n > len(entries) {
			return usageError(fmt.Errorf("--only %d: the file has %d requests", n, len(entries)))
		}
	}
	to := o.to
	if to == "" {
		to = archive.Log.Handler
	}
	if to == "" {
		return hint.With(errors.New("the file does not say which handler answered"), "--to localhost:PORT")
	}
	senders := newSenders(to)
	defer senders.close()
	all := []replayed{}
	failed := 0
	for n, e := range entries {
		if len(o.only) > 0 && !slices.Contains(o.only, n+1) {
			continue
		}
		r := o.send(ctx, senders, e)
		r.N = n + 1
		all = append(all, r)
		if r.Error != "" {
			failed++
		}
		if o.output.format == "" {
			_, _ = fmt.Fprintln(o.f.Out, r.line())
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := o.output.print(o.f.Out, map[string]any{"replayed": all}, func(io.Writer) {}); err != nil {
		return err
	}
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d requests were not answered by %s", failed, len(all), to)
	case len(all) == 0 && o.output.format == "":
		_, _ = fmt.Fprintln(o.f.ErrOut, "The file has no requests.")
	}
	return nil
}

func (r replayed) line() string {
	text := fmt.Sprintf("%d  %s %s  ", r.N, printable(r.Method), printable(r.URL))
	switch {
	case r.LeftOut != "":
		return text + "left out: " + r.LeftOut
	case r.Error != "":
		return text + printable(r.Error)
	case r.Status != r.Was:
		return text + fmt.Sprintf("%d (was %d)  %.1f ms", r.Status, r.Was, r.Millis)
	}
	return text + fmt.Sprintf("%d  %.1f ms", r.Status, r.Millis)
}

// send sends one request again.
func (o *replayOptions) send(ctx context.Context, s *senders, e har.Entry) (r replayed) {
	r = replayed{Method: e.Request.Method, URL: e.Request.URL, Was: e.Response.Status}
	if r.LeftOut = leftOut(e); r.LeftOut != "" {
		return r
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("no answer within %s", o.timeout))
	defer cancel()
	begin := time.Now()
	status, err := s.send(ctx, e.Request)
	r.Millis, r.Status = float64(time.Since(begin))/float64(time.Millisecond), status
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		r.Error = err.Error()
	}
	return r
}

// leftOut says why a request cannot be sent as it was, "" if it can.
func leftOut(e har.Entry) string {
	switch {
	case e.Response.Status == http.StatusSwitchingProtocols:
		return "it went on in another protocol"
	case e.Request.PostData != nil && e.Request.PostData.Cut:
		return "its body was too long to be kept"
	case e.Request.Method == http.MethodOptions && strings.HasSuffix(e.Request.URL, "*"):
		return "it is about the server as a whole"
	}
	if u, err := url.Parse(e.Request.URL); err == nil && u.Scheme != "http" && u.Scheme != "https" {
		return "it is no request of HTTP"
	}
	return ""
}

// senders send requests to one address, in each protocol over connections of its own.
type senders struct {
	to    string
	http1 *http.Transport
	http2 *http.Transport
}

func newSenders(to string) *senders {
	transport := func(two bool) *http.Transport {
		t := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", to)
			},
			DisableCompression: true, Protocols: new(http.Protocols),
		}
		t.Protocols.SetHTTP1(!two)
		t.Protocols.SetUnencryptedHTTP2(two)
		return t
	}
	return &senders{to: to, http1: transport(false), http2: transport(true)}
}

func (s *senders) close() {
	s.http1.CloseIdleConnections()
	s.http2.CloseIdleConnections()
}

// connectionHeaders are a connection's own, not a request's.
var connectionHeaders = []string{"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "http2-settings", "host"}

func (s *senders) send(ctx context.Context, recorded har.Request) (status int, err error) {
	u, err := url.Parse(recorded.URL)
	if err != nil {
		return 0, err
	}
	body, err := recorded.PostData.Bytes()
	if err != nil {
		return 0, fmt.Errorf("its body: %w", err)
	}
	secure := u.Scheme == "https" // recorded by something else: its protocol was agreed on by TLS
	u.Scheme, u.Host = "http", cmp.Or(u.Host, s.to)
	req, err := http.NewRequestWithContext(ctx, recorded.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header = http.Header{"User-Agent": nil} // none of ours
	for _, h := range recorded.Headers {
		if name := strings.ToLower(h.Name); !slices.Contains(connectionHeaders, name) && !strings.HasPrefix(name, ":") {
			req.Header.Add(h.Name, h.Value)
		}
	}
	sender := s.http1
	if !secure && strings.HasPrefix(strings.ToUpper(recorded.HTTPVersion), "HTTP/2") {
		sender = s.http2
	}
	resp, err := sender.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return resp.StatusCode, err
	}
	return resp.StatusCode, nil
}
