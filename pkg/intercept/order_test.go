package intercept

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/inject"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// play runs a scene on a stage of its own, in the test's time.
func play(t *testing.T, name string, scene func(t *testing.T, s *stage)) bool {
	return t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t)
			defer s.close()
			scene(t, s)
		})
	})
}

// eachCall plays a scene once for each call that act makes to the API server, with
// disturb at that call, until act makes fewer.
func eachCall(t *testing.T, act func(s *stage) (u *user, do func()), disturb func(t *testing.T, s *stage, call string) error, check func(t *testing.T, s *stage, u *user)) {
	for n := int32(1); ; n++ {
		reached := false
		ok := play(t, fmt.Sprint(n), func(t *testing.T, s *stage) {
			u, do := act(s)
			var calls atomic.Int32
			u.api.before = func(call string) error {
				if calls.Add(1) != n {
					return nil
				}
				reached = true
				return disturb(t, s, call)
			}
			do()
			u.api.before = func(string) error { return nil }
			check(t, s, u)
		})
		if !reached || !ok {
			if n < 5 {
				t.Errorf("only %d calls: is the test whole?", n-1)
			}
			return
		}
	}
}

func TestBeginAndLeave(t *testing.T) {
	play(t, "alone", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		st := alice.Status()
		if len(st) != 1 || st[0].State != api.Active || len(st[0].Agents) != 2 || st[0].Workload != "deployment/store" {
			t.Errorf("status %+v", st)
		}
		if svc := s.get(services, "web").(*corev1.Service); svc.Spec.Ports[0].TargetPort.IntVal < inject.FirstListenPort {
			t.Errorf("service/web leads to %v", svc.Spec.Ports)
		}
		if err := alice.Leave(t.Context(), api.LeaveSpec{Workload: store}, alice.hear); err != nil {
			t.Fatal(err)
		}
		s.asBefore()
		if len(alice.Status()) != 0 {
			t.Error("the intercept is not forgotten")
		}
	})
	play(t, "one port of two", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		for _, port := range []string{"8080", "9090"} {
			if err := alice.begin(t.Context(), port); err != nil {
				t.Fatal(err)
			}
		}
		if err := alice.Leave(t.Context(), api.LeaveSpec{Workload: store, Port: "7070"}, nil); err == nil || !strings.Contains(err.Error(), "does not intercept store port 7070") {
			t.Errorf("leave a port that is not intercepted: %v", err)
		}
		if err := alice.Leave(t.Context(), api.LeaveSpec{Workload: store, Port: "admin:80"}, nil); err != nil {
			t.Error(err)
		}
		if st := alice.Status(); len(st) != 1 || st[0].Port != 8080 || st[0].State != api.Active {
			t.Errorf("status %+v", st)
		}
		if err := alice.Leave(t.Context(), api.LeaveSpec{Workload: store}, nil); err != nil {
			t.Error(err)
		}
		s.asBefore()
	})
	play(t, "all ports", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		for _, port := range []string{"8080", "9090"} {
			if err := alice.begin(t.Context(), port); err != nil {
				t.Fatal(err)
			}
		}
		before := len(alice.told())
		if err := alice.Leave(t.Context(), api.LeaveSpec{All: true}, alice.hear); err != nil {
			t.Error(err)
		}
		told := alice.told()[before:]
		slices.Sort(told)
		if len(slices.Compact(told)) < len(alice.told()[before:]) {
			t.Errorf("told twice: %q", told)
		}
		s.asBefore()
	})
}

