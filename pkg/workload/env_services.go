package workload

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/environ"
)

// serviceLinks returns the variables that the kubelet made of Services when it started
// the pod: of its namespace's, unless the pod wants none, and of the API server's.
func (r *envReader) serviceLinks() (all []environ.Variable) {
	const server = "kubernetes" // in namespace default, where few users may look
	wanted := r.pod.Spec.EnableServiceLinks == nil || *r.pod.Spec.EnableServiceLinks
	if r.pod.Namespace != metav1.NamespaceDefault {
		r.miss("KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT and so on", errors.New("they come from namespace default"))
		if !wanted {
			return nil
		}
	}
	list, err := r.client.CoreV1().Services(r.pod.Namespace).List(r.ctx, metav1.ListOptions{})
	if err != nil {
		r.miss("variables of Services", err)
		return nil
	}
	slices.SortFunc(list.Items, func(a, b corev1.Service) int { return cmp.Compare(a.Name, b.Name) })
	for i := range list.Items {
		if svc := &list.Items[i]; hasLink(svc, r.pod) && (wanted || svc.Name == server) {
			all = append(all, linkOf(svc)...)
		}
	}
	for _, v := range all {
		r.services[v.Name] = v.Value
	}
	return all
}

// hasLink reports whether a Service has an address, and had it before the pod started.
func hasLink(svc *corev1.Service, pod *corev1.Pod) bool {
	started := pod.Status.StartTime
	return svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone && len(svc.Spec.Ports) > 0 &&
		(started == nil || !svc.CreationTimestamp.After(started.Time))
}

// linkOf returns the variables of one Service: HOST and PORT, and those that Docker had
// for links.
func linkOf(svc *corev1.Service) []environ.Variable {
	prefix := strings.ToUpper(strings.ReplaceAll(svc.Name, "-", "_"))
	address := svc.Spec.ClusterIP
	first := svc.Spec.Ports[0]
	all := []environ.Variable{
		{Name: prefix + "_SERVICE_HOST", Value: address},
		{Name: prefix + "_SERVICE_PORT", Value: fmt.Sprint(first.Port)},
	}
	for _, p := range svc.Spec.Ports {
		if p.Name != "" {
			name := strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_"))
			all = append(all, environ.Variable{Name: prefix + "_SERVICE_PORT_" + name, Value: fmt.Sprint(p.Port)})
		}
	}
	for i, p := range svc.Spec.Ports {
		protocol := cmp.Or(string(p.Protocol), string(corev1.ProtocolTCP))
		url := strings.ToLower(protocol) + "://" + net.JoinHostPort(address, strconv.Itoa(int(p.Port)))
		if i == 0 {
			all = append(all, environ.Variable{Name: prefix + "_PORT", Value: url})
		}
		port := fmt.Sprintf("%s_PORT_%d_%s", prefix, p.Port, strings.ToUpper(protocol))
		all = append(all,
			environ.Variable{Name: port, Value: url},
			environ.Variable{Name: port + "_PROTO", Value: strings.ToLower(protocol)},
			environ.Variable{Name: port + "_PORT", Value: fmt.Sprint(p.Port)},
			environ.Variable{Name: port + "_ADDR", Value: address},
		)
	}
	return all
}
