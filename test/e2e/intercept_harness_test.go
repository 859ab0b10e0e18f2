//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	control "github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// laptopName is what handlers call themselves, where an app has its pod's name.
const laptopName = "laptop"

// counted counts the connections that a listener accepts.
type counted struct {
	net.Listener
	n atomic.Int32
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// listen listens at the laptop, on its loopback.
func listen(t *testing.T, desk *rig.Desk) *counted {
	t.Helper()
	l, err := desk.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &counted{Listener: l}
}

// portOf is the port of a listener, as flags take it.
func portOf(l net.Listener) string {
	return strconv.Itoa(int(netip.MustParseAddrPort(l.Addr().String()).Port()))
}

// serve answers HTTP at the laptop and returns the port.
func serve(t *testing.T, desk *rig.Desk, h http.Handler) string {
	t.Helper()
	l := listen(t, desk)
	serveOn(t, l, h)
	return portOf(l)
}

func serveOn(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
}

// dialLimit bounds one exec that makes a connection and ends it. Most take a
// fraction of a second; a busy node needs seconds to start one.
const dialLimit = 15 * time.Second

// followed waits until connections to a Service reach the laptop from every
// client pod: a busy node may take longer than the product waits for it.
func followed(t *testing.T, url string, l *counted) {
	t.Helper()
	address := strings.TrimPrefix(url, "http://")
	for _, pod := range clients(t) {
		poll(t, "connections from pod "+pod+" to "+address+" reach the laptop", func(ctx context.Context) error {
			before := l.n.Load()
			ctx, cancel := context.WithTimeout(ctx, dialLimit)
			defer cancel()
			// An app may take its time to answer nothing: how dial ends does not matter.
			said, err := inPod(ctx, pod, "dial", address).CombinedOutput()
			if l.n.Load() == before {
				return fmt.Errorf("a connection went elsewhere, or was not made: dial: %s: %q", fmt.Sprint(err), said)
			}
			return nil
		})
	}
}

// echo answers who it is, and what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	sum, err := api.ReadSum(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(api.Echo{
		Pod: laptopName, Version: "local", Method: r.Method, Host: r.Host, Path: r.URL.Path,
		Proto: r.Proto, Headers: r.Header, Remote: r.RemoteAddr, Body: sum,
	})
}

// serviceURL is the address of a Service's first port, without DNS.
func serviceURL(t *testing.T, name string) string {
	t.Helper()
	svc := getService(t, name)
	return "http://" + net.JoinHostPort(svc.Spec.ClusterIP, strconv.Itoa(int(svc.Spec.Ports[0].Port)))
}

func getService(t *testing.T, name string) *corev1.Service {
	t.Helper()
	svc, err := world.Admin.CoreV1().Services(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

func getDeployment(t *testing.T, name string) *appsv1.Deployment {
	t.Helper()
	dep, err := world.Admin.AppsV1().Deployments(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return dep
}

// endpoints are the ready addresses behind a Service's first port.
func endpoints(ctx context.Context, service string) ([]string, error) {
	found, err := world.Admin.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return nil, err
	}
	svc, err := world.Admin.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	var all []string
	for _, s := range found.Items {
		for _, p := range s.Ports {
			if p.Port == nil || p.Name == nil || *p.Name != svc.Spec.Ports[0].Name {
				continue
			}
			for _, e := range s.Endpoints {
				if e.Conditions.Ready != nil && *e.Conditions.Ready {
					all = append(all, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*p.Port))))
				}
			}
		}
	}
	return all, nil
}

// everyReplica waits until each of a Service's n endpoints, asked by itself,
// answers by who is wanted.
func everyReplica(t *testing.T, service string, n int, what string, want func(by string) bool) {
	t.Helper()
	poll(t, fmt.Sprintf("each of %d endpoints of service/%s answers by %s", n, service, what), func(ctx context.Context) error {
		all, err := endpoints(ctx, service)
		if err != nil {
			return err
		}
		if len(all) != n {
			return fmt.Errorf("endpoints are %v", all)
		}
		for _, address := range all {
			if by := answeredBy(t, "http://"+address); !want(by) {
				return fmt.Errorf("%s answers by %s", address, by)
			}
		}
		return nil
	})
}

func isLaptop(by string) bool { return by == laptopName }

// isPodOf accepts the pods of a Deployment.
func isPodOf(name string) func(string) bool {
	return func(by string) bool { return strings.HasPrefix(by, name+"-") }
}

// state is what an intercept must leave as it was.
type state struct {
	Deployment  appsv1.DeploymentSpec
	Annotations map[string]string
	Services    map[string]serviceState
}

