package dist

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// templateVersion stands for the version in the template.
const templateVersion = "v0.0.0"

// releases is where the archives are downloaded from, below the version.
const releases = "https://github.com/kubectl-tele/kubectl-tele/releases/download/"

// versionPattern is a semantic version that is also an image tag: no build
// metadata, whose `+` a tag cannot have.
var versionPattern = regexp.MustCompile(`^v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

func checkVersion(version string) error {
	if !versionPattern.MatchString(version) {
		return fmt.Errorf("version %q: want vX.Y.Z or vX.Y.Z-PRERELEASE", version)
	}
	return nil
}

// plugin is a krew manifest as far as this project uses it.
type plugin struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Version          string     `json:"version"`
		Homepage         string     `json:"homepage"`
		ShortDescription string     `json:"shortDescription"`
		Description      string     `json:"description"`
		Caveats          string     `json:"caveats"`
		Platforms        []platform `json:"platforms"`
	} `json:"spec"`
}

type platform struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"`
	Bin    string `json:"bin"`
}

// Manifest fills the template in: version is written wherever v0.0.0 stands,
// and each platform gets the sum of the archive its uri names. The comments
// above the document are left out. The result keeps krew's rules, and names
// every archive of sums.
func Manifest(template []byte, version string, sums map[string]string) ([]byte, error) {
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	archive := ""
	begun := false
	for line := range strings.Lines(string(template)) {
		if !begun && strings.HasPrefix(line, "#") {
			continue
		}
		begun = true
		indent, field := cutField(line)
		switch field {
		case "uri":
			archive = path.Base(strings.TrimSpace(line))
		case "sha256":
			sum, ok := sums[archive]
			if !ok {
				return nil, fmt.Errorf("no sum of the archive %q", archive)
			}
			// Quoted: a sum of digits and one e would be a number.
			line = fmt.Sprintf("%ssha256: %q\n", indent, sum)
		}
		out.WriteString(strings.ReplaceAll(line, templateVersion, version))
	}
	if err := validate(out.Bytes(), version, sums); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// cutField returns the blanks that begin a line, and the field's name.
func cutField(line string) (indent, field string) {
	rest := strings.TrimLeft(line, " ")
	field, _, _ = strings.Cut(rest, ":")
	return line[:len(line)-len(rest)], field
}

// validate checks a finished manifest against the rules of krew and its index.
func validate(manifest []byte, version string, sums map[string]string) error {
	var p plugin
	if err := yaml.UnmarshalStrict(manifest, &p); err != nil {
		return fmt.Errorf("not a plugin manifest: %w", err)
	}
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(p.APIVersion == "krew.googlecontainertools.github.com/v1alpha2" && p.Kind == "Plugin", "is %s %s", p.APIVersion, p.Kind)
	check(p.Metadata.Name == "tele", "name is %q", p.Metadata.Name)
	check(p.Spec.Version == version, "version is %q", p.Spec.Version)
	short := p.Spec.ShortDescription
	check(short != "" && len(short) <= 50 && !strings.ContainsAny(short, "\r\n"), "shortDescription has %d characters, want one line of at most 50", len(short))
	check(p.Spec.Description != "", "no description")
	for line := range strings.Lines(p.Spec.Description + p.Spec.Caveats) {
		check(len(strings.TrimRight(line, "\n")) <= 80, "longer than 80 characters: %q", line)
	}
	named := map[string]bool{}
	for _, pl := range p.Spec.Platforms {
		name := path.Base(pl.URI)
		labels := pl.Selector.MatchLabels
		pair := labels["os"] + "/" + labels["arch"]
		check(len(labels) == 2 && slices.Contains(Platforms(), pair), "%s: unknown platform %q", name, pair)
		check(name == ArchiveName(pair), "%s: is named for %s", name, pair)
		check(pl.URI == releases+version+"/"+name, "%s: uri is %q", name, pl.URI)
		check(pl.SHA256 != "" && pl.SHA256 == sums[name], "%s: sha256 is %q, want %q", name, pl.SHA256, sums[name])
		check(pl.Bin == binaryName(labels["os"]), "%s: bin is %q", name, pl.Bin)
		check(!named[name], "%s: named twice", name)
		named[name] = true
	}
	for name := range sums {
		check(named[name], "%s: packed but not named", name)
	}
	return errors.Join(errs...)
}
