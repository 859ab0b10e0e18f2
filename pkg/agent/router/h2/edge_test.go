package h2

import "testing"

// TestEdges: what is said when one of them ends, or gives credit in its own way.
func TestEdges(t *testing.T) {
	for name, script := range map[string]string{
		"client ends before a handler has taken all": `
			client> HEADERS 1 ` + post + mine + `
			client< WINDOW 1 196609
			me+
			me<     HEADERS 1 ` + post + mine + `
			me>     SETTINGS 4=5
			me<     SETTINGS ack
			client> DATA 1 ends question
			client< WINDOW 0 8
			me<     DATA 1 quest
			client> FIN
			app<    FIN
			me>     WINDOW 1 100
			me<     DATA 1 ends ion
			me<     FIN
			me>     HEADERS 1 ends ` + ok + `
			client< HEADERS 1 ends ` + ok,
		"handler goes after the client has ended": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			client> FIN
			app<    FIN
			me<     FIN
			me>     GONE
			spare+
			spare<  HEADERS 1 ends ` + get + mine + `
			spare<  FIN`,
		"handler with a large window": `
			client> HEADERS 1 ` + post + mine + `
			client< WINDOW 1 196609
			me+
			me<     HEADERS 1 ` + post + mine + `
			me>     SETTINGS 4=1048576
			me<     SETTINGS ack
			client> ZEROS 1 16384
			client< WINDOW 0 16384
			client< WINDOW 1 16384
			me<     ZEROS 1 16384
			me>     WINDOW 1 16384
			me>     PING 12345678
			me<     PING ack 12345678
			client> DATA 1 ends x
			client< WINDOW 0 1
			me<     DATA 1 ends x`,
		"credit for who answers in the end": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			client> WINDOW 1 1000
			me<     WINDOW 1 1000
			client> WINDOW 1 1000000
			me<     WINDOW 1 1000000
			me>     GONE
			spare+
			spare<  HEADERS 1 ends ` + get + mine + `
			spare<  WINDOW 1 1001000`,
		"handler refuses everything": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			me>     GOAWAY 0 NO_ERROR
			spare+
			spare<  HEADERS 1 ends ` + get + mine + `
			me<     FIN`,
		"new request after a goodbye": `
			client> HEADERS 1 ends ` + get + `
			app<    HEADERS 1 ends ` + get + `
			app>    GOAWAY 1 NO_ERROR
			client< GOAWAY 1 NO_ERROR
			client> HEADERS 3 ends ` + get + mine + `
			client< RST 3 REFUSED_STREAM
			app>    FIN
			client< FIN`,
		"pings and settings without an app": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			app>    FIN
			client< GOAWAY 1 NO_ERROR
			client> PING 12345678
			client< PING ack 12345678
			client> SETTINGS 4=70000
			me<     SETTINGS 2=0 4=70000
			client< SETTINGS ack`,
		"app ends before it has acknowledged": `
			client> SETTINGS 4=70000
			app<    SETTINGS 2=0 4=70000
			app>    SETTINGS ack
			client< SETTINGS ack
			client> SETTINGS 4=80000
			app<    SETTINGS 2=0 4=80000
			client> PING 12345678
			app<    PING 12345678
			client> PING abcdefgh
			app<    PING abcdefgh
			app>    PING ack 12345678
			client< PING ack 12345678
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			app>    FIN
			client< SETTINGS ack
			client< PING ack abcdefgh
			client< GOAWAY 1 NO_ERROR`,
		"app ends before the client has taken all": `
			client> HEADERS 1 ends ` + get + `
			app<    HEADERS 1 ends ` + get + `
			client> WINDOW 1 1000000
			app<    WINDOW 1 1000000
			app>    HEADERS 1 ` + ok + `
			client< HEADERS 1 ` + ok + `
			app>    ZEROS 1 65535
			client< ZEROS 1 16384
			client< ZEROS 1 16384
			client< ZEROS 1 16384
			client< ZEROS 1 16383
			app>    DATA 1 ends rest
			app>    FIN
			client< GOAWAY 1 NO_ERROR
			client> WINDOW 0 100
			client< DATA 1 ends rest
			client< FIN`,
		"handler goes on after its end": `
			client> HEADERS 1 ` + post + mine + `
			client< WINDOW 1 196609
			me+
			me<     HEADERS 1 ` + post + mine + `
			me>     HEADERS 1 ends ` + ok + `
			client< HEADERS 1 ends ` + ok + `
			me>     DATA 1 more
			me<     RST 1 STREAM_CLOSED
			client< RST 1 STREAM_CLOSED`,
		"late words": `
			client> HEADERS 1 ` + post + `
			app<    HEADERS 1 ` + post + `
			app>    RST 1 CANCEL
			client< RST 1 CANCEL
			client> DATA 1 late
			client< WINDOW 0 4
			client> HEADERS 1 ends x-sum=1
			client> PING 12345678
			app<    PING 12345678`,
		"data after the end": `
			client> HEADERS 1 ends ` + get + `
			app<    HEADERS 1 ends ` + get + `
			app>    HEADERS 1 ends ` + ok + `
			client< HEADERS 1 ends ` + ok + `
			client> DATA 1 more
			client< WINDOW 0 4
			client< GOAWAY 1 STREAM_CLOSED
			client< FIN`,
		"request after a reset": `
			client> HEADERS 1 ` + get + `
			client> RST 1 CANCEL
			client> HEADERS 1 ends ` + get + `
			client< GOAWAY 1 STREAM_CLOSED
			client< FIN`,
		"number that was left out": `
			client> HEADERS 5 ends ` + get + `
			client> HEADERS 3 ends ` + get + `
			client< GOAWAY 5 PROTOCOL_ERROR
			client< FIN`,
		"data to a handler after the end": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			client> DATA 1 more
			client< WINDOW 0 4
			client< RST 1 STREAM_CLOSED
			me<     RST 1 STREAM_CLOSED`,
		"stream that depends on itself": `
			client> PRIORITY 1 1 7
			client< RST 1 PROTOCOL_ERROR
			client> HEADERS 1 ends ` + get + `
			app<    HEADERS 1 ends ` + get,
		"app takes less of new streams": `
			client> HEADERS 1 ` + post + mine + `
			client< WINDOW 1 196609
			me+
			me<     HEADERS 1 ` + post + mine + `
			app>    SETTINGS 4=1000
			client< SETTINGS 4=1000
			client< WINDOW 1 64535`,
	} {
		t.Run(name, func(t *testing.T) { newScene(t, "").play(script) })
	}
}

// TestCreditWithoutBudget: where nothing more may be held, a stream to a handler still
// gets what every stream begins with, however little the app gives its own.
func TestCreditWithoutBudget(t *testing.T) {
	s := newScene(t, "4=20")
	s.budget.held.Add(s.budget.max)
	defer s.budget.held.Add(-s.budget.max)
	s.play(`
		client> HEADERS 1 ` + post + mine + `
		client< WINDOW 1 65515
		me+
		me<     HEADERS 1 ` + post + mine)
}
