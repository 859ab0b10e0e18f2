//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	control "github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// officeName is a name that only the laptop's own resolver knows, and its
// address.
const (
	officeName    = "intranet.office.example"
	officeAddress = "203.0.113.250"
)

// soon is three times and more what anything on the laptop itself takes.
const soon = 15 * time.Second

// connected is a laptop that has connected, as it was before.
type connected struct {
	*rig.Desk
	before machine
}

// connect connects a new laptop.
func connect(t *testing.T) connected {
	t.Helper()
	desk := newDesk(t)
	c := connected{desk, machineOf(t, desk)}
	c.connect(t)
	return c
}

func (c connected) connect(t *testing.T) {
	t.Helper()
	begin := time.Now()
	tele(t, c.Desk, "connect")
	t.Logf("connect: %.1f s", time.Since(begin).Seconds())
}

// network is what the session says of its network.
func (c connected) network(t *testing.T) *control.NetworkStatus {
	t.Helper()
	st := sessionOf(t, c.Desk)
	if st.Network == nil {
		t.Fatalf("session %s has no network", st.ID)
	}
	return st.Network
}

// machine is what a laptop must be again after a session: everything that a
// session changes there.
type machine struct {
	Routes     []string
	Links      []string
	ResolvConf string
	Processes  []string
}

// machineOf reads it.
func machineOf(t *testing.T, desk *rig.Desk) machine {
	t.Helper()
	m, err := lookAt(t.Context(), desk)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func lookAt(ctx context.Context, desk *rig.Desk) (m machine, err error) {
	if m.Routes, err = desk.Routes(ctx); err != nil {
		return m, err
	}
	resolv, err := os.ReadFile(desk.ResolvFile())
	if err != nil {
		return m, err
	}
	m.ResolvConf = string(resolv)
	found, err := processes(desk)
	if err != nil {
		return m, err
	}
	for _, p := range found {
		if p.ours() {
			m.Processes = append(m.Processes, strings.Join(p.args, " "))
		}
		m.Links = p.links // each sees the same
	}
	return m, nil
}

// asBefore waits until the laptop is as it was, and says how long it took.
func (c connected) asBefore(t *testing.T, since time.Time, limit time.Duration) {
	t.Helper()
	poll(t, "the laptop is as it was before", func(ctx context.Context) error {
		now, err := lookAt(ctx, c.Desk)
		if err != nil {
			return err
		}
		was, is := describe(c.before), describe(now)
		if was != is {
			return fmt.Errorf("before: %s\nnow: %s", was, is)
		}
		return nil
	})
	took := time.Since(since)
	t.Logf("the laptop is as before after %.2f s", took.Seconds())
	if took > limit {
		t.Errorf("the laptop is as before after %s, not within %s", took, limit)
	}
}

func describe(m machine) string {
	text, _ := json.MarshalIndent(m, "", " ") // strings only
	return string(text)
}

// process is one at a laptop.
type process struct {
	pid   int
	args  []string
	links []string // the network devices that it sees
}

// ours says whether it is kubectl-tele.
func (p process) ours() bool {
	return slices.ContainsFunc(p.args, func(arg string) bool { return filepath.Base(arg) == filepath.Base(world.Plugin) })
}

// linksOf are the network devices that a process sees.
func linksOf(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "net", "dev"))
	if err != nil {
		return nil, err
	}
	var links []string
	for line := range strings.Lines(string(text)) {
		if name, _, found := strings.Cut(line, ":"); found {
			links = append(links, strings.TrimSpace(name))
		}
	}
	slices.Sort(links)
	return links, nil
}

