// Package imports keeps the packages of this module apart: its rules say who
// may import whom, and its test asks the go command who does. Imports of tests
// are free.
package imports

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Module is the path of this module.
const Module = "github.com/kubectl-tele/kubectl-tele"

// Graph says what each package imports, the standard library left out.
type Graph map[string][]string

// Load asks the go command for the packages of the module in dir, and all that
// they need, as they are built for one operating system.
func Load(ctx context.Context, dir, goos string) (Graph, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=ImportPath,Imports,Standard", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages for %s: %w\n%s", goos, err, stderr.Bytes())
	}
	return parse(bytes.NewReader(out))
}

func parse(r io.Reader) (Graph, error) {
	g := Graph{}
	for dec := json.NewDecoder(r); ; {
		var p struct {
			ImportPath string
			Imports    []string
			Standard   bool
		}
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return g, nil
		case err != nil:
			return nil, fmt.Errorf("read list of packages: %w", err)
		case !p.Standard:
			g[p.ImportPath] = p.Imports
		}
	}
}

// path is the shortest way from a package to one that matches, itself left
// out of the search; nil when there is none.
func (g Graph) path(from string, matches func(string) bool) []string {
	before := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range g[queue[0]] {
			if _, seen := before[next]; seen {
				continue
			}
			before[next] = queue[0]
			if matches(next) {
				var way []string
				for p := next; p != ""; p = before[p] {
					way = append(way, p)
				}
				slices.Reverse(way)
				return way
			}
			queue = append(queue, next)
		}
	}
	return nil
}

// match says whether a package is one of the patterns'. A pattern is a path,
// or path/... for the package and all below it; one that begins with ./ is of
// this module.
func match(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if rest, ok := strings.CutPrefix(p, "./"); ok {
			p = Module + "/" + rest
		}
		if tree, ok := strings.CutSuffix(p, "/..."); ok {
			return pkg == tree || strings.HasPrefix(pkg, tree+"/")
		}
		return pkg == p
	})
}
