package h2

import (
	"strings"
	"testing"
)

const (
	get  = ":method=GET :scheme=http :path=/ :authority=a"
	post = ":method=POST :scheme=http :path=/ :authority=a"
	ok   = ":status=200"
	mine = " x-user=me"
)

// TestAsItWasSaid: what the app and a client say to each other arrives as it was said.
// Each line is said by one and heard by the other.
func TestAsItWasSaid(t *testing.T) {
	for name, script := range map[string]string{
		"request and answer": `
			client> HEADERS 1 ends ` + get + ` b=1 a=2 b=1 cookie=x cookie=y te=trailers
			app>    HEADERS 1 ` + ok + ` set-cookie=a set-cookie=b
			app>    DATA 1 hello
			app>    HEADERS 1 ends grpc-status=0`,
		"never indexed": `
			client> HEADERS 1 ends ` + get + ` authorization=secret! x=y`,
		"trailers only": `
			client> HEADERS 1 ` + post + `
			client> DATA 1 ends question
			app>    HEADERS 1 ends ` + ok + ` grpc-status=5`,
		"trailers of a request": `
			client> HEADERS 1 ` + post + `
			client> DATA 1 question
			client> HEADERS 1 ends x-sum=1`,
		"informational": `
			client> HEADERS 1 ` + post + ` expect=100-continue
			app>    HEADERS 1 :status=103 link=x
			app>    HEADERS 1 :status=100
			client> DATA 1 ends body
			app>    HEADERS 1 ends ` + ok,
		"empty data": `
			client> HEADERS 1 ` + post + `
			client> DATA 1
			client> DATA 1 ends
			app>    HEADERS 1 ` + ok + `
			app>    DATA 1
			app>    DATA 1 ends`,
		"client cancels": `
			client> HEADERS 1 ` + post + `
			client> RST 1 CANCEL
			client> HEADERS 3 ` + post + `
			client> RST 3 INTERNAL_ERROR`,
		"app refuses": `
			client> HEADERS 1 ` + post + `
			app>    RST 1 REFUSED_STREAM
			client> HEADERS 3 ` + post + `
			app>    HEADERS 3 ends ` + ok + `
			app>    RST 3 NO_ERROR
			client> HEADERS 5 ends ` + post + `
			app>    RST 5 ENHANCE_YOUR_CALM`,
		"pings": `
			client> PING 12345678
			app>    PING ack 12345678
			app>    PING abcdefgh
			client> PING ack abcdefgh`,
		"goodbye of the app": `
			client> HEADERS 1 ends ` + get + `
			app>    GOAWAY 2147483647 NO_ERROR
			client> HEADERS 3 ends ` + get + `
			app>    GOAWAY 3 NO_ERROR bye
			app>    HEADERS 3 ends ` + ok + `
			app>    HEADERS 1 ends ` + ok + `
			app>    FIN`,
		"goodbye of the client": `
			client> HEADERS 1 ends ` + get + `
			client> GOAWAY 0 NO_ERROR
			app>    HEADERS 1 ends ` + ok + `
			client> FIN`,
		"too many pings": `
			app>    GOAWAY 0 ENHANCE_YOUR_CALM too_many_pings
			app>    FIN`,
		"settings later": `
			client> SETTINGS ack
			app>    SETTINGS 8=1
			client> SETTINGS ack`,
		"credit": `
			client> HEADERS 1 ` + post + `
			app>    WINDOW 0 1000
			app>    WINDOW 1 500
			client> WINDOW 1 70000`,
		"priorities and unknown frames": `
			client> PRIORITY 3 0 7
			client> HEADERS 1 ` + post + `
			client> PRIORITY 1 0 200
			client> RAW 10 0 0 ` + "\x00\x00\x00\x01u=1" + `
			client> RAW fe 3 0 what
			client> RAW fe 3 1 ever
			app>    RAW a 0 0 altsvc
			app>    RAW fd 0 1 what`,
		"websocket of RFC 8441": `
			client> HEADERS 1 :method=CONNECT :protocol=websocket :scheme=http :path=/ :authority=a x-user=me
			app>    HEADERS 1 ` + ok + `
			client> DATA 1 frame
			app>    DATA 1 frame`,
		"large head": `
			client> HEADERS 1 ends ` + get + ` x=` + strings.Repeat("ab~Q", 20_000) + `
			app>    HEADERS 1 ends ` + ok + ` x=` + strings.Repeat("ab~Q", 20_000),
		"app is reset": `
			client> HEADERS 1 ends ` + get + `
			app>    GONE`,
		"client is reset": `
			client> HEADERS 1 ends ` + get + `
			client> GONE`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "")
			for line := range strings.Lines(script) {
				line = strings.TrimSpace(line)
				who, text, said := strings.Cut(line, ">")
				if !said {
					continue
				}
				other := map[string]string{"client": "app", "app": "client"}[who]
				s.play(line)
				s.actors[other].expect(strings.TrimSpace(text))
			}
		})
	}
}