// processes are all processes at a laptop; its resolver is always one.
func processes(desk *rig.Desk) ([]process, error) {
	at, err := os.Stat(desk.NetNS())
	if err != nil {
		return nil, err
	}
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []process
	for _, dir := range entries {
		ns, err := os.Stat(filepath.Join(dir, "ns", "net"))
		if err != nil || !os.SameFile(ns, at) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue
		}
		links, err := linksOf(dir)
		if err != nil {
			continue // it has ended
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		found = append(found, process{pid, strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"), links})
	}
	return found, nil
}

// pidOf is the laptop's only process with this argument.
func pidOf(t *testing.T, desk *rig.Desk, arg string) int {
	t.Helper()
	found, err := processes(desk)
	if err != nil {
		t.Fatal(err)
	}
	found = slices.DeleteFunc(found, func(p process) bool { return !p.ours() || !slices.Contains(p.args, arg) })
	if len(found) != 1 {
		t.Fatalf("processes with %s: %v", arg, found)
	}
	return found[0].pid
}

// ends waits until a process is gone.
func ends(t *testing.T, pid int) {
	t.Helper()
	poll(t, fmt.Sprintf("process %d is gone", pid), func(context.Context) error {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("it is there (%w)", err)
		}
		return nil
	})
}

// agentGone waits until an agent's pod and its Job are gone.
func agentGone(t *testing.T, pod string, job string) {
	t.Helper()
	begin := time.Now()
	poll(t, "agent "+pod+" and its Job are gone", func(ctx context.Context) error {
		_, podErr := world.Admin.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
		_, jobErr := world.Admin.BatchV1().Jobs(namespace).Get(ctx, job, metav1.GetOptions{})
		if !apierrors.IsNotFound(podErr) || !apierrors.IsNotFound(jobErr) {
			return fmt.Errorf("pod: %w, Job: %w", orThere(podErr), orThere(jobErr))
		}
		return nil
	})
	t.Logf("agent and Job gone after another %.1f s", time.Since(begin).Seconds())
}

var errThere = errors.New("it is there")

func orThere(err error) error {
	if err == nil {
		return errThere
	}
	return err
}

// jobOf is the Job of an agent's pod.
func jobOf(t *testing.T, pod string) string {
	t.Helper()
	p, err := world.Admin.CoreV1().Pods(namespace).Get(t.Context(), pod, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p.Labels["batch.kubernetes.io/job-name"]
}

// curl is what a person types; it must succeed.
func (c connected) curl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return mustRun(t, c.Command(ctx, "", append([]string{"curl", "-sS", "--max-time", "60"}, args...)...))
}

// get is one request, with a connection of its own, from a laptop.
func get(ctx context.Context, desk *rig.Desk, url string) (api.Echo, error) {
	var echo api.Echo
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return echo, err
	}
	reply, err := desk.Transport().RoundTrip(request)
	if err != nil {
		return echo, err
	}
	defer func() { _ = reply.Body.Close() }()
	if reply.StatusCode != http.StatusOK {
		return echo, fmt.Errorf("%s: %s", url, reply.Status)
	}
	return echo, json.NewDecoder(reply.Body).Decode(&echo)
}

// answers waits until the shop answers the laptop, and returns how long after
// since that was.
func (c connected) answers(t *testing.T, since time.Time) time.Duration {
	t.Helper()
	const url = "http://front.shop"
	poll(t, url+" answers the laptop", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := get(ctx, c.Desk, url)
		return err
	})
	return time.Since(since)
}

// ask asks the laptop's resolver one question, without search domains.
func ask(t *testing.T, desk *rig.Desk, network, name string, kind uint16) *mdns.Msg {
	t.Helper()
	config, err := mdns.ClientConfigFromFile(desk.ResolvFile())
	if err != nil || len(config.Servers) == 0 {
		t.Fatalf("no resolver: %v, %v", config, err)
	}
	conn, err := desk.Dial(t.Context(), network, net.JoinHostPort(config.Servers[0], config.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := &mdns.Client{Net: network, Timeout: soon}
	reply, _, err := client.ExchangeWithConn(new(mdns.Msg).SetQuestion(mdns.Fqdn(name), kind), &mdns.Conn{Conn: conn})
	if err != nil {
		t.Fatalf("ask for %s %s: %v", mdns.TypeToString[kind], name, err)
	}
	return reply
}

// podsOf are the running pods of an app.
func podsOf(t *testing.T, name string) []corev1.Pod {
	t.Helper()
	found, err := world.Admin.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(found.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil || p.Status.PodIP == "" })
}

// podAddress is the application's address in one pod.
func podAddress(pod corev1.Pod) string {
	return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(manifests.AppPort))
}

// wait is for time that has to pass because that is what is tested.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}
