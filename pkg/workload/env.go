package workload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/pkg/environ"
)

// TemplatePod returns a pod as the workload would make it, for Env when there is
// no running one: what only a running pod has (name, addresses, node) stays
// empty.
func TemplatePod(w *Workload) *corev1.Pod {
	t := w.Template.DeepCopy()
	t.Namespace = w.Namespace()
	return &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
}

// hostname is what a runtime tells the containers of a pod as HOSTNAME; "" if that is not known.
func hostname(pod *corev1.Pod) string {
	const most = 63 // of Linux
	if pod.Spec.HostNetwork || pod.Spec.SetHostnameAsFQDN != nil && *pod.Spec.SetHostnameAsFQDN {
		return ""
	}
	name := cmp.Or(pod.Spec.Hostname, pod.Name)
	if len(name) > most {
		name = strings.TrimRight(name[:most], "-.")
	}
	return name
}

// Env computes the environment of a pod's container from its spec, from the ConfigMaps
// and Secrets that the user may read, and from Services: first what the spec declares, in
// its order. What could not be had is listed as missing, with the reason; that is no
// error. The variables of the image are in no object, and neither had nor listed.
func Env(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, container string) (environ.Environment, error) {
	c := findContainer(&pod.Spec, container)
	if c == nil {
		return environ.Environment{}, fmt.Errorf("pod %s has no container %q", pod.Name, container)
	}
	r := &envReader{
		ctx: ctx, client: client, pod: pod, container: c,
		values: map[string]string{}, services: map[string]string{},
		configMaps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{}, failed: map[string]error{},
	}
	links := r.serviceLinks()
	for _, from := range c.EnvFrom {
		r.addAll(from)
	}
	for _, v := range c.Env {
		r.add(v)
	}
	for _, v := range links {
		if _, declared := r.values[v.Name]; !declared {
			r.set(v.Name, v.Value)
		}
	}
	if _, declared := r.values["HOSTNAME"]; !declared && hostname(pod) != "" {
		r.set("HOSTNAME", hostname(pod))
	}
	if err := ctx.Err(); err != nil {
		return environ.Environment{}, fmt.Errorf("reading the environment of container %s: %w", container, err)
	}
	env := environ.Environment{Missing: r.missing}
	for _, name := range r.order {
		env.Variables = append(env.Variables, environ.Variable{Name: name, Value: r.values[name]})
	}
	return env, nil
}

// DeclaredEnv returns the names of the variables that a container's spec gives a value,
// but for those that come from whole ConfigMaps and Secrets.
func DeclaredEnv(spec *corev1.PodSpec, container string) (names []string) {
	if c := findContainer(spec, container); c != nil {
		for _, v := range c.Env {
			if !isOptional(v.ValueFrom) {
				names = append(names, v.Name)
			}
		}
	}
	return names
}

// DefaultContainer returns the name of the container that is meant when none is named:
// the one that the pod's annotation names, else the first.
func DefaultContainer(pod *corev1.Pod) string {
	name := pod.Annotations["kubectl.kubernetes.io/default-container"]
	if findContainer(&pod.Spec, name) == nil && len(pod.Spec.Containers) > 0 {
		name = pod.Spec.Containers[0].Name
	}
	return name
}

// isOptional reports whether a variable may be absent for want of its source.
func isOptional(src *corev1.EnvVarSource) bool {
	return src != nil && (src.ConfigMapKeyRef != nil && isTrue(src.ConfigMapKeyRef.Optional) || src.SecretKeyRef != nil && isTrue(src.SecretKeyRef.Optional))
}

