package inject

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

func TestAgentArgs(t *testing.T) {
	got := strings.Join(agentArgs(1234, []Capture{{Listen: 1, App: 2}, {Listen: 3, App: 4}}, 90*time.Second), " ")
	if got != "serve --control-port=1234 --capture=1:2 --capture=3:4 --idle-exit=1m30s" {
		t.Error(got)
	}
	if got := short(11 * time.Minute); got != "11m" {
		t.Error(got)
	}
	if got := short(2 * time.Hour); got != "2h0m" {
		t.Error(got)
	}
}

func TestWithCPULimit(t *testing.T) {
	base := DefaultResources()
	got := WithCPULimit(base, resource.MustParse("1"))
	if got.Limits.Cpu().String() != "1" || got.Limits.Memory().String() != "128Mi" {
		t.Errorf("got %v", got)
	}
	if _, changed := base.Limits["cpu"]; changed {
		t.Error("the input was changed")
	}
}
