package inject

import (
	"context"
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// PodMonitor is the part of the Prometheus operator's object of that name that
// speaks of container ports.
type PodMonitor struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port string `json:"port"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

// podMonitors lists the namespace's PodMonitors. A cluster without the operator,
// or a user who may not see them, has none.
func podMonitors(ctx context.Context, client kubernetes.Interface, ns string) []PodMonitor {
	rest := client.Discovery().RESTClient()
	if rest == nil {
		return nil
	}
	data, err := rest.Get().AbsPath("/apis/monitoring.coreos.com/v1/namespaces", ns, "podmonitors").DoRaw(ctx)
	if err != nil {
		return nil
	}
	return parsePodMonitors(data)
}

func parsePodMonitors(data []byte) []PodMonitor {
	var list struct {
		Items []PodMonitor `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil
	}
	return list.Items
}
