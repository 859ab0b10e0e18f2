package environ

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Variable is one variable of an environment.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// String returns NAME=VALUE.
func (v Variable) String() string { return v.Name + "=" + v.Value }

// Environment is what a process would be started with.
type Environment struct {
	Variables []Variable `json:"variables"`
	// Missing lists what could not be had, as "NAME: reason".
	Missing []string `json:"missing,omitempty"`
}

// Strings returns the variables as os/exec takes them.
func (e Environment) Strings() []string {
	all := make([]string, 0, len(e.Variables))
	for _, v := range e.Variables {
		all = append(all, v.String())
	}
	return all
}

// FromStrings returns NAME=VALUE entries, as of os.Environ, as variables. What has no name
// is left out: Windows has such.
func FromStrings(entries []string) (all []Variable) {
	for _, entry := range entries {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			all = append(all, Variable{name, value})
		}
	}
	return all
}

// Has reports whether there is a variable of that name.
func (e Environment) Has(name string) bool {
	for _, v := range e.Variables {
		if v.Name == name {
			return true
		}
	}
	return false
}

// ParseNUL reads what /proc/PID/environ shows and `env -0` prints: NAME=VALUE, each
// with a NUL behind it. Of a name that comes twice the last value counts. It returns an
// error if the text was cut short, or is something else.
func ParseNUL(b []byte) ([]Variable, error) {
	if len(b) == 0 {
		return nil, nil
	}
	text, ok := bytes.CutSuffix(b, []byte{0})
	if !ok {
		return nil, errors.New("the environment is cut short")
	}
	var all []Variable
	index := map[string]int{}
	for entry := range bytes.SplitSeq(text, []byte{0}) {
		name, value, ok := strings.Cut(string(entry), "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%.40q is no variable", entry)
		}
		if i, twice := index[name]; twice {
			all[i].Value = value
			continue
		}
		index[name] = len(all)
		all = append(all, Variable{name, value})
	}
	return all, nil
}
