package environ

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// odd are values that quoting goes wrong with.
var odd = []string{
	"", "plain", "two words", " spaces ", "it's", "''", `"quoted"`, `back\slash`, `ends\`, `\n`, "$HOME ${HOME} $(id) `id`", "$$", "#no comment", "a=b",
	"two\nlines", "ends\n", "\ttab", "tr\r\n", "ünï", "‘typographic’", "!history", "%PATH%", "*?[]{}", "-n", "\x01", `'"\$` + "\n",
}

func oddVariables() (all []Variable) {
	for i, value := range odd {
		all = append(all, Variable{"V" + string(rune('A'+i)), value})
	}
	return all
}

func TestParseNUL(t *testing.T) {
	got, err := ParseNUL([]byte("A=1\x00B=\x00C=x=y\nz\x00A=2\x00a.b=dot\x00"))
	want := []Variable{{"A", "2"}, {"B", ""}, {"C", "x=y\nz"}, {"a.b", "dot"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"A=1", "A=1\x00B", "nginx: master process\x00", "=x\x00", "A=1\x00\x00"} {
		if got, err := ParseNUL([]byte(bad)); err == nil {
			t.Errorf("%q is read as %q", bad, got)
		}
	}
}

func TestSelect(t *testing.T) {
	var all []Variable
	for _, name := range []string{"PATH", "Path", "COLOR", "http_proxy", "HTTPS_PROXY", "XDG_DATA_HOME", "PATHS", "LD_PRELOAD", "A.B", "SECRET_KEY", "_"} {
		all = append(all, Variable{Name: name})
	}
	kept, left := Selection{Include: []string{"*_PROXY", "LD_PRELOAD"}, Exclude: []string{"SECRET_*", "LD_*"}}.Select(all)
	var names []string
	for _, v := range kept {
		names = append(names, v.Name)
	}
	if want := []string{"COLOR", "HTTPS_PROXY", "PATHS", "A.B"}; !slices.Equal(names, want) {
		t.Errorf("kept %q, want %q", names, want)
	}
	if want := []string{"PATH", "Path", "http_proxy", "XDG_DATA_HOME", "_"}; !slices.Equal(left, want) {
		t.Errorf("left %q, want %q", left, want)
	}
	for _, bad := range []string{"", "[", "A=b"} {
		if (Selection{Exclude: []string{bad}}).Validate() == nil {
			t.Errorf("pattern %q is taken", bad)
		}
	}
	if err := (Selection{Include: Unfit()}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestUnmet(t *testing.T) {
	s := Selection{Include: []string{"PATH", "NOSUCH", "path", "X_*"}}
	if got := s.Unmet([]Variable{{"PATH", "x"}}); !slices.Equal(got, []string{"NOSUCH", "path"}) {
		t.Errorf("got %q", got)
	}
}

func TestSyntaxes(t *testing.T) {
	for syntax, want := range map[Syntax]string{
		Fish:       `set -gx A 'it\'s \\ $HOME'`,
		PowerShell: "$env:A = 'it''s \\ $HOME'",
		Docker:     `A=it's \ $HOME`,
		Compose:    `A="it's \\ \$HOME"`,
		JSON:       "{\n  \"A\": \"it's \\\\ $HOME\"\n}",
		YAML:       `A: it's \ $HOME`,
	} {
		var out strings.Builder
		if _, err := Write(&out, syntax, []Variable{{"A", `it's \ $HOME`}}); err != nil || out.String() != want+"\n" {
			t.Errorf("%s: %q, %v, want %q", syntax, out.String(), err, want)
		}
	}
	for _, c := range []struct {
		syntax Syntax
		v      Variable
		want   string // "": it cannot be written
	}{
		{Fish, Variable{"a.b", "x"}, ""},
		{Fish, Variable{"hostname", "x"}, ""},
		{PowerShell, Variable{"a.b", "‘x’"}, "[Environment]::SetEnvironmentVariable('a.b', '‘‘x’’')"},
		{Docker, Variable{"a.b", " x #"}, "a.b= x #"},
		{Docker, Variable{"A", "x\ny"}, ""},
		{Docker, Variable{"A", "x\r"}, ""},
		{Docker, Variable{"A", "\xff"}, ""},
		{Docker, Variable{"A B", "x"}, ""},
		{Docker, Variable{"#A", "x"}, ""},
		{Docker, Variable{"A", strings.Repeat("x", 64<<10)}, ""},
		{Compose, Variable{"A", "x\ny # $z"}, "A='x\ny # $z'"},
		{Compose, Variable{"A", `x\`}, `A="x\\"`},
		{Compose, Variable{"A/B", "x"}, ""},
		{Compose, Variable{"1A", "x"}, ""},
		{JSON, Variable{"A", "\xff"}, ""},
	} {
		var out strings.Builder
		unwritten, err := Write(&out, c.syntax, []Variable{c.v})
		if got := strings.TrimSuffix(out.String(), "\n"); err != nil || c.want != "" && got != c.want || (c.want == "") != slices.Equal(unwritten, []string{c.v.Name}) {
			t.Errorf("%s: %.80q is written as %.80q, %v; unwritten %q", c.syntax, c.v, got, err, unwritten)
		}
	}
	var object map[string]string
	var out bytes.Buffer
	if _, err := Write(&out, JSON, oddVariables()); err != nil || json.Unmarshal(out.Bytes(), &object) != nil {
		t.Fatal(err)
	}
	for _, v := range oddVariables() {
		if object[v.Name] != v.Value {
			t.Errorf("JSON has %q", object[v.Name])
		}
	}
	if _, err := Write(&out, "csh", nil); err == nil {
		t.Error("an unknown syntax is written")
	}
}

func FuzzParseNUL(f *testing.F) {
	f.Add([]byte("A=1\x00B=\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ParseNUL(b)
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, v := range all {
			if v.Name == "" || names[v.Name] {
				t.Errorf("%q has %q twice, or no name", b, v.Name)
			}
			names[v.Name] = true
		}
	})
}
