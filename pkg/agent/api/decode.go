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

// errPort is the error of the port 0 in a request.
func errPort(what string) error { return fmt.Errorf("%s: 0 is not a port", what) }