// TestOldPodsAreGone: an intercept is in force, and is over, when the pods are gone
// to which clients may keep connections.
func TestOldPodsAreGone(t *testing.T) {
	play(t, "both", func(t *testing.T, s *stage) {
		ending := func() (names []string) {
			for _, pod := range s.oldPods(&appsv1.ReplicaSet{}) {
				if pod.DeletionTimestamp != nil {
					names = append(names, pod.Name)
				}
			}
			return names
		}
		alice := s.user("alice")
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		if left := ending(); len(left) > 0 {
			t.Errorf("in force while %v are ending", left)
		}
		if err := alice.Close(t.Context(), alice.hear); err != nil {
			t.Fatal(err)
		}
		if left := ending(); len(left) > 0 {
			t.Errorf("over while %v are ending", left)
		}
		said(t, alice.told(), "waiting for old pods to end")
	})
}

// TestLeaveDuringBegin: whatever step a beginning is at, leave ends it and returns
// when all it did is undone.
func TestLeaveDuringBegin(t *testing.T) {
	eachCall(t, func(s *stage) (*user, func()) {
		alice := s.user("alice")
		return alice, func() {
			left := make(chan error, 1)
			before := alice.api.before
			alice.api.before = func(call string) error {
				err := before(call)
				if errors.Is(err, errLeaveNow) {
					go func() { left <- alice.Close(context.Background(), alice.hear) }()
					synctest.Wait()
					return nil
				}
				return err
			}
			beginErr := alice.begin(s.ctx, "8080")
			select {
			case err := <-left:
				if err != nil {
					s.t.Errorf("leave: %v", err)
				}
				// What had been begun too late to be cancelled was in force for a moment.
				if beginErr != nil && !slices.Contains([]string{errLeft.Error(), "this session is ending"}, beginErr.Error()) {
					s.t.Errorf("begin: %v", beginErr)
				}
			case <-time.After(time.Hour):
				if beginErr != nil {
					s.t.Errorf("begin: %v", beginErr)
				}
			}
			_ = alice.Close(context.Background(), alice.hear)
		}
	}, func(*testing.T, *stage, string) error { return errLeaveNow },
		func(_ *testing.T, s *stage, _ *user) { s.asBefore() })
}

var errLeaveNow = errors.New("leave now")

// TestInterruptedBegin: the end of the command that begins (Ctrl-C) does the same.
func TestInterruptedBegin(t *testing.T) {
	eachCall(t, func(s *stage) (*user, func()) {
		alice := s.user("alice")
		return alice, func() {
			ctx, interrupt := context.WithCancel(s.ctx)
			defer interrupt()
			before := alice.api.before
			alice.api.before = func(call string) error {
				if err := before(call); err != nil {
					interrupt()
					synctest.Wait()
				}
				return nil
			}
			if err := alice.begin(ctx, "8080"); err == nil {
				_ = alice.Close(context.Background(), alice.hear)
			}
		}
	}, func(*testing.T, *stage, string) error { return errLeaveNow },
		func(_ *testing.T, s *stage, _ *user) { s.asBefore() })
}

// TestConflicts: others change an object just before each write; nothing of theirs
// is lost.
func TestConflicts(t *testing.T) {
	touch := func(_ *testing.T, s *stage, call string) error {
		switch call {
		case "patch deployment":
			s.modify(deployments, store, func(obj object) { obj.SetLabels(map[string]string{"touched": "yes"}) })
		case "patch service":
			for _, name := range []string{"web", "admin"} {
				s.modify(services, name, func(obj object) { obj.SetLabels(map[string]string{"touched": "yes"}) })
			}
		}
		return nil
	}
	t.Run("begin", func(t *testing.T) {
		eachCall(t, func(s *stage) (*user, func()) {
			alice := s.user("alice")
			return alice, func() {
				if err := alice.begin(s.ctx, "8080"); err != nil {
					s.t.Errorf("begin: %v", err)
				}
			}
		}, touch, func(t *testing.T, s *stage, alice *user) {
			if err := alice.Close(t.Context(), alice.hear); err != nil {
				t.Errorf("leave: %v", err)
			}
			s.asBefore()
		})
	})
	t.Run("leave", func(t *testing.T) {
		eachCall(t, func(s *stage) (*user, func()) {
			alice := s.user("alice")
			if err := alice.begin(s.ctx, "8080"); err != nil {
				s.t.Fatal(err)
			}
			return alice, func() {
				if err := alice.Close(s.ctx, alice.hear); err != nil {
					s.t.Errorf("leave: %v", err)
				}
			}
		}, touch, func(_ *testing.T, s *stage, _ *user) { s.asBefore() })
	})
}

