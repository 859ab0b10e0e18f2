//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// udpPort is what the container with UDP listens on: the number that the other has by TCP.
const udpPort = manifests.AppPort

// withUDP is an application of two ports with a second container, which answers by UDP on a
// port called echo. Its Service leads there from port 7, to target.
func withUDP(name string, target intstr.IntOrString) manifests.App {
	app := manifests.TwoPorts(name, manifests.Options{Image: world.AppsImage, Mutate: func(pod *corev1.PodTemplateSpec) {
		c := *pod.Spec.Containers[0].DeepCopy()
		c.Name, c.Args = "udp", []string{"udp", "-addr", fmt.Sprintf(":%d", udpPort)}
		c.Ports = []corev1.ContainerPort{{Name: "echo", ContainerPort: udpPort, Protocol: corev1.ProtocolUDP}}
		c.ReadinessProbe, c.LivenessProbe = nil, nil
		pod.Spec.Containers = append(pod.Spec.Containers, c)
	}})
	app.Service.Spec.Ports = append(app.Service.Spec.Ports, corev1.ServicePort{Name: "echo", Port: 7, TargetPort: target, Protocol: corev1.ProtocolUDP})
	return app
}

// udpURL is the Service's port of UDP.
func udpURL(t *testing.T, name string) string {
	return "udp://" + net.JoinHostPort(getService(t, name).Spec.ClusterIP, "7")
}

// serveUDP answers by UDP at the laptop, as the application does, until stop is called.
// address is where; the port returned is as flags take it.
func serveUDP(t *testing.T, desk *rig.Desk, address string) (port string, stop func()) {
	t.Helper()
	l, err := desk.ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	by, err := json.Marshal(api.Echo{Pod: laptopName, Version: "local"})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(append(append(b[:n:n], '\n'), by...), from)
		}
	})
	stop = func() {
		_ = l.Close()
		serving.Wait()
	}
	t.Cleanup(stop)
	_, port, _ = net.SplitHostPort(l.LocalAddr().String())
	return port, stop
}

// slowest tells of a loop's answer that took longest: what is lost is asked for again after
// a second. A socket that led to a pod that has ended is silent for one in any rolling update,
// until its node knows.
func slowest(t *testing.T, what string, l *loop) {
	t.Helper()
	var worst time.Duration
	for _, s := range l.between(time.Time{}, time.Now(), func(api.Sample) bool { return true }) {
		worst = max(worst, s.End().Sub(s.Begin))
	}
	t.Logf("%s: %d answers, the slowest after %s", what, l.total.Requests, worst.Round(time.Millisecond))
}

