package workload

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// accountPath is where admission mounts the service account's token into every container.
const accountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// Files is what a container has of its pod's volumes.
type Files struct {
	Container string
	Mounts    []corev1.VolumeMount // as the container has them
	// Account is where the service account's token is mounted; "" if the spec mounts
	// something of its own there, or nothing.
	Account string
	Missing []string // what cannot be shown, and why
	Write   bool     // they are to be changed, too
	// User and Group are what the container runs as, where the spec says so.
	User, Group *int64
}

// FilesOf returns what a container of the pods has of their volumes. It returns nil when
// there is no such container.
func FilesOf(spec *corev1.PodSpec, container string) *Files {
	c := findContainer(spec, container)
	if c == nil {
		return nil
	}
	f := &Files{Container: container, Account: accountPath}
	if spec.AutomountServiceAccountToken != nil && !*spec.AutomountServiceAccountToken {
		f.Account = ""
	}
	for _, m := range c.VolumeMounts {
		if m.MountPath == accountPath {
			f.Account = ""
		}
		if m.SubPathExpr != "" {
			f.Missing = append(f.Missing, fmt.Sprintf("%s (its path in volume %s depends on the container's environment)", m.MountPath, m.Name))
			continue
		}
		f.Mounts = append(f.Mounts, m)
	}
	for _, d := range c.VolumeDevices {
		f.Missing = append(f.Missing, fmt.Sprintf("%s (a block device)", d.DevicePath))
	}
	if sc := spec.SecurityContext; sc != nil {
		f.User, f.Group = sc.RunAsUser, sc.RunAsGroup
	}
	if sc := c.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			f.User = sc.RunAsUser
		}
		if sc.RunAsGroup != nil {
			f.Group = sc.RunAsGroup
		}
	}
	return f
}

// MountPaths are the paths at which a container has volumes, without those below others.
func MountPaths(spec *corev1.PodSpec, container string) []string {
	c := findContainer(spec, container)
	if c == nil {
		return nil
	}
	var all []string
	for _, m := range c.VolumeMounts {
		all = append(all, path.Clean("/"+m.MountPath))
	}
	slices.Sort(all)
	var top []string
	for _, p := range all {
		if !slices.ContainsFunc(top, func(above string) bool {
			return p == above || strings.HasPrefix(p, strings.TrimSuffix(above, "/")+"/")
		}) {
			top = append(top, p)
		}
	}
	return top
}
