//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

// TestErrorsIntercept: intercept refuses what would not work or would hurt,
// and what was there stays or is put back.
func TestErrorsIntercept(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mistake
		options manifests.Options
		change  func(*appsv1.Deployment)
	}{
		{mistake: mistake{name: "MissingDeployment", args: []string{"nosuch"}, says: []string{"nosuch", "namespace shop", "Deployments in"}}},
		{mistake: mistake{name: "MissingPort", args: []string{"APP", "--port", ":nosuch"}, says: []string{"nosuch", "http"}}},
		{mistake: mistake{name: "MissingPortNumber", args: []string{"APP", "--port", ":81"}, says: []string{"81", "80"}}},
		{mistake: mistake{name: "MissingService", args: []string{"APP", "--service", "nosuch"}, says: []string{"nosuch"}}},
		{mistake: mistake{name: "OtherKind", args: []string{"job/APP"}, says: []string{"kind \"job\"", "deployment/NAME"}}},
		{mistake: mistake{name: "NoRights", args: []string{"APP", "-n", "other"}, says: []string{"namespace other", "patch deployments.apps", "ClusterRole `edit`"}}},
		{mistake: mistake{name: "MissingNamespace", args: []string{"APP", "-n", "nosuch"}, says: []string{"namespace nosuch"}}},
		{mistake: mistake{name: "NoHandler", args: []string{"APP", "--port", "1"}, says: []string{"localhost:1"}}},
		{mistake: mistake{name: "Image", args: []string{"APP", "--port", "HANDLER", "--agent-image", noImage}, says: []string{noImage, "--agent-image"}}},
		{
			mistake: mistake{name: "Paused", args: []string{"APP", "--port", "HANDLER"}, says: []string{"paused", "kubectl rollout resume"}},
			change:  func(d *appsv1.Deployment) { d.Spec.Paused = true },
		},
		{
			mistake: mistake{name: "Recreate", args: []string{"APP", "--port", "HANDLER"}, says: []string{"Recreate", "--allow-restart"}},
			options: manifests.Options{Strategy: &appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}},
		},
		{
			// Two pods that may not share one of the two nodes: a third cannot run.
			mistake: mistake{name: "Stuck", args: []string{"APP", "--port", "HANDLER", "--timeout", "15s"}, says: []string{"15s"}},
			options: manifests.Options{Mutate: apart},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name := "e" + strings.ToLower(test.name)
			app := manifests.HTTP(name, test.options)
			deploy(t, app)
			if test.change != nil {
				dep := getDeployment(t, name)
				test.change(dep)
				if _, err := world.Admin.AppsV1().Deployments(namespace).Update(t.Context(), dep, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			before := stateOf(t, name, name)
			desk := newDesk(t)
			machine := machineOf(t, desk)
			port := serve(t, desk, http.HandlerFunc(echo))
			args := []string{"intercept"}
			for _, arg := range test.args {
				switch arg {
				case "APP":
					arg = name
				case "service/APP":
					arg = "service/" + name
				case "HANDLER":
					arg = port
				}
				args = append(args, arg)
			}
			test.args = args
			test.made(t, desk)
			if after := stateOf(t, name, name); after != before {
				t.Errorf("a difference is left:\nbefore %s\nafter %s", before, after)
			}
			nothingLeft(t, name)
			quiet(t, desk, machine)
		})
	}
}

// apart lets no two pods of an app share a node.
func apart(pod *corev1.PodTemplateSpec) {
	pod.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey:   corev1.LabelHostname,
			LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": pod.Labels["app"]}},
		}},
	}}
}

// TestErrorsTaken: a port has one owner, and who comes second hurts nobody.
func TestErrorsTaken(t *testing.T) {
	t.Parallel()
	app := manifests.HTTP("etaken", manifests.Options{})
	deploy(t, app)
	name := app.Deployment.Name
	before := stateOf(t, name, name)
	alice := newDesk(t)
	bob := newDesk(t).As("bob")
	machine := machineOf(t, bob)
	timed(t, alice, "intercept", name, "--port", serve(t, alice, http.HandlerFunc(echo)))
	everyReplica(t, name, 2, "the laptop", isLaptop)
	during := getDeployment(t, name).Generation
	port := serve(t, bob, http.NotFoundHandler())
	mistake{name: "Taken", user: "bob", args: []string{"intercept", name, "--port", port}, says: []string{"alice@", "kubectl tele list"}}.made(t, bob)
	mistake{name: "Twice", args: []string{"intercept", name, "--port", port}, says: []string{"by this session", "kubectl tele leave " + name}}.made(t, alice)
	everyReplica(t, name, 2, "the laptop", isLaptop)
	quiet(t, bob, machine)
	timed(t, alice, "leave", name)
	if after := stateOf(t, name, name); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
	t.Logf("generation %d while intercepted, %d after", during, getDeployment(t, name).Generation)
}

