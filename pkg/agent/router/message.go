package router

import (
	"bytes"
	"errors"
	"net/url"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router/h2"
)

const (
	// maxHead bounds the head of a message, in bytes. A longer one is opaque.
	maxHead = 64 << 10
	// maxFields bounds its lines, and the parameters of a query: each takes far
	// more memory than bytes.
	maxFields = 256
)

// Opacity is why a connection cannot be looked into.
type Opacity string

// The reasons. They are words of the agent's Info.
const (
	NotHTTP   Opacity = "not HTTP"
	TLS       Opacity = "TLS"
	HTTP2     Opacity = "HTTP/2"         // after HTTP/1
	Ambiguous Opacity = "ambiguous HTTP" // parsers may differ about it
	TooLong   Opacity = "head too long"
	TooSlow   Opacity = "head too slow"
	TooMany   Opacity = "too many connections"
	Tunnelled Opacity = "upgraded by the app"
	Unasked   Opacity = "the app speaks unasked"
)

// Error implements error: that is how a parser gives up.
func (o Opacity) Error() string { return string(o) }

// errShort means that a head is not complete yet.
var errShort = errors.New("incomplete")

// field is one line of a head, as it was sent.
type field struct{ name, value string }

// request is the head of a request. Its strings do not refer to the buffer that it
// was read from.
type request struct {
	method, target string
	path           string // unescaped, without the query
	query          url.Values
	minor          byte // of the version 1.x, '0' or '1'
	fields         []field
	size           int // of the head, in bytes
	body           framing
	lasts          bool // the client means to send more requests
	expects        bool // it waits for a 100 before the body
	upgrade        string

	whole   bool // all of it has been passed on
	copiers []*Copier
	taps    []*Tap // of the copies, to see when they are answered

	exchange *Exchange // nil: nobody watches
	seen     func(Exchange)
}

// answer is the head of an answer.
type answer struct {
	status int
	size   int
	body   framing
	lasts  bool
}

// parseRequest reads the head at the beginning of b. It returns errShort when b may
// become one, and an Opacity when it is nothing that the router understands.
func parseRequest(b []byte) (*request, error) {
	if n := min(len(b), len(h2.Preface)); n >= 4 && string(b[:n]) == h2.Preface[:n] {
		if n < len(h2.Preface) {
			return nil, errShort
		}
		return nil, HTTP2
	}
	if why := foreign(b); why != "" {
		return nil, why
	}
	head, err := cutHead(b)
	if err != nil {
		return nil, err
	}
	line, fields, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	r := &request{fields: fields, size: len(head)}
	var version string
	var ok bool
	if r.method, line, ok = strings.Cut(line, " "); !ok || !isToken(r.method) {
		return nil, Ambiguous
	}
	if r.target, version, ok = strings.Cut(line, " "); !ok {
		return nil, Ambiguous
	}
	if r.minor, err = parseVersion(version); err != nil {
		return nil, err
	}
	if err := r.parseTarget(); err != nil {
		return nil, err
	}
	hosts := r.values("Host")
	if len(hosts) > 1 || len(hosts) == 0 && r.minor == '1' {
		return nil, Ambiguous
	}
	if r.body, err = framingOf(fields, r.minor); err != nil {
		return nil, err
	}
	options := r.tokens("Connection")
	r.lasts = r.minor == '1' && !options["close"] || r.minor == '0' && options["keep-alive"]
	for _, expect := range r.values("Expect") {
		if !strings.EqualFold(expect, "100-continue") {
			return nil, Ambiguous
		}
		r.expects = true
	}
	if options["upgrade"] {
		r.upgrade = strings.Join(r.values("Upgrade"), ",")
	}
	return r, nil
}

// foreignBytes is how many bytes foreign looks at, but for the first line's end.
const foreignBytes = 33

// foreign says what b is that is no request of HTTP/1, as soon as that can be told.
func foreign(b []byte) Opacity {
	switch {
	case len(b) == 0:
		return ""
	case b[0] == 0x16: // a handshake record: RFC 8446, 5.1
		return TLS
	}
	// A method and a space; no method that anybody uses is longer than 32 bytes.
	method, _, found := bytes.Cut(b[:min(len(b), foreignBytes)], []byte(" "))
	if !isToken(string(method)) || !found && len(method) == foreignBytes {
		return NotHTTP
	}
	line, _, whole := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if whole && !bytes.Contains(line, []byte(" HTTP/")) {
		return NotHTTP
	}
	return ""
}

// cutHead returns the head that b begins with, with the empty line at its end.
func cutHead(b []byte) ([]byte, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	switch {
	case end >= 0 && end+4 <= maxHead:
		return b[:end+4], nil
	case end >= 0 || len(b) >= maxHead:
		return nil, TooLong
	case bytes.Contains(b, []byte("\n\n")), bytes.Contains(b, []byte("\n\r\n")):
		return nil, Ambiguous // a parser that takes a bare LF sees an end
	}
	return nil, errShort
}

