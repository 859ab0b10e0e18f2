package intercept

import (
	"context"
	"fmt"

	"github.com/kubectl-tele/kubectl-tele/pkg/mount"
)

// showFiles shows the container's files in the folder that the user named, where the
// intercept is the one to do so.
func (i *Intercept) showFiles(ctx context.Context) error {
	if i.dir == "" {
		return nil
	}
	m, err := mount.New(ctx, mount.Config{Dir: i.dir, Open: i.agents.Files, Log: i.log})
	if err != nil {
		return err
	}
	i.mounted = m
	i.progress.emit().Done(fmt.Sprintf("the files of container %s are in %s, to read", i.target.container, i.dir))
	return nil
}

// hideFiles undoes showFiles.
func (i *Intercept) hideFiles() {
	if i.mounted == nil {
		return
	}
	if err := i.mounted.Close(); err != nil {
		i.progress.emit().Warn(err.Error())
	}
}
