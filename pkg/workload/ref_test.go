package workload

import (
	"strings"
	"testing"
)

func TestParseRef(t *testing.T) {
	back := Ref{Kind: KindDeployment, Name: "back"}
	for _, tc := range []struct {
		in   string
		want Ref
		err  string
		hint string
	}{
		{in: "back", want: back},
		{in: "deploy/back", want: back},
		{in: "deployment/back", want: back},
		{in: "Deployments/back", want: back},
		{in: "deployments.apps/back", want: back},
		{in: "deployment.v1.apps/back", want: back},
		{in: "back.v2", want: Ref{Kind: KindDeployment, Name: "back.v2"}},
		{in: "", err: `"" is not the name`, hint: "deployment/back"},
		{in: "deploy/", err: `"" is not the name`},
		{in: "Back", err: `"Back" is not the name`},
		{in: "deploy/a/b", err: `"a/b" is not the name`},
		{in: "svc/back", err: "svc/back is a Service", hint: "--service"},
		{in: "sts/store", err: `kind "sts" cannot be intercepted`, hint: "deploy/NAME"},
		{in: "pod/back-1", err: `kind "pod" cannot`, hint: "a Deployment can"},
		{in: "/back", err: `kind "" cannot`},
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := ParseRef(tc.in)
			if tc.err == "" {
				if err != nil || got != tc.want {
					t.Fatalf("got %v, %v; want %v", got, err, tc.want)
				}
				return
			}
			wantError(t, err, tc.err, tc.hint)
		})
	}
}

// wantError checks an error's text and hint by parts of them.
func wantError(t *testing.T, err error, text, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v, want one with %q", err, text)
	}
	if hint == "" {
		return
	}
	h, ok := err.(interface{ Hint() string })
	if !ok || !strings.Contains(h.Hint(), hint) {
		t.Fatalf("error %#v, want a hint with %q", err, hint)
	}
}
