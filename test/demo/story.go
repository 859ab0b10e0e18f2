//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	control "github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
	"github.com/kubectl-tele/kubectl-tele/test/apps/api"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// handlerPort is where the story's local handler listens.
const handlerPort = 8080

// leaveLimit bounds waiting for what ends by itself.
const leaveLimit = time.Minute

// story is the demo's stage.
type story struct {
	world *rig.Rig
	desk  *rig.Desk
}

// tell plays all steps; the first that does not hold ends it.
func tell(ctx context.Context, world *rig.Rig) (err error) {
	if err := world.Deploy(ctx, manifests.Shop("", "")...); err != nil {
		return err
	}
	desk, err := world.Desk(ctx, "demo", "alice")
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
		defer cancel()
		_, _ = rig.Run(desk.Tele(end, "quit", "--all"))
		err = errors.Join(err, desk.Close(end))
	}()
	s := &story{world: world, desk: desk}
	for _, step := range []func(context.Context) error{
		s.alice, s.outside, s.connect, s.inside, s.intercept, s.leave, s.quit,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) alice(ctx context.Context) error {
	fmt.Println("A shop on Kubernetes, two nodes: front asks back, back asks store. Alice works on it from her laptop.")
	for _, ask := range []struct{ question, want string }{
		{"patch deployments -n shop", "yes"}, {"create customresourcedefinitions", "no"}, {"list nodes", "no"},
	} {
		result, err := rig.Run(s.desk.Command(ctx, "alice", append([]string{"kubectl", "auth", "can-i"}, strings.Fields(ask.question)...)...))
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(result.Stdout); got != ask.want {
			return fmt.Errorf("may alice %s: %s, want %s", ask.question, got, ask.want)
		}
		fmt.Printf("  may she %-34s %s\n", ask.question+"?", ask.want)
	}
	return nil
}

func (s *story) outside(ctx context.Context) error {
	command("curl http://front.shop")
	if _, err := s.ask(ctx); err == nil {
		return errors.New("front.shop answers before connect")
	}
	fmt.Println("  could not resolve host: front.shop")
	return nil
}

