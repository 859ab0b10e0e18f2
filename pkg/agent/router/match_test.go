package router

import (
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

func match(t *testing.T, all ...api.Condition) Match {
	t.Helper()
	m, err := NewMatch(all)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func header(name string, test api.Test, value string) api.Condition {
	return api.Condition{On: api.OnHeader, Name: name, Test: test, Value: value}
}

func path(test api.Test, value string) api.Condition {
	return api.Condition{On: api.OnPath, Test: test, Value: value}
}

func methods(all ...string) api.Condition {
	return api.Condition{On: api.OnMethod, Test: api.AnyOf, Any: all}
}

func TestMatch(t *testing.T) {
	r, err := parseRequest([]byte("GET /cart/a%20b?x=1&x=2&y HTTP/1.1\r\nHost: a\r\nX-User: alice\r\nx-USER:  bob \r\nEmpty:\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	query := func(name string, test api.Test, value string) api.Condition {
		return api.Condition{On: api.OnQuery, Name: name, Test: test, Value: value}
	}
	for _, tc := range []struct {
		conditions []api.Condition
		want       bool
	}{
		{nil, true},
		{[]api.Condition{header("x-user", api.Equals, "alice")}, true},
		{[]api.Condition{header("X-User", api.Equals, "bob")}, true},
		{[]api.Condition{header("X-User", api.Equals, "Bob")}, false},
		{[]api.Condition{header("x-user", api.Regex, "b.b")}, true},
		{[]api.Condition{header("x-user", api.Regex, "b")}, false},
		{[]api.Condition{header("empty", api.Present, "")}, true},
		{[]api.Condition{header("empty", api.Equals, "")}, true},
		{[]api.Condition{header("none", api.Present, "")}, false},
		{[]api.Condition{header("x-user", api.Equals, "alice"), header("none", api.Present, "")}, false},
		{[]api.Condition{path(api.Prefix, "/cart")}, true},
		{[]api.Condition{path(api.Equals, "/cart")}, false},
		{[]api.Condition{path(api.Equals, "/cart/a b")}, true},
		{[]api.Condition{path(api.Regex, "/cart/[a-z ]+")}, true},
		{[]api.Condition{path(api.Regex, "cart")}, false},
		{[]api.Condition{query("x", api.Equals, "2")}, true},
		{[]api.Condition{query("X", api.Equals, "2")}, false},
		{[]api.Condition{query("y", api.Present, "")}, true},
		{[]api.Condition{methods("POST", "GET")}, true},
		{[]api.Condition{methods("POST")}, false},
	} {
		if m := match(t, tc.conditions...); m.matches(r) != tc.want {
			t.Errorf("%q: %v", m, !tc.want)
		}
	}
}

func TestContains(t *testing.T) {
	for _, tc := range []struct {
		wide, narrow Match
		wider, equal bool
	}{
		{match(t), match(t, path(api.Prefix, "/")), true, false},
		{match(t, header("x-user", api.Present, "")), match(t, header("X-USER", api.Equals, "a")), true, false},
		{match(t, header("x-user", api.Equals, "a")), match(t, header("x-user", api.Equals, "b")), false, false},
		{match(t, header("x-user", api.Equals, "a")), match(t, header("x-user", api.Equals, "a")), true, true},
		{match(t, header("x-user", api.Regex, "a.*")), match(t, header("x-user", api.Equals, "ab")), true, false},
		{match(t, header("x-user", api.Regex, "a.*")), match(t, header("x-user", api.Regex, "ab.*")), false, false},
		{match(t, header("x-user", api.Equals, "a")), match(t, header("x-user", api.Equals, "a"), methods("GET")), true, false},
		{match(t, path(api.Prefix, "/a")), match(t, path(api.Prefix, "/a/b")), true, false},
		{match(t, path(api.Prefix, "/a")), match(t, path(api.Equals, "/a")), true, false},
		{match(t, path(api.Prefix, "/a")), match(t, path(api.Prefix, "/b")), false, false},
		{match(t, methods("GET", "PUT")), match(t, methods("PUT")), true, false},
		{match(t, methods("GET")), match(t, header("x-user", api.Equals, "a")), false, false},
	} {
		if got := tc.wide.Contains(tc.narrow); got != tc.wider {
			t.Errorf("%q contains %q: %v", tc.wide, tc.narrow, got)
		}
		if got := tc.narrow.Contains(tc.wide); got != tc.equal {
			t.Errorf("%q contains %q: %v", tc.narrow, tc.wide, got)
		}
		if within := tc.narrow.Within(tc.wide); within != (tc.wider && !tc.equal) {
			t.Errorf("%q is within %q: %v", tc.narrow, tc.wide, within)
		}
	}
}

// TestWithoutUpgradeOffer: only the offer of HTTP/2 is taken back.
func TestWithoutUpgradeOffer(t *testing.T) {
	const begin, end = "GET / HTTP/1.1\r\nHost: a\r\n", "X: y\r\n\r\n"
	for offer, left := range map[string]string{
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n":             "",
		"Connection: keep-alive, upgrade, HTTP2-Settings\r\nupgrade: H2C\r\nHTTP2-Settings: AAM\r\n": "Connection: keep-alive\r\n",
		"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: websocket, h2c\r\nHTTP2-Settings: AAM\r\n":  "Connection: Upgrade\r\nUpgrade: websocket\r\n",
		"Connection: Upgrade\r\nUpgrade: websocket\r\n":                                              "Connection: Upgrade\r\nUpgrade: websocket\r\n",
	} {
		req, err := parseRequest([]byte(begin + offer + end))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(withoutUpgradeOffer(req, []byte(begin+offer+end))); got != begin+left+end {
			t.Errorf("%q becomes %q, want %q", offer, got, begin+left+end)
		}
	}
}
