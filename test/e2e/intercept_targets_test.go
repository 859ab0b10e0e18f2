//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestInterceptTargets: one command takes all the workloads behind a Service, or several
// ports of one, and no request fails while it begins and ends.
func TestInterceptTargets(t *testing.T) {
	t.Parallel()
	grouped := func(name string) manifests.App {
		return manifests.HTTP(name, manifests.Options{Image: world.AppsImage, Mutate: func(pod *corev1.PodTemplateSpec) {
			pod.Labels["group"] = "it-split"
		}})
	}
	split := service("it-split", grouped("it-main"), manifests.Options{Image: world.AppsImage})
	split.Service.Spec.Selector = map[string]string{"group": "it-split"}
	two := manifests.TwoPorts("it-two", manifests.Options{Image: world.AppsImage})
	deploy(t, grouped("it-main"), grouped("it-canary"), split, two)

	t.Run("main and canary", func(t *testing.T) {
		t.Parallel()
		desk := newDesk(t)
		main, canary := stateOf(t, "it-main", "it-split"), stateOf(t, "it-canary", "it-split")
		url := serviceURL(t, "it-split")
		fresh, kept := startLoop(t, url, "-fresh"), startLoop(t, url)
		port := serve(t, desk, http.HandlerFunc(echo))
		timed(t, desk, "intercept", "svc/it-split", "--port", port)
		fresh.wait(t, "the laptop", byLaptop)
		everyReplica(t, "it-split", 4, "the laptop", isLaptop)
		if st := sessionOf(t, desk).Intercepts; len(st) != 2 || st[0].Workload != "deployment/it-canary" || st[1].Workload != "deployment/it-main" {
			t.Errorf("status %+v", st)
		}
		timed(t, desk, "leave", "svc/it-split")
		everyReplica(t, "it-split", 4, "the app", func(by string) bool { return isPodOf("it-main")(by) || isPodOf("it-canary")(by) })

		// Of one of the two alone, its share, and that is said.
		if said := teleSays(t, desk, "intercept", "it-canary", "--port", port, "--service", "it-split").Stderr; !strings.Contains(said, "service/it-split leads to deployment/it-main as well") {
			t.Errorf("it says %s", said)
		}
		everyReplica(t, "it-canary", 2, "the laptop", isLaptop)
		everyReplica(t, "it-main", 2, "the app", isPodOf("it-main"))
		timed(t, desk, "leave", "it-canary")

		// A canary that is scaled to 0 is not in the way.
		kubectl(t, desk, "scale", "deployment/it-canary", "--replicas=0")
		everyReplica(t, "it-split", 2, "the app", isPodOf("it-main"))
		if said := teleSays(t, desk, "intercept", "svc/it-split", "--port", port).Stderr; !strings.Contains(said, "deployment/it-canary is scaled to 0 and not intercepted") {
			t.Errorf("it says %s", said)
		}
		everyReplica(t, "it-split", 2, "the laptop", isLaptop)
		timed(t, desk, "leave", "svc/it-split")
		kubectl(t, desk, "scale", "deployment/it-canary", "--replicas=2")
		everyReplica(t, "it-canary", 2, "the app", isPodOf("it-canary"))
		fresh.stop(t)
		kept.stop(t)
		for name, before := range map[string]string{"it-main": main, "it-canary": canary} {
			if after := stateOf(t, name, "it-split"); after != before {
				t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
			}
		}
		nothingLeft(t, "it-main", "it-canary")
	})

	t.Run("two ports", func(t *testing.T) {
		t.Parallel()
		desk := newDesk(t)
		before := stateOf(t, "it-two", "it-two")
		revision := func() string { return getDeployment(t, "it-two").Annotations["deployment.kubernetes.io/revision"] }
		first := revision()
		web := serviceURL(t, "it-two")
		admin := fmt.Sprintf("%s:%d", strings.TrimSuffix(web, ":80"), manifests.AdminPort)
		loops := []*loop{startLoop(t, web, "-fresh"), startLoop(t, web), startLoop(t, admin, "-fresh")}
		port, other := serve(t, desk, http.HandlerFunc(echo)), serve(t, desk, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Port", "admin")
			echo(w, r)
		}))
		timed(t, desk, "intercept", "it-two", "--port", port+":http", "--port", other+":admin")
		for _, l := range loops {
			l.wait(t, "the laptop", byLaptop)
		}
		for _, port := range []string{"http", "admin"} {
			if said := fails(t, desk, "intercept", "it-two", "--port", ":"+port); !strings.Contains(said, "is intercepted already, by this session") {
				t.Errorf("%s once more: %s", port, said)
			}
		}
		if now := revision(); first != "1" || now != "2" {
			t.Errorf("revision %s, then %s: not one rolling update for two ports", first, now)
		}
		timed(t, desk, "leave", "it-two", "--port", "admin")
		loops[2].wait(t, "the app", byAppOf("it-two"))
		everyReplica(t, "it-two", 2, "the laptop", isLaptop)
		timed(t, desk, "leave", "it-two")
		for _, l := range loops {
			l.stop(t)
		}
		if after := stateOf(t, "it-two", "it-two"); after != before {
			t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
		}
		nothingLeft(t, "it-two")
	})

	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		desk := newDesk(t)
		pod := podsOf(t, "it-two")[0]
		set := metav1.GetControllerOf(&pod).Name
		bare := pod.DeepCopy()
		bare.ObjectMeta = metav1.ObjectMeta{Name: "it-bare", Namespace: namespace}
		bare.Spec.NodeName = ""
		if _, err := world.Admin.CoreV1().Pods(namespace).Create(t.Context(), bare, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := world.Admin.CoreV1().Pods(namespace).Delete(ctx, bare.Name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
		for target, words := range map[string][]string{
			"pod/" + pod.Name: {"belongs to deployment/it-two", "name that"},
			"rs/" + set:       {"belongs to deployment/it-two", "name that"},
			"pod/it-bare":     {"belongs to no workload"},
			"svc/it-absent":   {"there is no service/it-absent in namespace " + namespace},
			"svc/":            {`"" is not a name`, "svc/back"},
			"svc/kubernetes":  {"there is no service/kubernetes"},
			"job/it-two":      {`workloads of kind "job" cannot be intercepted`},
		} {
			said := fails(t, desk, "intercept", target, "--port", "9")
			for _, word := range words {
				if !strings.Contains(said, word) {
					t.Errorf("%s: %s", target, said)
				}
			}
		}
		if said := fails(t, desk, "intercept", "it-two", "--port", "9:http", "--container", "nope"); !strings.Contains(said, `no container "nope"`) || !strings.Contains(said, "it is one of") {
			t.Errorf("--container nope: %s", said)
		}
	})
}