// silence makes the API server answer nothing for some seconds from a call on.
func silence(u *user) func(call string) error {
	var since atomic.Pointer[time.Time]
	before := u.api.before
	return func(call string) error {
		if err := before(call); err != nil {
			since.CompareAndSwap(nil, new(time.Now()))
		}
		if at := since.Load(); at != nil && time.Since(*at) < 20*time.Second {
			return &url.Error{Op: "Get", URL: "https://192.0.2.1:6443", Err: syscall.ECONNREFUSED}
		}
		return nil
	}
}

// TestSilentServer: an API server that answers nothing for a while may make a
// beginning fail, but nothing of it stays; leave only takes longer.
func TestSilentServer(t *testing.T) {
	errSilent := func(*testing.T, *stage, string) error { return errors.New("silence begins") }
	t.Run("begin", func(t *testing.T) {
		eachCall(t, func(s *stage) (*user, func()) {
			alice := s.user("alice")
			return alice, func() {
				alice.api.before = silence(alice)
				if err := alice.begin(s.ctx, "8080"); err != nil {
					return
				}
				if err := alice.Close(s.ctx, alice.hear); err != nil {
					s.t.Errorf("leave: %v", err)
				}
			}
		}, errSilent, func(_ *testing.T, s *stage, _ *user) { s.asBefore() })
	})
	t.Run("leave", func(t *testing.T) {
		eachCall(t, func(s *stage) (*user, func()) {
			alice := s.user("alice")
			if err := alice.begin(s.ctx, "8080"); err != nil {
				s.t.Fatal(err)
			}
			return alice, func() {
				alice.api.before = silence(alice)
				if err := alice.Close(s.ctx, alice.hear); err != nil {
					s.t.Errorf("leave: %v", err)
				}
			}
		}, errSilent, func(_ *testing.T, s *stage, _ *user) { s.asBefore() })
	})
}

// TestTwoOwnersLeave: while one owner of a workload leaves, the other does, between
// any two calls of the first. The last one out puts everything back, and at no
// time does a Service lead nowhere (see stage.noOutage).
func TestTwoOwnersLeave(t *testing.T) {
	// Who has begun a moment ago is taken for being on the way; who has begun
	// before that, and is not registered any more, for lost.
	t.Run("first", func(t *testing.T) { twoOwnersLeave(t, true) })
	t.Run("last", func(t *testing.T) { twoOwnersLeave(t, false) })
}

func twoOwnersLeave(t *testing.T, first bool) {
	users := map[*stage]*user{}
	eachCall(t, func(s *stage) (*user, func()) {
		alice, bob := s.user("alice"), s.user("bob")
		users[s] = bob
		begins := []func() error{
			func() error { return alice.begin(s.ctx, "8080") },
			func() error { return bob.begin(s.ctx, "9090") },
		}
		if !first {
			slices.Reverse(begins)
		}
		for _, begin := range begins {
			if err := begin(); err != nil {
				s.t.Fatal(err)
			}
		}
		return alice, func() {
			if err := alice.Close(s.ctx, alice.hear); err != nil {
				s.t.Errorf("alice leaves: %v", err)
			}
		}
	}, func(t *testing.T, s *stage, _ string) error {
		if err := users[s].Close(s.ctx, users[s].hear); err != nil {
			t.Errorf("bob leaves: %v", err)
		}
		return nil
	}, func(t *testing.T, s *stage, _ *user) {
		if err := users[s].Close(s.ctx, users[s].hear); err != nil {
			t.Errorf("bob leaves: %v", err)
		}
		s.asBefore()
	})
}

