package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// resourceOf knows the kinds in config, and those that tests apply.
func resourceOf(kind string) (resource string, namespaced bool, err error) {
	switch kind {
	case "ServiceAccount":
		return "serviceaccounts", true, nil
	case "ConfigMap":
		return "configmaps", true, nil
	case "Pod":
		return "pods", true, nil
	case "Service":
		return "services", true, nil
	case "Deployment":
		return "deployments", true, nil
	case "Role":
		return "roles", true, nil
	case "RoleBinding":
		return "rolebindings", true, nil
	case "Namespace":
		return "namespaces", false, nil
	case "ClusterRole":
		return "clusterroles", false, nil
	case "ClusterRoleBinding":
		return "clusterrolebindings", false, nil
	default:
		return "", false, fmt.Errorf("kind %q: no resource known", kind)
	}
}

// subjects fill in config/namespaces.yaml.
type subjects struct {
	Label      string // that marks the tests' own namespaces
	Prefix     string // of the names of roles and bindings
	Alice, Bob string // RBAC subjects
}

// testNamespaceLabel marks namespaces that tests made and may change.
const testNamespaceLabel = "kubectl-tele.test/namespace"

func userSubjects() subjects {
	const form = "{kind: User, name: %s, apiGroup: rbac.authorization.k8s.io}"
	return subjects{Label: testNamespaceLabel, Alice: fmt.Sprintf(form, "alice"), Bob: fmt.Sprintf(form, "bob")}
}

// applyObjects makes the cluster's DNS and the tests' namespaces.
func (c *Cluster) applyObjects(ctx context.Context) error {
	if err := c.apply(ctx, "dns.yaml", c.opt.settings(nodes()[0])); err != nil {
		return err
	}
	return c.apply(ctx, "namespaces.yaml", userSubjects())
}

// apply makes what a file of config says, whatever is there already.
func (c *Cluster) apply(ctx context.Context, file string, values any) error {
	manifest, err := render(file, values)
	if err != nil {
		return err
	}
	config, err := c.RESTConfig("admin")
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifest), 4096)
	for {
		var object unstructured.Unstructured
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		one := func(ctx context.Context) error { return applyObject(ctx, client, &object) }
		// kube-system, for one, is made by the API server a moment after it is ready.
		if err := retry(ctx, "apply "+object.GetKind()+" "+object.GetName(), one, apierrors.IsNotFound); err != nil {
			return err
		}
	}
}

func applyObject(ctx context.Context, client dynamic.Interface, object *unstructured.Unstructured) error {
	resource, namespaced, err := resourceOf(object.GetKind())
	if err != nil {
		return err
	}
	gv, err := schema.ParseGroupVersion(object.GetAPIVersion())
	if err != nil {
		return err
	}
	var in dynamic.ResourceInterface = client.Resource(gv.WithResource(resource))
	if namespaced {
		in = client.Resource(gv.WithResource(resource)).Namespace(object.GetNamespace())
	}
	_, err = in.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "embedded-cluster", Force: true})
	return err
}

// registerNode makes the Node before its kubelet comes, to say which pod range
// is its own; the kubelet fills in the rest.
func registerNode(ctx context.Context, client kubernetes.Interface, n node) error {
	object := &corev1.Node{
		// The scheduler counts domains by this label before the kubelet sets it.
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{corev1.LabelHostname: n.name}},
		Spec:       corev1.NodeSpec{PodCIDR: n.podRange, PodCIDRs: []string{n.podRange}},
	}
	_, err := client.CoreV1().Nodes().Create(ctx, object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// nodesReady is an error naming a node that is not Ready.
func nodesReady(ctx context.Context, client kubernetes.Interface) error {
	for _, n := range nodes() {
		object, err := client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if message, ready := nodeReady(object); !ready {
			return fmt.Errorf("%s is not Ready: %s", n.name, message)
		}
	}
	return nil
}

func nodeReady(object *corev1.Node) (message string, ready bool) {
	for _, condition := range object.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Message, condition.Status == corev1.ConditionTrue
		}
	}
	return "its kubelet has said nothing yet", false
}
