//go:build linux

package e2e

import (
	"net/http"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptChurn: pods come and go under an intercept. No request fails,
// and every pod that is there in the end sends its traffic to the laptop.
func TestInterceptChurn(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("ich", manifests.Options{})
	deploy(t, app)
	desk := newDesk(t)
	name := app.Deployment.Name
	port := serve(t, desk, http.HandlerFunc(echo))
	url := serviceURL(t, name)
	loops := []*loop{startLoop(t, url, "-fresh"), startLoop(t, url)}
	timed(t, desk, "intercept", name, "--port", port)
	everyReplica(t, name, 2, "the laptop", isLaptop)

	kubectl(t, desk, "scale", "deployment/"+name, "--replicas=4")
	everyReplica(t, name, 4, "the laptop", isLaptop)
	if st := sessionOf(t, desk); len(st.Intercepts) != 1 || len(st.Intercepts[0].Agents) != 4 || st.Intercepts[0].State != "active" {
		t.Errorf("after scaling: %+v", st.Intercepts)
	}

	kubectl(t, desk, "rollout", "restart", "deployment/"+name)
	kubectl(t, desk, "rollout", "status", "deployment/"+name)
	everyReplica(t, name, 4, "the laptop", isLaptop)

	pods, err := world.Admin.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		t.Fatal(err)
	}
	// The pods of before may still be on their way out.
	stays := slices.IndexFunc(pods.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp == nil })
	if stays < 0 {
		t.Fatal("no pod is left to delete")
	}
	kubectl(t, desk, "delete", "pod", "--wait=false", pods.Items[stays].Name)
	kubectl(t, desk, "rollout", "status", "deployment/"+name)
	everyReplica(t, name, 4, "the laptop", isLaptop)

	timed(t, desk, "leave", name)
	everyReplica(t, name, 4, "the app", isPodOf(name))
	for _, l := range loops {
		total := l.stop(t)
		t.Logf("%d requests, slowest %d ms", total.Requests, total.MaxMillis)
	}
	nothingLeft(t, name)
}
