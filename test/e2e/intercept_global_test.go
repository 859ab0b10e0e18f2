//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

const (
	bodyBytes = 64 << 20
	parallel  = 200
)

// TestInterceptGlobal takes all traffic of a port, whichever way Services lead
// to it, and gives it back, while others ask without a pause.
func TestInterceptGlobal(t *testing.T) {
	t.Parallel()
	numeric := manifests.Options{TargetPort: intstr.FromInt32(manifests.AppPort), Mutate: quickly}
	unnamed := numeric
	unnamed.PortName = "-"
	both := manifests.HTTP("ig-both", manifests.Options{Mutate: quickly})
	for _, test := range []struct {
		name    string
		apps    []manifests.App
		capture string
	}{
		{"named", []manifests.App{manifests.HTTP("ig-named", manifests.Options{Mutate: quickly})}, "port-name http"},
		{"numeric", []manifests.App{manifests.HTTP("ig-numeric", unnamed)}, "service"},
		{"both", []manifests.App{both, service("ig-both-n", both, numeric)}, "port-name http,service"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			interceptGlobally(t, test.apps, test.capture)
		})
	}
}

func interceptGlobally(t *testing.T, apps []manifests.App, capture string) {
	deploy(t, apps...)
	desk := newDesk(t)
	name := apps[0].Deployment.Name
	var services, urls []string
	for _, app := range apps {
		services = append(services, app.Service.Name)
		urls = append(urls, serviceURL(t, app.Service.Name))
	}
	before := stateOf(t, name, services...)

	h := &globalHandler{together: make(chan struct{})}
	l := listen(t, desk)
	serveOn(t, l, h)
	var loops, fresh []*loop
	for _, url := range urls {
		fresh = append(fresh, startLoop(t, url+"/loop", "-fresh"))
		loops = append(loops, fresh[len(fresh)-1], startLoop(t, url+"/loop"))
	}

	timed(t, desk, "intercept", name, "--port", portOf(l))
	active := time.Now()
	if st := sessionOf(t, desk); len(st.Intercepts) != 1 || strings.Join(st.Intercepts[0].Capture, ",") != capture || len(st.Intercepts[0].Agents) < 2 {
		t.Errorf("status: %+v", st)
	}
	for i, url := range urls {
		fresh[i].wait(t, "the laptop", byLaptop)
		followed(t, url, l)
		everyReplica(t, services[i], 2, "the laptop", isLaptop)
		bodies(t, url, h)
	}
	manyAtOnce(t, urls[0])
	alwaysFailing(t, urls[0], name, h)

	leaving := time.Now()
	timed(t, desk, "leave", name)
	for _, l := range fresh {
		t.Logf("%s: the app's last answer %d ms after intercept had returned, the laptop's %d ms after leave had begun",
			l.url, l.late(active, leaving, byApp).Milliseconds(), l.late(leaving, time.Now(), byLaptop).Milliseconds())
	}
	for i := range urls {
		fresh[i].wait(t, "the app", byApp)
		everyReplica(t, services[i], 2, "the app", isPodOf(name))
	}
	for _, l := range loops {
		total := l.stop(t)
		t.Logf("%s: %d requests, none failed, slowest %d ms", l.url, total.Requests, total.MaxMillis)
	}
	if after := stateOf(t, name, services...); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, append(services, name)...)

	// The one ReplicaSet there is has nothing before it.
	result, err := rig.Run(desk.Command(t.Context(), desk.User, "kubectl", "rollout", "undo", "deployment/"+name))
	if err != nil || result.Code == 0 || !strings.Contains(result.Stderr, "no rollout history") {
		t.Errorf("rollout undo: %+v, %v", result, err)
	}
	nothingLeft(t, append(services, name)...)
}

// globalHandler is an echo that also answers big bodies by big ones, waits on
// /together until many ask, and answers 500 to everything else when told so.
type globalHandler struct {
	bodies   sync.Map // by X-Id: the api.Sum of what was got
	waiting  atomic.Int32
	together chan struct{}
	failing  atomic.Bool
	probes   atomic.Int32
	failed   atomic.Int32
}

func (h *globalHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.UserAgent(), "kube-probe/") {
		h.probes.Add(1)
	}
	switch {
	case h.failing.Load() && r.URL.Path != "/loop":
		h.failed.Add(1)
		http.Error(w, "broken", http.StatusInternalServerError)
	case r.URL.Path == "/together":
		if h.waiting.Add(1) == parallel {
			close(h.together)
		}
		select {
		case <-h.together:
			echo(w, r)
		case <-time.After(patience):
			http.Error(w, fmt.Sprintf("%d requests at once", h.waiting.Load()), http.StatusGatewayTimeout)
		}
	case r.URL.Path == "/bodies":
		sum, err := api.ReadSum(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.bodies.Store(r.Header.Get("X-Id"), sum)
		w.Header().Set("Content-Length", fmt.Sprint(bodyBytes))
		_, _ = io.Copy(w, api.Content(bodyBytes))
	default:
		echo(w, r)
	}
}

// bodies sends one to the laptop and has one sent back.
func bodies(t *testing.T, url string, h *globalHandler) {
	t.Helper()
	want := api.ContentSum(bodyBytes)
	c := call(t, "-bytes", fmt.Sprint(bodyBytes), "-header", "X-Id: "+url, url+"/bodies")
	if !c.OK() || c.Sent != want || c.Got != want {
		t.Errorf("64 MiB each way: status %d, error %q, sent %+v, got %+v, want %+v", c.Status, c.Error, c.Sent, c.Got, want)
	}
	if got, _ := h.bodies.Load(url); got != want {
		t.Errorf("the handler got %+v, not %+v", got, want)
	}
	t.Logf("64 MiB each way: %.1f s", float64(c.Millis)/1000)
}

// manyAtOnce makes requests that are answered only when all are there.
func manyAtOnce(t *testing.T, url string) {
	t.Helper()
	n := fmt.Sprint(parallel)
	l := runLoad(t, "-workers", n, "-count", n, "-for", "2m", "-timeout", "1m", url+"/together")
	if l.Requests != parallel || l.Failed > 0 || l.Answers[laptopName+" local"] != parallel {
		t.Errorf("%d requests at once: %+v", parallel, l)
	}
	t.Logf("%d requests at once: %d ms", parallel, l.MaxMillis)
}

// alwaysFailing has the handler answer 500 for longer than any probe is patient.
func alwaysFailing(t *testing.T, url, name string, h *globalHandler) {
	t.Helper()
	before := untouched(t, name)
	h.failing.Store(true)
	l := runLoad(t, "-for", "6s", "-every", "50ms", "-fresh", url+"/anything")
	h.failing.Store(false)
	if l.Requests == 0 || l.Failed != l.Requests || int(h.failed.Load()) < l.Requests {
		t.Errorf("of a failing handler: %+v, the handler counts %d", l, h.failed.Load())
	}
	if after := untouched(t, name); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("pods under a failing handler:\nbefore %v\nafter  %v", before, after)
	}
	if n := h.probes.Load(); n > 0 {
		t.Errorf("%d kubelet probes reached the handler", n)
	}
}
