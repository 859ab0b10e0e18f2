package router

import (
	"strconv"
	"strings"
)

// framing says where the body of a message ends.
type framing struct {
	counted  bool  // after length bytes
	length   int64 // when counted
	chunked  bool
	untilEnd bool // with the connection
}

// none reports whether there is no body.
func (f framing) none() bool { return !f.chunked && !f.untilEnd && f.length == 0 }

// framingOf reads the fields that frame a body. Every combination that parsers
// resolve differently is Ambiguous.
func framingOf(fields []field, minor byte) (framing, error) {
	lengths, codings := valuesOf(fields, "Content-Length"), valuesOf(fields, "Transfer-Encoding")
	switch {
	case len(lengths) == 0 && len(codings) == 0:
		return framing{}, nil
	case len(lengths) == 1 && len(codings) == 0:
		// ParseInt takes a sign; net/http does not.
		if strings.Trim(lengths[0], "0123456789") != "" {
			return framing{}, Ambiguous
		}
		n, err := strconv.ParseInt(lengths[0], 10, 64)
		if err != nil {
			return framing{}, Ambiguous
		}
		return framing{counted: true, length: n}, nil
	case len(lengths) == 0 && len(codings) == 1 && isToken(codings[0]) && strings.EqualFold(codings[0], "chunked") && minor == '1':
		if announced := tokensOf(fields, "Trailer"); announced["transfer-encoding"] || announced["content-length"] || announced["trailer"] {
			return framing{}, Ambiguous
		}
		return framing{chunked: true}, nil
	}
	return framing{}, Ambiguous
}

// body finds the end of a body whose bytes it is shown in pieces.
type body struct {
	framing
	left     int64 // of a counted body, or of a chunk with its CRLF
	line     []byte
	state    chunkState
	excess   int64 // bytes of chunk lines beyond what maxExcess explains
	trailing int   // bytes of the trailers
}

// chunkState is what a chunked body continues with.
type chunkState int

const (
	atSize    chunkState = iota
	inChunk              // and the CRLF after it
	atTrailer            // or the empty line at the end
	atEnd
)

func newBody(f framing) *body { return &body{framing: f, left: f.length} }

// take returns how many bytes of b belong to the body, and whether it ends with
// them. It returns Ambiguous for chunks that parsers may read differently; n bytes
// are the body's all the same.
func (d *body) take(b []byte) (n int, ended bool, err error) {
	switch {
	case d.untilEnd:
		return len(b), false, nil
	case !d.chunked:
		n = int(min(int64(len(b)), d.left))
		d.left -= int64(n)
		return n, d.left == 0, nil
	}
	for n < len(b) && d.state != atEnd {
		if d.state == inChunk {
			took := int(min(int64(len(b)-n), d.left))
			if err := d.checkEnd(b[n : n+took]); err != nil {
				return n, false, err
			}
			n += took
			if d.left -= int64(took); d.left == 0 {
				d.state = atSize
			}
			continue
		}
		d.line = append(d.line, b[n])
		n++
		switch length := len(d.line); {
		case length > maxChunkLine:
			return n, false, Ambiguous
		case length >= 2 && d.line[length-1] == '\n' && d.line[length-2] == '\r':
			if err := d.endLine(string(d.line[:length-2])); err != nil {
				return n, false, err
			}
			d.line = d.line[:0]
		case d.line[length-1] == '\n', length >= 2 && d.line[length-2] == '\r':
			return n, false, Ambiguous
		}
	}
	return n, d.state == atEnd, nil
}

const (
	// maxChunkLine bounds a chunk's size with its extensions, and a trailer.
	maxChunkLine = 4000
	// maxExcess is how many bytes the lines of chunks may have beyond 16 and twice
	// the data of each; net/http refuses more.
	maxExcess = 16 << 10
	// maxTrailers bounds all trailers of a body.
	maxTrailers = 4000
)

// checkEnd makes sure that a chunk ends with CRLF. part is what comes now of the
// d.left bytes.
func (d *body) checkEnd(part []byte) error {
	for i := max(0, d.left-2); i < int64(len(part)); i++ {
		rest := d.left - i // 2: CR is expected, 1: LF
		if rest == 2 && part[i] != '\r' || rest == 1 && part[i] != '\n' {
			return Ambiguous
		}
	}
	return nil
}

// endLine is the end of a line that is no part of a chunk.
func (d *body) endLine(line string) error {
	if d.state == atTrailer {
		d.trailing += len(line) + 2
		name, value, ok := strings.Cut(line, ":")
		switch {
		case line == "":
			d.state = atEnd
		case !ok || !isToken(name) || !isValue(value) || d.trailing > maxTrailers:
			return Ambiguous
		}
		return nil
	}
	// net/http allows blanks at the end of the line, but none before an extension.
	digits, extension, _ := strings.Cut(strings.TrimRight(line, " \t"), ";")
	// Sixteen digits and a sign are where parsers differ.
	if digits == "" || len(digits) > 15 || strings.Trim(digits, "0123456789abcdefABCDEF") != "" || !isValue(extension) {
		return Ambiguous
	}
	size, err := strconv.ParseInt(digits, 16, 64)
	if err != nil {
		return Ambiguous
	}
	d.excess = max(0, d.excess+int64(len(line))+2-16-2*size)
	if d.excess > maxExcess {
		return Ambiguous
	}
	d.state, d.left = inChunk, size+2
	if size == 0 {
		d.state = atTrailer
	}
	return nil
}
