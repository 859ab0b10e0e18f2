package intercept

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/router"
	"github.com/kubectl-tele/kubectl-tele/pkg/har"
	"github.com/kubectl-tele/kubectl-tele/pkg/version"
)

const (
	// maxBody is what is recorded of a body, in bytes.
	maxBody = 1 << 20
	// maxUnpacked bounds what a compressed body is unpacked to.
	maxUnpacked = 8 << 20
)

// isSecret reports whether a header is left out of a record unless it is asked for. Its
// name is in lower case.
func isSecret(name string) bool {
	for _, word := range []string{"authorization", "authentication", "cookie", "token", "secret", "password", "apikey", "api-key", "api_key", "credential", "signature"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// record begins the record that the intercept is asked for, before anything is
// changed. stop ends it.
func (i *Intercept) record() (stop func(), err error) {
	if i.spec.Record == "" {
		return func() {}, nil
	}
	w, err := har.Create(i.spec.Record, har.Creator{Name: "kubectl tele", Version: version.Version}, string(i.target.handler))
	if err != nil {
		return nil, fmt.Errorf("record requests: %w", err)
	}
	var full sync.Once
	i.handler.Tap(func() *router.Tap {
		return router.NewTap(maxBody, func(e router.Exchange, asked, answered *router.Message) {
			if err := w.Add(entryOf(e, asked, answered, i.spec.RecordSecrets)); err != nil {
				full.Do(func() { i.log.Warn("requests are not recorded any more", "file", i.spec.Record, "err", err) })
			}
		})
	})
	return func() {
		_ = w.Close()
		if i.failure != nil {
			_ = os.Remove(i.spec.Record) // nothing was in force
			return
		}
		i.log.Info("requests recorded", "file", i.spec.Record, "requests", w.Entries())
	}, nil
}

// entryOf makes an entry of what a tap has seen.
func entryOf(e router.Exchange, asked, answered *router.Message, secrets bool) har.Entry {
	millis := float64(e.Took) / float64(time.Millisecond)
	return har.Entry{
		Started: e.Begin, Millis: millis, Error: e.Failure, Timings: har.Timings{Send: 0, Wait: millis, Receive: 0},
		Request:  har.NewRequest(e.Protocol, e.Method, e.Host, e.Path, messageOf(asked, false, secrets), e.Sent),
		Response: har.NewResponse(e.Protocol, e.Status, messageOf(answered, true, secrets), e.Got),
	}
}

// messageOf undoes the framing of a body, and the compression of an answer's: a request
// is to be sent again as it was.
func messageOf(m *router.Message, answer, secrets bool) har.Message {
	out := har.Message{Body: m.Body, Cut: m.Cut}
	packed := ""
	for _, f := range m.Fields {
		name := strings.ToLower(f.Name)
		if name == "content-encoding" {
			packed = strings.ToLower(f.Value)
		}
		if secrets || !isSecret(name) {
			out.Fields = append(out.Fields, har.Pair{Name: f.Name, Value: f.Value})
		}
	}
	if m.Chunked {
		// Of a body that was cut, what there is.
		out.Body, _ = io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(m.Body)))
	}
	if packed == "gzip" && answer && !m.Cut {
		if plain, err := unpack(out.Body); err == nil {
			out.Body = plain
		}
	}
	return out
}

func unpack(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	if err == nil && len(plain) > maxUnpacked {
		err = errors.New("too large")
	}
	return plain, err
}
