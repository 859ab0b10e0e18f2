// Command release packs what users get.
//
//	go run ./internal/release image [-o dist/tele-agent.tar] [-push]
//	go run ./internal/release image -platform linux/amd64 -format docker -o FILE.tar
//	go run ./internal/release dist [-o dist]
//
// Run it at the top of the repository. The version is taken from git unless
// -version says it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/kubectl-tele/kubectl-tele/internal/image"
	"github.com/kubectl-tele/kubectl-tele/internal/release/agentimage"
	"github.com/kubectl-tele/kubectl-tele/internal/release/dist"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "release: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, log io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "image":
			return runImage(ctx, args[1:], log)
		case "dist":
			return runDist(ctx, args[1:], log)
		}
	}
	return errors.New("usage: release image|dist [flags]")
}

// build is what both commands must know about the sources.
type build struct{ version, commit string }

func (b *build) register(flags *flag.FlagSet) {
	flags.StringVar(&b.version, "version", "", "vX.Y.Z (default: from git)")
	flags.StringVar(&b.commit, "commit", "", "commit (default: from git)")
}

// complete asks git for what the flags leave open.
func (b *build) complete(ctx context.Context) {
	git := repository{dir: "."}
	if b.version == "" {
		b.version = git.version(ctx)
	}
	if b.commit == "" {
		b.commit = git.commit(ctx)
	}
}

func runImage(ctx context.Context, args []string, log io.Writer) error {
	var b build
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(log)
	b.register(flags)
	output := flags.String("o", "dist/tele-agent.tar", "archive to write")
	imageName := flags.String("name", "", "image name (default: the released one, at the version)")
	platforms := flags.String("platform", strings.Join(agentimage.Platforms(), ","), "OS/ARCH, several with commas")
	format := flags.String("format", "oci", "oci (all platforms) or docker (one)")
	push := flags.Bool("push", false, "push to the registry too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b.complete(ctx)
	o := agentimage.Options{Name: *imageName, Version: b.version, Commit: b.commit}
	if o.Name == "" {
		o.Name = agentimage.Name(b.version)
	}
	list := strings.Split(*platforms, ",")
	var write func(io.Writer) error
	switch {
	case *format == "docker" && len(list) != 1:
		return errors.New("-format docker holds one platform: name it by -platform")
	case *format == "docker" && *push:
		return errors.New("-push wants all platforms: leave -format docker away")
	case *format == "docker":
		write = func(w io.Writer) error { return o.WriteDocker(ctx, w, list[0]) }
	case *format == "oci":
		index, err := o.BuildIndex(ctx, list)
		if err != nil {
			return err
		}
		if *push {
			if err := o.Push(ctx, index); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(log, "pushed %s\n", o.Name)
		}
		write = func(w io.Writer) error { return image.WriteOCI(w, o.Name, index) }
	default:
		return fmt.Errorf("-format %q: want oci or docker", *format)
	}
	if err := image.ToFile(*output, write); err != nil {
		return fmt.Errorf("write %s: %w", *output, err)
	}
	_, _ = fmt.Fprintf(log, "%s holds %s for %s\n", *output, o.Name, *platforms)
	return nil
}

func runDist(ctx context.Context, args []string, log io.Writer) error {
	var b build
	flags := flag.NewFlagSet("dist", flag.ContinueOnError)
	flags.SetOutput(log)
	b.register(flags)
	output := flags.String("o", "dist", "folder to write to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	b.complete(ctx)
	return dist.Build(ctx, dist.Options{
		Package:  "./cmd/kubectl-tele",
		License:  "LICENSE",
		Template: "krew-manifest.yaml",
		Output:   *output,
		Version:  b.version,
		Commit:   b.commit,
		Log:      log,
	})
}
