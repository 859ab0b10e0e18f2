//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

const (
	// many is the number of connections in the rows with several.
	many = 32
	// requestsFor is how long requests are counted.
	requestsFor = 3 * time.Second
	// readyLimit bounds waiting for something that takes a second.
	readyLimit  = time.Minute
	forwardPort = 18080
	// clientName is the Deployment that asks from inside the cluster.
	clientName = "bench-client"
)

// bench is the stage: one pod, a laptop that reaches it both ways.
type bench struct {
	settings
	desk *rig.Desk
	say  func(string)
	tele string // http://IP:PORT of the pod through connect
	pf   string // http://127.0.0.1:PORT through kubectl port-forward
}

func measure(ctx context.Context, world *rig.Rig, s settings, say func(string)) (report Report, err error) {
	app := manifests.HTTP("bench", manifests.Options{Replicas: 1})
	client := manifests.HTTP(clientName, manifests.Options{Replicas: 1, NoService: true})
	if err := world.Deploy(ctx, app, client); err != nil {
		return report, err
	}
	desk, err := world.Desk(ctx, "bench", "alice")
	if err != nil {
		return report, err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyLimit)
		defer cancel()
		_, _ = rig.Run(desk.Tele(end, "quit", "--all"))
		err = errors.Join(err, desk.Close(end), world.Remove(end, app, client))
	}()
	pods, err := world.Admin.CoreV1().Pods(manifests.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=bench", FieldSelector: "status.phase=" + string(corev1.PodRunning)})
	if err != nil {
		return report, err
	}
	if len(pods.Items) != 1 {
		return report, fmt.Errorf("%d pods to measure, not one", len(pods.Items))
	}
	pod := pods.Items[0]
	b := &bench{
		settings: s, desk: desk, say: say,
		tele: fmt.Sprintf("http://%s", net.JoinHostPort(pod.Status.PodIP, fmt.Sprint(manifests.AppPort))),
		pf:   fmt.Sprintf("http://127.0.0.1:%d", forwardPort),
	}
	report.Date = time.Now().UTC()
	first, err := b.startToFirstAnswer(ctx, pod.Name)
	if err != nil {
		return report, err
	}
	stop, err := b.up(ctx, pod.Name)
	if err != nil {
		return report, err
	}
	defer stop()
	report.Rows = append(report.Rows, first)
	for _, row := range []struct {
		name, unit string
		f          func(ctx context.Context, url string) (float64, error)
	}{
		{"down, 1 connection", "MB/s", func(ctx context.Context, url string) (float64, error) { return b.bulk(ctx, url, 1, b.down) }},
		{fmt.Sprintf("down, %d connections", many), "MB/s", func(ctx context.Context, url string) (float64, error) { return b.bulk(ctx, url, many, b.down) }},
		{"up, 1 connection", "MB/s", func(ctx context.Context, url string) (float64, error) { return b.bulk(ctx, url, 1, b.upload) }},
		{fmt.Sprintf("up, %d connections", many), "MB/s", func(ctx context.Context, url string) (float64, error) { return b.bulk(ctx, url, many, b.upload) }},
		{"small requests, 1 connection", "req/s", func(ctx context.Context, url string) (float64, error) { return b.requests(ctx, url, 1, false) }},
		{fmt.Sprintf("small requests, %d connections", many), "req/s", func(ctx context.Context, url string) (float64, error) { return b.requests(ctx, url, many, false) }},
		{"a new connection each, 1 at a time", "req/s", func(ctx context.Context, url string) (float64, error) { return b.requests(ctx, url, 1, true) }},
	} {
		say(row.name)
		r, err := b.compare(ctx, row.name, row.unit, row.f)
		if err != nil {
			return report, fmt.Errorf("%s: %w", row.name, err)
		}
		report.Rows = append(report.Rows, r)
	}
	report.Deadlines, err = b.deadlines(ctx)
	return report, err
}

// compare measures both programs in turns and takes the medians.
func (b *bench) compare(ctx context.Context, name, unit string, f func(context.Context, string) (float64, error)) (Row, error) {
	var tele, pf []float64
	for range b.rounds {
		v, err := f(ctx, b.tele)
		if err != nil {
			return Row{}, fmt.Errorf("kubectl tele: %w", err)
		}
		tele = append(tele, v)
		if v, err = f(ctx, b.pf); err != nil {
			return Row{}, fmt.Errorf("kubectl port-forward: %w", err)
		}
		pf = append(pf, v)
	}
	row := Row{Name: name, Unit: unit, Tele: median(tele), PortForward: median(pf)}
	row.Ratio = row.Tele / row.PortForward
	return row, nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// client is an HTTP client at the laptop.
func (b *bench) client(connections int, fresh bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: b.desk.Dial, DisableKeepAlives: fresh, DisableCompression: true,
		MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections,
		ReadBufferSize: 256 << 10, WriteBufferSize: 256 << 10,
	}}
}

// bulk moves b.bytes over n connections at once and returns MB a second.
func (b *bench) bulk(ctx context.Context, url string, n int, move func(context.Context, *http.Client, string, int64) error) (float64, error) {
	client := b.client(n, false)
	defer client.CloseIdleConnections()
	share := b.bytes / int64(n)
	started := time.Now()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = move(ctx, client, url, share) })
	}
	wg.Wait()
	return float64(share*int64(n)) / 1e6 / time.Since(started).Seconds(), errors.Join(errs...)
}

func (b *bench) down(ctx context.Context, client *http.Client, url string, n int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/big?bytes=%d", url, n), nil)
	if err != nil {
		return err
	}
	return answer(client, request, n)
}

func (b *bench) upload(ctx context.Context, client *http.Client, url string, n int64) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/sink", io.LimitReader(zeros{}, n))
	if err != nil {
		return err
	}
	request.ContentLength = n
	return answer(client, request, -1)
}

// answer does a request and checks its length, unless that is negative.
func answer(client *http.Client, request *http.Request, want int64) error {
	reply, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = reply.Body.Close() }()
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, reply.Body, make([]byte, 256<<10))
	switch {
	case err != nil:
		return err
	case reply.StatusCode != http.StatusOK:
		return errors.New(reply.Status)
	case want >= 0 && got != want:
		return fmt.Errorf("%d bytes, not %d", got, want)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// requests counts small requests of n workers and returns how many a second.
func (b *bench) requests(ctx context.Context, url string, n int, fresh bool) (float64, error) {
	client := b.client(n, fresh)
	defer client.CloseIdleConnections()
	counts := make([]int, n)
	errs := make([]error, n)
	started := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for errs[i] == nil && time.Since(started) < requestsFor {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
				if err == nil {
					err = answer(client, request, -1)
				}
				errs[i] = err
				counts[i]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, c := range counts {
		total += c
	}
	return float64(total) / time.Since(started).Seconds(), errors.Join(errs...)
}

// reachable polls until the URL answers.
func (b *bench) reachable(ctx context.Context, url string) error {
	client := b.client(1, true)
	return wait.PollUntilContextTimeout(ctx, 5*time.Millisecond, readyLimit, true, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
		if err != nil {
			return false, err
		}
		return answer(client, request, -1) == nil, nil
	})
}
