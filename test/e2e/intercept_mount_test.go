//go:build linux

package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/netsim"
	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// readers gives an app's container volumes of each kind, with modes that its user alone
// can read, one below another, and one file of one.
func readers(name string) func(pod *corev1.PodTemplateSpec) {
	return func(pod *corev1.PodTemplateSpec) {
		const uid = 65532
		narrow := int32(0o400)
		pod.Spec.SecurityContext.FSGroup = new(int64(uid))
		volume := func(volume string, source corev1.VolumeSource) {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: volume, VolumeSource: source})
		}
		local := corev1.LocalObjectReference{Name: name}
		volume("config", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local}})
		volume("secret", corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, DefaultMode: &narrow}})
		volume("scratch", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
		volume("token", corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", Path: "token"}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "labels", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels"},
			}}}},
		}}})
		c := &pod.Spec.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts,
			corev1.VolumeMount{Name: "config", MountPath: "/etc/app"},
			corev1.VolumeMount{Name: "secret", MountPath: "/etc/tls/private/"},
			corev1.VolumeMount{Name: "scratch", MountPath: "/data"},
			corev1.VolumeMount{Name: "config", MountPath: "/data/.below"},
			corev1.VolumeMount{Name: "config", MountPath: "/etc/one.yaml", SubPath: "app.yaml"},
			corev1.VolumeMount{Name: "token", MountPath: "/var/run/secrets/vault"},
			corev1.VolumeMount{Name: "scratch", MountPath: "/of/$(POD)", SubPathExpr: "$(POD)"},
		)
		c.Env = append(c.Env, corev1.EnvVar{Name: "POD", Value: "pod"})
	}
}

// withSocket has an app answer on a UNIX socket in one of those volumes, too.
var withSocket = []string{"-addr", ":8080", "-addr", "/data/app.sock"}

// readable makes what the volumes of readers need, the secret with more, until the test ends.
func readable(t *testing.T, name string, more map[string][]byte) {
	t.Helper()
	objects := metav1.ObjectMeta{Name: name, Namespace: namespace}
	config := &corev1.ConfigMap{ObjectMeta: objects, Data: map[string]string{"app.yaml": "greeting: hello\n"}, BinaryData: map[string][]byte{"blob": []byte(strings.Repeat("\x00\xff", 300_000))}}
	secret := &corev1.Secret{ObjectMeta: objects, Data: map[string][]byte{"tls.key": []byte("the first key")}}
	maps.Copy(secret.Data, more)
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
}

// selfSigned is an identity of a server and a client, and its certificate and key as files have
// them.
func selfSigned(t *testing.T) (identity tls.Certificate, pair [2][]byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: laptopName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair = [2][]byte{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})}
	if identity, err = tls.X509KeyPair(pair[0], pair[1]); err != nil {
		t.Fatal(err)
	}
	return identity, pair
}

