package workload

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestExpand(t *testing.T) {
	values := map[string]string{"A": "1", "B": "$(A)", "EMPTY": ""}
	for in, want := range map[string]string{
		"plain":         "plain",
		"":              "",
		"$(A)":          "1",
		"x$(A)y$(A)z":   "x1y1z",
		"$(B)":          "$(A)",
		"$(EMPTY)|":     "|",
		"$(NONE)":       "$(NONE)",
		"$$(A)":         "$(A)",
		"$$$(A)":        "$1",
		"$A ${A}":       "$A ${A}",
		"cost 5$":       "cost 5$",
		"$(A":           "$(A",
		"$(open $(A)":   "$(open $(A)",
		"$$$$":          "$$",
		"$()":           "$()",
		"http://$(A):$": "http://1:$",
	} {
		if got := expand(in, values); got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("a$(A)$$(B)$(")
	f.Fuzz(func(t *testing.T, s string) {
		got := expand(s, map[string]string{"A": "1"})
		if !strings.Contains(s, "$") && got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func envPod() *corev1.Pod {
	name := func(s string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: s} }
	configKey := func(cm, key string, optional bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: name(cm), Key: key, Optional: &optional}}
	}
	secretKey := func(secret, key string, optional bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: name(secret), Key: key, Optional: &optional}}
	}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	amount := func(res, divisor string) *corev1.EnvVarSource {
		ref := &corev1.ResourceFieldSelector{Resource: res}
		if divisor != "" {
			ref.Divisor = resource.MustParse(divisor)
		}
		return &corev1.EnvVarSource{ResourceFieldRef: ref}
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "back-1", Namespace: "shop", Labels: map[string]string{"app": "back"}},
		Status:     corev1.PodStatus{PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app",
			EnvFrom: []corev1.EnvFromSource{
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("settings")}},
				{Prefix: "S_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name("keys")}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: name("absent"), Optional: new(true)}},
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: name("hidden")}},
			},
			Env: []corev1.EnvVar{
				{Name: "PLAIN", Value: "x"},
				{Name: "MODE", Value: "override"},
				{Name: "URL", Value: "http://$(HOST):$(PORT)/$$(PLAIN)/$(NONE)"},
				{Name: "PORT", Value: "80"},
				{Name: "URL2", Value: "$(HOST):$(PORT)"},
				{Name: "DB", Value: "$(MY_DB_SERVICE_HOST)"},
				{Name: "FROM_CM", ValueFrom: configKey("settings", "HOST", false)},
				{Name: "NO_KEY", ValueFrom: configKey("settings", "nokey", false)},
				{Name: "OPT_KEY", ValueFrom: configKey("settings", "nokey", true)},
				{Name: "OPT_CM", ValueFrom: configKey("absent", "x", true)},
				{Name: "NO_CM", ValueFrom: configKey("absent", "x", false)},
				{Name: "FROM_SECRET", ValueFrom: secretKey("keys", "token", false)},
				{Name: "HIDDEN", ValueFrom: secretKey("hidden", "x", true)},
				{Name: "POD", ValueFrom: field("metadata.name")},
				{Name: "IPS", ValueFrom: field("status.podIPs")},
				{Name: "APP", ValueFrom: field("metadata.labels['app']")},
				{Name: "SA", ValueFrom: field("spec.serviceAccountName")},
				{Name: "NODE", ValueFrom: field("spec.nodeName")},
				{Name: "CPU", ValueFrom: amount("limits.cpu", "")},
				{Name: "CPU_MILLI", ValueFrom: amount("limits.cpu", "1m")},
				{Name: "MEM", ValueFrom: amount("requests.memory", "1Mi")},
				{Name: "NO_LIMIT", ValueFrom: amount("limits.memory", "")},
				{Name: "STRANGE", ValueFrom: &corev1.EnvVarSource{}},
			},
			Resources: corev1.ResourceRequirements{
				Limits:   corev1.ResourceList{"cpu": resource.MustParse("1500m")},
				Requests: corev1.ResourceList{"memory": resource.MustParse("33Mi")},
			},
		}}},
	}
}

