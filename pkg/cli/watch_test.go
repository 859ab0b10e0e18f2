package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	agent "github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

func exchange(path string, by *agent.Owner) agent.Exchange {
	return agent.Exchange{
		Begin: time.Date(2026, 1, 2, 15, 4, 5, 6e6, time.Local), Millis: 12.34, Pod: "back-1", Port: 8080, Client: "10.0.0.1:5", Protocol: "HTTP/1.1",
		Method: "GET", Host: "back", Path: path, Status: 200, Sent: 5, Got: 20_000, By: by,
	}
}

// TestWatchLines: one line a request, whatever stands in it.
func TestWatchLines(t *testing.T) {
	me := agent.Owner{User: "alice", Host: "desk", Session: "1"}
	failed := exchange("/\x1b[2J\n", &agent.Owner{User: "bob", Host: "his"})
	failed.Status, failed.Failure, failed.GRPC, failed.Missed = 0, "reset", "5", 3
	for _, tc := range []struct {
		format string
		e      agent.Exchange
		want   string
	}{
		{"", exchange("/cart?x=1", nil), "15:04:05.006  GET    back/cart?x=1  200  12.3 ms  5 B > 19 KiB  app\n"},
		{"", exchange("/", &agent.Owner{User: "alice", Host: "desk", Session: "2"}), "15:04:05.006  GET    back/  200  12.3 ms  5 B > 19 KiB  me\n"},
		{"", failed, "(3 more were missed)\n15:04:05.006  GET    back/?[2J?  - grpc 5 (reset)  12.3 ms  5 B > 19 KiB  bob@his\n"},
	} {
		var out bytes.Buffer
		if err := (&watchLines{w: &out, format: tc.format, me: me}).print(tc.e); err != nil || out.String() != tc.want {
			t.Errorf("printed %q, %v; want %q", out.String(), err, tc.want)
		}
	}
	var out bytes.Buffer
	lines := &watchLines{w: &out, format: "json", me: me}
	for range 2 {
		if err := lines.print(failed); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(out.String(), "\n"); got != 2 || !strings.Contains(out.String(), `"by":{"user":"bob"`) {
		t.Errorf("as JSON: %q", out.String())
	}
}

// press presses keys one after the other.
func press(m *watchModel, keys ...string) {
	for _, key := range keys {
		msg := tea.KeyPressMsg{Text: key}
		if len(key) == 1 {
			msg.Code = rune(key[0])
		}
		switch key {
		case "enter":
			msg = tea.KeyPressMsg{Code: tea.KeyEnter}
		case "esc":
			msg = tea.KeyPressMsg{Code: tea.KeyEscape}
		case "up":
			msg = tea.KeyPressMsg{Code: tea.KeyUp}
		case "backspace":
			msg = tea.KeyPressMsg{Code: tea.KeyBackspace}
		}
		m.Update(msg)
	}
}

// TestWatchTerminal: the list scrolls, filters and opens.
func TestWatchTerminal(t *testing.T) {
	m := newWatchModel("back", agent.Owner{User: "alice", Host: "desk"})
	m.Update(tea.WindowSizeMsg{Width: 110, Height: 10})
	paths := []string{"/a", "/b", "/c"}
	for n := range 30 {
		m.Update(exchange(paths[n%3], nil))
	}
	sees := func(what string, wants ...string) {
		t.Helper()
		text := m.text()
		lines := strings.Split(text, "\n")
		if len(lines) != 10 {
			t.Errorf("%s: %d lines on 10", what, len(lines))
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s: does not show %q:\n%s", what, want, text)
			}
		}
	}
	sees("all", "back: 30 of 30 requests", "back/c")
	press(m, "/", "b", "a", "c", "k", "/", "b", "enter")
	sees("filtered", "back: 10 of 30 requests  /back/b")
	if strings.Contains(m.text(), "back/a") {
		t.Errorf("shows what does not pass the filter:\n%s", m.text())
	}
	m.Update(exchange("/b", &agent.Owner{User: "bob", Host: "his"}))
	sees("followed", "11 of 31", "bob@his")
	press(m, "up")
	m.Update(exchange("/b", nil))
	if m.follow || m.at != 9 {
		t.Errorf("after up, %d of %d is chosen, following: %v", m.at, len(m.shown), m.follow)
	}
	press(m, "G", "enter")
	sees("opened", "GET back/b", "protocol   HTTP/1.1", "took       12.3 ms")
	press(m, "esc", "esc")
	sees("back", "32 of 32")
	press(m, "G")
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 10})
	m.Update(exchange("/of/eighteen/chars", &agent.Owner{User: "bob", Host: "his.long.name"}))
	sees("narrow", "  /of/eighteen/chars  ", "  bob@his.long.na")
	for range maxShown {
		m.Update(exchange("/d", nil))
	}
	if len(m.all) > maxShown || len(m.shown) != len(m.all) {
		t.Errorf("keeps %d, shows %d", len(m.all), len(m.shown))
	}
	m.Update(tea.WindowSizeMsg{Width: 1, Height: 1})
	_ = m.text()
}

// TestWatchForgets the oldest requests, and the one that is chosen stays so.
func TestWatchForgets(t *testing.T) {
	m := newWatchModel("back", agent.Owner{})
	for n := range maxShown {
		m.Update(exchange([]string{"/xx", "/yy"}[n%2], nil))
	}
	m.all[8000].Path = "/chosen/xx" // passes the filter, too
	press(m, "/", "x", "x", "enter")
	m.at, m.follow = 4000, false
	m.Update(exchange("/yy", nil))
	if len(m.all) >= maxShown || m.all[m.shown[m.at]].Path != "/chosen/xx" {
		t.Errorf("of %d requests, %s is chosen", len(m.all), m.all[m.shown[m.at]].Path)
	}
}
