package main

import (
	"bytes"
	"encoding/json"
	"net"
	"testing"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// TestConversation: each side receives what the other sends, in turns, and sees how
// it ends.
func TestConversation(t *testing.T) {
	control := freeAddress(t)
	address := start(t, "raw", "-addr", control)
	big := bytes.Repeat([]byte("x"), 1<<20)
	all := []struct {
		api.Conversation
		client, app string // how each ends
	}{
		{api.Conversation{Name: "turns", Turns: []api.Turn{{Send: []byte("a")}, {App: true, Send: []byte("b")}, {Send: big}, {App: true, Send: big}}}, api.EndFIN, api.EndFIN},
		{api.Conversation{Name: "nothing"}, api.EndFIN, api.EndFIN},
		{api.Conversation{Name: "the app first", Turns: []api.Turn{{App: true, Send: []byte("hi"), FIN: true}, {Send: []byte("you")}}}, api.EndFIN, api.EndFIN},
		{api.Conversation{Name: "in between", Turns: []api.Turn{{Send: []byte("12")}, {App: true, After: 1, Send: []byte("b")}}}, api.EndFIN, api.EndFIN},
		{api.Conversation{Name: "the app resets", Turns: []api.Turn{{Send: []byte("a")}, {App: true, Reset: true}}}, api.EndReset, api.EndOwn},
		{api.Conversation{Name: "the client resets", Turns: []api.Turn{{App: true, Send: []byte("a")}, {Reset: true}}}, api.EndOwn, api.EndReset},
	}
	var script []api.Conversation
	for _, c := range all {
		script = append(script, c.Conversation)
	}
	in, err := json.Marshal(script)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"play", address, "http://" + control}, bytes.NewReader(in), &out, &out); err != nil {
		t.Fatal(err)
	}
	var got []api.Played
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got) != len(all) {
		t.Fatalf("%d conversations of %d played, %v: %.300s", len(got), len(all), err, out.String())
	}
	for i, want := range all {
		p := got[i]
		toClient, toApp := want.Of()
		if p.Name != want.Name || p.Error != "" || p.Others != 0 || !bytes.Equal(p.Client.Got, toClient) || !bytes.Equal(p.App.Got, toApp) {
			t.Errorf("%s: the client got %.100q and the app %.100q, %s; want %.100q and %.100q", want.Name, p.Client.Got, p.App.Got, p.Error, toClient, toApp)
		}
		if p.Client.End != want.client || p.App.End != want.app {
			t.Errorf("%s: the client's end is %q and the app's %q, want %q and %q", want.Name, p.Client.End, p.App.End, want.client, want.app)
		}
	}
}

// freeAddress is one where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
