package workload

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

var errNoPod = errors.New("only a running pod has it")

// fieldValue reads a field of the downward API.
func fieldValue(pod *corev1.Pod, path string) (string, error) {
	if key, ok := subscript(path, "metadata.labels"); ok {
		return pod.Labels[key], nil
	}
	if key, ok := subscript(path, "metadata.annotations"); ok {
		return pod.Annotations[key], nil
	}
	known := map[string]string{
		"metadata.name":           pod.Name,
		"metadata.namespace":      pod.Namespace,
		"metadata.uid":            string(pod.UID),
		"spec.nodeName":           pod.Spec.NodeName,
		"spec.serviceAccountName": pod.Spec.ServiceAccountName,
		"status.hostIP":           pod.Status.HostIP,
		"status.podIP":            pod.Status.PodIP,
		"status.podIPs":           podIPs(pod),
		"status.hostIPs":          hostIPs(pod),
	}
	value, ok := known[path]
	switch {
	case !ok:
		return "", fmt.Errorf("field %q is not known here", path)
	case value != "":
		return value, nil
	case path == "spec.serviceAccountName":
		return "default", nil
	}
	return "", fmt.Errorf("field %q: %w", path, errNoPod)
}

// subscript reads KEY out of field['KEY'].
func subscript(path, field string) (key string, ok bool) {
	key, ok = strings.CutPrefix(path, field+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(key, "']")
}

func podIPs(pod *corev1.Pod) string {
	ips := make([]string, 0, len(pod.Status.PodIPs))
	for _, ip := range pod.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	return strings.Join(ips, ",")
}

func hostIPs(pod *corev1.Pod) string {
	ips := make([]string, 0, len(pod.Status.HostIPs))
	for _, ip := range pod.Status.HostIPs {
		ips = append(ips, ip.IP)
	}
	return strings.Join(ips, ",")
}

// resource reads a container's request or limit as the downward API gives it:
// in units of the divisor, rounded up. An unset limit is the node's whole
// capacity, which is not known here.
func (r *envReader) resource(ref *corev1.ResourceFieldSelector) (string, error) {
	c := r.container
	if ref.ContainerName != "" {
		if c = findContainer(&r.pod.Spec, ref.ContainerName); c == nil {
			return "", fmt.Errorf("there is no container %q", ref.ContainerName)
		}
	}
	kind, name, _ := strings.Cut(ref.Resource, ".")
	var quantity resource.Quantity
	var set bool
	switch kind {
	case "requests":
		quantity, set = c.Resources.Requests[corev1.ResourceName(name)]
		if !set {
			quantity = c.Resources.Limits[corev1.ResourceName(name)]
			set = true
		}
	case "limits":
		quantity, set = c.Resources.Limits[corev1.ResourceName(name)]
	}
	if !set {
		return "", fmt.Errorf("%s is not set, so it is the node's own", ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == string(corev1.ResourceCPU) {
		return ceilDiv(quantity.MilliValue(), divisor.MilliValue()), nil
	}
	return ceilDiv(quantity.Value(), divisor.Value()), nil
}

func ceilDiv(a, b int64) string {
	b = max(b, 1)
	n := a / b
	if a%b > 0 {
		n++
	}
	return strconv.FormatInt(n, 10)
}