// TestOwnerComesWhileAnotherLeaves: between any two calls of who leaves, another
// begins: its intercept is in force afterwards, and everything can be put back.
func TestOwnerComesWhileAnotherLeaves(t *testing.T) {
	users := map[*stage]*user{}
	eachCall(t, func(s *stage) (*user, func()) {
		alice := s.user("alice")
		users[s] = s.user("bob")
		if err := alice.begin(s.ctx, "8080"); err != nil {
			s.t.Fatal(err)
		}
		return alice, func() {
			if err := alice.Close(s.ctx, alice.hear); err != nil {
				s.t.Errorf("alice leaves: %v", err)
			}
		}
	}, func(t *testing.T, s *stage, _ string) error {
		bob := users[s]
		if err := bob.begin(s.ctx, "9090"); err != nil {
			// A rolling update that is under way is a reason to refuse.
			if !strings.Contains(err.Error(), "rollout of deployment/store is not complete") {
				t.Errorf("bob: %v", err)
			}
		}
		return nil
	}, func(t *testing.T, s *stage, _ *user) {
		for _, st := range users[s].Status() {
			if st.State != api.Active {
				t.Errorf("bob's intercept is %s: %+v", st.State, st)
			}
		}
		if err := users[s].Close(s.ctx, users[s].hear); err != nil {
			t.Errorf("bob leaves: %v", err)
		}
		s.asBefore()
	})
}

