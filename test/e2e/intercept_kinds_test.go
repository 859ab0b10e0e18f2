//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// TestInterceptKinds: traffic of workloads of each kind, by Services that lead to a port by its
// name or by its number, of TCP and of UDP, goes to the laptop. No request fails while it
// begins, while a pod is replaced, and while it ends; the table says how many there were.
func TestInterceptKinds(t *testing.T) {
	t.Parallel()
	meta := metav1.CreateOptions{}
	creates := map[string]func(ctx context.Context, d *appsv1.Deployment) error{
		"deploy": func(ctx context.Context, d *appsv1.Deployment) error {
			_, err := world.Admin.AppsV1().Deployments(namespace).Create(ctx, d, meta)
			return err
		},
		"sts": func(ctx context.Context, d *appsv1.Deployment) error {
			set := &appsv1.StatefulSet{ObjectMeta: d.ObjectMeta, Spec: appsv1.StatefulSetSpec{
				Replicas: d.Spec.Replicas, Selector: d.Spec.Selector, Template: d.Spec.Template, ServiceName: d.Name,
			}}
			_, err := world.Admin.AppsV1().StatefulSets(namespace).Create(ctx, set, meta)
			return err
		},
		"ds": func(ctx context.Context, d *appsv1.Deployment) error {
			set := &appsv1.DaemonSet{ObjectMeta: d.ObjectMeta, Spec: appsv1.DaemonSetSpec{Selector: d.Spec.Selector, Template: d.Spec.Template}}
			_, err := world.Admin.AppsV1().DaemonSets(namespace).Create(ctx, set, meta)
			return err
		},
	}
	var mu sync.Mutex
	table := map[string][]string{} // lines by kind
	t.Run("of", func(t *testing.T) {
		for short, create := range creates {
			t.Run(short, func(t *testing.T) {
				t.Parallel()
				lines := interceptKind(t, short, create)
				mu.Lock()
				defer mu.Unlock()
				table[short] = lines
			})
		}
	})
	for _, short := range []string{"deploy", "sts", "ds"} {
		t.Log(strings.Join(table[short], "\n"))
	}
}

// interceptKind does all of TestInterceptKinds for one kind, and returns its part of the table.
func interceptKind(t *testing.T, short string, create func(context.Context, *appsv1.Deployment) error) (table []string) {
	name, byNumber := "ik-"+short, "ik-"+short+"-number"
	app := withUDP(name, intstr.FromString("echo"))
	number := withUDP(byNumber, intstr.FromInt32(udpPort)).Service
	number.Spec.Selector = app.Service.Spec.Selector
	number.Spec.Ports[0].TargetPort = intstr.FromInt32(manifests.AppPort)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = world.Admin.AppsV1().Deployments(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		_ = world.Admin.AppsV1().StatefulSets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		_ = world.Admin.AppsV1().DaemonSets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		for _, svc := range []string{name, byNumber} {
			_ = world.Admin.CoreV1().Services(namespace).Delete(ctx, svc, metav1.DeleteOptions{})
		}
	})
	for _, svc := range []*corev1.Service{app.Service, number} {
		if _, err := world.Admin.CoreV1().Services(namespace).Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := create(t.Context(), app.Deployment); err != nil {
		t.Fatal(err)
	}
	settled(t, short, name)
	before := ownState(t, short, name, byNumber)

	desk := newDesk(t)
	loops := []struct {
		what string
		*loop
	}{
		{"TCP by name, new connections", startLoop(t, serviceURL(t, name), "-fresh", "-every", "50ms")},
		{"TCP by name, one connection", startLoop(t, serviceURL(t, name), "-every", "50ms")},
		{"TCP by number, new connections", startLoop(t, serviceURL(t, byNumber), "-fresh", "-every", "50ms")},
		{"UDP by name, new sockets", startLoop(t, udpURL(t, name), "-fresh", "-every", "50ms")},
		{"UDP by number, new sockets", startLoop(t, udpURL(t, byNumber), "-fresh", "-every", "50ms")},
	}
	allAnsweredBy := func(what string, want func(api.Sample) bool) {
		t.Helper()
		for _, l := range loops {
			l.wait(t, what, want)
		}
	}
	port := serve(t, desk, http.HandlerFunc(echo))
	datagrams, _ := serveUDP(t, desk, "127.0.0.1:0")
	// An agent that does not start costs nothing but the attempt.
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	failing, err := rig.Run(desk.Tele(ctx, "intercept", short+"/"+name, "--port", port+":http", "--agent-image", "localhost/absent:1"))
	if err != nil || failing.Code == 0 || !strings.Contains(failing.Stderr, "cannot pull the agent's image") {
		t.Errorf("with an image that is absent: code %d, %v: %s", failing.Code, err, failing.Stderr)
	}
	settled(t, short, name)
	if after := ownState(t, short, name, byNumber); after != before {
		t.Errorf("a failed intercept left a difference:\nbefore %s\nafter %s", before, after)
	}
	everyReplica(t, name, 2, "the app", isPodOf(name))
	timed(t, desk, "intercept", short+"/"+name, "--port", port+":http", "--port", datagrams+":echo")
	allAnsweredBy("the laptop", byLaptop)
	everyReplica(t, name, 2, "the laptop", isLaptop)
	everyReplica(t, byNumber, 2, "the laptop", isLaptop)
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
	allAnsweredBy("the laptop", byLaptop)
	ours := short + "/" + name
	if short == "ds" {
		ours = name // which nothing else is called that this session has
	}
	timed(t, desk, "leave", ours)
	allAnsweredBy("the app", byAppOf(name))
	everyReplica(t, name, 2, "the app", isPodOf(name))
	for _, l := range loops {
		sum := l.stop(t)
		table = append(table, fmt.Sprintf("%-6s  %-31s  %5d requests  %d failed  %5d by the laptop  slowest %4d ms", short, l.what, sum.Requests, sum.Failed, sum.Answers[laptopName+" local"], sum.MaxMillis))
	}
	if after := ownState(t, short, name, byNumber); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
	return table
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

// ownState is what an intercept must leave of a workload, its Service and others as it was.
func ownState(t *testing.T, short, name string, more ...string) string {
	t.Helper()
	w, err := workloadOf(t.Context(), short, name)
	if err != nil {
		t.Fatal(err)
	}
	services := map[string]any{}
	for _, svc := range append(more, name) {
		found := getService(t, svc)
		services[svc] = []any{found.Spec, found.Annotations}
	}
	annotations := w.Object.GetAnnotations()
	delete(annotations, appsv1.DeprecatedTemplateGeneration) // these count rollouts
	delete(annotations, "deployment.kubernetes.io/revision")
	text, err := json.MarshalIndent(map[string]any{
		"template": w.Template, "labels": w.Object.GetLabels(), "annotations": annotations, "services": services,
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
