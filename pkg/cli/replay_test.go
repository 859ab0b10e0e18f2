package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/kubectl-tele/kubectl-tele/pkg/har"
)

// TestReplay: each request is sent as it was recorded, in its protocol; what cannot be
// is said.
func TestReplay(t *testing.T) {
	var mu sync.Mutex
	var got []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %s %s%s %q agent %q x %q", r.Proto, r.Method, r.Host, r.URL, b, r.UserAgent(), r.Header["X"]))
		w.WriteHeader(http.StatusTeapot)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()

	path := filepath.Join(t.TempDir(), "a.har")
	w, err := har.Create(path, har.Creator{}, server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	answer := har.NewResponse("", 200, har.Message{}, 0)
	fields := []har.Pair{{Name: "Host", Value: "shop"}, {Name: "X", Value: "1"}, {Name: "x", Value: "2"}, {Name: "Connection", Value: "close"}}
	for _, r := range []har.Request{
		har.NewRequest("HTTP/1.1", "POST", "shop", "/a?b=%20", har.Message{Fields: fields, Body: []byte("\xff\x00")}, 2),
		har.NewRequest("HTTP/2", "PUT", "shop", "/c", har.Message{Fields: []har.Pair{{Name: ":path", Value: "/c"}, {Name: "x", Value: "3"}}, Body: []byte("body")}, 4),
		har.NewRequest("HTTP/1.1", "POST", "shop", "/cut", har.Message{Body: []byte("beginning"), Cut: true}, 9),
		har.NewRequest("HTTP/1.1", "OPTIONS", "shop", "*", har.Message{}, 0),
		{Method: "GET", URL: "data:text/plain,x", HTTPVersion: "HTTP/1.1"},
		har.NewRequest("HTTP/1.0", "GET", "", "/nameless", har.Message{}, 0),
	} {
		if err := w.Add(har.Entry{Request: r, Response: answer}); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()

	replay := func(o replayOptions) (string, error) {
		streams, _, out, _ := genericiooptions.NewTestIOStreams()
		o.f, o.file, o.timeout = newFactory(nil, streams), path, time.Minute
		err := o.run(context.Background())
		return out.String(), err
	}
	out, err := replay(replayOptions{})
	want := []string{
		`HTTP/1.1 POST shop/a?b=%20 "\xff\x00" agent "" x ["1" "2"]`,
		`HTTP/2.0 PUT shop/c "body" agent "" x ["3"]`,
		`HTTP/1.1 GET ` + server.Listener.Addr().String() + `/nameless "" agent "" x []`,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("sent\n\t%q, %v, not\n\t%q", got, err, want)
	}
	for n, text := range []string{"1  POST http://shop/a?b=%20  418 (was 200)  ", "2  PUT http://shop/c  418 (was 200)  ", "3  POST http://shop/cut  left out: ", "4  OPTIONS http://shop*  left out: ", "5  GET data:text/plain,x  left out: "} {
		if line := strings.Split(out, "\n")[n]; !strings.HasPrefix(line, text) {
			t.Errorf("says %q, want %q", line, text)
		}
	}
	got = nil
	if out, err := replay(replayOptions{only: []int{2}}); err != nil || len(got) != 1 || strings.Count(out, "\n") != 1 {
		t.Errorf("--only 2 sent %q and said %q, %v", got, out, err)
	}
	if _, err := replay(replayOptions{only: []int{7}}); err == nil || !strings.Contains(err.Error(), "the file has 6 requests") {
		t.Errorf("--only 7: %v", err)
	}
	server.Close()
	if out, err := replay(replayOptions{}); err == nil || !strings.Contains(err.Error(), "3 of 6 requests were not answered") {
		t.Errorf("without a handler: %q, %v", out, err)
	}
}
