package cli

import (
	"errors"
	"fmt"
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
}

func (o *matchOptions) addFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.headers, "http-header", nil, "intercept only requests with this header: `NAME[=VALUE]`, or NAME~=REGEX; several must all match")
	f.StringArrayVar(&o.queries, "http-query", nil, "intercept only requests with this query parameter: `NAME[=VALUE]`, or NAME~=REGEX")
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
	for _, flag := range []struct{ test, value string }{{"equals", o.path}, {"prefix", o.pathPrefix}, {"regex", o.pathRegex}} {
		test, value := flag.test, flag.value
		if value == "" {
			continue
		}
		if test != "regex" && !strings.HasPrefix(value, "/") {
			return nil, usageError(fmt.Errorf("path %q does not begin with /", value))
		}
		if _, err := regexp.Compile(value); test == "regex" && err != nil {
			return nil, usageError(fmt.Errorf("--http-path-regex: %w", err))
		}
		all = append(all, api.Condition{On: "path", Test: test, Value: value})
	}
	if len(o.methods) > 0 {
		for i := range o.methods {
			o.methods[i] = strings.ToUpper(o.methods[i])
		}
		all = append(all, api.Condition{On: "method", Test: "anyOf", Any: o.methods})
	}
	return all, nil
}

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