// leftBehind makes an intercept whose session has been killed some time ago: it
// leaves its records and takes its tunnels along.
func leftBehind(t *testing.T, s *stage) {
	t.Helper()
	alice := s.user("alice")
	if err := alice.begin(t.Context(), "8080"); err != nil {
		t.Fatal(err)
	}
	alice.sorted()[0].recorded = false
	if err := alice.Close(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

// TestOwnerComesWhileCleaning: between any two calls of clean, somebody begins to
// intercept what is being cleaned.
func TestOwnerComesWhileCleaning(t *testing.T) {
	users := map[*stage]*user{}
	eachCall(t, func(s *stage) (*user, func()) {
		leftBehind(s.t, s)
		users[s] = s.user("bob")
		cleaner := s.user("")
		return cleaner, func() {
			if _, err := Clean(s.ctx, cleaner.cluster, api.CleanSpec{Timeout: 10 * time.Minute}, cleaner.hear); err != nil {
				s.t.Errorf("clean: %v", err)
			}
		}
	}, func(t *testing.T, s *stage, _ string) error {
		if err := users[s].begin(s.ctx, "9090"); err != nil && !strings.Contains(err.Error(), "rollout of deployment/store is not complete") {
			t.Errorf("bob: %v", err)
		}
		return nil
	}, func(t *testing.T, s *stage, _ *user) {
		for _, st := range users[s].Status() {
			if st.State != api.Active {
				t.Errorf("bob's intercept is %s: %+v", st.State, st)
			}
		}
		if err := users[s].Close(s.ctx, users[s].hear); err != nil {
			t.Errorf("bob leaves: %v", err)
		}
		// Of the first owner nothing is known until agents that bob has replaced
		// have been there for a while.
		time.Sleep(registerGrace)
		if _, err := Clean(s.ctx, s.user("").cluster, api.CleanSpec{Timeout: 10 * time.Minute}, nil); err != nil {
			t.Errorf("clean again: %v", err)
		}
		s.asBefore()
	})
}

// TestClean: what a lost session left is put back; what a live one uses is not, nor
// what one may use whose agent does not answer.
func TestClean(t *testing.T) {
	clean := func(t *testing.T, s *stage, force bool) (log []string) {
		u := s.user("")
		if _, err := Clean(t.Context(), u.cluster, api.CleanSpec{Force: force, Timeout: 5 * time.Minute}, func(e api.Event) { log = append(log, e.Text) }); err != nil {
			t.Errorf("clean: %v", err)
		}
		return log
	}
	play(t, "lost", func(t *testing.T, s *stage) {
		leftBehind(t, s)
		said(t, clean(t, s, false), "deployment/store is as it was")
		s.asBefore()
	})
	play(t, "live", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		said(t, clean(t, s, false), "is intercepted by alice@laptop: skipped")
		if st := alice.Status(); st[0].State != api.Active {
			t.Errorf("it is %s", st[0].State)
		}
		said(t, clean(t, s, true), "is intercepted by alice@laptop: taken all the same")
		if err := alice.Close(t.Context(), alice.hear); err != nil {
			t.Errorf("leave: %v", err)
		}
		s.asBefore()
	})
	play(t, "unknown", func(t *testing.T, s *stage) {
		leftBehind(t, s)
		s.mu.Lock()
		for name, a := range s.agents {
			a.stop()
			s.agents[name] = nil
		}
		s.mu.Unlock()
		said(t, clean(t, s, false), "is perhaps intercepted by alice@laptop: the agent in pod")
		if !inject.Injected(workload.Deployments{}.View(s.deployment())) {
			t.Error("the agent was taken out")
		}
		clean(t, s, true)
		s.mu.Lock()
		clear(s.agents)
		s.mu.Unlock()
		s.asBefore()
	})
}

// TestPassingErrors: an error that a request meets once, for reasons that pass,
// does not end an undo.
func TestPassingErrors(t *testing.T) {
	for name, passing := range map[string]error{
		"refused connection": &url.Error{Op: "Get", URL: "https://192.0.2.1:6443", Err: syscall.ECONNREFUSED},
		"cut answer":         fmt.Errorf("unexpected error when reading response body. Please retry. Original error: %w", io.ErrUnexpectedEOF),
		"starting server":    apierrors.NewForbidden(services.GroupResource(), "", errors.New("RBAC: role not found")),
		"busy object":        fmt.Errorf("others kept changing it: %w", apierrors.NewConflict(services.GroupResource(), "web", errors.New("it has been modified"))),
	} {
		t.Run(name, func(t *testing.T) {
			eachCall(t, func(s *stage) (*user, func()) {
				alice := s.user("alice")
				if err := alice.begin(s.ctx, "8080"); err != nil {
					s.t.Fatal(err)
				}
				return alice, func() {
					if err := alice.Close(s.ctx, alice.hear); err != nil {
						s.t.Errorf("leave: %v", err)
					}
				}
			}, func(_ *testing.T, _ *stage, call string) error {
				if apierrors.IsConflict(passing) && call == "delete replicaset" {
					return nil // then it is in use again, and stays
				}
				return passing
			},
				func(_ *testing.T, s *stage, _ *user) { s.asBefore() })
		})
	}
}

// TestUndoneIsTold: what could not be put back is told by leave or, when nobody
// waited for that, by the end of the session.
func TestUndoneIsTold(t *testing.T) {
	play(t, "later", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		alice.api.before = func(call string) error {
			if call == "patch deployment" {
				return apierrors.NewForbidden(deployments.GroupResource(), store, errors.New("a policy says so"))
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := alice.Leave(ctx, api.LeaveSpec{All: true}, alice.hear); err == nil || !strings.Contains(err.Error(), "it goes on") {
			t.Errorf("leave: %v", err)
		}
		s.await("the intercept is gone", alice.Empty)
		if err := alice.Close(t.Context(), alice.hear); err == nil || !strings.Contains(err.Error(), "a policy says so") {
			t.Errorf("the session's end: %v", err)
		}
	})
}

// TestPodGoesDuringBegin: a pod that goes while its agent is waited for is not
// waited for.
func TestPodGoesDuringBegin(t *testing.T) {
	play(t, "evicted", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		// The agent of the first pod is not reached, and then the pod is evicted.
		evicted := ""
		alice.refuse = func(pod string) bool {
			if evicted == "" {
				evicted = pod
				time.AfterFunc(8*time.Second, func() {
					s.modify(podsOf, pod, func(obj object) {
						now := obj.(*corev1.Pod)
						now.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}
					})
				})
			}
			return pod == evicted
		}
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		if st := alice.Status(); st[0].State != api.Active || len(st[0].Agents) != 1 {
			t.Errorf("status %+v", st)
		}
		if census := alice.agentsOf(t, s).Ask(t.Context()); len(census.Unreached) > 0 {
			t.Errorf("the evicted pod is asked: %v", census.Unreached)
		}
		if err := alice.Close(t.Context(), alice.hear); err != nil {
			t.Errorf("leave: %v", err)
		}
	})
}

