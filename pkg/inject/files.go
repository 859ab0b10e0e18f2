package inject

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubectl-tele/kubectl-tele/pkg/agent/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/workload"
)

// volumesDir is where the agent has the volumes that it shows. At the app's own paths
// one could hide the agent's program, and one in another would need a folder in that.
const volumesDir = "/.tele/volumes"

const volumeFlag = "--volume="

// showFiles gives an agent's container the volumes of the app's, as f says, and lets it run
// as the app's user, without whom files with narrow modes could not be read. An agent
// shows the files of one container.
func showFiles(w *workload.Workload, agent *corev1.Container, f *workload.Files, image string) error {
	if f == nil {
		return nil
	}
	mounts, args := volumesOf(f)
	if have := volumeArgs(agent); len(have) > 0 {
		if !slices.EqualFunc(have, args, serves) {
			return &hint.Error{
				Fact: fmt.Sprintf("the agent of %s shows the files of another container than %s, or to read alone, or what it had before a change", w, f.Container),
				Mend: "`kubectl tele list` shows who intercepts it; the agent is made anew when all have left",
			}
		}
		return nil
	}
	if agent.Image != image { // an older one might not start with what it does not know
		return &hint.Error{
			Fact: fmt.Sprintf("the agent of %s, of image %s, shows no files", w, agent.Image),
			Mend: "`kubectl tele list -o wide` shows who brought it; it is replaced when all have left",
		}
	}
	agent.VolumeMounts = mounts
	agent.Args = append(agent.Args, args...)
	if f.User != nil && *f.User != 0 && agent.SecurityContext != nil {
		agent.SecurityContext.RunAsUser, agent.SecurityContext.RunAsGroup = f.User, f.Group
	}
	return nil
}

// serves reports whether an agent with one argument about a volume will do for who needs
// another: to write is to read as well.
func serves(have, needed string) bool {
	h, err := api.ParseVolume(strings.TrimPrefix(have, volumeFlag))
	n, failed := api.ParseVolume(strings.TrimPrefix(needed, volumeFlag))
	n.Write = n.Write || h.Write
	return err == nil && failed == nil && h == n
}

// volumesOf returns the mounts of an agent that shows these files, and its arguments.
func volumesOf(f *workload.Files) (mounts []corev1.VolumeMount, args []string) {
	for i, m := range f.Mounts {
		here := path.Join(volumesDir, strconv.Itoa(i))
		write := f.Write && !m.ReadOnly
		mounts = append(mounts, corev1.VolumeMount{Name: m.Name, MountPath: here, SubPath: m.SubPath, ReadOnly: !write})
		args = append(args, volumeFlag+api.Volume{Here: here, Path: path.Clean("/" + m.MountPath), Write: write}.String())
	}
	if f.Account != "" {
		args = append(args, volumeFlag+api.Volume{Here: f.Account, Path: f.Account}.String())
	}
	return mounts, args
}

// fileWarnings says what of the files is not shown, and what the others who change the
// workload will meet.
func fileWarnings(w *workload.Workload, f *workload.Files) (lines []string) {
	if f == nil {
		return nil
	}
	for _, missing := range f.Missing {
		lines = append(lines, "not among the files: "+missing)
	}
	var names []string
	for _, m := range f.Mounts {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > 0 {
		lines = append(lines, fmt.Sprintf("until leave, the API server refuses changes of %s that take away or rename a volume which the agent shows: %s", w, strings.Join(names, ", ")))
	}
	return lines
}

// volumeArgs are an agent's arguments about volumes.
func volumeArgs(agent *corev1.Container) (args []string) {
	for _, arg := range agent.Args {
		if strings.HasPrefix(arg, volumeFlag) {
			args = append(args, arg)
		}
	}
	return args
}

// ShowsFiles reports whether the agents of a template show files.
func ShowsFiles(spec *corev1.PodSpec) bool {
	c, _ := agentContainer(spec)
	return c != nil && len(volumeArgs(c)) > 0
}
