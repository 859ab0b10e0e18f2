// Command pack builds the test applications and packs their image.
//
//	go run ./test/apps/pack -o FILE.tar [-platform linux/amd64]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/kubectl-tele/kubectl-tele/internal/image"
	"github.com/kubectl-tele/kubectl-tele/internal/release/gobuild"
	"github.com/kubectl-tele/kubectl-tele/test/apps/manifests"
)

func main() {
	output := flag.String("o", "", "docker archive to write")
	platform := flag.String("platform", "linux/"+runtime.GOARCH, "OS/ARCH")
	flag.Parse()
	if err := run(context.Background(), *output, *platform); err != nil {
		fmt.Fprintf(os.Stderr, "pack: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, output, platform string) error {
	if output == "" {
		return errors.New("-o FILE.tar is required")
	}
	dir, err := os.MkdirTemp("", "tele-apps-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "apps")
	err = gobuild.Build(ctx, gobuild.Target{
		Package:  "github.com/kubectl-tele/kubectl-tele/test/apps",
		Output:   binary,
		Platform: platform,
	})
	if err != nil {
		return err
	}
	img, err := image.Pack(image.Spec{
		Name:       manifests.Image,
		Platform:   platform,
		Entrypoint: []string{manifests.Binary},
		User:       "65532:65532",
		Files:      []image.File{{Path: manifests.Binary, Source: binary}},
	})
	if err != nil {
		return err
	}
	return image.ToFile(output, func(w io.Writer) error { return image.WriteDocker(w, manifests.Image, img) })
}
