//go:build linux

package e2e

import (
	"strings"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
)

// The pieces of which raw requests are made.
const (
	rawOK   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	rawGet  = "GET / HTTP/1.1\r\nHost: a\r\n"
	rawPost = "POST / HTTP/1.1\r\nHost: a\r\n"
)

// conversations are all that TestInterceptRaw plays: each question in three ways, and
// what takes more turns than two.
func conversations() []api.Conversation {
	var all []api.Conversation
	for _, q := range questions {
		all = append(all,
			api.Conversation{Name: q.name + ", kept", Turns: []api.Turn{say(q.request), reply(q.answer)}},
			api.Conversation{Name: q.name + ", half-closed", Turns: []api.Turn{last(say(q.request)), reply(q.answer)}},
			api.Conversation{Name: q.name + ", ended by the app", Turns: []api.Turn{say(q.request), last(reply(q.answer))}})
	}
	return append(all, dialogs()...)
}

// questions are a client's only turn and the app's.
var questions = []struct{ name, request, answer string }{
	{"plain", rawGet + "\r\n", rawOK},
	{"odd case and order", "GET /x?b=1&a=%2f HTTP/1.1\r\nzz: 1\r\nhOsT: a\r\nACCEPT:*/*\r\nx:  spaced \t\r\n\r\n", "HTTP/1.1 200 fine\r\nx-B: 1\r\nX-a:2\r\ncontent-LENGTH:2\r\n\r\nok"},
	{"duplicate headers", rawGet + "X: 1\r\nx: 2\r\nX: 1\r\n\r\n", "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nSet-Cookie: a\r\nContent-Length: 0\r\n\r\n"},
	{"empty values", rawGet + "X:\r\nY: \r\n\r\n", rawOK},
	{"latin1 value", rawGet + "X: \xe9\r\n\r\n", "HTTP/1.1 200 \xe9\r\nX: \xe9\r\nContent-Length: 0\r\n\r\n"},
	{"NUL in a value", rawGet + "X: a\x00b\r\n\r\n", rawOK},
	{"another user's header", rawGet + "X-Tele-User: bob\r\n\r\n", rawOK},
	{"alice's header in an ambiguous request", "GET / HTTP/1.1\nHost: a\nX-Tele-User: alice\n\n", rawOK},
	{"alice's header folded", rawGet + "X-Tele-User:\r\n alice\r\n\r\n", rawOK},
	{"line without a colon", rawGet + "frob\r\n\r\n", rawOK},
	{"space before the colon", rawGet + "Content-Length : 5\r\n\r\nhello", rawOK},
	{"space before the first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", rawOK},
	{"obs-fold", rawGet + "X: 1\r\n 2\r\n\t3\r\n\r\n", rawOK},
	{"obs-fold in the answer", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n"},
	{"bare LF", "GET / HTTP/1.1\nHost: a\n\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"},
	{"mixed line ends", "GET / HTTP/1.1\r\nHost: a\n\r\n", rawOK},
	{"bare CR", rawGet + "X: a\rb\r\n\r\n", rawOK},
	{"LF in the answer alone", rawGet + "\r\n", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"},

	{"body", rawPost + "Content-Length: 5\r\n\r\nhello", rawOK},
	{"GET with a body", rawGet + "Content-Length: 5\r\n\r\nhello", rawOK},
	{"half a body", rawPost + "Content-Length: 50\r\n\r\nhello", rawOK},
	{"two lengths", rawPost + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", rawOK},
	{"lengths that differ", rawPost + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", rawOK},
	{"list of lengths", rawPost + "Content-Length: 5, 5\r\n\r\nhello", rawOK},
	{"signed length", rawPost + "Content-Length: +5\r\n\r\nhello", rawOK},
	{"hexadecimal length", rawPost + "Content-Length: 0x5\r\n\r\nhello", rawOK},
	{"negative length", rawPost + "Content-Length: -5\r\n\r\nhello", rawOK},
	{"empty length", rawPost + "Content-Length:\r\n\r\n", rawOK},
	{"huge length", rawPost + "Content-Length: 99999999999999999999\r\n\r\nhello", rawOK},
	{"length and chunked", rawPost + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", rawOK},
	{"chunked and length", rawPost + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", rawOK},
	{"chunks with extensions and trailers", rawPost + "Transfer-Encoding: Chunked\r\nTrailer: T\r\n\r\n5;a=\"b\";c\r\nhello\r\n000\r\nT: 1\r\nt: 2\r\n\r\n", rawOK},
	{"trailer that frames", rawPost + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nContent-Length: 7\r\n\r\n", rawOK},
	{"bad chunk", rawPost + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", rawOK},
	{"bad size of a chunk", rawPost + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", rawOK},
	{"huge chunk", rawPost + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nhello", rawOK},
	{"LF in a chunk's line", rawPost + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", rawOK},
	{"long line of a chunk", rawPost + "Transfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("x", 20<<10) + "\r\nhello\r\n0\r\n\r\n", rawOK},
	{"half a chunk", rawPost + "Transfer-Encoding: chunked\r\n\r\n5\r\nhe", rawOK},
	{"gzip, chunked", rawPost + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", rawOK},
	{"unknown encoding", rawPost + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", rawOK},
	{"encoding in two lines", rawPost + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", rawOK},
	{"chunked on 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", rawOK},
	{"a K that is none", rawPost + "Transfer-Encoding: chun\u212aed\r\n\r\n0\r\n\r\n", rawOK},

	{"HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"},
	{"HEAD with chunks", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
	{"HEAD answered by a body", "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"204", rawGet + "\r\n", "HTTP/1.1 204 No Content\r\n\r\n"},
	{"204 with a body", rawGet + "\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"},
	{"304", rawGet + "\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"},
	{"1xx", rawGet + "\r\n", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 199\r\n\r\n" + rawOK},
	{"101 that nobody asked for", rawGet + "\r\n", "HTTP/1.1 101 Switching\r\n\r\nraw"},
	{"chunked answer with trailers", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"},
	{"bad chunk in the answer", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n"},
	{"answer until the end", rawGet + "\r\n", "HTTP/1.1 200 OK\r\n\r\nall of it"},
	{"half an answer", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"},
	{"half an answer's head", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nContent-Le"},
	{"more than the answer", rawGet + "\r\n", rawOK + "and more"},
	{"two answers", rawGet + "\r\n", rawOK + rawOK},
	{"answer with length and chunks", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
	{"answer with two lengths", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"},
	{"answer without a reason", rawGet + "\r\n", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"},
	{"answer of another protocol", rawGet + "\r\n", "220 mail.example.com ESMTP\r\n"},
	{"ICY", rawGet + "\r\n", "ICY 200 OK\r\nicy-name: x\r\n\r\nmusic"},
	{"answer with Connection: close", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
	{"request with Connection: close", rawGet + "Connection: close\r\n\r\n", rawOK},
	{"large answer", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("0123456789", 100_000)},
	{"large head of an answer", rawGet + "\r\n", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 200<<10) + "\r\nContent-Length: 2\r\n\r\nok"},

	{"1.0", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nold"},
	{"1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\nx"},
	{"0.9", "GET /\r\n", "<html>"},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", rawOK},
	{"HTTP/2.0 in a line of 1.1", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", rawOK},
	{"http/1.1 in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"HTTP/1.10", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", rawOK},
	{"method in lower case", "get / HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"method of 40 letters", strings.Repeat("M", 40) + " / HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"no host", "GET / HTTP/1.1\r\n\r\n", rawOK},
	{"two hosts", rawGet + "Host: b\r\n\r\n", rawOK},
	{"absolute form", "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"tabs", "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"bad escape", "GET /100% HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"bytes that are no ASCII in the target", "GET /\xc3\xa9?\xff HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"fragment in the target", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"dots in the target", "GET /a/../b//c/./%2e%2E HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"semicolons in the query", "GET /?a=1;b=2&&c HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"leading CRLF", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},

	{"large head", rawGet + "X: " + strings.Repeat("x", 60<<10) + "\r\n\r\n", rawOK},
	{"head of 1 MiB", rawGet + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", rawOK},
	{"line of 100 KiB", "GET /" + strings.Repeat("x", 100<<10) + " HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},
	{"many headers", rawGet + strings.Repeat("a:\r\n", 1000) + "\r\n", rawOK},
	{"many parameters", "GET /?" + strings.Repeat("a&", 1000) + " HTTP/1.1\r\nHost: a\r\n\r\n", rawOK},

	{"Upgrade to something unknown", rawGet + "Connection: upgrade\r\nUpgrade: frob/2\r\n\r\n", rawOK},
	{"Upgrade: h2c", rawGet + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", rawOK},
	{"Upgrade: h2c with a body", rawPost + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 5\r\n\r\nhello", rawOK},
	{"another expectation", rawPost + "Expect: miracles\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"},

	{"TLS", "\x16\x03\x01\x00\x8c\x01\x00\x00\x88\x03\x03" + strings.Repeat("\xaa", 133), "\x16\x03\x03\x00\x02\x02\x00\x15\x03\x03\x00\x02\x02\x28"},
	{"binary protocol", "\x00\x01\x02\xff\xfe", "\x03\x00"},
	{"binary that begins like SETTINGS", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
	{"redis", "*1\r\n$4\r\nPING\r\n", "+PONG\r\n"},
	{"memcached", "get key\r\n", "END\r\n"},
	{"MQTT", "\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04tele", "\x20\x02\x00\x00"},
	{"PROXY protocol 1", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + rawGet + "\r\n", rawOK},
	{"PROXY protocol 2", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" + rawGet + "\r\n", rawOK},
	{"line of 1 MiB that is no HTTP", strings.Repeat("x", 1<<20), "\x00"},
}
