package api

import (
	"slices"
	"strings"
	"testing"
)

func TestParseListenRequest(t *testing.T) {
	r, err := ParseListenRequest([]byte(`{"captures":[{"listen":15900,"app":8080},{"app":9090}]}`))
	if want := []Capture{{Listen: 15900, App: 8080}, {App: 9090}}; err != nil || !slices.Equal(r.Captures, want) {
		t.Errorf("read as %v, %v", r.Captures, err)
	}
	for text, want := range map[string]string{
		`{"captures":[]}`:                                       "no captures",
		`{"captures":[{"listen":1}]}`:                           "0 is not a port",
		`{"captures":[{"listen":1,"app":2,"address":"::1"}]}`:   `unknown field "address"`,
		`{"captures":[{"listen":1,"app":2}],"redirect":true}`:   `unknown field "redirect"`,
		`{"captures":[{"listen":1,"app":2}]} {"captures":null}`: "more than one JSON value",
	} {
		r, err := ParseListenRequest([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), "listen request: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", text, r, err, want)
		}
	}
}

func TestReadListenReply(t *testing.T) {
	r, err := ReadListenReply(strings.NewReader(`{"captures":[{"listen":15900,"app":8080,"since":1}]}`))
	if want := []Capture{{Listen: 15900, App: 8080}}; err != nil || !slices.Equal(r.Captures, want) {
		t.Errorf("read as %v, %v", r.Captures, err)
	}
	if r, err := ReadListenReply(strings.NewReader(`{"captures":`)); err == nil {
		t.Errorf("half an answer was read as %v", r)
	}
}
