package cluster

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func pod(name, app, phase string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{"app": app}},
		Status:     corev1.PodStatus{Phase: corev1.PodPhase(phase)},
	}
}

// Watch calls for what is there and for each change, one call after the other,
// and has returned from the last call when it returns.
func TestWatch(t *testing.T) {
	client := fake.NewClientset(pod("one", "back", "Pending"), pod("other", "front", "Pending"))
	watching := make(chan struct{})
	client.PrependWatchReactor("pods", func(action clienttesting.Action) (bool, watch.Interface, error) {
		w, err := client.Tracker().Watch(action.GetResource(), action.GetNamespace())
		close(watching)
		return true, w, err
	})
	c, err := New(Config{Client: client, Namespace: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls, returned := make(chan string), make(chan struct{})
	pods := client.CoreV1().Pods("shop")
	go func() {
		defer close(returned)
		c.Watch(ctx, Objects(pods, metav1.ListOptions{LabelSelector: "app=back"}), &corev1.Pod{}, Watcher{Seen: func(obj runtime.Object, deleted bool) {
			p := obj.(*corev1.Pod)
			what := p.Name + " " + string(p.Status.Phase)
			if deleted {
				what += " deleted"
			}
			calls <- what
			if !deleted {
				return
			}
			cancel()
			select {
			case <-returned:
				t.Error("Watch returned before its last call did")
			case <-time.After(100 * time.Millisecond): // long enough to notice that it has
			}
		}})
	}()
	expect := func(want string) {
		t.Helper()
		if got := <-calls; got != want {
			t.Errorf("called with %q, want %q", got, want)
		}
	}
	expect("one Pending")
	<-watching
	if _, err := pods.Create(ctx, pod("two", "back", "Pending"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("two Pending")
	if _, err := pods.UpdateStatus(ctx, pod("one", "back", "Running"), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("one Running")
	if err := pods.Delete(ctx, "two", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("two Pending deleted")
	<-returned
}
