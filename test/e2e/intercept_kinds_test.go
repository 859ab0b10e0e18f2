//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// TestInterceptKinds: what is true of a Deployment is so of workloads of other kinds. No
// request fails while it begins, while a pod is replaced, and while it ends.
func TestInterceptKinds(t *testing.T) {
	t.Parallel()
	for short, create := range map[string]func(ctx context.Context, template *appsv1.Deployment) error{
		"sts": func(ctx context.Context, d *appsv1.Deployment) error {
			set := &appsv1.StatefulSet{ObjectMeta: d.ObjectMeta, Spec: appsv1.StatefulSetSpec{
				Replicas: d.Spec.Replicas, Selector: d.Spec.Selector, Template: d.Spec.Template, ServiceName: d.Name,
			}}
			_, err := world.Admin.AppsV1().StatefulSets(namespace).Create(ctx, set, metav1.CreateOptions{})
			return err
		},
		"ds": func(ctx context.Context, d *appsv1.Deployment) error {
			set := &appsv1.DaemonSet{ObjectMeta: d.ObjectMeta, Spec: appsv1.DaemonSetSpec{Selector: d.Spec.Selector, Template: d.Spec.Template}}
			_, err := world.Admin.AppsV1().DaemonSets(namespace).Create(ctx, set, metav1.CreateOptions{})
			return err
		},
	} {
		t.Run(short, func(t *testing.T) {
			t.Parallel()
			name := "ik-" + short
			app := manifests.HTTP(name, manifests.Options{Image: world.AppsImage})
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				_ = world.Admin.AppsV1().StatefulSets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
				_ = world.Admin.AppsV1().DaemonSets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
				_ = world.Admin.CoreV1().Services(namespace).Delete(ctx, name, metav1.DeleteOptions{})
			})
			if _, err := world.Admin.CoreV1().Services(namespace).Create(t.Context(), app.Service, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := create(t.Context(), app.Deployment); err != nil {
				t.Fatal(err)
			}
			settled(t, short, name)
			before := ownState(t, short, name)

			desk := newDesk(t)
			url := serviceURL(t, name)
			fresh, kept := startLoop(t, url, "-fresh"), startLoop(t, url)
			port := serve(t, desk, http.HandlerFunc(echo))
			// An agent that does not start costs nothing but the attempt.
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			failing, err := rig.Run(desk.Tele(ctx, "intercept", short+"/"+name, "--port", port, "--agent-image", "localhost/absent:1"))
			if err != nil || failing.Code == 0 || !strings.Contains(failing.Stderr, "cannot pull the agent's image") {
				t.Errorf("with an image that is absent: code %d, %v: %s", failing.Code, err, failing.Stderr)
			}
			settled(t, short, name)
			if after := ownState(t, short, name); after != before {
				t.Errorf("a failed intercept left a difference:\nbefore %s\nafter %s", before, after)
			}
			everyReplica(t, name, 2, "the app", isPodOf(name))
			timed(t, desk, "intercept", short+"/"+name, "--port", port)
			fresh.wait(t, "the laptop", byLaptop)
			everyReplica(t, name, 2, "the laptop", isLaptop)
			pods := podsOf(t, name)
			kubectl(t, desk, "delete", "pod", pods[len(pods)-1].Name)
			poll(t, "a pod takes the place of "+pods[len(pods)-1].Name, func(context.Context) error {
				now := podsOf(t, name)
				if len(now) != 2 || now[1].UID == pods[1].UID {
					return fmt.Errorf("%d pods", len(now))
				}
				return nil
			})
			settled(t, short, name)
			everyReplica(t, name, 2, "the laptop", isLaptop)
			timed(t, desk, "leave", short+"/"+name)
			fresh.wait(t, "the app", byAppOf(name))
			everyReplica(t, name, 2, "the app", isPodOf(name))
			fresh.stop(t)
			kept.stop(t)
			if after := ownState(t, short, name); after != before {
				t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
			}
			nothingLeft(t, name)
		})
	}
}

// workloadOf reads a workload of any kind.
func workloadOf(ctx context.Context, short, name string) (*workload.Workload, error) {
	ref, err := workload.AllKinds().Parse(short + "/" + name)
	if err != nil {
		return nil, err
	}
	return workload.AllKinds().Get(ctx, world.Admin, namespace, ref)
}

// settled waits until all pods of a workload are of its template, and available.
func settled(t *testing.T, short, name string) {
	t.Helper()
	poll(t, short+"/"+name+" is settled", func(ctx context.Context) error {
		w, err := workloadOf(ctx, short, name)
		if err == nil && (w.State.Rolling() || w.State.Replicas == 0) {
			err = fmt.Errorf("%+v", w.State)
		}
		return err
	})
}

// ownState is what an intercept must leave of a workload and its Service as it was.
func ownState(t *testing.T, short, name string) string {
	t.Helper()
	w, err := workloadOf(t.Context(), short, name)
	if err != nil {
		t.Fatal(err)
	}
	svc := getService(t, name)
	annotations := w.Object.GetAnnotations()
	delete(annotations, appsv1.DeprecatedTemplateGeneration) // counts rollouts
	text, err := json.MarshalIndent(map[string]any{
		"template": w.Template, "labels": w.Object.GetLabels(), "annotations": annotations, "service": svc.Spec, "serviceAnnotations": svc.Annotations,
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
