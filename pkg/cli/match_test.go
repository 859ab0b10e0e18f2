package cli

import (
	"testing"

	"github.com/spf13/pflag"
)

// TestCurl: the command that is shown sends a request that is meant.
func TestCurl(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--personal"}, `curl -H 'x-tele-user: al'\''ice' http://a.b`},
		{[]string{"--personal", "--http-path-prefix", "/b c", "--http-method", "post,put"}, `curl -H 'x-tele-user: al'\''ice' -X POST http://a.b/b%20c`},
		{[]string{"--http-header", "x=y", "--http-header", "z~=.*", "--http-query", "q=a&b", "--http-query", "here"}, `curl -H 'x: y' 'http://a.b/?q=a%26b'`},
	} {
		var o matchOptions
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		o.addFlags(flags)
		if err := flags.Parse(test.args); err != nil {
			t.Fatal(err)
		}
		match, err := o.conditions("al'ice")
		if err != nil {
			t.Fatal(err)
		}
		if got := curl(match, "a.b"); got != test.want {
			t.Errorf("%q: %s, want %s", test.args, got, test.want)
		}
	}
}
