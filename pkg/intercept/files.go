package intercept

import (
	"context"
	"fmt"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/mount"
)

// checkDir returns an error unless files can be had in the folder that the user named.
func checkDir(spec api.InterceptSpec) error {
	switch {
	case spec.Dir == "":
		return nil
	case spec.DirCopy:
		return mount.CheckDir(spec.Dir)
	}
	return mount.Check(spec.Dir)
}

// bringFiles shows the container's files in the folder that the user named, or copies them
// there, where the intercept is the one to do so.
func (i *Intercept) bringFiles(ctx context.Context) error {
	files := i.agents.Files()
	if i.dir != "" {
		i.mu.Lock()
		i.files = files
		i.mu.Unlock()
	}
	cfg := mount.Config{Dir: i.dir, Write: i.spec.DirWrite, Open: files.Open, Socket: files.Socket, Log: i.log}
	p := i.progress.emit()
	switch {
	case i.dir == "":
		return nil
	case i.spec.DirCopy:
		p.Doing(fmt.Sprintf("copying the files of container %s", i.target.container))
		copied, err := mount.Copy(ctx, cfg)
		if err != nil {
			return err
		}
		for _, line := range copied.Lines() {
			p.Warn(line)
		}
		p.Done(fmt.Sprintf("the files of container %s are copied to %s, where they stay: %s", i.target.container, i.dir, copied))
		return nil
	}
	m, err := mount.New(ctx, cfg)
	if err != nil {
		return err
	}
	i.mounted = m
	purpose := "to read"
	if i.spec.DirWrite {
		purpose = "to read and to write: a change is the pod's at once"
	}
	p.Done(fmt.Sprintf("the files of container %s are in %s, %s", i.target.container, i.dir, purpose))
	return nil
}

// hideFiles takes away what bringFiles shows.
func (i *Intercept) hideFiles() {
	if i.mounted == nil {
		return
	}
	if err := i.mounted.Close(); err != nil {
		i.progress.emit().Warn(err.Error())
	}
}
