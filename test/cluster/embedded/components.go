package embedded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// kubernetesVersion is what components/kube builds.
const kubernetesVersion = "1.34.4"

const module = "github.com/kubectl-tele/kubectl-tele"

// part is one program the cluster is made of, built from source into a folder
// of the cache that is named by the hash of what it is built from.
type part struct {
	name    string
	dir     string   // of the main package, in the repository
	inputs  []string // glob patterns of files in dir that the hash covers
	ldflags string
	notice  string                            // said before a build that takes long
	pack    func(binary, folder string) error // makes what else belongs in the folder
}

// parts lists all; the warden is the first.
func parts() []part {
	const version = "k8s.io/component-base/version"
	minor := strings.Split(kubernetesVersion, ".")[1]
	return []part{
		{
			name: "warden", dir: "test/cluster/warden", inputs: []string{"*.go"},
			pack: func(binary, folder string) error {
				return writeImage(filepath.Join(folder, "pause.tar"), pauseImage, binary, "/warden", "init")
			},
		},
		{
			name: "kube", dir: "test/cluster/components/kube", inputs: []string{"main.go", "go.mod", "go.sum"},
			ldflags: fmt.Sprintf("-X %s.gitVersion=v%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X k8s.io/client-go/pkg/version.gitVersion=v%s",
				version, kubernetesVersion, version, version, minor, kubernetesVersion),
			notice: "Kubernetes v" + kubernetesVersion + " and etcd from source (once; 5 to 10 minutes on 2 cores)",
		},
		{
			name: "coredns", dir: "test/cluster/components/coredns", inputs: []string{"main.go", "go.mod", "go.sum"},
			notice: "CoreDNS from source (once; about a minute)",
			pack: func(binary, folder string) error {
				return writeImage(filepath.Join(folder, "coredns.tar"), corednsImage, binary, "/coredns")
			},
		},
	}
}

// components are the built parts: folders in the cache by part name.
type components map[string]string

func (c components) kube() string   { return filepath.Join(c["kube"], "kube") }
func (c components) warden() string { return filepath.Join(c["warden"], "warden") }
func (c components) images() []string {
	return []string{filepath.Join(c["warden"], "pause.tar"), filepath.Join(c["coredns"], "coredns.tar")}
}

// build returns those of the components that are wanted, building what the cache lacks.
func build(ctx context.Context, wanted []part, log func(string)) (components, error) {
	root, err := repository(ctx)
	if err != nil {
		return nil, err
	}
	goVersion, err := run(ctx, "", "go", "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	built := components{}
	for _, p := range wanted {
		folder, err := p.build(ctx, root, cache, strings.TrimSpace(goVersion), log)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", p.name, err)
		}
		built[p.name] = folder
	}
	return built, nil
}

// repository finds this module's source, from a working directory inside it.
func repository(ctx context.Context) (string, error) {
	dir, err := run(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return "", fmt.Errorf("find the source of the cluster's components (run this inside the repository): %w", err)
	}
	return strings.TrimSpace(dir), nil
}

func (p part) build(ctx context.Context, root, cache, goVersion string, log func(string)) (string, error) {
	source := filepath.Join(root, filepath.FromSlash(p.dir))
	hash, err := p.hash(source, goVersion)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, p.name+"-"+hash)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	unlock, err := lockFile(ctx, filepath.Join(cache, p.name+".lock"), func() { log("another process builds " + p.name + ", waiting for it") })
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	if p.notice != "" {
		log("building " + p.notice)
	}
	begin := time.Now()
	work, err := os.MkdirTemp(cache, "."+p.name+"-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	binary := filepath.Join(work, p.name)
	stop := progress(log, "still building "+p.name)
	_, err = run(ctx, "", "env", "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly",
		"go", "-C", source, "build", "-trimpath", "-ldflags", "-s -w "+p.ldflags, "-o", binary, ".")
	stop()
	if err != nil {
		return "", err
	}
	if p.pack != nil {
		if err := p.pack(binary, work); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return "", err
	}
	if err := os.Rename(work, folder); err != nil {
		return "", err
	}
	if p.notice != "" {
		log(fmt.Sprintf("built %s in %s", p.name, time.Since(begin).Round(time.Second)))
	}
	return folder, nil
}

// hash names a build by what goes into it.
func (p part) hash(source, goVersion string) (string, error) {
	var files []string
	for _, pattern := range p.inputs {
		found, err := filepath.Glob(filepath.Join(source, pattern))
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return "", fmt.Errorf("no source in %s", source)
	}
	slices.Sort(files)
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, goVersion, runtime.GOARCH, p.ldflags)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		_, _ = fmt.Fprintln(sum, filepath.Base(file))
		_, err = io.Copy(sum, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil))[:16], nil
}

// progress repeats a message with the time spent, until stopped.
func progress(log func(string), what string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	begin := time.Now()
	go func() {
		defer close(ended)
		tick := time.NewTicker(30 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				log(fmt.Sprintf("%s (%s)", what, time.Since(begin).Round(time.Second)))
			}
		}
	}()
	return func() { close(done); <-ended }
}
