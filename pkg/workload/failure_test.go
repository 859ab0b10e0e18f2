package workload

import (
	"testing"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
)

func TestPodFailure(t *testing.T) {
	s := newScene()
	if err := PodFailure(&s.pods[0]); err != nil {
		t.Errorf("a good pod: %v", err)
	}
	s.unready("init", waiting(api.ContainerName, "ErrImagePull", "no"))
	err := PodFailure(&s.pods[0])
	if err == nil || err.Error() != "pod back-new-a, container tele-agent: ErrImagePull: no" {
		t.Errorf("got %v", err)
	}
}
