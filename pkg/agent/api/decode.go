package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// errTrailing is what follows the JSON value of a request.
var errTrailing = errors.New("more than one JSON value")

// decodeStrictly reads one JSON value into v and refuses fields that v does
// not have: a request that is understood in part alone may do more than was
// meant.
func decodeStrictly(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

// maxReply bounds an answer other than Info.
const maxReply = 64 << 10

// readReply reads one JSON value of at most limit bytes, fields that T does
// not have left out.
func readReply[T any](r io.Reader, limit int64, what string) (T, error) {
	var v, none T
	if err := json.NewDecoder(io.LimitReader(r, limit)).Decode(&v); err != nil {
		return none, fmt.Errorf("read %s: %w", what, err)
	}
	return v, nil
}
