package api

import (
	"strings"
	"testing"
)

func TestReadInfo(t *testing.T) {
	info, err := ReadInfo(strings.NewReader(`{"version":"v9","features":["rules","teleport"],"mood":"good"}`))
	if err != nil || info.Version != "v9" {
		t.Fatalf("the answer of a newer agent: %+v, %v", info, err)
	}
	if !info.Has(FeatureRules) || info.Has(FeatureListen) || !info.Has("teleport") {
		t.Errorf("features %v", info.Features)
	}
	if info, err := ReadInfo(strings.NewReader(`{"version":"v1"}`)); err != nil || info.Has(FeatureRules) {
		t.Errorf("an agent that tells no features: %+v, %v", info, err)
	}
	for name, text := range map[string]string{
		"half":     `{"version":`,
		"no JSON":  "HTTP/1.1 400 Bad Request",
		"too long": `{"version":"` + strings.Repeat("x", maxInfo) + `"}`,
	} {
		if info, err := ReadInfo(strings.NewReader(text)); err == nil {
			t.Errorf("%s was read as %.100v", name, info)
		}
	}
}