// TestInterceptUDP: datagrams go to the laptop along with two ports of TCP, by the port's name,
// or by its number. No question stays without an answer while it begins, while a pod is
// replaced, while the handler is away, when the session is killed, and while it ends.
func TestInterceptUDP(t *testing.T) {
	t.Parallel()
	named, numeric := withUDP("iu-named", intstr.FromString("echo")), withUDP("iu-numeric", intstr.FromInt32(udpPort))
	deploy(t, named, numeric)

	t.Run("named, and two of TCP", func(t *testing.T) {
		t.Parallel()
		const name = "iu-named"
		desk := newDesk(t)
		before := stateOf(t, name, name)
		web, fresh, kept := startLoop(t, serviceURL(t, name), "-fresh"), startLoop(t, udpURL(t, name), "-fresh"), startLoop(t, udpURL(t, name))
		admin := startLoop(t, strings.TrimSuffix(serviceURL(t, name), ":80")+fmt.Sprintf(":%d", manifests.AdminPort), "-fresh")
		all := []*loop{web, admin, fresh, kept}
		port, other := serve(t, desk, http.HandlerFunc(echo)), serve(t, desk, http.HandlerFunc(echo))
		if said := fails(t, desk, "intercept", name, "--port", "9:echo"); !strings.Contains(said, "nothing listens there by UDP") {
			t.Errorf("without a handler it says %s", said)
		}
		if said := fails(t, desk, "intercept", name, "--port", "9:echo", "--personal"); !strings.Contains(said, "requests cannot be told apart") {
			t.Errorf("of requests it says %s", said)
		}
		datagrams, _ := serveUDP(t, desk, "127.0.0.1:0")
		timed(t, desk, "intercept", name, "--port", port+":http", "--port", other+":admin", "--port", datagrams+":7/udp")
		for _, l := range all {
			l.wait(t, "the laptop", byLaptop)
		}
		st := sessionOf(t, desk).Intercepts
		if len(st) != 3 || st[2].Port != manifests.AdminPort || st[1].Port != udpPort || st[1].Protocol != "udp" || st[1].Container != "udp" || st[0].Port != udpPort || st[0].Protocol != "" {
			t.Errorf("status %+v", st)
		}
		if said := mustRun(t, desk.Tele(t.Context(), "list")); !strings.Contains(said, fmt.Sprintf(":%d/udp", udpPort)) {
			t.Errorf("list says %s", said)
		}
		pods := podsOf(t, name)
		kubectl(t, desk, "delete", "pod", pods[0].Name)
		settled(t, "deploy", name)
		begin := time.Now()
		for _, l := range all {
			l.wait(t, "the laptop", byLaptop)
			if past := l.between(begin, time.Now(), byApp); len(past) > 0 {
				t.Errorf("%s: of the new pod, the app answers: %+v", l.url, past[0])
			}
		}
		timed(t, desk, "leave", name, "--port", fmt.Sprint(udpPort)) // that of TCP
		web.wait(t, "the app", byAppOf(name))
		fresh.wait(t, "the laptop", byLaptop)
		timed(t, desk, "leave", name)
		for _, l := range all {
			l.wait(t, "the app", byAppOf(name))
			l.stop(t)
			slowest(t, l.url, l)
		}
		if after := stateOf(t, name, name); after != before {
			t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
		}
		nothingLeft(t, name)
	})

	t.Run("numeric", func(t *testing.T) {
		t.Parallel()
		const name = "iu-numeric"
		desk := newDesk(t)
		before := stateOf(t, name, name)
		fresh, kept := startLoop(t, udpURL(t, name), "-fresh"), startLoop(t, udpURL(t, name))
		port, stop := serveUDP(t, desk, "127.0.0.1:0")
		if said := teleSays(t, desk, "intercept", name, "--port", port+":echo").Stderr; !strings.Contains(said, "cannot be seen: some may reach the app") {
			t.Errorf("it says %s", said)
		}
		fresh.wait(t, "the laptop", byLaptop)
		stop()
		fresh.wait(t, "the app, while no handler is there", byAppOf(name))
		serveUDP(t, desk, "127.0.0.1:"+port)
		fresh.wait(t, "the laptop again", byLaptop)
		generation := getDeployment(t, name).Generation
		lost := kill(t, desk)
		s := fresh.since(t, lost.to, "the app", byAppOf(name))
		took := s.End().Sub(lost.from)
		t.Logf("session killed: the app answers after %.2f s", took.Seconds())
		if took > failOpen {
			t.Errorf("session killed: the app answers after %s, not within %s", took, failOpen)
		}
		if now := getDeployment(t, name).Generation; now != generation {
			t.Errorf("somebody changed the Deployment (generation %d, then %d)", generation, now)
		}
		mustRun(t, desk.Tele(t.Context(), "clean"))
		fresh.wait(t, "the app", byAppOf(name))
		fresh.stop(t)
		kept.stop(t)
		slowest(t, "new sockets", fresh)
		slowest(t, "one socket", kept)
		if after := stateOf(t, name, name); after != before {
			t.Errorf("clean left a difference:\nbefore %s\nafter %s", before, after)
		}
		nothingLeft(t, name)
	})
}
