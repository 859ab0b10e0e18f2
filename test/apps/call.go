package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// callTimeout bounds one request made by /call, `apps call` and `apps load`.
const callTimeout = 2 * time.Minute

// newClient returns a client with a pool of its own, without redirects and
// without proxies.
func newClient() *http.Client {
	return &http.Client{
		Timeout:       callTimeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type callRequest struct {
	url, method string
	bytes       int64
	headers     []string
}

// call makes one request; what goes wrong is part of the outcome.
func call(ctx context.Context, client *http.Client, c callRequest) (out api.Call) {
	start := time.Now()
	out.URL = c.url
	defer func() { out.Millis = time.Since(start).Milliseconds() }()
	if err := c.do(ctx, client, &out); err != nil {
		out.Error = err.Error()
	}
	return out
}

func (c callRequest) do(ctx context.Context, client *http.Client, out *api.Call) error {
	if c.bytes < 0 || c.bytes > maxBytes {
		return errors.New("bytes out of range")
	}
	method := c.method
	var body io.Reader
	if c.bytes > 0 {
		body = c.body()
		if method == "" {
			method = http.MethodPost
		}
		out.Sent = api.ContentSum(c.bytes)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url, body)
	if err != nil {
		return err
	}
	req.ContentLength = c.bytes
	if body != nil {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(c.body()), nil }
	}
	for _, h := range c.headers {
		k, v, ok := strings.Cut(h, ":")
		if !ok {
			return fmt.Errorf("header %q: want K:V", h)
		}
		if k, v = strings.TrimSpace(k), strings.TrimSpace(v); http.CanonicalHeaderKey(k) == "Host" {
			req.Host = v
		} else {
			req.Header.Add(k, v)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	out.Status, out.Proto, out.Headers = resp.StatusCode, resp.Proto, resp.Header
	head := &headWriter{limit: 64 << 10}
	out.Got, err = api.ReadSum(io.TeeReader(resp.Body, head))
	out.Body = string(head.data)
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	return nil
}

// wholeBody is up to which length a body is sent along with its head.
const wholeBody = 16 << 10

// body is what is sent. net/http sends what is in memory along with the head: a server
// that ends the connection in that moment has not seen half of a request, which could
// not be sent again.
func (c callRequest) body() io.Reader {
	if c.bytes > wholeBody {
		return api.Content(c.bytes)
	}
	all, _ := io.ReadAll(api.Content(c.bytes)) // of memory
	return bytes.NewReader(all)
}

// headWriter keeps the first limit bytes.
type headWriter struct {
	data  []byte
	limit int
}

func (h *headWriter) Write(p []byte) (int, error) {
	h.data = append(h.data, p[:min(len(p), h.limit-len(h.data))]...)
	return len(p), nil
}

func serveCall(w http.ResponseWriter, r *http.Request, client *http.Client) {
	q := r.URL.Query()
	c := callRequest{url: q.Get("url"), method: q.Get("method"), headers: q["header"]}
	if b := q.Get("bytes"); b != "" {
		n, err := strconv.ParseInt(b, 10, 64)
		if err != nil {
			http.Error(w, "bytes: "+err.Error(), http.StatusBadRequest)
			return
		}
		c.bytes = n
	}
	writeJSON(w, http.StatusOK, call(r.Context(), client, c))
}

func runCall(ctx context.Context, s settings, args []string) error {
	if len(args) != 1 {
		return errors.New("call: want one URL")
	}
	out := call(ctx, newClient(), callRequest{url: args[0], method: s.method, bytes: s.bytes, headers: s.headers})
	enc := json.NewEncoder(s.out)
	enc.SetIndent("", "  ")
	if err := enc.Encode(out); err != nil {
		return err
	}
	if out.Error != "" {
		return errors.New(out.Error)
	}
	return nil
}