// TestAside: what is said where a handler takes some of the streams.
func TestAside(t *testing.T) {
	for name, script := range map[string]string{
		"divided": `
			client> HEADERS 1 ` + get + `
			app<    HEADERS 1 ` + get + `
			client> HEADERS 3 ` + post + mine + ` b=1 a=2 b=3 k=v!
			me+
			me<     HEADERS 3 ` + post + mine + ` b=1 a=2 b=3 k=v!
			client< WINDOW 3 196609
			client> DATA 3 question
			client< WINDOW 0 8
			me<     DATA 3 question
			client> HEADERS 5 ends ` + get + `
			app<    HEADERS 5 ends ` + get + `
			me>     HEADERS 3 ` + ok + ` x=1
			client< HEADERS 3 ` + ok + ` x=1
			client> DATA 3 ends
			me<     DATA 3 ends
			me>     DATA 3 answer
			client< DATA 3 answer
			me>     HEADERS 3 ends grpc-status=0 grpc-message=!
			client< HEADERS 3 ends grpc-status=0 grpc-message=!
			app>    HEADERS 5 ends ` + ok + ` x=1
			client< HEADERS 5 ends ` + ok + ` x=1
			client> DATA 1 ends
			app<    DATA 1 ends`,
		"same connection again": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			client> HEADERS 3 ends ` + get + mine + `
			me<     HEADERS 3 ends ` + get + mine + `
			me>     HEADERS 3 ends ` + ok + `
			client< HEADERS 3 ends ` + ok + `
			me>     RST 1 REFUSED_STREAM
			client< RST 1 REFUSED_STREAM`,
		"cancelled": `
			client> HEADERS 1 ` + post + mine + `
			client< WINDOW 1 196609
			me+
			me<     HEADERS 1 ` + post + mine + `
			client> RST 1 CANCEL
			me<     RST 1 CANCEL
			me>     DATA 1 late
			me>     PING 12345678
			me<     PING ack 12345678
			client> PING 87654321
			app<    PING 87654321`,
		"pings and settings of a handler": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			me>     SETTINGS 3=100
			me<     SETTINGS ack
			me>     PING 12345678
			me<     PING ack 12345678
			client> SETTINGS 4=1000
			me<     SETTINGS 2=0 4=1000
			app<    SETTINGS 2=0 4=1000
			me>     SETTINGS ack
			app>    SETTINGS ack
			client< SETTINGS ack`,
		"handler refuses what has not begun": `
			client> HEADERS 1 ends ` + get + mine + `
			client> HEADERS 3 ` + post + mine + `
			client< WINDOW 3 196609
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			me<     HEADERS 3 ` + post + mine + `
			me>     GOAWAY 0 NO_ERROR
			client< RST 3 REFUSED_STREAM
			spare+
			spare<  HEADERS 1 ends ` + get + mine + `
			spare>  HEADERS 1 ends ` + ok + `
			client< HEADERS 1 ends ` + ok + `
			me<     FIN`,
		"handler goes": `
			client> HEADERS 1 ends ` + get + mine + `
			client> HEADERS 3 ends ` + post + mine + `
			client> HEADERS 5 ends ` + get + mine + ` n=5
			client> HEADERS 7 ends ` + get + `
			app<    HEADERS 7 ends ` + get + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			me<     HEADERS 3 ends ` + post + mine + `
			me<     HEADERS 5 ends ` + get + mine + ` n=5
			me>     HEADERS 1 ` + ok + `
			client< HEADERS 1 ` + ok + `
			me>     GONE
			client< RST 1 INTERNAL_ERROR
			client< RST 3 INTERNAL_ERROR
			spare+
			spare<  HEADERS 5 ends ` + get + mine + ` n=5
			spare>  HEADERS 5 ends ` + ok + `
			client< HEADERS 5 ends ` + ok + `
			spare<  FIN
			client> HEADERS 9 ends ` + get + mine + `
			me+
			me<     HEADERS 9 ends ` + get + mine,
		"app refuses while a handler answers": `
			client> HEADERS 1 ends ` + get + `
			client> HEADERS 3 ends ` + get + `
			client> HEADERS 5 ends ` + get + mine + `
			me+
			me<     HEADERS 5 ends ` + get + mine + `
			app<    HEADERS 1 ends ` + get + `
			app<    HEADERS 3 ends ` + get + `
			app>    GOAWAY 1 NO_ERROR
			client< RST 3 REFUSED_STREAM
			client< GOAWAY 5 NO_ERROR
			app>    HEADERS 1 ends ` + ok + `
			client< HEADERS 1 ends ` + ok + `
			app>    FIN
			client< GOAWAY 5 NO_ERROR
			me>     HEADERS 5 ends ` + ok + `
			client< HEADERS 5 ends ` + ok + `
			client< FIN`,
		"app is reset while a handler answers": `
			client> HEADERS 1 ends ` + get + `
			app<    HEADERS 1 ends ` + get + `
			client> HEADERS 3 ends ` + get + mine + `
			me+
			me<     HEADERS 3 ends ` + get + mine + `
			app>    GONE
			client< GOAWAY 3 NO_ERROR
			client< RST 1 INTERNAL_ERROR
			client> HEADERS 5 ends ` + get + `
			client< RST 5 REFUSED_STREAM
			me>     HEADERS 3 ends ` + ok + `
			client< HEADERS 3 ends ` + ok + `
			client< FIN`,
		"client ends": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			client> FIN
			app<    FIN
			me<     FIN
			me>     HEADERS 1 ends ` + ok + `
			client< HEADERS 1 ends ` + ok,
		"handler without credit": `
			client> HEADERS 1 ` + post + mine + `
			client< WINDOW 1 196609
			me+
			me<     HEADERS 1 ` + post + mine + `
			me>     SETTINGS 4=5
			me<     SETTINGS ack
			client> DATA 1 question
			client< WINDOW 0 8
			me<     DATA 1 quest
			client> HEADERS 1 ends x-sum=1
			client> HEADERS 3 ` + post + mine + `
			client< WINDOW 3 196609
			me<     HEADERS 3 ` + post + mine + `
			me>     WINDOW 1 2
			me<     DATA 1 io
			me>     WINDOW 1 10
			me<     DATA 1 n
			me<     HEADERS 1 ends x-sum=1`,
		"client without credit": `
			client> HEADERS 1 ends ` + get + mine + `
			client> HEADERS 3 ends ` + get + `
			client> WINDOW 1 1000000
			client> WINDOW 3 1000000
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			me<     WINDOW 1 1000000
			app<    HEADERS 3 ends ` + get + `
			app<    WINDOW 3 1000000
			me>     HEADERS 1 ` + ok + `
			client< HEADERS 1 ` + ok + `
			me>     ZEROS 1 65535
			client< ZEROS 1 16384
			client< ZEROS 1 16384
			client< ZEROS 1 16384
			client< ZEROS 1 16383
			app>    HEADERS 3 ` + ok + `
			client< HEADERS 3 ` + ok + `
			app>    DATA 3 ends hello
			app>    PING 12345678
			client< PING 12345678
			client> WINDOW 0 2
			client< DATA 3 he
			me>     DATA 1 ends good
			client> WINDOW 0 4
			client< DATA 3 ends llo
			client< DATA 1 g
			client> WINDOW 0 10
			client< DATA 1 ends ood`,
		"padding": `
			client> HEADERS 1 ` + post + `
			app<    HEADERS 1 ` + post + `
			client> PADDED 1 hello
			client< WINDOW 1 10
			client< WINDOW 0 10
			app<    DATA 1 hello
			client> HEADERS 3 ` + post + mine + `
			client< WINDOW 3 196609
			me+
			me<     HEADERS 3 ` + post + mine + `
			client> PADDED 3 hello
			client< WINDOW 3 10
			client< WINDOW 0 15
			me<     DATA 3 hello
			me>     PADDED 3 world
			client< DATA 3 world
			me<     WINDOW 3 10`,
		"malformed head": `
			client> HEADERS 1 ends ` + get + ` X=upper
			client< RST 1 PROTOCOL_ERROR
			client> HEADERS 3 ends ` + get + `
			app<    HEADERS 3 ends ` + get,
		"malformed answer": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			me>     HEADERS 1 ends ` + ok + ` X=upper
			me<     RST 1 PROTOCOL_ERROR
			client< RST 1 PROTOCOL_ERROR`,
		"promise": `
			client> HEADERS 1 ends ` + get + mine + `
			me+
			me<     HEADERS 1 ends ` + get + mine + `
			me>     RAW 5 4 1 ` + "\x00\x00\x00\x02\x88" + `
			spare+
			spare<  HEADERS 1 ends ` + get + mine,
		"number of a server": `
			client> HEADERS 2 ends ` + get + `
			client< GOAWAY 0 PROTOCOL_ERROR
			client< FIN`,
		"data of no stream": `
			client> DATA 1 what
			client< GOAWAY 0 PROTOCOL_ERROR
			client< FIN`,
		"credit beyond all": `
			client> WINDOW 0 2147483647
			client< GOAWAY 0 FLOW_CONTROL_ERROR
			client< FIN`,
		"head too long": `
			client> HEADERS 1 ends ` + get + ` x=` + strings.Repeat("ab~Q", 30_000) + ` y=` + strings.Repeat("ab~Q", 10_000) + `
			client< RST 1 ENHANCE_YOUR_CALM
			client> HEADERS 3 ends ` + get + `
			app<    HEADERS 3 ends ` + get,
	} {
		t.Run(name, func(t *testing.T) { newScene(t, "").play(script) })
	}
}

// TestLimitsAreTold: a client is not told of more than is taken from it, and the app's
// streams get the rest at once.
func TestLimitsAreTold(t *testing.T) {
	for name, tc := range map[string]struct{ settings, told, script string }{
		"nothing said": {"", "SETTINGS 3=1024 6=131072", ""},
		"less":         {"3=100 6=8192 4=20", "SETTINGS 3=100 6=8192 4=20", ""},
		"more": {"1=65536 3=5000 5=32768 6=1000000 4=1048576 8=1", "SETTINGS 3=1024 6=131072 4=65536 8=1", `
			client> HEADERS 1 ` + post + `
			client< WINDOW 1 983040
			app<    HEADERS 1 ` + post + `
			app>    SETTINGS 4=1048579
			client< SETTINGS 4=65536
			client< WINDOW 1 3
			client> HEADERS 3 ends ` + post + `
			app<    HEADERS 3 ends ` + post},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, tc.settings)
			if s.told != tc.told {
				t.Errorf("told %q, want %q", s.told, tc.told)
			}
			s.play(tc.script)
		})
	}
}

// TestSessionEnds: its connection gets no more streams, and those that it has go on.
func TestSessionEnds(t *testing.T) {
	s := newScene(t, "")
	s.play(`
		client> HEADERS 1 ends ` + get + mine + `
		me+
		me<     HEADERS 1 ends ` + get + mine)
	close(s.gone)
	s.play(`
		me>     HEADERS 1 ` + ok + `
		client< HEADERS 1 ` + ok + `
		me>     DATA 1 ends bye
		client< DATA 1 ends bye
		me<     FIN`)
}

// TestNobodyThere: what no session takes is the app's, in the order of its numbers on
// a connection of its own.
func TestNobodyThere(t *testing.T) {
	s := newScene(t, "")
	_ = s.me.Close()
	s.play(`
		client> HEADERS 1 ` + post + mine + `
		client< WINDOW 1 196609
		spare+
		spare<  HEADERS 1 ` + post + mine + `
		client> DATA 1 ends body
		client< WINDOW 0 4
		spare<  DATA 1 ends body
		spare>  HEADERS 1 ends ` + ok + `
		client< HEADERS 1 ends ` + ok + `
		spare<  FIN`)
	if len(s.taken) > 0 {
		t.Error("counted as taken")
	}
}

// TestRefused: where nobody is to answer in place of a handler, its client is told so
// in the way that it expects.
func TestRefused(t *testing.T) {
	s := newScene(t, "")
	s.refuses = true
	_ = s.me.Close()
	s.play(`
		client> HEADERS 1 ends ` + get + mine + `
		client< HEADERS 1 :status=503 content-type=text/plain
		client< DATA 1 ends ` + NobodyAnswers + `
		client> HEADERS 5 ends ` + get + `
		app<    HEADERS 5 ends ` + get)
}

// TestRefusedCall of gRPC, of which the client has not sent all.
func TestRefusedCall(t *testing.T) {
	s := newScene(t, "")
	s.refuses = true
	_ = s.me.Close()
	s.play(`
		client> HEADERS 1 ` + post + mine + ` content-type=application/grpc+proto
		client< WINDOW 1 196609
		client< HEADERS 1 ends :status=200 content-type=application/grpc grpc-status=14 grpc-message=` + NobodyAnswers + `
		client< RST 1 NO_ERROR
		client> DATA 1 late
		client< WINDOW 0 4
		client> PING 12345678
		app<    PING 12345678`)
}

// TestHandlerThatRefusesGoes: nothing is sent twice, be it to the app.
func TestHandlerThatRefusesGoes(t *testing.T) {
	s := newScene(t, "")
	s.refuses = true
	s.play(`
		client> HEADERS 1 ends ` + get + mine + `
		me+
		me<     HEADERS 1 ends ` + get + mine + `
		me>     GONE
		client< RST 1 INTERNAL_ERROR`)
}
