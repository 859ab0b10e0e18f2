package environ

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// Syntax is a way to write an environment.
type Syntax string

// The ways to write an environment.
const (
	// Sh is for eval and source in POSIX shells, bash and zsh.
	Sh Syntax = "sh"
	// Fish is for source in fish.
	Fish Syntax = "fish"
	// PowerShell is for Invoke-Expression and dot sourcing.
	PowerShell Syntax = "powershell"
	// Docker is what `docker run --env-file` reads: nothing is quoted.
	Docker Syntax = "docker"
	// Compose is what env_file of Docker Compose reads, and dotenv libraries.
	Compose Syntax = "compose"
	// JSON and YAML are an object with the names as its keys.
	JSON Syntax = "json"
	YAML Syntax = "yaml"
)

// Syntaxes returns all of them, the default first.
func Syntaxes() []Syntax { return []Syntax{Sh, Fish, PowerShell, Docker, Compose, JSON, YAML} }

// Write writes variables. It returns the names of those that the syntax has no way to
// write, which are left out.
func Write(w io.Writer, syntax Syntax, all []Variable) (unwritten []string, err error) {
	switch syntax {
	case JSON, YAML:
		return writeObject(w, syntax, all)
	}
	line := map[Syntax]func(Variable) (string, bool){
		Sh: shLine, Fish: fishLine, PowerShell: powerShellLine, Docker: dockerLine, Compose: composeLine,
	}[syntax]
	if line == nil {
		return nil, fmt.Errorf("no environment is written as %q", string(syntax))
	}
	var out strings.Builder
	for _, v := range all {
		text, ok := line(v)
		if !ok {
			unwritten = append(unwritten, v.Name)
			continue
		}
		out.WriteString(text + "\n")
	}
	_, err = io.WriteString(w, out.String())
	return unwritten, err
}

func writeObject(w io.Writer, syntax Syntax, all []Variable) (unwritten []string, err error) {
	object := map[string]string{}
	for _, v := range all {
		if !utf8.ValidString(v.Name) || !utf8.ValidString(v.Value) {
			unwritten = append(unwritten, v.Name)
			continue
		}
		object[v.Name] = v.Value
	}
	if syntax == YAML {
		text, err := yaml.Marshal(object)
		if err != nil {
			return nil, err
		}
		_, err = w.Write(text)
		return unwritten, err
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return unwritten, encoder.Encode(object)
}

// isIdentifier reports whether shells can set a variable of that name.
func isIdentifier(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// ofShell are what shells set themselves and let nobody set: a script ends at that.
var ofShell = []string{"UID", "EUID", "GID", "EGID", "PPID", "BASHOPTS", "SHELLOPTS"}

func shLine(v Variable) (string, bool) {
	fits := isIdentifier(v.Name) && !slices.Contains(ofShell, v.Name)
	return "export " + v.Name + "='" + strings.ReplaceAll(v.Value, "'", `'\''`) + "'", fits
}

// ofFish are what fish lets nobody set.
var ofFish = []string{
	"FISH_VERSION", "PWD", "SHLVL", "_", "fish_kill_signal", "fish_killring", "fish_pid", "history", "hostname", "pipestatus", "status", "status_generation", "version",
}

func fishLine(v Variable) (string, bool) {
	fits := isIdentifier(v.Name) && !slices.Contains(ofFish, v.Name)
	return "set -gx " + v.Name + " '" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v.Value) + "'", fits
}

// powerShellLine doubles the quotes that PowerShell takes for a single one.
func powerShellLine(v Variable) (string, bool) {
	quote := func(s string) string {
		return "'" + strings.NewReplacer("'", "''", "‘", "‘‘", "’", "’’", "‚", "‚‚", "‛", "‛‛").Replace(s) + "'"
	}
	if isIdentifier(v.Name) {
		return "$env:" + v.Name + " = " + quote(v.Value), true
	}
	return "[Environment]::SetEnvironmentVariable(" + quote(v.Name) + ", " + quote(v.Value) + ")", utf8.ValidString(v.Name)
}

// maxDockerLine is how long a line may be that docker reads.
const maxDockerLine = 64<<10 - 1

func dockerLine(v Variable) (string, bool) {
	line := v.String()
	fits := len(line) < maxDockerLine && utf8.ValidString(line) && !strings.HasPrefix(line, "#") &&
		!strings.ContainsFunc(v.Name, unicode.IsSpace) && !strings.Contains(v.Value, "\n") && !strings.HasSuffix(v.Value, "\r")
	return line, fits
}

// composeLine quotes singly where that is unambiguous: Compose then reads all as it is.
func composeLine(v Variable) (string, bool) {
	isFit := func(c rune) bool {
		return c == '_' || c == '.' || c == '-' || c < utf8.RuneSelf && (unicode.IsLetter(c) || unicode.IsDigit(c))
	}
	fits := utf8.ValidString(v.Value) && v.Name != "" && (v.Name[0] == '_' || unicode.IsLetter(rune(v.Name[0]))) && !strings.ContainsFunc(v.Name, func(c rune) bool { return !isFit(c) })
	if !strings.ContainsAny(v.Value, "'\r") && !strings.HasSuffix(v.Value, `\`) {
		return v.Name + "='" + v.Value + "'", fits
	}
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`, "\r", `\r`).Replace(v.Value)
	return v.Name + `="` + escaped + `"`, fits
}
