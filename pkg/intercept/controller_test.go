package intercept

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// control is the Deployment controller and the kubelets: a new revision gets its
// pods after a second, and the old ones go two seconds later.
func (s *stage) control() {
	for {
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
		obj, err := s.tracker.Get(deployments, shop, store)
		if err != nil {
			continue
		}
		dep := obj.DeepCopyObject().(*appsv1.Deployment)
		if dep.Status.ObservedGeneration == dep.Generation {
			continue
		}
		s.roll(dep)
		s.poke()
	}
}

func (s *stage) roll(dep *appsv1.Deployment) {
	set := s.revision(dep)
	s.status(dep, set, 0)
	s.sleep(time.Second + s.slow)
	want := *dep.Spec.Replicas
	for n := range want {
		name := fmt.Sprintf("%s-%d", set.Name, n)
		if _, err := s.tracker.Get(podsOf, shop, name); err == nil {
			continue
		}
		pod := s.pod(name, set, dep)
		s.add(podsOf, pod)
		if a := newTestAgent(s, pod); a != nil {
			s.mu.Lock()
			s.agents[name] = a
			s.mu.Unlock()
		}
	}
	old := s.oldPods(set)
	for n := want; ; n++ {
		pod, err := s.tracker.Get(podsOf, shop, fmt.Sprintf("%s-%d", set.Name, n))
		if err != nil {
			break
		}
		old = append(old, pod.(*corev1.Pod))
	}
	for _, pod := range old {
		s.modify(podsOf, pod.Name, func(obj object) { obj.SetDeletionTimestamp(new(metav1.Now())) })
	}
	s.status(dep, set, want)
	s.sleep(2 * time.Second)
	for _, pod := range old {
		_ = s.tracker.Delete(podsOf, shop, pod.Name)
		s.mu.Lock()
		a := s.agents[pod.Name]
		delete(s.agents, pod.Name)
		s.mu.Unlock()
		if a != nil {
			a.stop()
		}
	}
}

func (s *stage) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
}

const revisionKey = "deployment.kubernetes.io/revision"

// revision returns the ReplicaSet of the Deployment's template, new or old, and
// makes it the newest revision.
func (s *stage) revision(dep *appsv1.Deployment) *appsv1.ReplicaSet {
	text, err := json.Marshal(dep.Spec.Template)
	if err != nil {
		s.t.Error(err)
	}
	sum := fnv.New32()
	_, _ = sum.Write(text)
	name := fmt.Sprintf("%s-%x", store, sum.Sum32())
	revision := fmt.Sprint(dep.Generation)
	if _, err := s.tracker.Get(replicaSets, shop, name); err == nil {
		s.modify(replicaSets, name, func(obj object) { obj.SetAnnotations(map[string]string{revisionKey: revision}) })
		return s.get(replicaSets, name).(*appsv1.ReplicaSet)
	}
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: shop, UID: types.UID(name), Labels: dep.Spec.Template.Labels,
			Annotations:     map[string]string{revisionKey: revision},
			OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: dep.Name, UID: dep.UID, Controller: new(true)}},
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(0)), Template: *dep.Spec.Template.DeepCopy()},
	}
	s.add(replicaSets, set)
	return set
}

func (s *stage) pod(name string, set *appsv1.ReplicaSet, dep *appsv1.Deployment) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: shop, UID: types.UID(name), Labels: dep.Spec.Template.Labels,
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: set.Name, UID: set.UID, Controller: new(true)}},
		},
		Spec: *dep.Spec.Template.Spec.DeepCopy(),
	}
	pod.Spec.NodeName = "node1"
	up := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Ready: true, State: up})
	}
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return pod
}

func (s *stage) oldPods(set *appsv1.ReplicaSet) []*corev1.Pod {
	list, err := s.tracker.List(podsOf, corev1.SchemeGroupVersion.WithKind("Pod"), shop)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	var old []*corev1.Pod
	for _, pod := range list.(*corev1.PodList).Items {
		if pod.OwnerReferences[0].UID != set.UID {
			old = append(old, &pod)
		}
	}
	return old
}

// status writes how far the rollout is: n pods of the new revision are there.
func (s *stage) status(dep *appsv1.Deployment, set *appsv1.ReplicaSet, n int32) {
	want := *dep.Spec.Replicas
	s.modify(deployments, dep.Name, func(obj object) {
		now := obj.(*appsv1.Deployment)
		now.Status = appsv1.DeploymentStatus{
			ObservedGeneration: dep.Generation, Replicas: want, UpdatedReplicas: n, AvailableReplicas: want, ReadyReplicas: want,
		}
		if n == 0 {
			now.Status.Replicas += want
		}
		if now.Annotations == nil {
			now.Annotations = map[string]string{}
		}
		now.Annotations[revisionKey] = set.Annotations[revisionKey]
	})
	for _, other := range s.sets() {
		s.modify(replicaSets, other.Name, func(obj object) {
			now := obj.(*appsv1.ReplicaSet)
			now.Spec.Replicas, now.Status = new(int32(0)), appsv1.ReplicaSetStatus{}
			if now.Name == set.Name {
				now.Spec.Replicas, now.Status = new(want), appsv1.ReplicaSetStatus{Replicas: want, AvailableReplicas: n}
			}
		})
	}
}

func (s *stage) sets() []appsv1.ReplicaSet {
	list, err := s.tracker.List(replicaSets, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), shop)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	return list.(*appsv1.ReplicaSetList).Items
}