// TestControllerIsLate: what was changed a moment ago is no rollout that hinders.
func TestControllerIsLate(t *testing.T) {
	for name, after := range map[string]time.Duration{"for a moment": 2 * time.Second, "for long": time.Minute} {
		play(t, name, func(t *testing.T, s *stage) {
			time.Sleep(time.Minute) // the stage's controller has nothing to do then, and is not woken
			s.modify(deployments, store, func(obj object) { obj.SetGeneration(obj.GetGeneration() + 1) })
			time.AfterFunc(after, func() {
				s.modify(deployments, store, func(obj object) {
					obj.(*appsv1.Deployment).Status.ObservedGeneration = obj.GetGeneration()
				})
			})
			alice := s.user("alice")
			err := alice.begin(t.Context(), "8080")
			switch {
			case after < observeLimit && err != nil:
				t.Errorf("begin: %v", err)
			case after > observeLimit && (err == nil || !strings.Contains(err.Error(), "has not been seen by its controller")):
				t.Errorf("begin: %v", err)
			}
			time.Sleep(after)
			if err := alice.Close(t.Context(), alice.hear); err != nil {
				t.Errorf("leave: %v", err)
			}
		})
	}
}

// TestLeftAtOnce: who waits for the beginning of what is left in the same moment is
// told so.
func TestLeftAtOnce(t *testing.T) {
	for n := range 20 {
		play(t, fmt.Sprint(n), func(t *testing.T, s *stage) {
			alice := s.user("alice")
			all, err := alice.add(t.Context(), api.InterceptSpec{Workload: store, Ports: []api.PortSpec{{Port: "8080"}}, Lazy: true, Timeout: time.Minute}, nil)
			if err != nil {
				t.Fatal(err)
			}
			i := all[0]
			i.end(errLeft)
			close(i.begun)
			close(i.gone)
			if err := i.await(t.Context()); err != nil && !errors.Is(err, errLeft) {
				t.Errorf("it is gone: %v", err)
			}
		})
	}
}

// TestBeginWhileLeaving: who intercepts again what is being left waits for that.
func TestBeginWhileLeaving(t *testing.T) {
	play(t, "same port", func(t *testing.T, s *stage) {
		alice := s.user("alice")
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Fatal(err)
		}
		left := make(chan error, 1)
		go func() { left <- alice.Leave(t.Context(), api.LeaveSpec{All: true}, nil) }()
		synctest.Wait()
		if err := alice.begin(t.Context(), "8080"); err != nil {
			t.Errorf("begin: %v", err)
		}
		said(t, alice.told(), "waiting until the intercept of deployment/store port 8080 before has been left")
		if err := <-left; err != nil {
			t.Errorf("leave: %v", err)
		}
		if st := alice.Status(); len(st) != 1 || st[0].State != api.Active {
			t.Errorf("status %+v", st)
		}
		if err := alice.begin(t.Context(), "8080"); err == nil || !strings.Contains(err.Error(), "is intercepted already, by this session") {
			t.Errorf("once more: %v", err)
		}
		if err := alice.Close(t.Context(), alice.hear); err != nil {
			t.Errorf("leave: %v", err)
		}
		s.asBefore()
	})
}
