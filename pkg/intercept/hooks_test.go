package intercept

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes"
	appsclient "k8s.io/client-go/kubernetes/typed/apps/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	clienttesting "k8s.io/client-go/testing"
)

// hooked is a client of one user's: before says, before each call that is not a
// watch, whether the call is to fail. It may take its time and make calls of its
// own.
type hooked struct {
	kubernetes.Interface
	before func(call string) error
}

func (c *hooked) AppsV1() appsclient.AppsV1Interface { return hookedApps{c.Interface.AppsV1(), c} }
func (c *hooked) CoreV1() coreclient.CoreV1Interface { return hookedCore{c.Interface.CoreV1(), c} }

// Discovery knows no version: then an agent is a container like any other.
func (c *hooked) Discovery() discovery.DiscoveryInterface {
	return &fakediscovery.FakeDiscovery{Fake: &clienttesting.Fake{}}
}

// call runs f unless the hook fails.
func call[T any](c *hooked, what string, f func() (T, error)) (T, error) {
	if err := c.before(what); err != nil {
		var none T
		return none, err
	}
	return f()
}

type hookedApps struct {
	appsclient.AppsV1Interface
	c *hooked
}

func (a hookedApps) Deployments(ns string) appsclient.DeploymentInterface {
	return hookedDeployments{a.AppsV1Interface.Deployments(ns), a.c}
}

func (a hookedApps) ReplicaSets(ns string) appsclient.ReplicaSetInterface {
	return hookedReplicaSets{a.AppsV1Interface.ReplicaSets(ns), a.c}
}

type hookedDeployments struct {
	appsclient.DeploymentInterface
	c *hooked
}

func (d hookedDeployments) Get(ctx context.Context, name string, o metav1.GetOptions) (*appsv1.Deployment, error) {
	return call(d.c, "get deployment", func() (*appsv1.Deployment, error) { return d.DeploymentInterface.Get(ctx, name, o) })
}

func (d hookedDeployments) List(ctx context.Context, o metav1.ListOptions) (*appsv1.DeploymentList, error) {
	if o.FieldSelector != "" { // a watch begins
		return d.DeploymentInterface.List(ctx, o)
	}
	return call(d.c, "list deployments", func() (*appsv1.DeploymentList, error) { return d.DeploymentInterface.List(ctx, o) })
}

func (d hookedDeployments) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions, sub ...string) (*appsv1.Deployment, error) {
	return call(d.c, "patch deployment", func() (*appsv1.Deployment, error) {
		return d.DeploymentInterface.Patch(ctx, name, pt, data, o, sub...)
	})
}

type hookedReplicaSets struct {
	appsclient.ReplicaSetInterface
	c *hooked
}

func (r hookedReplicaSets) List(ctx context.Context, o metav1.ListOptions) (*appsv1.ReplicaSetList, error) {
	return call(r.c, "list replicasets", func() (*appsv1.ReplicaSetList, error) { return r.ReplicaSetInterface.List(ctx, o) })
}

func (r hookedReplicaSets) Delete(ctx context.Context, name string, o metav1.DeleteOptions) error {
	_, err := call(r.c, "delete replicaset", func() (any, error) { return nil, r.ReplicaSetInterface.Delete(ctx, name, o) })
	return err
}

type hookedCore struct {
	coreclient.CoreV1Interface
	c *hooked
}

func (k hookedCore) Services(ns string) coreclient.ServiceInterface {
	return hookedServices{k.CoreV1Interface.Services(ns), k.c}
}

type hookedServices struct {
	coreclient.ServiceInterface
	c *hooked
}

func (s hookedServices) Get(ctx context.Context, name string, o metav1.GetOptions) (*corev1.Service, error) {
	return call(s.c, "get service", func() (*corev1.Service, error) { return s.ServiceInterface.Get(ctx, name, o) })
}

func (s hookedServices) List(ctx context.Context, o metav1.ListOptions) (*corev1.ServiceList, error) {
	return call(s.c, "list services", func() (*corev1.ServiceList, error) { return s.ServiceInterface.List(ctx, o) })
}

func (s hookedServices) Patch(ctx context.Context, name string, pt types.PatchType, data []byte, o metav1.PatchOptions, sub ...string) (*corev1.Service, error) {
	return call(s.c, "patch service", func() (*corev1.Service, error) { return s.ServiceInterface.Patch(ctx, name, pt, data, o, sub...) })
}