// letsIn serves HTTPS at the laptop, to clients of that identity only, and returns where.
func letsIn(t *testing.T, desk *rig.Desk, identity tls.Certificate) (address string) {
	t.Helper()
	l, err := desk.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(identity.Leaf)
	serveOn(t, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{identity}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, "welcome ", r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	return l.Addr().String()
}

// TestInterceptMount: a handler finds the container's volumes on the laptop, of a user who is
// not root; a secret that is changed is seen, and whatever becomes of the session nothing
// hangs and nothing stays.
func TestInterceptMount(t *testing.T) {
	t.Parallel()
	const name = "mount-app"
	identity, pair := selfSigned(t)
	readable(t, name, map[string][]byte{"client.crt": pair[0], "client.key": pair[1]})
	deploy(t, manifests.HTTP(name, manifests.Options{Image: world.AppsImage, Args: withSocket, Mutate: readers(name)}))
	before := stateOf(t, name, name)
	fresh := startLoop(t, serviceURL(t, name), "-fresh")

	desk := newDesk(t)
	addPerson(t, desk)
	port := serve(t, desk, http.HandlerFunc(echo))
	const dir = personFolder + "/root"
	at := func(argv ...string) *exec.Cmd {
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		t.Cleanup(cancel)
		return asUser(ctx, desk, personUID, argv...)
	}
	plugin := func(args ...string) rig.Result {
		t.Helper()
		result, err := rig.Run(at(append([]string{personPlugin}, args...)...))
		if err != nil || result.Code != 0 {
			t.Fatalf("%q: code %d, %v\n%s%s", args, result.Code, err, result.Stdout, result.Stderr)
		}
		return result
	}
	result := plugin("intercept", name, "--port", port, "--mount", dir, "--allow-restart")
	if !strings.Contains(result.Stderr, "not among the files: /of/$(POD)") || !strings.Contains(result.Stderr, "the files of container app are in "+dir) {
		t.Errorf("it says %s", result.Stderr)
	}
	fresh.wait(t, "the laptop", byLaptop)

	sh := func(script string) string {
		t.Helper()
		return strings.TrimSpace(mustRun(t, at("sh", "-c", "cd "+dir+" && "+script)))
	}
	for script, want := range map[string]string{
		"ls":                          "data\netc\nvar",
		"cat etc/app/app.yaml":        "greeting: hello",
		"cat etc/one.yaml":            "greeting: hello",
		"cat etc/tls/private/tls.key": "the first key",
		"stat -c '%a %U %F' etc/tls/private/..data/tls.key":                                                "400 " + person + " regular file",
		"readlink etc/app/app.yaml":                                                                        "..data/app.yaml",
		"wc -c <etc/app/blob":                                                                              "600000",
		"grep -c app= var/run/secrets/vault/labels":                                                        "1",
		"cut -d. -f1 var/run/secrets/vault/token | base64 -d 2>/dev/null | grep -c alg":                    "1",
		"wc -c <var/run/secrets/kubernetes.io/serviceaccount/namespace":                                    fmt.Sprint(len(namespace)),
		"grep -rl hello . | grep -v '/\\.\\.' | sort":                                                      "./etc/one.yaml",
		"touch data/new 2>&1 | grep -c 'Read-only'":                                                        "1",
		"curl -sS --max-time 60 --unix-socket data/app.sock http://app/ | grep -c '\"pod\": \"mount-app-'": "1",
	} {
		if got := sh(script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}

	// A client is let in by its certificate and key, as of a database.
	asked := sh(fmt.Sprintf("cd etc/tls/private && curl -sS --max-time 60 --cacert client.crt --cert client.crt --key client.key https://%s/", letsIn(t, desk, identity)))
	if asked != "welcome "+laptopName {
		t.Errorf("with the certificate and the key: %q", asked)
	}

	// What a file is known by is the same whenever it is looked up, after what was known of
	// it has been forgotten, too.
	known := "for n in 1 2 3 4; do stat -c '%n %i' etc/tls/private etc/app/app.yaml etc/app/..data/app.yaml; sleep 1; done | sort -u | wc -l"
	if got := sh(known); got != "3" {
		t.Errorf("three files have %s inode numbers", got)
	}

	// The kubelet takes up to a minute and a half.
	patch := []byte(`{"stringData":{"tls.key":"the second key"}}`)
	changed := time.Now()
	if _, err := world.Admin.CoreV1().Secrets(namespace).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	poll(t, "the changed secret is seen", func(ctx context.Context) error {
		out, err := rig.Run(asUser(ctx, desk, personUID, "cat", dir+"/etc/tls/private/tls.key"))
		if err != nil || out.Stdout != "the second key" {
			return fmt.Errorf("it is %q (%w)", out.Stdout, err)
		}
		return nil
	})
	t.Logf("a changed secret is seen after %.0f s", time.Since(changed).Seconds())

	// The session is killed: whoever looks is told at once, and the next command clears up.
	lost := lose(func() { killProcess(t, pidOf(t, desk, sessionArg)) })
	if out, err := rig.Run(at("ls", dir)); err != nil || out.Code == 0 {
		t.Errorf("the files of a session that is gone: %+v, %v", out, err)
	}
	result = plugin("status")
	if !strings.Contains(result.Stderr, "the files in "+dir) {
		t.Errorf("status says %s%s", result.Stdout, result.Stderr)
	}
	if out := mustRun(t, at("ls", "-A", dir)); out != "" {
		t.Errorf("the folder has %s", out)
	}

	// Again, with the handler as a command, and files there already in the way.
	fresh.wait(t, "the app", byAppOf(name))
	mustRun(t, at("touch", dir+"/mine"))
	if out, err := rig.Run(at(personPlugin, "intercept", name, "--port", port, "--mount", dir, "--allow-restart")); err != nil || out.Code == 0 || !strings.Contains(out.Stderr, "the folder is not empty") {
		t.Errorf("a folder that is not empty: %+v, %v", out, err)
	}
	mustRun(t, at("rm", "-r", dir))
	result = plugin("intercept", name, "--port", freePort(t, desk), "--mount", dir, "--allow-restart", "--", "sh", "-c", `cat "$TELE_ROOT/etc/app/app.yaml"`)
	if !strings.Contains(result.Stdout, "greeting: hello\n") {
		t.Errorf("the handler says %s%s", result.Stdout, result.Stderr)
	}
	if out, err := rig.Run(at("ls", dir)); err != nil || out.Code == 0 {
		t.Errorf("the folder is still there: %+v, %v", out, err)
	}
	fresh.wait(t, "the app", byAppOf(name))
	fresh.stop(t, lost)
	if after := stateOf(t, name, name); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
}

// TestInterceptMountLoad: ten thousand files and one of a gigabyte, read while the network
// is away for a while, and by a laptop that slept, are what they are in the pod; who is in
// the folder at the end holds nothing up. It is not run beside others, whose times it would spoil.
func TestInterceptMountLoad(t *testing.T) {
	const name, files, size = "mount-load", 10_000, 1 << 30
	deploy(t, manifests.HTTP(name, manifests.Options{Replicas: 1, Image: world.AppsImage, Mutate: func(pod *corev1.PodTemplateSpec) {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
		c := &pod.Spec.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
	}}))
	desk := newDesk(t)
	relay, err := desk.Relay(t.Context(), netsim.Link{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	dir := filepath.Join(t.TempDir(), "root")
	teleSays(t, desk, "intercept", name, "--port", serve(t, desk, http.HandlerFunc(echo)), "--mount", dir, "--allow-restart")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	filled, err := held(ctx, podsOf(t, name)[0].Name, nil, "fill", "/data", fmt.Sprint(files), fmt.Sprint(size))
	if err != nil || filled.Code != 0 {
		t.Fatalf("fill the volume: %v, %+v", err, filled)
	}
	sh := func(script string) string {
		t.Helper()
		begin := time.Now()
		out := mustRun(t, desk.Command(ctx, "", "sh", "-c", "cd "+dir+"/data && "+script))
		t.Logf("%s: %.1f s", script, time.Since(begin).Seconds())
		return strings.TrimSpace(out)
	}
	for script, want := range map[string]int{"find small -type f | wc -l": files, "grep -rl needle small | wc -l": files / 100} {
		if got := sh(script); got != fmt.Sprint(want) {
			t.Errorf("%s: %s, want %d", script, got, want)
		}
	}

	want := strings.TrimSpace(filled.Stdout) + "<nil>"
	whole := func(what string, meanwhile func()) {
		t.Helper()
		sum := make(chan string, 1)
		begin := time.Now()
		go func() {
			out, err := rig.Run(desk.Command(ctx, "", "sha256sum", dir+"/data/large"))
			hash, _, _ := strings.Cut(out.Stdout, " ")
			sum <- fmt.Sprint(hash, err, out.Stderr)
		}()
		meanwhile()
		if got := <-sum; got != want {
			t.Errorf("%s: the large file has sum %s, want %s", what, got, want)
		}
		t.Logf("%d bytes, %s: %.1f s", size, what, time.Since(begin).Seconds())
	}
	whole("with 20 s of no network", func() {
		if err := relay.Run(ctx, netsim.Join(netsim.Quiet(time.Second), netsim.Frozen(20*time.Second))); err != nil {
			t.Fatal(err)
		}
	})
	colleague, session := newDesk(t).As("bob"), sessionOf(t, desk).PID
	whole("by a laptop that slept until it was missed", func() {
		sendSignal(t, session, syscall.SIGSTOP)
		poll(t, "the session is missed", func(context.Context) error {
			if listed := tele(t, colleague, "list"); !strings.Contains(listed, "(gone)") {
				return errors.New(listed)
			}
			return nil
		})
		sendSignal(t, session, syscall.SIGCONT)
	})

	inside := desk.Command(ctx, "", "sh", "-c", "cd "+dir+" && echo in && sleep 300")
	out, err := inside.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "in\n" {
		t.Fatalf("%q, %v", line, err)
	}
	timed(t, desk, "leave", name)
	if _, err := os.ReadDir(dir); !os.IsNotExist(err) {
		t.Errorf("after leave, %s: %v", dir, err)
	}
	_ = inside.Process.Kill()
	_ = inside.Wait()
	nothingLeft(t, name)
}

// TestMountCopy: the volumes of a container are copied by tar in it, with nothing changed in
// the cluster, and by an agent's files where there is no tar.
func TestMountCopy(t *testing.T) {
	const name, bare = "copy-tools", "copy-bare"
	tools, err := world.LoadTools(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for app, image := range map[string]string{name: tools, bare: world.AppsImage} {
		readable(t, app, nil)
		deploy(t, manifests.HTTP(app, manifests.Options{Image: image, Replicas: 1, Args: withSocket, Mutate: readers(app)}))
	}
	before := stateOf(t, name, name)
	desk := newDesk(t)
	has := func(dir string) {
		t.Helper()
		for path, want := range map[string]string{
			"etc/app/app.yaml": "greeting: hello\n", "etc/tls/private/tls.key": "the first key", "etc/one.yaml": "greeting: hello\n",
			"etc/app/blob": strings.Repeat("\x00\xff", 300_000),
			"var/run/secrets/kubernetes.io/serviceaccount/namespace": namespace,
		} {
			if text, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(text) != want {
				t.Errorf("%s has %.40q, %v", path, text, err)
			}
		}
		key := filepath.Join(dir, "etc/tls/private/..data/tls.key")
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, info, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "root")
	result := teleSays(t, desk, "mount", name, dir, "--copy")
	if !strings.Contains(result.Stdout, "Copied to "+dir) || strings.Count(result.Stderr, "warning") != 0 {
		t.Errorf("it says %s%s", result.Stdout, result.Stderr)
	}
	has(dir)
	if said := fails(t, desk, "mount", name, dir, "--copy"); !strings.Contains(said, "the folder is not empty") {
		t.Errorf("a second copy: %s", said)
	}
	if after := stateOf(t, name, name); after != before {
		t.Errorf("copying left a difference:\nbefore %s\nafter %s", before, after)
	}

	none := filepath.Join(t.TempDir(), "none")
	if said := fails(t, desk, "mount", bare, none, "--copy"); !strings.Contains(said, "has no sh or no tar") || strings.Contains(said, "Unhandled") || !strings.Contains(said, "--mount-copy") {
		t.Errorf("without tar: %s", said)
	}
	if _, err := os.Stat(none); !os.IsNotExist(err) {
		t.Errorf("what could not be copied left its folder: %v", err)
	}
	dir = filepath.Join(t.TempDir(), "root")
	result = teleSays(t, desk, "intercept", bare, "--port", freePort(t, desk), "--mount-copy", dir, "--allow-restart", "--", "sh", "-c", `test "$TELE_ROOT" = `+dir+` && cat "$TELE_ROOT/etc/app/app.yaml"`)
	if !strings.Contains(result.Stdout, "greeting: hello\n") || !strings.Contains(result.Stderr, "are copied to "+dir) {
		t.Errorf("the handler says %s%s", result.Stdout, result.Stderr)
	}
	has(dir)
	nothingLeft(t, name, bare)
}

// TestInterceptMountWrite: with --mount-rw a program works in the pod's volume as in a folder
// of this machine, and what it has written is the pod's.
func TestInterceptMountWrite(t *testing.T) {
	t.Parallel()
	const name = "mount-write"
	tools, err := world.LoadTools(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	readable(t, name, nil)
	deploy(t, manifests.HTTP(name, manifests.Options{Image: tools, Replicas: 1, Mutate: readers(name)}))
	before := stateOf(t, name, name)
	desk := newDesk(t)
	dir := filepath.Join(t.TempDir(), "root")
	if said := fails(t, desk, "intercept", name, "--env-exclude", "A", "--port", "1"); !strings.Contains(said, "--env-exclude is about an environment that nothing gets") {
		t.Errorf("--env-exclude alone: %s", said)
	}
	if said := fails(t, desk, "intercept", name, "--mount-rw", "--port", "1"); !strings.Contains(said, "--mount-rw is about --mount") {
		t.Errorf("without --mount: %s", said)
	}
	teleSays(t, desk, "intercept", name, "--port", serve(t, desk, http.HandlerFunc(echo)), "--mount", dir, "--mount-rw", "--allow-restart")
	sh := func(script string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		return strings.TrimSpace(mustRun(t, desk.Command(ctx, "", "sh", "-c", "cd "+dir+"/data && "+script)))
	}
	for _, step := range []struct{ script, want string }{
		{"echo one >a && echo two >>a && cat a && stat -c %s a", "one\ntwo\n8"},
		{"chmod 755 a && stat -c %a a && touch -d @1700000000 a && stat -c %Y a", "700\n1700000000"},
		{"truncate -s 3 a && cat a && chown 0:0 a && chown 1 a 2>&1 | grep -c 'not permitted'", "one1"},
		{"mkdir -p d/e && mv a d/e/b && ls d/e && ln -s e/b d/link && cat d/link", "b\none"},
		{"echo new >a && mv a d/e/b && cat d/e/b && rm -r d && ls", "new\npod"},
		{"rmdir ../data 2>/dev/null || echo refused", "refused"},
		{"(echo x >../etc/app/new) 2>&1 | grep -c 'Read-only'; mv ../etc/app/app.yaml . 2>&1 | grep -c 'Read-only'", "1\n1"},
		{"rm -f app.yaml; dd if=/dev/urandom of=big bs=1M count=20 2>/dev/null && cp big copy && cmp big copy && rm big && echo equal", "equal"},
		{"git init -q repo && cd repo && cp ../copy . && git add -A && git -c user.name=a -c user.email=a@example.com commit -qm first && git status --porcelain && echo more >>copy && git status --porcelain && git checkout -q copy && git fsck --strict 2>&1 | grep -v notice; cmp copy ../copy && echo whole", "M copy\nwhole"},
	} {
		if got := sh(step.script); got != step.want {
			t.Errorf("%s: %q, want %q", step.script, got, step.want)
		}
	}
	want := sh("sha256sum <copy")
	other := filepath.Join(t.TempDir(), "other")
	teleSays(t, desk, "mount", name, other, "--copy")
	if got := strings.TrimSpace(mustRun(t, desk.Command(t.Context(), "", "sh", "-c", "sha256sum <"+other+"/data/repo/copy"))); got != want {
		t.Errorf("in the pod it is %s, here %s", got, want)
	}
	timed(t, desk, "leave", name)
	if after := stateOf(t, name, name); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	nothingLeft(t, name)
}

// TestMount: files are shown with no traffic touched, of a workload without any port too,
// beside a colleague's intercept, and until the last has left.
func TestMount(t *testing.T) {
	t.Parallel()
	const name, worker = "show-app", "show-worker"
	for _, app := range []string{name, worker} {
		readable(t, app, nil)
	}
	deploy(t, manifests.HTTP(name, manifests.Options{Image: world.AppsImage, Mutate: readers(name)}))
	idle := manifests.HTTP(worker, manifests.Options{Image: world.AppsImage, Replicas: 1, Probes: manifests.ProbesNone, Mutate: func(pod *corev1.PodTemplateSpec) {
		readers(worker)(pod)
		pod.Spec.Containers[0].Ports = nil
	}})
	idle.Service = nil
	deploy(t, idle)
	before := stateOf(t, name, name)
	alice, bob := newDesk(t), newDesk(t).As("bob")
	l := startLoop(t, serviceURL(t, name), "-fresh")
	cat := func(dir, file string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return mustRun(t, alice.Command(ctx, "", "cat", filepath.Join(dir, file)))
	}
	dir, other := filepath.Join(t.TempDir(), "root"), filepath.Join(t.TempDir(), "other")
	result := teleSays(t, alice, "mount", name, dir, "--allow-restart")
	if !strings.Contains(result.Stdout, "Showing container app of deployment/"+name+" in "+dir) || !strings.Contains(result.Stderr, "inject sidecar: one rolling update of 2 pods") {
		t.Errorf("it says %s%s", result.Stdout, result.Stderr)
	}
	teleSays(t, alice, "mount", worker, other, "--allow-restart")
	for _, d := range []string{dir, other} {
		if got := cat(d, "etc/app/app.yaml"); got != "greeting: hello\n" {
			t.Errorf("%s has %q", d, got)
		}
	}
	if said := fails(t, alice, "mount", name, other+"2", "--allow-restart"); !strings.Contains(said, "the files of deployment/"+name+" are shown already, in "+dir) {
		t.Errorf("once more: %s", said)
	}
	if status := tele(t, alice, "status"); !strings.Contains(status, "mount     deployment/"+name+": active") || strings.Contains(status, "port 0") {
		t.Errorf("status says %s", status)
	}
	if listed := tele(t, bob, "list"); !strings.Contains(listed, "mounted") || !strings.Contains(listed, "(files)") {
		t.Errorf("list says %s", listed)
	}
	everyReplica(t, name, 2, "the app", isPodOf(name))
	tele(t, bob, "clean", name) // a colleague's clean leaves what somebody uses
	if got := cat(dir, "etc/tls/private/tls.key"); got != "the first key" {
		t.Errorf("after a colleague's clean: %q", got)
	}
	timed(t, bob, "intercept", name, "--port", serve(t, bob, named("bob")), "--allow-restart")
	l.wait(t, "bob", by("bob"))
	if got := cat(dir, "etc/one.yaml"); got != "greeting: hello\n" {
		t.Errorf("beside an intercept: %q", got)
	}
	timed(t, bob, "leave", name)
	l.wait(t, "the app", byAppOf(name))
	if got := cat(dir, "etc/one.yaml"); got != "greeting: hello\n" {
		t.Errorf("after the intercept: %q", got)
	}
	timed(t, alice, "leave", name)
	l.stop(t)
	if after := stateOf(t, name, name); after != before {
		t.Errorf("leave left a difference:\nbefore %s\nafter %s", before, after)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	tele(t, alice, "quit")
	if _, err := os.Stat(other); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	nothingLeft(t, name, worker)
}