// TestErrorsElsewhere: what takes a namespace of its own to happen.
func TestErrorsElsewhere(t *testing.T) {
	t.Parallel()
	const ns = "e2e-errors"
	newNamespace(t, ns, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"})
	host := manifests.HTTP("hostnet", manifests.Options{Namespace: ns, Replicas: 1, Mutate: func(pod *corev1.PodTemplateSpec) {
		pod.Spec.HostNetwork = true
		pod.Spec.Containers[0].Ports[0].HostPort = pod.Spec.Containers[0].Ports[0].ContainerPort
	}})
	full := manifests.HTTP("full", manifests.Options{Namespace: ns, Replicas: 1})
	deploy(t, host, full)
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "two"}, Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")},
	}}
	if _, err := world.Admin.CoreV1().ResourceQuotas(ns).Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	poll(t, "the quota is counted", func(ctx context.Context) error {
		now, err := world.Admin.CoreV1().ResourceQuotas(ns).Get(ctx, quota.Name, metav1.GetOptions{})
		if err == nil && now.Status.Used.Pods().Value() != 2 {
			err = fmt.Errorf("%v pods", now.Status.Used.Pods())
		}
		return err
	})
	for _, m := range []mistake{
		{name: "HostNetwork", args: []string{"intercept", "hostnet", "--port", "HANDLER"}, says: []string{"hostNetwork"}},
		{name: "Quota", args: []string{"intercept", "full", "--port", "HANDLER"}, says: []string{"quota"}},
		{name: "QuotaConnect", args: []string{"connect", "--timeout", "15s"}, says: []string{"quota"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			desk := newDesk(t)
			machine := machineOf(t, desk)
			port := serve(t, desk, http.HandlerFunc(echo))
			for i, arg := range m.args {
				if arg == "HANDLER" {
					m.args[i] = port
				}
			}
			m.args = append(m.args, "-n", ns)
			m.made(t, desk)
			quiet(t, desk, machine)
		})
	}
	t.Cleanup(func() {
		for _, name := range []string{"hostnet", "full"} {
			dep, err := world.Admin.AppsV1().Deployments(ns).Get(context.Background(), name, metav1.GetOptions{})
			if err != nil || dep.Generation != 1 || inject.Injected(workload.Deployments{}.View(dep)) {
				t.Errorf("deployment/%s was changed: %v", name, err)
			}
		}
		found, err := inject.Find(context.Background(), world.Admin, workload.AllKinds(), ns)
		if err != nil || len(found) > 0 {
			t.Errorf("left in namespace %s: %v, %v", ns, found, err)
		}
	})
}

// TestErrorsUse: a wrong use of the command line is told from a failure.
func TestErrorsUse(t *testing.T) {
	t.Parallel()
	desk := newDesk(t)
	before := machineOf(t, desk)
	for _, m := range []mistake{
		{name: "UnknownFlag", args: []string{"connect", "--nosuch"}, code: 2, says: []string{"--nosuch", "kubectl tele connect --help"}},
		{name: "UnknownCommand", args: []string{"conect"}, code: 2, says: []string{"conect", "connect"}},
		{name: "NoWorkload", args: []string{"intercept"}, code: 2, says: []string{"workload"}},
		{name: "TwoWorkloads", args: []string{"intercept", "front", "back"}, code: 2},
		{name: "Argument", args: []string{"connect", "front"}, code: 2, says: []string{"front"}},
		{name: "NoLeave", args: []string{"leave"}, code: 2},
		{name: "NotRunning", args: []string{"leave", "front"}, says: []string{"no session is running"}},
		{name: "ListNoRights", args: []string{"list", "-n", "other"}, says: []string{"namespace \"other\"", "ClusterRole `edit`"}},
		{name: "CleanNoRights", args: []string{"clean", "-n", "other"}, says: []string{"namespace \"other\"", "ClusterRole `edit`"}},
		{name: "NoLog", args: []string{"logs"}, says: []string{"namespace shop"}},
	} {
		t.Run(m.name, func(t *testing.T) { m.made(t, desk) })
	}
	quiet(t, desk, before)
}
