package router

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

// Match is what requests a rule is about. The zero value is about all.
type Match struct{ conditions []condition }

type condition struct {
	api.Condition
	pattern *regexp.Regexp // of a Regex
}

// NewMatch makes a Match of conditions, which must all hold.
func NewMatch(all []api.Condition) (Match, error) {
	if err := api.ValidateConditions(all); err != nil {
		return Match{}, err
	}
	var m Match
	for _, c := range all {
		compiled := condition{Condition: c}
		if c.Test == api.Regex {
			var err error
			if compiled.pattern, err = c.Pattern(); err != nil {
				return Match{}, fmt.Errorf("%s: %w", c, err)
			}
		}
		m.conditions = append(m.conditions, compiled)
	}
	return m, nil
}

// All reports whether the rule is about every connection, whatever it carries.
func (m Match) All() bool { return len(m.conditions) == 0 }

// String spells the conditions; "" for all requests.
func (m Match) String() string {
	var parts []string
	for _, c := range m.conditions {
		parts = append(parts, c.String())
	}
	return strings.Join(parts, " ")
}

// matches reports whether a request is what the rule is about.
func (m Match) matches(r *request) bool {
	return !slices.ContainsFunc(m.conditions, func(c condition) bool { return !c.holds(r) })
}

func (c condition) holds(r *request) bool {
	switch c.On {
	case api.OnHeader:
		return slices.ContainsFunc(r.values(c.Name), c.passes)
	case api.OnQuery:
		return slices.ContainsFunc(r.query[c.Name], c.passes)
	case api.OnPath:
		return c.passes(r.path)
	case api.OnMethod:
		return slices.Contains(c.Any, r.method)
	}
	return false
}

func (c condition) passes(value string) bool {
	switch c.Test {
	case api.Present:
		return true
	case api.Equals:
		return value == c.Value
	case api.Prefix:
		return strings.HasPrefix(value, c.Value)
	case api.Regex:
		return c.pattern.MatchString(value)
	}
	return false
}

// Contains reports whether every request that other is about is one that m is
// about, as far as the conditions alone tell: of two regular expressions only
// equal ones are known to.
func (m Match) Contains(other Match) bool {
	return !slices.ContainsFunc(m.conditions, func(c condition) bool {
		return !slices.ContainsFunc(other.conditions, func(narrow condition) bool { return c.follows(narrow) })
	})
}

// follows reports whether c holds wherever narrow does.
func (c condition) follows(narrow condition) bool {
	if c.On != narrow.On {
		return false
	}
	if c.On == api.OnMethod {
		return !slices.ContainsFunc(narrow.Any, func(method string) bool { return !slices.Contains(c.Any, method) })
	}
	same := c.Name == narrow.Name || c.On == api.OnHeader && strings.EqualFold(c.Name, narrow.Name)
	if !same {
		return false
	}
	switch {
	case c.Test == api.Present, c.Test == narrow.Test && c.Value == narrow.Value:
		return true
	case narrow.Test == api.Equals:
		return c.passes(narrow.Value)
	case narrow.Test == api.Prefix && c.Test == api.Prefix:
		return strings.HasPrefix(narrow.Value, c.Value)
	}
	return false
}

// Within reports whether other contains m and more.
func (m Match) Within(other Match) bool { return other.Contains(m) && !m.Contains(other) }
