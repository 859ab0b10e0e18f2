package main

import (
	"context"
	"os/exec"
	"strings"
)

// unreleased is the version of a tree without a tag, before the commit.
const unreleased = "v0.1.0-dev"

// repository asks git about one work tree; where git cannot answer, so that a
// source archive builds too, it says so in the answer.
type repository struct{ dir string }

// version is the tag, or the tag with the distance from it, or a development
// version. All are semantic versions and image tags. The Makefile computes
// the same.
func (r repository) version(ctx context.Context) string {
	if tag := r.git(ctx, "describe", "--tags", "--match", "v*"); tag != "" {
		return tag
	}
	if short := r.git(ctx, "rev-parse", "--short=10", "HEAD"); short != "" {
		// The g keeps a commit of digits only from being a number with a leading zero.
		return unreleased + ".g" + short
	}
	return unreleased
}

func (r repository) commit(ctx context.Context) string {
	return r.git(ctx, "rev-parse", "HEAD")
}

func (r repository) git(ctx context.Context, args ...string) string {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
