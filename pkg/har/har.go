// Package har keeps requests and their answers in files that the tools of browsers
// read: HTTP Archive 1.2 (http://www.softwareishard.com/blog/har-12-spec/). What is
// beyond that format has names that begin with an underscore, as it asks.
package har

import (
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// File is a whole archive.
type File struct {
	Log Log `json:"log"`
}

// Log is what a File holds.
type Log struct {
	Version string  `json:"version"`
	Creator Creator `json:"creator"`
	// Handler is HOST:PORT of what answered.
	Handler string  `json:"_handler,omitempty"`
	Entries []Entry `json:"entries"`
}

// Creator is the program that has written a file.
type Creator struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Entry is a request and its answer.
type Entry struct {
	Started  time.Time `json:"startedDateTime"`
	Millis   float64   `json:"time"`
	Request  Request   `json:"request"`
	Response Response  `json:"response"`
	Cache    struct{}  `json:"cache"`
	Timings  Timings   `json:"timings"`
	Error    string    `json:"_error,omitempty"` // why there is no whole answer
}

// Timings divide the time of an entry; -1: not known.
type Timings struct {
	Send    float64 `json:"send"`
	Wait    float64 `json:"wait"`
	Receive float64 `json:"receive"`
}

// Request is what was asked. Sizes are in bytes, -1: not known.
type Request struct {
	Method      string    `json:"method"`
	URL         string    `json:"url"`
	HTTPVersion string    `json:"httpVersion"`
	Cookies     []Pair    `json:"cookies"`
	Headers     []Pair    `json:"headers"`
	QueryString []Pair    `json:"queryString"`
	PostData    *PostData `json:"postData,omitempty"`
	HeadersSize int       `json:"headersSize"`
	BodySize    int64     `json:"bodySize"`
}

// Pair is a header, or a parameter of a query.
type Pair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// PostData is the body of a request.
type PostData struct {
	MimeType string `json:"mimeType"`
	Text     string `json:"text"`
	Params   []Pair `json:"params,omitempty"`    // of a form, where there is no Text
	Encoding string `json:"_encoding,omitempty"` // base64, or none
	Cut      bool   `json:"_cut,omitempty"`      // the body was longer
}

// Response is what was answered. Status 0: nothing was.
type Response struct {
	Status      int     `json:"status"`
	StatusText  string  `json:"statusText"`
	HTTPVersion string  `json:"httpVersion"`
	Cookies     []Pair  `json:"cookies"`
	Headers     []Pair  `json:"headers"`
	Content     Content `json:"content"`
	RedirectURL string  `json:"redirectURL"`
	HeadersSize int     `json:"headersSize"`
	BodySize    int64   `json:"bodySize"`
}

// Content is the body of an answer.
type Content struct {
	Size     int64  `json:"size"`
	MimeType string `json:"mimeType"`
	Text     string `json:"text,omitempty"`
	Encoding string `json:"encoding,omitempty"` // base64, or none
	Cut      bool   `json:"_cut,omitempty"`
}

// Message is what is made an entry of: a head, and the body as far as it was kept.
type Message struct {
	Fields []Pair
	Body   []byte
	Cut    bool
}

// header returns the first value of a header.
func (m Message) header(name string) string {
	for _, f := range m.Fields {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// NewRequest describes a request. target is its path, with the query; size is of its
// body.
func NewRequest(protocol, method, host, target string, m Message, size int64) Request {
	r := Request{
		Method: method, URL: "http://" + host + target, HTTPVersion: protocol, Cookies: []Pair{}, Headers: notNil(m.Fields), QueryString: []Pair{},
		HeadersSize: -1, BodySize: size,
	}
	_, query, _ := strings.Cut(target, "?")
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		r.QueryString = append(r.QueryString, Pair{unescaped(name), unescaped(value)})
	}
	if len(m.Body) > 0 || m.Cut {
		text, encoding := textOf(m.Body)
		r.PostData = &PostData{MimeType: m.header("Content-Type"), Text: text, Encoding: encoding, Cut: m.Cut}
	}
	return r
}

// NewResponse describes an answer; size is of its body.
func NewResponse(protocol string, status int, m Message, size int64) Response {
	text, encoding := textOf(m.Body)
	return Response{
		Status: status, StatusText: http.StatusText(status), HTTPVersion: protocol, Cookies: []Pair{}, Headers: notNil(m.Fields),
		Content:     Content{Size: size, MimeType: m.header("Content-Type"), Text: text, Encoding: encoding, Cut: m.Cut},
		RedirectURL: m.header("Location"), HeadersSize: -1, BodySize: size,
	}
}

// Bytes returns the body of a request.
func (p *PostData) Bytes() ([]byte, error) {
	if p == nil {
		return nil, nil
	}
	switch kind, _, _ := mime.ParseMediaType(p.MimeType); {
	case p.Encoding == "base64":
		return base64.StdEncoding.DecodeString(p.Text)
	case p.Text != "" || len(p.Params) == 0:
		return []byte(p.Text), nil
	case kind != "application/x-www-form-urlencoded":
		return nil, fmt.Errorf("it has parameters of %q, and no text", p.MimeType)
	}
	var form []string
	for _, param := range p.Params {
		form = append(form, url.QueryEscape(param.Name)+"="+url.QueryEscape(param.Value))
	}
	return []byte(strings.Join(form, "&")), nil
}

func textOf(body []byte) (text, encoding string) {
	if utf8.Valid(body) {
		return string(body), ""
	}
	return base64.StdEncoding.EncodeToString(body), "base64"
}

func unescaped(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

func notNil(fields []Pair) []Pair {
	if fields == nil {
		return []Pair{}
	}
	return fields
}
