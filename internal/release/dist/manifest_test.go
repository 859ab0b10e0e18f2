package dist

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const templatePath = "../../../krew-manifest.yaml"

func testTemplate(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(templatePath)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// testSums gives each archive a sum of its own.
func testSums() map[string]string {
	sums := map[string]string{}
	for i, p := range Platforms() {
		sums[ArchiveName(p)] = fmt.Sprintf("%064x", i+1)
	}
	return sums
}

func TestManifest(t *testing.T) {
	got, err := Manifest([]byte(testTemplate(t)), "v1.2.3-rc.1", testSums())
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	for _, want := range []string{
		"  version: v1.2.3-rc.1\n",
		"      uri: https://github.com/kubectl-tele/kubectl-tele/releases/download/v1.2.3-rc.1/kubectl-tele_darwin_arm64.tar.gz\n" +
			"      sha256: \"0000000000000000000000000000000000000000000000000000000000000004\"\n" +
			"      bin: kubectl-tele\n",
		"kubectl-tele_windows_arm64.zip\n" +
			"      sha256: \"0000000000000000000000000000000000000000000000000000000000000006\"\n" +
			"      bin: kubectl-tele.exe\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(text, templateVersion) || strings.HasPrefix(text, "#") {
		t.Errorf("something of the template is left:\n%s", text)
	}
}

func TestManifestRefuses(t *testing.T) {
	replace := func(old, with string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, with, 1) }
	}
	tests := []struct {
		name   string
		change func(string) string
		want   string
	}{
		{"unknown field", replace("  homepage:", "  homePage2:"), "unknown field"},
		{"kind", replace("kind: Plugin", "kind: Plug"), "is krew.googlecontainertools.github.com/v1alpha2 Plug"},
		{"name", replace("name: tele", "name: telepathy"), "name is"},
		{"fixed version", replace("version: v0.0.0", "version: v9.9.9"), "version is"},
		{"long short description", replace("Make your laptop", "Make your laptop, however old and slow it may be,"), "shortDescription"},
		{"long line", replace("    Makes a laptop", "    Makes a laptop"+strings.Repeat(" very", 10)), "longer than 80"},
		{"unknown platform", replace("os: linux", "os: plan9"), "unknown platform"},
		{"swapped platform", replace("arch: amd64", "arch: arm64"), "is named for"},
		{"other place", replace("uri: https://github.com", "uri: https://example.com"), "uri is"},
		{"bin", replace("bin: kubectl-tele.exe", "bin: kubectl-tele"), "bin is"},
		{"unknown archive", replace("kubectl-tele_linux_amd64.tar.gz", "other.tar.gz"), "no sum of the archive"},
		{"missing archive", func(s string) string { return s[:strings.LastIndex(s, "    - selector")] }, "packed but not named"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			template := tt.change(testTemplate(t))
			if template == testTemplate(t) {
				t.Fatal("the change changes nothing")
			}
			if _, err := Manifest([]byte(template), "v1.0.0", testSums()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	for version, ok := range map[string]bool{
		"v1.2.3": true, "v0.1.0-dev.gabc": true, "v0.1.0-5-gabc123": true,
		"1.2.3": false, "v1.2": false, "v1.2.3+meta": false, "v01.2.3": false, "": false, "v1.2.3 ": false,
	} {
		if err := checkVersion(version); (err == nil) != ok {
			t.Errorf("%q: %v", version, err)
		}
	}
}
