package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/environ"
)

// envFile is a file that gets the environment of an intercepted container.
type envFile struct {
	path   string
	syntax environ.Syntax
}

// write replaces the file at once, with what only its owner may read; one that a link leads
// to, and what is no file, such as /dev/stdout or a pipe, is written to. It returns the
// names of what its syntax cannot say.
func (f envFile) write(all []environ.Variable) (unwritten []string, err error) {
	var text bytes.Buffer
	if unwritten, err = environ.Write(&text, f.syntax, all); err != nil {
		return nil, err
	}
	path := f.path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if info, err := os.Stat(f.path); strings.HasPrefix(f.path, "/dev/") || err == nil && !info.Mode().IsRegular() {
		out, err := os.OpenFile(f.path, os.O_WRONLY, 0)
		if err == nil {
			_, err = out.Write(text.Bytes())
			err = errors.Join(err, out.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("write the environment: %w", err)
		}
		return unwritten, nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tele-env-*") // 0600
	if err != nil {
		return nil, fmt.Errorf("write the environment: %w", err)
	}
	_, err = tmp.Write(text.Bytes())
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("write the environment: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return unwritten, nil
}

// interceptEnv is what becomes of the environment of an intercepted container.
type interceptEnv struct {
	file, json string
	syntax     string
	selection  environ.Selection
	files      []envFile
}

func (e *interceptEnv) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&e.file, "env-file", "", "write the container's environment to this `FILE`, as --env-syntax says")
	cmd.Flags().StringVar(&e.json, "env-json", "", "write the container's environment to this `FILE`, as JSON")
	cmd.Flags().StringVar(&e.syntax, "env-syntax", string(environ.Docker), fmt.Sprintf("`SYNTAX` of --env-file, one of %v", environ.Syntaxes()))
	completeSyntax(cmd, "env-syntax")
	addSelection(cmd.Flags(), &e.selection)
}

// complete reads the flags; command is whether one gets the environment, too.
func (e *interceptEnv) complete(flags *pflag.FlagSet, command bool) error {
	for flag, means := range map[string]bool{"env-syntax": e.file != "", "env-include": command || e.file+e.json != "", "env-exclude": command || e.file+e.json != ""} {
		if flags.Changed(flag) && !means {
			return usageError(fmt.Errorf("--%s is about an environment that nothing gets", flag), "--env-file FILE", "kubectl tele env WORKLOAD prints it")
		}
	}
	for _, f := range []envFile{{e.file, environ.Syntax(e.syntax)}, {e.json, environ.JSON}} {
		if f.path == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(f.path)); err != nil || !info.IsDir() {
			return usageError(fmt.Errorf("the environment cannot be written to %s: there is no such folder", f.path))
		}
		if info, err := os.Stat(f.path); err == nil && info.IsDir() {
			return usageError(fmt.Errorf("the environment cannot be written to %s: it is a folder", f.path))
		}
		e.files = append(e.files, f)
	}
	return nil
}

// take selects what may be set here of a container's environment, adds where its files are,
// unless root is "", and writes the files.
func (e *interceptEnv) take(all []string, root string, progress *printer) (env []string, err error) {
	kept := selected(progress, e.selection, environ.FromStrings(all))
	if root != "" {
		kept = append(kept, environ.Variable{Name: "TELE_ROOT", Value: root})
	}
	for _, f := range e.files {
		unwritten, err := f.write(kept)
		if err != nil {
			return nil, err
		}
		tellUnwritten(progress, string(f.syntax), unwritten)
		progress.event(api.Event{Text: "environment written to " + f.path})
	}
	return environ.Environment{Variables: kept}.Strings(), nil
}
