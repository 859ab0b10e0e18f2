package api

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Condition is one thing that a request must have for a rule to be about it. A
// rule may have several: then all of them must hold.
type Condition struct {
	On    Subject  `json:"on"`
	Name  string   `json:"name,omitempty"` // of the header or query parameter
	Test  Test     `json:"test"`
	Value string   `json:"value,omitempty"`
	Any   []string `json:"any,omitempty"` // the methods
}

// Subject is the part of a request that a Condition looks at.
type Subject string

// The subjects. A path is looked at as it was sent, without its query, escapes
// decoded.
const (
	OnHeader Subject = "header" // names are equal in any case; of several, one must pass
	OnQuery  Subject = "query"
	OnPath   Subject = "path"
	OnMethod Subject = "method"
)

// Test is what a Condition makes of the subject.
type Test string

// The tests. A regular expression has Go's syntax and must match the whole.
const (
	Present Test = "present" // of a header or a query parameter
	Equals  Test = "equals"
	Prefix  Test = "prefix" // of a path
	Regex   Test = "regex"
	AnyOf   Test = "anyOf" // of methods
)

const (
	// maxConditions bounds the conditions of a rule.
	maxConditions = 32
	// maxPattern bounds names, values and regular expressions, in bytes.
	maxPattern = 1024
)

// String returns the condition as the flags of the command line spell it.
func (c Condition) String() string {
	switch {
	case c.On == OnMethod:
		return "method=" + strings.Join(c.Any, ",")
	case c.On == OnPath && c.Test == Prefix:
		return "path=" + c.Value + "*"
	case c.On == OnPath && c.Test == Regex:
		return "path~=" + c.Value
	case c.On == OnPath:
		return "path=" + c.Value
	}
	text := c.Name
	if c.On == OnQuery {
		text = "?" + text
	}
	switch c.Test {
	case Equals:
		text += "=" + c.Value
	case Regex:
		text += "~=" + c.Value
	}
	return text
}

// Pattern compiles the regular expression of a Condition whose Test is Regex.
func (c Condition) Pattern() (*regexp.Regexp, error) {
	if _, err := regexp.Compile(c.Value); err != nil { // a)|(b would be one in the next line
		return nil, err
	}
	return regexp.Compile(`\A(?:` + c.Value + `)\z`)
}

// validate returns an error unless the condition says what to look at and how.
func (c Condition) validate() error {
	var tests []Test
	switch c.On {
	case OnHeader, OnQuery:
		tests = []Test{Present, Equals, Regex}
		if c.Name == "" || c.On == OnHeader && strings.Trim(c.Name, tokenBytes) != "" {
			return fmt.Errorf("%q is no name of a %s", c.Name, c.On)
		}
	case OnPath:
		tests = []Test{Equals, Prefix, Regex}
		if c.Test != Regex && !strings.HasPrefix(c.Value, "/") {
			return fmt.Errorf("path %q does not begin with /", c.Value)
		}
	case OnMethod:
		tests = []Test{AnyOf}
		if len(c.Any) == 0 || len(c.Any) > maxConditions {
			return fmt.Errorf("%d methods", len(c.Any))
		}
	default:
		return fmt.Errorf("unknown subject %q", c.On)
	}
	if !slices.Contains(tests, c.Test) {
		return fmt.Errorf("unknown test %q of a %s", c.Test, c.On)
	}
	if len(c.Name) > maxPattern || len(c.Value) > maxPattern {
		return fmt.Errorf("longer than %d bytes", maxPattern)
	}
	if c.Test == Regex {
		if _, err := c.Pattern(); err != nil {
			return err
		}
	}
	return nil
}

// tokenBytes are what a header's name may have (RFC 9110, 5.6.2).
const tokenBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"

// ValidateConditions returns an error unless each condition is complete. None at
// all stand for every request.
func ValidateConditions(all []Condition) error {
	if len(all) > maxConditions {
		return fmt.Errorf("more than %d conditions", maxConditions)
	}
	var errs []error
	for _, c := range all {
		if err := c.validate(); err != nil {
			errs = append(errs, fmt.Errorf("condition: %w", err))
		}
	}
	return errors.Join(errs...)
}
