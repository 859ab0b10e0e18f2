//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/environ"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// waysToSet are the ways in which a pod's spec sets a variable.
func waysToSet(name string) (from []corev1.EnvFromSource, env []corev1.EnvVar) {
	ref := corev1.LocalObjectReference{Name: name}
	yes := true
	key := func(key string, optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref, Key: key, Optional: optional}}
	}
	secret := func(key string, optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref, Key: key, Optional: optional}}
	}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	amount := func(what, divisor string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: what, Divisor: resource.MustParse(divisor)}}
	}
	from = []corev1.EnvFromSource{
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref}},
		{Prefix: "KEY_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref}},
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name + "-absent"}, Optional: &yes}},
	}
	env = []corev1.EnvVar{
		{Name: "PLAIN", Value: "two words"},
		{Name: "EMPTY"},
		{Name: "ODD", Value: "it's \"odd\" \\ `id` ü\n\nlast "},
		{Name: "OVERRIDDEN", Value: "by the spec"},
		{Name: "EARLIER", Value: "$(PLAIN), $(EMPTY)|"},
		{Name: "FROM_MAP", Value: "$(GREETING)"},
		{Name: "UNKNOWN", Value: "$(NOBODY) $(LATER)"},
		{Name: "LATER", Value: "now"},
		{Name: "ESCAPED", Value: "$$(PLAIN) $$$(PLAIN) $PLAIN"},
		{Name: "OF_A_SERVICE", Value: "http://$(FRONT_SERVICE_HOST):$(FRONT_SERVICE_PORT)"},
		{Name: "MAP_KEY", ValueFrom: key("app.properties", nil)},
		{Name: "MAP_KEY_ABSENT", ValueFrom: key("absent", &yes)},
		{Name: "SECRET_KEY", ValueFrom: secret("password", nil)},
		{Name: "SECRET_KEY_ABSENT", ValueFrom: secret("absent", &yes)},
		{Name: "POD", ValueFrom: field("metadata.name")},
		{Name: "POD_UID", ValueFrom: field("metadata.uid")},
		{Name: "POD_IPS", ValueFrom: field("status.podIPs")},
		{Name: "NODE", ValueFrom: field("spec.nodeName")},
		{Name: "NODE_IP", ValueFrom: field("status.hostIP")},
		{Name: "ACCOUNT", ValueFrom: field("spec.serviceAccountName")},
		{Name: "LABEL", ValueFrom: field("metadata.labels['app']")},
		{Name: "NOTE", ValueFrom: field("metadata.annotations['example.com/note']")},
		{Name: "CPU", ValueFrom: amount("limits.cpu", "1m")},
		{Name: "MEMORY", ValueFrom: amount("requests.memory", "1Mi")},
		{Name: "dotted.name", Value: "x"},
		// Right in an image, and wrong on a laptop.
		{Name: "HOME", Value: "/home/app"},
		{Name: "HTTPS_PROXY", Value: "http://egress.example:3128"},
		{Name: "SSL_CERT_FILE", Value: "/etc/app/ca.pem"},
		{Name: "PATH", Value: "/app/bin:/bin"},
	}
	return from, env
}

// TestEnv: what is printed of a container's environment is what its process has, where a
// command in the container can tell, and else what can be computed. It is not run beside
// others: a process keeps the variables of Services that are gone when it is asked.
func TestEnv(t *testing.T) {
	tools, err := world.LoadTools(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{"", tools} {
		name := "env-computed"
		if image != "" {
			name = "env-process"
		}
		t.Run(name, func(t *testing.T) {
			from, env := waysToSet(name)
			objects := metav1.ObjectMeta{Name: name, Namespace: namespace}
			config := &corev1.ConfigMap{ObjectMeta: objects, Data: map[string]string{
				"GREETING": "hello $(NOT_EXPANDED)", "OVERRIDDEN": "by the map", "app.properties": "a=1\nb=two words\n",
			}}
			secret := &corev1.Secret{ObjectMeta: objects, Data: map[string][]byte{"password": []byte("s3cret\n"), "token": []byte("t")}}
			if _, err := world.Admin.CoreV1().ConfigMaps(namespace).Create(t.Context(), config, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := world.Admin.CoreV1().Secrets(namespace).Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				_ = world.Admin.CoreV1().ConfigMaps(namespace).Delete(ctx, name, metav1.DeleteOptions{})
				_ = world.Admin.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
			})
			app := manifests.HTTP(name, manifests.Options{Replicas: 1, Image: image, Mutate: func(pod *corev1.PodTemplateSpec) {
				pod.Annotations = map[string]string{"example.com/note": "a note"}
				c := &pod.Spec.Containers[0]
				c.EnvFrom, c.Env = from, append(c.Env, env...)
				c.Resources = corev1.ResourceRequirements{
					Limits:   corev1.ResourceList{"cpu": resource.MustParse("1500m")},
					Requests: corev1.ResourceList{"cpu": resource.MustParse("10m"), "memory": resource.MustParse("33Mi")},
				}
			}})
			deploy(t, app)
			url := serviceURL(t, name)
			reachable(t, url)
			var own []string
			if err := json.Unmarshal([]byte(call(t, url+"/environ").Body), &own); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for _, v := range environ.FromStrings(own) {
				want[v.Name] = v.Value
			}
			checkEnv(t, name, image != "", want)
		})
	}
}