// parseHead splits a head into its first line and its fields. Every line ends with
// CRLF, and neither CR nor LF stands anywhere else.
func parseHead(head []byte) (first string, fields []field, err error) {
	if bytes.Count(head, []byte("\n")) > maxFields {
		return "", nil, TooLong
	}
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	for n, line := range lines {
		if strings.ContainsAny(line, "\r\n\x00") {
			return "", nil, Ambiguous
		}
		if n == 0 {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		if !ok || !isToken(name) || !isValue(value) {
			return "", nil, Ambiguous // among them folded lines, and a space before the colon
		}
		fields = append(fields, field{name, value})
	}
	return lines[0], fields, nil
}

func parseVersion(s string) (minor byte, err error) {
	switch s {
	case "HTTP/1.0", "HTTP/1.1":
		return s[len(s)-1], nil
	}
	return 0, Ambiguous
}

// parseTarget accepts the origin form and "*" of OPTIONS. The absolute form names a
// host twice, and CONNECT makes a tunnel.
func (r *request) parseTarget() error {
	for i := range len(r.target) {
		if r.target[i] <= ' ' || r.target[i] >= 0x7f || r.target[i] == '#' {
			return Ambiguous
		}
	}
	path, query, _ := strings.Cut(r.target, "?")
	if path == "*" && r.method == "OPTIONS" && r.target == "*" {
		r.path = path
		return nil
	}
	if strings.Count(query, "&") > maxFields {
		return TooLong
	}
	unescaped, err := url.PathUnescape(path)
	if !strings.HasPrefix(path, "/") || err != nil || r.method == "CONNECT" {
		return Ambiguous
	}
	r.path = unescaped
	r.query, _ = url.ParseQuery(query) // what is malformed matches nothing
	return nil
}

// parseAnswer reads the head of an answer to a request of this method.
func parseAnswer(b []byte, method string) (*answer, error) {
	if n := min(len(b), len("HTTP/1.")); string(b[:n]) != "HTTP/1."[:n] {
		return nil, Ambiguous
	}
	head, err := cutHead(b)
	if err != nil {
		return nil, err
	}
	line, fields, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	version, rest, ok := strings.Cut(line, " ")
	minor, err := parseVersion(version)
	if err != nil || !ok || len(rest) < 3 || len(rest) > 3 && rest[3] != ' ' || !isValue(rest) {
		return nil, Ambiguous
	}
	a := &answer{size: len(head)}
	for _, digit := range []byte(rest[:3]) {
		if digit < '0' || digit > '9' {
			return nil, Ambiguous
		}
		a.status = a.status*10 + int(digit-'0')
	}
	if a.status < 100 {
		return nil, Ambiguous
	}
	if a.body, err = framingOf(fields, minor); err != nil {
		return nil, err
	}
	options := tokensOf(fields, "Connection")
	a.lasts = minor == '1' && !options["close"] || minor == '0' && options["keep-alive"]
	switch {
	case method == "HEAD", a.status < 200, a.status == 204, a.status == 304:
		a.body = framing{}
	case !a.body.chunked && !a.body.counted:
		a.body.untilEnd = true
		a.lasts = false
	}
	return a, nil
}

// lastHead returns the head of an answer as one that no other follows.
func lastHead(head []byte) []byte {
	var out strings.Builder
	for line := range strings.SplitAfterSeq(strings.TrimSuffix(string(head), "\r\n"), "\r\n") {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), ":")
		switch strings.ToLower(name) {
		case "keep-alive":
			continue
		case "connection": // some clients look at the first of them alone
			if line = without(name, value, "keep-alive"); line == "" {
				continue
			}
			line += "\r\n"
		}
		out.WriteString(line)
	}
	return []byte(out.String() + "Connection: close\r\n\r\n")
}

// isToken reports whether s is a token of RFC 9110, 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isValue reports whether s has no control characters but tabs.
func isValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// values returns the values of all fields of a name.
func (r *request) values(name string) []string { return valuesOf(r.fields, name) }

func (r *request) tokens(name string) map[string]bool { return tokensOf(r.fields, name) }

func valuesOf(fields []field, name string) (values []string) {
	for _, f := range fields {
		if strings.EqualFold(f.name, name) {
			values = append(values, f.value)
		}
	}
	return values
}

// tokensOf returns the list members, in lower case, of all fields of a name.
func tokensOf(fields []field, name string) map[string]bool {
	tokens := map[string]bool{}
	for _, value := range valuesOf(fields, name) {
		for token := range strings.SplitSeq(value, ",") {
			if token = strings.Trim(token, " \t"); isToken(token) {
				tokens[strings.ToLower(token)] = true
			}
		}
	}
	return tokens
}

// repeats reports whether the request may be sent twice: its method is safe, and
// it has no body.
func (r *request) repeats() bool {
	switch r.method {
	case "GET", "HEAD", "OPTIONS":
		return r.body.none()
	}
	return false
}

// forget drops what is not needed once it is known who answers.
func (r *request) forget() { r.fields, r.query, r.path, r.target = nil, nil, "", "" }
