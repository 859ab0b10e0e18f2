package environ

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// unfit are the names, and patterns of names, that are right in an image and wrong on a
// laptop. They are compared without regard to case.
var unfit = []string{
	// where things are
	"PATH", "HOME", "PWD", "OLDPWD", "TMPDIR", "TMP", "TEMP", "SHELL", "USER", "LOGNAME", "XDG_*", "KUBECONFIG",
	// the terminal and the shell
	"TERM", "SHLVL", "_", "IFS", "ENV", "BASH_ENV", "BASHOPTS", "SHELLOPTS", "PROMPT_COMMAND", "PS1", "PS4",
	// ways out of the cluster's network
	"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
	// certificates of an image
	"SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE",
	// what is loaded into every process
	"LD_*", "DYLD_*", "GCONV_PATH", "LOCPATH", "MALLOC_CONF",
	// where language runtimes find themselves, and agents that are loaded into them
	"JAVA_HOME", "CLASSPATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS",
	"DOTNET_ROOT*", "DOTNET_STARTUP_HOOKS", "CORECLR_*", "COR_*",
	"GOPATH", "GOROOT", "GOBIN", "GOTOOLCHAIN", "GODEBUG",
	"NODE_OPTIONS", "NODE_PATH", "NPM_CONFIG_*",
	"PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "CONDA_*",
	"RUBYOPT", "RUBYLIB", "BUNDLE_*", "GEM_*",
	"PERL5LIB", "PERL5OPT", "LUA_PATH", "LUA_CPATH", "CARGO_HOME", "RUSTUP_HOME", "PHPRC", "PHP_INI_SCAN_DIR",
}

// Unfit returns the patterns of names that Select leaves out unless they are included.
func Unfit() []string { return slices.Clone(unfit) }

// Selection chooses variables by their names, or by patterns of names as in package
// path: "AWS_*".
type Selection struct {
	Include []string // though it is Unfit
	Exclude []string // in any case
}

// Validate returns an error for a pattern that is malformed.
func (s Selection) Validate() error {
	for _, pattern := range slices.Concat(s.Include, s.Exclude) {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" || strings.Contains(pattern, "=") {
			return fmt.Errorf("%q is neither the name of a variable nor a pattern of names", pattern)
		}
	}
	return nil
}

// Select returns the variables that may be set on a laptop, and the names of those that
// were left out because they are Unfit.
func (s Selection) Select(all []Variable) (kept []Variable, left []string) {
	for _, v := range all {
		switch {
		case matches(s.Exclude, v.Name):
		case matches(s.Include, v.Name), !matches(unfit, strings.ToUpper(v.Name)):
			kept = append(kept, v)
		default:
			left = append(left, v.Name)
		}
	}
	return kept, left
}

// Unmet returns the names, not patterns, that are to be included and of which there is no
// variable.
func (s Selection) Unmet(all []Variable) (names []string) {
	for _, name := range s.Include {
		if !strings.ContainsAny(name, `*?[\`) && !slices.ContainsFunc(all, func(v Variable) bool { return v.Name == name }) {
			names = append(names, name)
		}
	}
	return names
}

// matches reports whether one of the patterns, which are valid, matches a name.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}