func checkEnv(t *testing.T, name string, isProcess bool, want map[string]string) {
	desk := newDesk(t)
	before := stateOf(t, name, name)
	result := teleSays(t, desk, "env", name, "-o", "json", "--env-include", "*")
	var got map[string]string
	if err := json.Unmarshal([]byte(result.Stdout), &got); err != nil {
		t.Fatalf("%v: %s", err, result.Stdout)
	}
	for _, v := range slices.Sorted(maps.Keys(want)) {
		value, had := got[v]
		ofImage := strings.HasPrefix(v, "KUBERNETES_")
		switch {
		case ofImage && !isProcess:
			if had {
				t.Errorf("%s is in no object that may be read, and is %q", v, value)
			}
		case !had || value != want[v]:
			t.Errorf("%s is %q, want %q", v, value, want[v])
		}
	}
	for v := range got {
		if _, has := want[v]; !has {
			t.Errorf("the process has no %s", v)
		}
	}
	t.Logf("%d variables: %s", len(got), strings.Join(slices.Sorted(maps.Keys(got)), " "))
	said := result.Stderr
	tells := strings.Contains(said, "KUBERNETES_SERVICE_HOST") && strings.Contains(said, "what the image and its entrypoint set")
	if isProcess && strings.Contains(said, "not had") || !isProcess && !tells {
		t.Errorf("it says %q", said)
	}

	result = teleSays(t, desk, "env", name, "--env-exclude", "KEY_*")
	for _, text := range []string{"export PLAIN='two words'", `export ODD='it'\''s "odd" \ ` + "`id` ü\n\nlast '"} {
		if !strings.Contains(result.Stdout, text+"\n") {
			t.Errorf("%q is not in %s", text, result.Stdout)
		}
	}
	for _, v := range []string{"PATH", "HOME", "HTTPS_PROXY", "SSL_CERT_FILE", "KEY_token", "dotted.name"} {
		if strings.Contains(result.Stdout, v+"=") {
			t.Errorf("%s is set: %s", v, result.Stdout)
		}
		if v != "KEY_token" && !strings.Contains(result.Stderr, v) {
			t.Errorf("nothing is said of %s: %s", v, result.Stderr)
		}
	}
	if after := stateOf(t, name, name); after != before {
		t.Errorf("a difference is left:\nbefore %s\nafter %s", before, after)
	}

	// The same goes to the handler, and to files.
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "app.env"), filepath.Join(dir, "app.json")}
	result = teleSays(t, desk, "intercept", name, "--port", freePort(t, desk), "--env-file", files[0], "--env-json", files[1], "--env-exclude", "KEY_*",
		"--", "sh", "-c", `ls / >/dev/null && echo "$PLAIN/$HTTPS_PROXY/$KEY_token/$SECRET_KEY"`)
	if !strings.Contains(result.Stdout, "two words///s3cret\n") {
		t.Errorf("the handler says %q; %s", result.Stdout, result.Stderr)
	}
	for i, wanted := range []string{"PLAIN=two words\n", `"PLAIN": "two words"`} {
		b, err := os.ReadFile(files[i])
		info, statErr := os.Stat(files[i])
		if err != nil || statErr != nil || !strings.Contains(string(b), wanted) || info.Mode().Perm() != 0o600 {
			t.Errorf("%s, %v, is %q, %v", files[i], info.Mode(), b, err)
		}
	}
	nothingLeft(t, name)
}

// teleSays runs a command, which must succeed, and returns all that it says.
func teleSays(t *testing.T, desk *rig.Desk, args ...string) rig.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	result, err := rig.Run(desk.Tele(ctx, args...))
	if err != nil || result.Code != 0 {
		t.Fatalf("%q: code %d, %v\n%s%s", args, result.Code, err, result.Stdout, result.Stderr)
	}
	return result
}