func (s *story) connect(ctx context.Context) error {
	command("kubectl tele connect")
	started := time.Now()
	result, err := mustRun(s.desk.Tele(ctx, "connect"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(result.Stdout, "\n")
	fmt.Printf("  %s (%.1f s)\n", first, time.Since(started).Seconds())
	return nil
}

func (s *story) inside(ctx context.Context) error {
	command("curl http://front.shop")
	hop, err := s.ask(ctx)
	if err != nil {
		return err
	}
	fmt.Println("  " + path(hop))
	return nil
}

func (s *story) intercept(ctx context.Context) error {
	command(fmt.Sprintf("kubectl tele intercept store --port %d", handlerPort))
	stop, err := s.handler(ctx)
	if err != nil {
		return err
	}
	defer stop()
	started := time.Now()
	result, err := mustRun(s.desk.Tele(ctx, "intercept", "store", "--port", fmt.Sprint(handlerPort)))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(result.Stdout, "\n")
	fmt.Printf("  %s (%.1f s)\n", first, time.Since(started).Seconds())
	command("curl http://front.shop")
	hop, err := s.ask(ctx)
	if err != nil {
		return err
	}
	if last(hop) != laptopName {
		return fmt.Errorf("store was not answered by the laptop: %s", path(hop))
	}
	fmt.Println("  " + path(hop) + "   <- a process on her laptop")
	command("kubectl tele leave store")
	started = time.Now()
	if _, err := mustRun(s.desk.Tele(ctx, "leave", "store")); err != nil {
		return err
	}
	fmt.Printf("  deployment/store is as it was (%.1f s)\n", time.Since(started).Seconds())
	return nil
}

func (s *story) leave(ctx context.Context) error {
	hop, err := s.ask(ctx)
	if err != nil {
		return err
	}
	if last(hop) == laptopName {
		return fmt.Errorf("store is not answered by its pods after leave: %s", path(hop))
	}
	fmt.Println("  " + path(hop))
	return nil
}

func (s *story) quit(ctx context.Context) error {
	agent, err := s.agent(ctx)
	if err != nil {
		return err
	}
	command("kubectl tele quit")
	if _, err := mustRun(s.desk.Tele(ctx, "quit")); err != nil {
		return err
	}
	if _, err := s.ask(ctx); err == nil {
		return errors.New("front.shop answers after quit")
	}
	now, err := os.ReadFile(s.desk.ResolvFile())
	if err != nil {
		return err
	}
	if string(now) != s.desk.ResolvConf() {
		return fmt.Errorf("resolv.conf is not as it was: %q", now)
	}
	// Its Job is gone; the garbage collector takes a moment for the pod.
	err = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, leaveLimit, true, func(ctx context.Context) (bool, error) {
		_, err := s.world.Admin.CoreV1().Pods(manifests.Namespace).Get(ctx, agent, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("agent %s is left in the cluster: %w", agent, err)
	}
	store, err := s.world.Admin.AppsV1().Deployments(manifests.Namespace).Get(ctx, "store", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if inject.Injected(workload.Deployments{}.View(store)) || store.Annotations[inject.AnnotationUndo] != "" {
		return errors.New("deployment/store is not as it was")
	}
	fmt.Println("  nothing is left: no agent in the cluster, routes and resolv.conf as before")
	return nil
}

// agent is the name of the session's own agent pod.
func (s *story) agent(ctx context.Context) (string, error) {
	result, err := mustRun(s.desk.Tele(ctx, "status", "-o", "json"))
	if err != nil {
		return "", err
	}
	var status struct {
		Sessions []control.Status `json:"sessions"`
	}
	if err := json.Unmarshal([]byte(result.Stdout), &status); err != nil {
		return "", fmt.Errorf("read the status: %w", err)
	}
	if len(status.Sessions) != 1 || status.Sessions[0].Network == nil {
		return "", fmt.Errorf("not one connected session: %s", result.Stdout)
	}
	return status.Sessions[0].Network.Agent.Pod, nil
}

// laptopName is what the local handler says its pod is.
const laptopName = "laptop"

// handler runs another version of store on the laptop, and returns when it
// answers.
func (s *story) handler(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	address := fmt.Sprintf("127.0.0.1:%d", handlerPort)
	cmd := s.desk.Command(ctx, "", s.world.AppsBinary, "http", "-addr", address)
	cmd.Env = append(cmd.Env, "POD_NAME="+laptopName, "VERSION=v2")
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	stop = func() {
		cancel()
		_ = cmd.Wait()
	}
	err = wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, leaveLimit, true, func(ctx context.Context) (bool, error) {
		conn, err := s.desk.Dial(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil, nil
	})
	if err != nil {
		stop()
		return nil, fmt.Errorf("the local handler does not listen: %w", err)
	}
	return stop, nil
}

// chain is what the story asks: each application on the way adds its pod.
const chain = "http://front.shop/chain"

// ask asks front from the laptop.
func (s *story) ask(ctx context.Context) (*api.Hop, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, chain, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: s.desk.Transport(), Timeout: 10 * time.Second}
	reply, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = reply.Body.Close() }()
	hop := &api.Hop{}
	if err := json.NewDecoder(io.LimitReader(reply.Body, 1<<20)).Decode(hop); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", chain, err)
	}
	return hop, nil
}

// path is the way of a request in one line.
func path(hop *api.Hop) string {
	var names []string
	for ; hop != nil; hop = hop.Next {
		name := hop.Pod
		if hop.Error != "" {
			name += " (" + hop.Error + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, " -> ")
}

// last is the pod at the end of the way.
func last(hop *api.Hop) string {
	for hop.Next != nil {
		hop = hop.Next
	}
	return hop.Pod
}

func command(line string) { fmt.Println("$ " + line) }

func mustRun(cmd *exec.Cmd) (rig.Result, error) {
	result, err := rig.Run(cmd)
	if err == nil && result.Code != 0 {
		err = fmt.Errorf("%s: exit code %d\n%s%s", strings.Join(cmd.Args, " "), result.Code, result.Stdout, result.Stderr)
	}
	return result, err
}
