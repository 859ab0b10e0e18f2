//go:build linux

// Package rig is what end-to-end tests, the demo and the benchmarks stand on:
// a running cluster with this tree's plugin, agent image and test applications
// in it, and laptops to type commands at. It owns none of what is typed there.
package rig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/kubernetes"

	"github.com/kubectl-tele/kubectl-tele/internal/image"
	"github.com/kubectl-tele/kubectl-tele/internal/release/gobuild"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
	"github.com/kubectl-tele/kubectl-tele/test/cluster/provider"
)

const module = "github.com/kubectl-tele/kubectl-tele"

// Rig is a cluster that is ready to be used.
type Rig struct {
	Cluster *provider.Cluster
	// Plugin is the path of kubectl-tele, built from this tree.
	Plugin string
	// AgentImage is the agent's image: built from this tree and on every node,
	// or what the environment names for a cluster that is elsewhere.
	AgentImage string
	// AppsBinary is the path of the test applications' binary.
	AppsBinary string
	// AppsImage is the test applications' image, like AgentImage. Deploy uses it.
	AppsImage string
	// Admin may do everything; for looking at and preparing, never for what is
	// tested.
	Admin kubernetes.Interface
}

// Options say where a Rig works and who is told.
type Options struct {
	// Dir is where binaries and images are built.
	Dir string
	// Log is told what is being done, one line a call; nil is nobody.
	Log func(string)
}

// New uses the cluster that the environment asks for (see package provider),
// or boots the embedded one, builds this tree, and brings it and the test
// applications there.
func New(ctx context.Context, o Options) (*Rig, error) {
	if o.Log == nil {
		o.Log = func(string) {}
	}
	cluster, err := provider.Get(ctx, o.Log)
	if err != nil {
		return nil, fmt.Errorf("get a cluster: %w", err)
	}
	if lacks := cluster.Report(); lacks != "" {
		o.Log(lacks)
	}
	r := &Rig{Cluster: cluster, Plugin: filepath.Join(o.Dir, "kubectl-tele")}
	config, err := cluster.RESTConfig("admin")
	if err != nil {
		return nil, err
	}
	if r.Admin, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("make an admin's client: %w", err)
	}
	o.Log("building kubectl-tele, its agent and the test applications")
	if err := r.build(ctx, o.Dir); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Rig) build(ctx context.Context, dir string) error {
	if err := gobuild.Build(ctx, gobuild.Target{Package: module + "/cmd/kubectl-tele", Output: r.Plugin}); err != nil {
		return err
	}
	r.AppsBinary = filepath.Join(dir, "apps")
	if err := gobuild.Build(ctx, gobuild.Target{Package: module + "/test/apps", Output: r.AppsBinary}); err != nil {
		return err
	}
	if r.Cluster.Lacks(provider.LoadImages) != "" {
		r.AgentImage, r.AppsImage = r.Cluster.AgentImage, r.Cluster.AppsImage
		return nil
	}
	agent := filepath.Join(dir, "tele-agent")
	if err := gobuild.Build(ctx, gobuild.Target{Package: module + "/cmd/tele-agent", Output: agent}); err != nil {
		return err
	}
	// A name of its own for each content: a node keeps what it has by that name, and a
	// pod that runs what it was.
	tag, err := digest(agent)
	if err != nil {
		return err
	}
	r.AgentImage = "localhost/tele-agent:" + tag
	if err := r.load(ctx, dir, r.AgentImage, image.File{Path: "/tele-agent", Source: agent}); err != nil {
		return err
	}
	if tag, err = digest(r.AppsBinary); err != nil {
		return err
	}
	r.AppsImage = "localhost/tele-test-apps:" + tag
	return r.LoadApps(ctx, dir, r.AppsImage)
}

// LoadApps brings the test applications to every node under another name.
func (r *Rig) LoadApps(ctx context.Context, dir, name string) error {
	return r.load(ctx, dir, name, image.File{Path: manifests.Binary, Source: r.AppsBinary})
}

// LoadTools brings an image of the test applications to every node that also has what a
// small distribution's image has: a shell, tar, cat and env. It returns its name.
func (r *Rig) LoadTools(ctx context.Context, dir string) (string, error) {
	tools, err := exec.LookPath("busybox")
	if err != nil {
		return "", fmt.Errorf("an image with tools: %w (Debian's package busybox-static has it)", err)
	}
	tag, err := digest(r.AppsBinary)
	if err != nil {
		return "", err
	}
	files := []image.File{{Path: manifests.Binary, Source: r.AppsBinary}}
	for _, tool := range []string{"sh", "tar", "cat", "env"} {
		files = append(files, image.File{Path: "/bin/" + tool, Source: tools})
	}
	name := "localhost/tele-test-apps:" + tag + "-tools"
	return name, r.load(ctx, dir, name, files...)
}

// load packs static binaries as an image and brings it to every node. The first is what
// it runs.
func (r *Rig) load(ctx context.Context, dir, name string, files ...image.File) error {
	img, err := image.Pack(image.Spec{
		Name: name, Platform: "linux/" + runtime.GOARCH,
		Entrypoint: []string{files[0].Path}, User: "65532:65532",
		Files: files,
	})
	if err != nil {
		return err
	}
	tar := filepath.Join(dir, filepath.Base(files[0].Source)+".tar")
	if err := image.ToFile(tar, func(w io.Writer) error { return image.WriteDocker(w, name, img) }); err != nil {
		return err
	}
	if err := r.Cluster.Load(ctx, tar); err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	return nil
}

// digest is the start of a file's SHA-256, as a tag.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// Deploy applies an application and returns when all of it is ready.
func (r *Rig) Deploy(ctx context.Context, apps ...manifests.App) error {
	for _, app := range apps {
		r.useImage(app)
		for _, obj := range app.Objects() {
			if err := r.apply(ctx, obj); err != nil {
				return err
			}
		}
	}
	for _, app := range apps {
		if err := r.waitReady(ctx, app); err != nil {
			return err
		}
	}
	return nil
}

// useImage makes an application's pods use the image of this tree, or what the
// environment names for a cluster elsewhere.
func (r *Rig) useImage(app manifests.App) {
	if r.AppsImage == "" {
		return
	}
	template := &corev1.PodTemplateSpec{}
	switch {
	case app.Deployment != nil:
		template = &app.Deployment.Spec.Template
	case app.StatefulSet != nil:
		template = &app.StatefulSet.Spec.Template
	}
	for i := range template.Spec.Containers {
		if c := &template.Spec.Containers[i]; c.Image == manifests.Image {
			c.Image = r.AppsImage
		}
	}
}

// Remove deletes an application; its pods end by themselves.
func (r *Rig) Remove(ctx context.Context, apps ...manifests.App) error {
	for _, app := range apps {
		for _, obj := range app.Objects() {
			accessor, err := meta.Accessor(obj)
			if err != nil {
				return err
			}
			if err := r.delete(ctx, obj, accessor.GetNamespace(), accessor.GetName()); err != nil {
				return err
			}
		}
	}
	return nil
}