func findContainer(spec *corev1.PodSpec, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

type envReader struct {
	ctx        context.Context
	client     kubernetes.Interface
	pod        *corev1.Pod
	container  *corev1.Container
	order      []string
	values     map[string]string
	services   map[string]string // what the kubelet makes of Services
	missing    []string
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	failed     map[string]error // by "configmap/NAME" or "secret/NAME"
}

func (r *envReader) set(key, value string) {
	if _, known := r.values[key]; !known {
		r.order = append(r.order, key)
	}
	r.values[key] = value
}

func (r *envReader) miss(what string, err error) {
	r.missing = append(r.missing, fmt.Sprintf("%s: %v", what, err))
}

// addAll adds a whole ConfigMap or Secret.
func (r *envReader) addAll(from corev1.EnvFromSource) {
	switch {
	case from.ConfigMapRef != nil:
		cm, err := r.configMap(from.ConfigMapRef.Name)
		if err != nil {
			if !optional(from.ConfigMapRef.Optional, err) {
				r.miss("all of configmap/"+from.ConfigMapRef.Name, err)
			}
			return
		}
		for _, key := range slices.Sorted(maps.Keys(cm.Data)) {
			r.set(from.Prefix+key, cm.Data[key])
		}
	case from.SecretRef != nil:
		secret, err := r.secret(from.SecretRef.Name)
		if err != nil {
			if !optional(from.SecretRef.Optional, err) {
				r.miss("all of secret/"+from.SecretRef.Name, err)
			}
			return
		}
		for _, key := range slices.Sorted(maps.Keys(secret.Data)) {
			r.set(from.Prefix+key, string(secret.Data[key]))
		}
	}
}

func (r *envReader) add(v corev1.EnvVar) {
	if v.ValueFrom == nil {
		r.set(v.Name, expand(v.Value, r.values, r.services))
		return
	}
	value, present, err := r.from(v.ValueFrom)
	switch {
	case err != nil:
		r.miss(v.Name, err)
	case present:
		r.set(v.Name, value)
	}
}

// from reads one reference. present is false when an optional one leads nowhere.
func (r *envReader) from(src *corev1.EnvVarSource) (value string, present bool, err error) {
	switch {
	case src.ConfigMapKeyRef != nil:
		ref := src.ConfigMapKeyRef
		cm, err := r.configMap(ref.Name)
		if err != nil {
			return "", false, unless(optional(ref.Optional, err), err)
		}
		value, ok := cm.Data[ref.Key]
		if !ok {
			return "", false, unless(isTrue(ref.Optional), fmt.Errorf("configmap/%s has no key %q", ref.Name, ref.Key))
		}
		return value, true, nil
	case src.SecretKeyRef != nil:
		ref := src.SecretKeyRef
		secret, err := r.secret(ref.Name)
		if err != nil {
			return "", false, unless(optional(ref.Optional, err), err)
		}
		data, ok := secret.Data[ref.Key]
		if !ok {
			return "", false, unless(isTrue(ref.Optional), fmt.Errorf("secret/%s has no key %q", ref.Name, ref.Key))
		}
		return string(data), true, nil
	case src.FieldRef != nil:
		value, err := fieldValue(r.pod, src.FieldRef.FieldPath)
		return value, err == nil, err
	case src.ResourceFieldRef != nil:
		value, err := r.resource(src.ResourceFieldRef)
		return value, err == nil, err
	}
	return "", false, errors.New("its source is of a kind that is not known here")
}

func unless(fine bool, err error) error {
	if fine {
		return nil
	}
	return err
}

func isTrue(b *bool) bool { return b != nil && *b }

// optional reports whether a source may be absent and is.
func optional(flag *bool, err error) bool { return isTrue(flag) && apierrors.IsNotFound(err) }

func (r *envReader) configMap(name string) (*corev1.ConfigMap, error) {
	return cached(r.configMaps, r.failed, "configmap/", name, func() (*corev1.ConfigMap, error) {
		return r.client.CoreV1().ConfigMaps(r.pod.Namespace).Get(r.ctx, name, metav1.GetOptions{})
	})
}

func (r *envReader) secret(name string) (*corev1.Secret, error) {
	return cached(r.secrets, r.failed, "secret/", name, func() (*corev1.Secret, error) {
		return r.client.CoreV1().Secrets(r.pod.Namespace).Get(r.ctx, name, metav1.GetOptions{})
	})
}

// cached asks once for each object, whether that succeeds or not.
func cached[T any](known map[string]T, failed map[string]error, kind, name string, get func() (T, error)) (T, error) {
	if obj, ok := known[name]; ok {
		return obj, nil
	}
	if err := failed[kind+name]; err != nil {
		var none T
		return none, err
	}
	obj, err := get()
	if err != nil {
		failed[kind+name] = err
		return obj, err
	}
	known[name] = obj
	return obj, nil
}