type serviceState struct {
	Spec        corev1.ServiceSpec
	Annotations map[string]string
}

// stateOf reads the state of a Deployment and Services.
func stateOf(t *testing.T, deployment string, services ...string) string {
	t.Helper()
	dep := getDeployment(t, deployment)
	// The revision counts rollouts, which nobody can undo.
	delete(dep.Annotations, "deployment.kubernetes.io/revision")
	s := state{Deployment: dep.Spec, Annotations: dep.Annotations, Services: map[string]serviceState{}}
	for _, name := range services {
		svc := getService(t, name)
		s.Services[name] = serviceState{svc.Spec, svc.Annotations}
	}
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// nothingLeft fails if anything of ours is left of these names: container,
// record, switched Service, or ReplicaSet that a rollout undo would bring back.
func nothingLeft(t *testing.T, names ...string) {
	t.Helper()
	found, err := inject.Find(t.Context(), world.Admin, workload.AllKinds(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range found {
		if slices.ContainsFunc(names, func(name string) bool { return l.Name == name || strings.HasPrefix(l.Name, name+"-") }) {
			t.Errorf("%s is left: %s", l, l.Damaged)
		}
	}
	for _, name := range names {
		sets, err := world.Admin.AppsV1().ReplicaSets(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range sets.Items {
			if _, ours := inject.AgentIn(&set.Spec.Template.Spec); ours {
				t.Errorf("replicaset/%s, of %d pods, has our container", set.Name, set.Status.Replicas)
			}
		}
	}
}

// sessionsOf are the desk's sessions.
func sessionsOf(t *testing.T, desk *rig.Desk) []control.Status {
	t.Helper()
	var out struct {
		Sessions []control.Status `json:"sessions"`
	}
	if err := json.Unmarshal([]byte(tele(t, desk, "status", "-o", "json")), &out); err != nil {
		t.Fatal(err)
	}
	return out.Sessions
}

// sessionOf is the desk's only session.
func sessionOf(t *testing.T, desk *rig.Desk) control.Status {
	t.Helper()
	all := sessionsOf(t, desk)
	if len(all) != 1 {
		t.Fatalf("%d sessions, not 1: %+v", len(all), all)
	}
	return all[0]
}

// timed runs `kubectl tele ARGS` and logs how long it took.
func timed(t *testing.T, desk *rig.Desk, args ...string) {
	t.Helper()
	begin := time.Now()
	tele(t, desk, args...)
	t.Logf("%s %s: %.1f s", args[0], args[1], time.Since(begin).Seconds())
}

// fails runs `kubectl tele ARGS`, which must fail in time, and returns what it
// says.
func fails(t *testing.T, desk *rig.Desk, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	result, err := rig.Run(desk.Tele(ctx, args...))
	if err != nil {
		t.Fatal(err)
	}
	const limit = 30 * time.Second
	took := time.Since(begin)
	t.Logf("%v failed after %.1f s: %s", args, took.Seconds(), result.Stderr)
	if result.Code == 0 {
		t.Errorf("%v succeeded:\n%s%s", args, result.Stdout, result.Stderr)
	}
	if took > limit {
		t.Errorf("%v failed after %s, not within %s", args, took, limit)
	}
	return result.Stderr
}

// quickly changes the probes so that one that reached a handler that does not
// answer well would be noticed within two seconds.
func quickly(pod *corev1.PodTemplateSpec) {
	c := &pod.Spec.Containers[0]
	c.ReadinessProbe.FailureThreshold = 1
	c.LivenessProbe.PeriodSeconds = 1
	c.LivenessProbe.FailureThreshold = 2
}

// untouched are the running pods of an app, each with all that changes when it
// becomes unready or is restarted.
func untouched(t *testing.T, name string) []string {
	t.Helper()
	pods, err := world.Admin.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil {
			continue
		}
		line := string(pod.UID)
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady {
				line += fmt.Sprintf(" ready=%s since %s", c.Status, c.LastTransitionTime.Format(time.TimeOnly))
			}
		}
		for _, s := range append(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses...) {
			line += fmt.Sprintf(" %s restarts=%d", s.Name, s.RestartCount)
		}
		all = append(all, line)
	}
	slices.Sort(all)
	return all
}

// service is a Service of an app that has one already.
func service(name string, app manifests.App, o manifests.Options) manifests.App {
	svc := manifests.HTTP(name, o).Service
	svc.Spec.Selector = app.Service.Spec.Selector
	return manifests.App{Service: svc}
}
