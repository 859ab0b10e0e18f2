package inject

import "testing"

func TestAppPortName(t *testing.T) {
	for _, tc := range []struct{ name, want, second string }{
		{"http", "http-app", "http-app2"},
		{"a", "a-app", "a-app2"},
		{"abcdefghijklmno", "abcdefghijk-app", "abcdefghij-app2"},
		{"abcdefghij-lmno", "abcdefghij-app", "abcdefghij-app2"},
		{"abcdefghi-klmno", "abcdefghi-k-app", "abcdefghi-app2"},
	} {
		taken := map[string]bool{}
		for _, want := range []string{tc.want, tc.second} {
			got := appPortName(tc.name, func(s string) bool { return taken[s] })
			if got != want {
				t.Errorf("%s: got %s, want %s", tc.name, got, want)
			}
			if !isAppPortName(tc.name, got) {
				t.Errorf("%s is not recognised as made of %s", got, tc.name)
			}
			taken[got] = true
		}
	}
	for _, got := range []string{"http", "web-app", "http-apps", "http-app-x", ""} {
		if isAppPortName("http", got) {
			t.Errorf("%q is taken for made of http", got)
		}
	}
}