func TestEnv(t *testing.T) {
	client := fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings", Namespace: "shop"}, Data: map[string]string{"HOST": "store", "MODE": "prod"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "keys", Namespace: "shop"}, Data: map[string][]byte{"token": []byte("abc\n")}},
	)
	hiddenReads := 0
	client.PrependReactor("get", "secrets", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if a.(clienttesting.GetAction).GetName() != "hidden" {
			return false, nil, nil
		}
		hiddenReads++
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "hidden", nil)
	})
	for _, svc := range []*corev1.Service{
		linked("my-db", "10.96.0.7", "", "TCP/5432/main", "UDP/53/"),
		linked("late", "10.96.0.8", "2026-01-02T00:00:00Z", "TCP/80/"),
		linked("headless", "None", "", "TCP/80/"),
	} {
		if err := client.Tracker().Add(svc); err != nil {
			t.Fatal(err)
		}
	}
	pod := envPod()
	pod.Status.StartTime = &metav1.Time{Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	all, err := Env(t.Context(), client, pod, "app")
	if err != nil {
		t.Fatal(err)
	}
	env, missing := all.Strings(), all.Missing
	want := []string{
		"HOST=store", "MODE=override", "S_token=abc\n", "PLAIN=x",
		"URL=http://store:$(PORT)/$(PLAIN)/$(NONE)", "PORT=80", "URL2=store:80", "DB=10.96.0.7",
		"FROM_CM=store", "FROM_SECRET=abc\n",
		"POD=back-1", "IPS=10.0.0.1,fd00::1", "APP=back", "SA=default",
		"CPU=2", "CPU_MILLI=1500", "MEM=33",
		"MY_DB_SERVICE_HOST=10.96.0.7", "MY_DB_SERVICE_PORT=5432", "MY_DB_SERVICE_PORT_MAIN=5432", "MY_DB_PORT=tcp://10.96.0.7:5432",
		"MY_DB_PORT_5432_TCP=tcp://10.96.0.7:5432", "MY_DB_PORT_5432_TCP_PROTO=tcp", "MY_DB_PORT_5432_TCP_PORT=5432", "MY_DB_PORT_5432_TCP_ADDR=10.96.0.7",
		"MY_DB_PORT_53_UDP=udp://10.96.0.7:53", "MY_DB_PORT_53_UDP_PROTO=udp", "MY_DB_PORT_53_UDP_PORT=53", "MY_DB_PORT_53_UDP_ADDR=10.96.0.7",
		"HOSTNAME=back-1",
	}
	if !slices.Equal(env, want) {
		t.Errorf("got  %q\nwant %q", env, want)
	}
	var names []string
	for _, m := range missing {
		name, _, _ := strings.Cut(m, ":")
		names = append(names, name)
	}
	if want := []string{"KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT and so on", "all of secret/hidden", "NO_KEY", "NO_CM", "HIDDEN", "NODE", "NO_LIMIT", "STRANGE"}; !slices.Equal(names, want) {
		t.Errorf("missing %q\nwant    %q", missing, want)
	}
	if hiddenReads != 1 {
		t.Errorf("a secret that may not be read was asked for %d times", hiddenReads)
	}
}

// linked is a Service with ports PROTOCOL/NUMBER/NAME.
func linked(name, address, created string, ports ...string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}, Spec: corev1.ServiceSpec{ClusterIP: address}}
	if created != "" {
		at, _ := time.Parse(time.RFC3339, created)
		svc.CreationTimestamp = metav1.Time{Time: at}
	}
	for _, p := range ports {
		part := strings.Split(p, "/")
		number, _ := strconv.Atoi(part[1])
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Protocol: corev1.Protocol(part[0]), Port: int32(number), Name: part[2]})
	}
	return svc
}

// TestEnvWithoutServices: a pod may want none of their variables.
func TestEnvWithoutServices(t *testing.T) {
	client := fake.NewClientset(linked("my-db", "10.96.0.7", "", "TCP/5432/"))
	pod := envPod()
	pod.Spec.EnableServiceLinks = new(false)
	env, err := Env(t.Context(), client, pod, "app")
	if err != nil || env.Has("MY_DB_SERVICE_HOST") || !slices.Contains(env.Strings(), "DB=$(MY_DB_SERVICE_HOST)") {
		t.Errorf("%q, %v", env.Strings(), err)
	}
}

func TestEnvOfNoContainer(t *testing.T) {
	if _, err := Env(t.Context(), fake.NewClientset(), envPod(), "nosuch"); err == nil || !strings.Contains(err.Error(), `no container "nosuch"`) {
		t.Errorf("got %v", err)
	}
}

func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 62) + "-bcd"
	for name, tc := range map[string]struct {
		spec corev1.PodSpec
		want string
	}{
		"back-1":   {want: "back-1"},
		"back-2":   {spec: corev1.PodSpec{Hostname: "db"}, want: "db"},
		long:       {want: long[:62]},
		"template": {spec: corev1.PodSpec{HostNetwork: true}},
		"fqdn":     {spec: corev1.PodSpec{SetHostnameAsFQDN: new(true)}},
		"":         {},
	} {
		if got := hostname(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: tc.spec}); got != tc.want {
			t.Errorf("%q: %q, want %q", name, got, tc.want)
		}
	}
}
