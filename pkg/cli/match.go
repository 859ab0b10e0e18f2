package cli

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
)

// personalHeader is the header of --personal.
const personalHeader = "x-tele-user"

// matchOptions say which requests are meant.
type matchOptions struct {
	headers    []string
	queries    []string
	methods    []string
	path       string
	pathPrefix string
	pathRegex  string
	personal   bool
	flags      *pflag.FlagSet
}

func (o *matchOptions) addFlags(f *pflag.FlagSet) {
	o.flags = f
	f.StringArrayVar(&o.headers, "http-header", nil, "intercept only requests with this header: `NAME[=VALUE]`, or NAME~=REGEX for the whole value; several must all match")
	f.StringArrayVar(&o.queries, "http-query", nil, "intercept only requests with this query parameter: `NAME[=VALUE]`, or NAME~=REGEX for the whole value")
	f.StringSliceVar(&o.methods, "http-method", nil, "intercept only requests of this `METHOD`, or one of several")
	f.StringVar(&o.path, "http-path", "", "intercept only requests of this `PATH`")
	f.StringVar(&o.pathPrefix, "http-path-prefix", "", "intercept only requests whose path begins with `PREFIX`")
	f.StringVar(&o.pathRegex, "http-path-regex", "", "intercept only requests whose path, as a whole, matches `REGEX`")
	f.BoolVar(&o.personal, "personal", false, "intercept only requests with the header "+personalHeader+": and your user name")
}

// conditions returns what the flags ask for, in the order of their help. me is the
// user of --personal.
func (o *matchOptions) conditions(me string) ([]api.Condition, error) {
	var all []api.Condition
	if o.personal {
		if me == "" {
			return nil, usageError(errors.New("--personal needs the name of a user, and the kubeconfig names none"), "--http-header "+personalHeader+"=NAME")
		}
		all = append(all, api.Condition{On: "header", Name: personalHeader, Test: "equals", Value: me})
	}
	for _, flag := range []struct {
		on     string
		values []string
	}{{"header", o.headers}, {"query", o.queries}} {
		for _, text := range flag.values {
			c, err := named(flag.on, text)
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	for _, flag := range []struct{ name, test, value string }{
		{"http-path", "equals", o.path}, {"http-path-prefix", "prefix", o.pathPrefix}, {"http-path-regex", "regex", o.pathRegex},
	} {
		test, value := flag.test, flag.value
		switch {
		case value == "" && o.flags.Changed(flag.name): // a variable that is not set would take everybody's
			return nil, usageError(fmt.Errorf("--%s is empty", flag.name), "leave it out to take all paths")
		case value == "":
			continue
		case test != "regex" && !strings.HasPrefix(value, "/"):
			return nil, usageError(fmt.Errorf("path %q does not begin with /", value))
		case test != "regex" && strings.Contains(value, "?"):
			return nil, usageError(fmt.Errorf("--%s %s: a path has no query", flag.name, value), "--http-query NAME=VALUE")
		}
		if _, err := regexp.Compile(value); test == "regex" && err != nil {
			return nil, usageError(fmt.Errorf("--http-path-regex: %w", err))
		}
		all = append(all, api.Condition{On: "path", Test: test, Value: value})
	}
	if o.flags.Changed("http-method") {
		for i, method := range o.methods {
			if method = strings.TrimSpace(method); method == "" || strings.Trim(method, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
				return nil, usageError(fmt.Errorf("--http-method: %q is no method", method), "--http-method GET,POST")
			}
			o.methods[i] = strings.ToUpper(method)
		}
		if len(o.methods) == 0 {
			return nil, usageError(errors.New("--http-method is empty"), "leave it out to take all methods")
		}
		all = append(all, api.Condition{On: "method", Test: "anyOf", Any: o.methods})
	}
	return all, nil
}

// curl returns a command whose request meets the conditions at a host, as far as they
// say what that is.
func curl(match []api.Condition, host string) string {
	words, path, query := []string{"curl"}, "/", url.Values{}
	for _, c := range match {
		switch {
		case c.Test == "regex" || c.Test == "present":
		case c.On == "header":
			words = append(words, "-H", quoted(c.Name+": "+c.Value))
		case c.On == "query":
			query.Add(c.Name, c.Value)
		case c.On == "path":
			path = (&url.URL{Path: c.Value}).EscapedPath()
		case c.On == "method" && c.Any[0] != "GET":
			words = append(words, "-X", c.Any[0])
		}
	}
	target := "http://" + host
	if len(query) > 0 || path != "/" {
		target += path
	}
	if len(query) > 0 {
		target = quoted(target + "?" + query.Encode())
	}
	return strings.Join(append(words, target), " ")
}

// quoted returns a word for a POSIX shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// named reads NAME, NAME=VALUE or NAME~=REGEX.
func named(on, text string) (api.Condition, error) {
	c := api.Condition{On: on, Test: "present"}
	name, value, found := strings.Cut(text, "=")
	c.Name = name
	if found {
		c.Test, c.Value = "equals", value
		if regex, ok := strings.CutSuffix(name, "~"); ok {
			c.Name, c.Test = regex, "regex"
			if _, err := regexp.Compile(value); err != nil {
				return c, usageError(fmt.Errorf("--http-%s %s: %w", on, text, err))
			}
		}
	}
	if c.Name == "" || on == "header" && strings.ContainsAny(c.Name, " \t:,;()") {
		return c, usageError(fmt.Errorf("--http-%s %s: %q is no name", on, text, c.Name), fmt.Sprintf("--http-%s NAME=VALUE", on))
	}
	return c, nil
}
