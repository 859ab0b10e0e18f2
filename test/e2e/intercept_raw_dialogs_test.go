//go:build linux

package e2e

import (
	"slices"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// say is a client's turn, reply the app's.
func say(text string) api.Turn   { return api.Turn{Send: []byte(text)} }
func reply(text string) api.Turn { return api.Turn{App: true, Send: []byte(text)} }

// last is a turn after which its side sends no more.
func last(t api.Turn) api.Turn {
	t.FIN = true
	return t
}

// after is an app's turn that waits only for so many bytes.
func after(n int, t api.Turn) api.Turn {
	t.After = n
	return t
}

// dialogs are conversations of several turns.
func dialogs() []api.Conversation {
	const (
		expects  = rawPost + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
		upgrades = rawGet + "Connection: Upgrade\r\nUpgrade: frob\r\n\r\n"
		switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: frob\r\n\r\n"
		preface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
		h2c      = rawGet + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
	)
	closing := "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
	// The app's turns wait for a request, and not for what follows it: one that answers
	// a request only when it has the next is a server that nobody writes.
	reset := func(t api.Turn) api.Turn {
		t.Reset = true
		return t
	}
	all := map[string][]api.Turn{
		"nothing":                       {},
		"nothing, ended by the app":     {last(reply(""))},
		"three requests":                {say(rawGet + "\r\n"), reply(rawOK), say(rawPost + "Content-Length: 2\r\n\r\nhi"), reply(rawOK), say(rawGet + "X: 2\r\n\r\n"), reply(rawOK)},
		"three requests of 1.0":         kept10(3),
		"five requests at once":         pipeline(5, false, false),
		"five requests at once, ended":  pipeline(5, false, true),
		"five requests at once and FIN": pipeline(5, true, false),
		"HEAD and GET at once":          {say("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + rawGet + "\r\n"), after(28, reply("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")), reply(rawOK)},
		"more than the body":            {say(rawPost + "Content-Length: 5\r\n\r\nhello, and more"), after(len(rawPost)+26, reply(rawOK))},
		"CRLF after the request":        {say(rawGet + "\r\n\r\n"), after(len(rawGet)+2, reply(rawOK)), say(rawGet + "\r\n"), reply(rawOK)},
		"answer that is no HTTP":        {say(rawGet + "\r\n"), reply("\x01\x02"), say("\x03"), reply("\x04")},
		"a 304 and more":                {say(rawGet + "\r\n"), reply("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"), say(rawGet + "\r\n"), reply(rawOK)},
		"a HEAD and more":               {say("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"), reply("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"), say(rawGet + "\r\n"), reply(rawOK)},
		"an ambiguous request later":    {say(rawGet + "\r\n"), reply(rawOK), say("GET / HTTP/1.1\nHost: a\n\n"), reply(rawOK), say(rawGet + "\r\n"), reply(rawOK)},
		"an ambiguous answer later":     {say(rawGet + "\r\n"), reply("HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n"), say(rawGet + "\r\n"), reply(rawOK)},

		"Expect: 100-continue":               {say(expects), reply("HTTP/1.1 100 Continue\r\n\r\n"), say("hello"), reply(rawOK), say(rawGet + "\r\n"), reply(rawOK)},
		"Expect without waiting":             {say(expects + "hello"), reply("HTTP/1.1 100 Continue\r\n\r\n" + rawOK)},
		"Expect refused, no body":            {say(expects), reply("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"), say(rawGet + "\r\n"), reply(rawOK)},
		"Expect refused, the body comes":     {say(expects), reply("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"), say("hello" + rawGet + "\r\n"), reply(rawOK)},
		"Expect ignored, answered at once":   {say(expects), reply(rawOK), say("hello"), last(reply(""))},
		"answered before the body":           {say(rawPost + "Content-Length: 10\r\n\r\nhello"), reply("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"), say("world"), say(rawGet + "\r\n"), reply(rawOK)},
		"answered and ended before the body": {say(rawPost + "Content-Length: 10\r\n\r\nhello"), last(reply("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")), say("world")},
		"413 and end, and much more comes":   {say(rawPost + "Content-Length: 2000000\r\n\r\nhello"), last(reply("HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")), say(strings.Repeat("x", 1_999_995))},
		"Expect with chunks":                 {say(rawPost + "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"), reply("HTTP/1.1 100 Continue\r\n\r\n"), say("2\r\nhi\r\n0\r\n\r\n"), reply(rawOK), say(rawGet + "\r\n"), reply(rawOK)},
		"100 more often than asked":          {say(expects), reply("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"), say("hello"), reply("HTTP/1.1 100 Continue\r\n\r\n" + rawOK)},
		"100 without being asked":            {say(rawPost + "Content-Length: 2\r\n\r\n"), reply("HTTP/1.1 100 Continue\r\n\r\n"), say("hi"), reply(rawOK)},
		"100 before the request":             {reply("HTTP/1.1 100 Continue\r\n\r\n"), say(rawGet + "\r\n"), reply(rawOK)},
		"body in parts":                      {say(rawPost + "Content-Length: 10\r\n\r\n"), reply("HTTP/1.1 102 Processing\r\n\r\n"), say("hello"), reply("HTTP/1.1 102 Processing\r\n\r\n"), say("world"), reply(rawOK)},
		"much both ways at once": {
			say(rawPost + "Content-Length: 4000000\r\n\r\n" + strings.Repeat("abcdefgh", 500_000)),
			after(len(rawPost), reply("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"+strings.Repeat("01234567", 500_000))), say(rawGet + "\r\n"), reply(rawOK),
		},
		"FIN in a body of the app's":                      {say(rawGet + "\r\n"), reply("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"), last(say("")), reply("world")},
		"FIN between chunks of the app's":                 {say(rawGet + "\r\n"), reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), last(say("")), reply("0\r\n\r\n")},
		"the next request and FIN in a body of the app's": {say(rawGet + "\r\n"), reply("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"), last(say(rawGet + "\r\n")), after(len(rawGet)+2, reply("world")), reply(rawOK)},
		"both at the same time": {
			say(rawPost + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"), reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n"),
			say("1\r\nb\r\n"), reply("1\r\nB\r\n"), say("0\r\n\r\n"), reply("0\r\n\r\n"), say(rawGet + "\r\n"), reply(rawOK),
		},
		"both at the same time, until the end": {
			say(rawPost + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"), reply("HTTP/1.1 200 OK\r\n\r\nA"),
			say("1\r\nb\r\n"), reply("B"), last(say("0\r\n\r\n")), last(reply("C")),
		},
		"events until the client goes": {say(rawGet + "\r\n"), reply("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"), last(say("")), reply("data: 2\n\n")},

		"upgrade":                                        {say(upgrades), reply(switched), say("\x00\x01raw"), reply("\x02"), last(say("more")), reply("bye")},
		"upgrade, the app first":                         {say(upgrades), reply(switched + "\x00hello"), say("\x01"), last(reply("\x02")), say("\x03")},
		"upgrade, the client at once":                    {say(upgrades + "\x00at once"), after(len(upgrades), reply(switched)), reply("\x01")},
		"upgrade that looks like HTTP":                   {say(upgrades), reply(switched), say(rawGet + "X-Tele-User: alice\r\n\r\n"), reply(rawOK)},
		"upgrade refused":                                {say(upgrades), reply("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"), say(rawGet + "\r\n"), reply(rawOK)},
		"upgrade and FIN":                                {last(say(upgrades)), reply(switched + "hello"), reply("more")},
		"upgrade answered by 200":                        {say(upgrades), reply("HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: frob\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), say(rawGet + "\r\n"), reply(rawOK)},
		"a request behind an upgrade that is refused":    {say(upgrades + rawGet + "\r\n"), after(len(upgrades), reply("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")), reply(rawOK)},
		"CONNECT refused":                                {say("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), reply("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"), say(rawGet + "\r\n"), reply(rawOK)},
		"upgrade to h2c":                                 {say(h2c), reply("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + settings), say(preface + settings), reply("\x00\x00\x00\x04\x01\x00\x00\x00\x00")},
		"CONNECT":                                        {say("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), reply("HTTP/1.1 200 OK\r\n\r\n"), say("\x00\x01"), reply("\x02"), say("\x03")},
		"HTTP/2 to an app without it":                    {say(preface), reply("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), say(settings)},
		"HTTP/2 to an app that ends":                     {say(preface + settings), after(len(preface), last(reply("")))},
		"HTTP/2 after HTTP/1":                            {say(rawGet + "\r\n"), reply(rawOK), say(preface + settings), reply(rawOK)},
		"most of HTTP/2's preface, and the client waits": {say(preface[:20]), reply("HTTP/1.1 400 Bad Request\r\n\r\n")},
		"half of HTTP/2's preface":                       {last(say(preface[:14])), reply("HTTP/1.1 400 Bad Request\r\n\r\n")},
		"HTTP/1 to an app of HTTP/2":                     {say(rawGet + "\r\n"), reply(settings + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")},
		"half a head, and the app waits":                 {say("GET / HT"), reply("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")},
		"a letter at a time":                             {say("G"), reply("x"), say("y"), reply("z")},
		"SETTINGS for an answer":                         {say(rawGet + "\r\n"), reply(settings), say("x"), reply("y")},
		"a head in parts":                                {say("GET / HTTP/1.1\r\nHo"), say("st: a\r\n\r"), say("\n"), reply(rawOK)},

		"the app first":                  {reply("220 hello\r\n"), say("HELO me\r\n"), reply("250 you\r\n"), say("QUIT\r\n"), last(reply("221 bye\r\n"))},
		"the app first, then HTTP":       {reply("* OK\r\n"), say(rawGet + "X-Tele-User: alice\r\n\r\n"), reply(rawOK)},
		"the app first, as MySQL does":   {reply("\x4a\x00\x00\x00\x0a8.0.1\x00"), say("\x20\x00\x00\x01login"), reply("\x07\x00\x00\x02\x00")},
		"the app first, by zeros":        {reply("\x00\x00\x00\x00\x00\x00"), say("\x01"), reply("\x02")},
		"the app alone":                  {last(reply("Thu Nov 26 15:50:44 2026\r\n"))},
		"the app alone, much":            {last(reply(strings.Repeat("chargen ", 100_000)))},
		"408 to a client that is silent": {last(reply("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"))},
		"408 to a client that kept it":   {say(rawGet + "\r\n"), reply(rawOK), last(reply("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"))},
		"binary, the app ends first":     {say("\x00\x01"), last(reply("\x02")), say("\x03\x04")},
		"TLS, the app ends first":        {say("\x16\x03\x01\x00\x05hello"), last(reply("\x15\x03\x01")), say("\x15\x03\x01\x00\x02\x01\x00")},
		"more after Connection: close":   {say(rawGet + "Connection: close\r\n\r\n"), reply(closing), say("more"), reply("more")},

		"reset by the app":                  {say(rawGet + "\r\n"), reset(reply(""))},
		"reset by the app in an answer":     {say(rawPost + "Content-Length: 10\r\n\r\nhello"), reply("HTTP/1.1 200 OK\r\n\r\nhalf"), say("world"), reset(reply(""))},
		"reset by the app between requests": {say(rawGet + "\r\n"), reply(rawOK), say(rawGet), reset(reply(""))},
		"reset by the app, binary":          {say("\x00"), reply("\x01"), say("\x02"), reset(reply(""))},
		"reset by the client":               {say(rawPost + "Content-Length: 10\r\n\r\nhello"), reply("HTTP/1.1 102 Processing\r\n\r\n"), reset(say(""))},
		"reset by the client, waiting":      {say(rawGet + "\r\n"), reply("HTTP/1.1 102 Processing\r\n\r\n"), reset(say(""))},
		"reset by the client in an answer":  {say(rawGet + "\r\n"), reply("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), reset(say(""))},
		"reset by the client, kept":         {say(rawGet + "\r\n"), reply(rawOK), reset(say(""))},
		"reset by the client, binary":       {say("\x00"), reply("\x01"), reset(say(""))},
	}
	var list []api.Conversation
	for name, turns := range all {
		list = append(list, api.Conversation{Name: name, Turns: turns})
	}
	slices.SortFunc(list, func(a, b api.Conversation) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// pipeline is n requests in one write, each answered as soon as it is there. The
// client closes its side after them, or the app after the last answer.
func pipeline(n int, clientEnds, appEnds bool) []api.Turn {
	var requests string
	var answers []api.Turn
	for i := range n {
		body := strings.Repeat("b", i)
		requests += "POST /" + body + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
		answers = append(answers, after(len(requests), reply("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: "+body+"\r\n\r\n01234")))
	}
	answers[n-1].FIN = appEnds
	return append([]api.Turn{{Send: []byte(requests), FIN: clientEnds}}, answers...)
}

// kept10 is n requests of HTTP/1.0 on a connection that both mean to keep.
func kept10(n int) (turns []api.Turn) {
	for range n {
		turns = append(turns, say("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
			reply("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"))
	}
	return turns
}
