//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/cluster/provider"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// TestInterceptColleague has bob work on the Deployment that alice intercepts,
// as if she did not. Her undo takes her own change back, and none of his.
func TestInterceptColleague(t *testing.T) {
	t.Parallel()
	world.Cluster.Need(t, provider.LoadImages) // of the colleague's version
	image, err := otherImage()
	if err != nil {
		t.Fatal(err)
	}
	three := int32(3)
	for _, test := range []struct {
		name string
		// work is what bob does, as arguments of his kubectl; FILE is the
		// original manifest and NAME the Deployment.
		work [][]string
		// undo returns when alice's session was lost, if it was.
		undo func(t *testing.T, name string, alice, bob *rig.Desk) []loss
		// want changes the original Deployment's spec as bob did.
		want func(*appsv1.DeploymentSpec)
	}{
		{
			"leave",
			[][]string{
				{"apply", "-f", "FILE"},
				{"set", "image", "deployment/NAME", "app=" + image},
				{"scale", "deployment/NAME", "--replicas=3"},
			},
			func(t *testing.T, name string, alice, _ *rig.Desk) []loss {
				timed(t, alice, "leave", name)
				return nil
			},
			func(s *appsv1.DeploymentSpec) {
				s.Template.Spec.Containers[0].Image = image
				s.Replicas = &three
			},
		},
		{
			"clean",
			[][]string{
				{"set", "image", "deployment/NAME", "app=" + image},
				{"scale", "deployment/NAME", "--replicas=3"},
				{"set", "env", "deployment/NAME", "COLOUR=blue"},
				{"apply", "-f", "FILE"},
			},
			func(t *testing.T, name string, alice, bob *rig.Desk) []loss {
				lost := kill(t, alice)
				poll(t, "alice is seen to be gone", func(context.Context) error {
					var out struct {
						Workloads []api.Workload `json:"workloads"`
					}
					if err := json.Unmarshal([]byte(tele(t, bob, "list", "-o", "json")), &out); err != nil {
						return err
					}
					for _, w := range out.Workloads {
						if w.Name == name && (w.State != api.LeftBehind || len(w.Owners) != 1 || w.Owners[0].User != "alice") {
							return fmt.Errorf("%+v", w)
						}
					}
					return nil
				})
				timed(t, bob, "clean", name)
				return []loss{lost}
			},
			// An apply puts back all that the manifest says, and nothing else.
			func(s *appsv1.DeploymentSpec) {
				c := &s.Template.Spec.Containers[0]
				c.Env = append(c.Env, corev1.EnvVar{Name: "COLOUR", Value: "blue"})
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			alice, bob := newDesk(t), newDesk(t).As("bob")
			app := manifests.HTTP("ic-"+test.name, manifests.Options{Image: world.AppsImage})
			name := app.Deployment.Name
			file := manifest(t, app)
			kubectl(t, bob, "apply", "-f", file)
			deployed(t, app)
			original := getDeployment(t, name)

			port := serve(t, alice, http.HandlerFunc(echo))
			url := serviceURL(t, name)
			steady := startLoop(t, url, "-fresh")
			timed(t, alice, "intercept", name, "--port", port)
			steady.wait(t, "the laptop", byLaptop)
			for _, args := range test.work {
				for i := range args {
					args[i] = strings.NewReplacer("FILE", file, "NAME", name).Replace(args[i])
				}
				kubectl(t, bob, args...)
			}
			// An apply gives the port's name back to the app. Alice is told so.
			poll(t, "alice is told that her traffic goes elsewhere", func(context.Context) error {
				if i := sessionOf(t, alice).Intercepts[0]; i.State != api.Degraded || !strings.Contains(i.Notice, `"http"`) {
					return fmt.Errorf("the intercept is %s: %q", i.State, i.Notice)
				}
				return nil
			})
			lost := test.undo(t, name, alice, bob)

			want := original.Spec.DeepCopy()
			test.want(want)
			if got, want := toJSON(t, getDeployment(t, name).Spec), toJSON(t, want); got != want {
				t.Errorf("not bob's work and nothing else:\nwant %s\ngot  %s", want, got)
			}
			everyReplica(t, name, int(*want.Replicas), "the app", isPodOf(name))
			steady.stop(t, lost...)
			nothingLeft(t, name)
		})
	}
}

// manifest writes an application to a file, as people keep them.
func manifest(t *testing.T, app manifests.App) string {
	t.Helper()
	list := map[string]any{"apiVersion": "v1", "kind": "List", "items": app.Objects()}
	file := filepath.Join(t.TempDir(), "app.json")
	if err := os.WriteFile(file, []byte(toJSON(t, list)), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// deployed waits for an application that others have applied, and removes it
// with the test.
func deployed(t *testing.T, app manifests.App) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := world.Remove(ctx, app); err != nil {
			t.Errorf("remove the test's application: %v", err)
		}
	})
	everyReplica(t, app.Service.Name, int(*app.Deployment.Spec.Replicas), "the app", isPodOf(app.Deployment.Name))
}

// kubectl is what a colleague types.
func kubectl(t *testing.T, desk *rig.Desk, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	mustRun(t, desk.Command(ctx, desk.User, append([]string{"kubectl"}, args...)...))
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
