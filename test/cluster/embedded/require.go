package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// tool is a program the cluster runs and the Debian package it comes from.
type tool struct{ program, pkg string }

// clusterTools are what the whole cluster needs.
func clusterTools() []tool {
	return append(laptopTools(),
		tool{"containerd", "containerd"},
		tool{"ctr", "containerd"},
		tool{"runc", "runc"},
		tool{"iptables", "iptables"},
		tool{"conntrack", "conntrack"},
		tool{"nft", "nftables"},
		tool{"busybox", "busybox-static"},
		tool{cniPlugins, "containernetworking-plugins"},
	)
}

// laptopTools are what laptops, and people at laptops, need.
func laptopTools() []tool {
	return []tool{
		{"ip", "iproute2"},
		{"nsenter", "util-linux"},
		{"unshare", "util-linux"},
		{"mount", "mount"},
		{"sudo", "sudo"},
		{"fusermount3", "fuse3"},
	}
}

// cniDirs are where distributions put the CNI plugins.
var cniDirs = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// cniPlugins stands for the plugins, which are not in $PATH.
const cniPlugins = "CNI plugins"

// machine is what requirements are checked against; tests replace it.
type machine struct {
	goos     string
	uid      int
	lookPath func(string) (string, error)
	stat     func(string) (os.FileInfo, error)
	run      runner
}

func thisMachine() machine {
	return machine{goos: runtime.GOOS, uid: os.Getuid(), lookPath: exec.LookPath, stat: os.Stat, run: run}
}

var errNotRoot = errors.New("the embedded cluster makes namespaces and mounts, which only root may do\n" +
	"hint: run this as root, for example with sudo, or give TELE_TEST_KUBECONFIG and TELE_TEST_AGENT_IMAGE to use a cluster you have")

// require makes sure that the machine has what is wanted, installing what is
// missing where apt can do it.
func (m machine) require(ctx context.Context, wanted []tool, log func(string)) error {
	if err := m.allowed(); err != nil {
		return err
	}
	missing := m.missing(wanted)
	if len(missing) == 0 {
		return nil
	}
	hint := fmt.Errorf("the embedded cluster needs programs that are not installed\nhint: apt-get install --no-install-recommends %s", strings.Join(missing, " "))
	if _, err := m.lookPath("apt-get"); err != nil {
		return fmt.Errorf("%w (or what these Debian packages are called here)", hint)
	}
	log("installing " + strings.Join(missing, " "))
	install := append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q", "--no-install-recommends"}, missing...)
	_, err := m.run(ctx, "", install...)
	if err != nil { // most often: the package lists of a fresh machine are empty
		if _, updateErr := m.run(ctx, "", "apt-get", "update", "-q"); updateErr == nil {
			_, err = m.run(ctx, "", install...)
		}
	}
	if err != nil {
		return fmt.Errorf("%w\n%w", hint, err)
	}
	if missing := m.missing(wanted); len(missing) > 0 {
		return fmt.Errorf("apt-get installed everything, and still %s is not to be found", strings.Join(missing, ", "))
	}
	return nil
}

func (m machine) allowed() error {
	if m.goos != "linux" {
		return fmt.Errorf("the embedded cluster needs Linux, this is %s", m.goos)
	}
	if m.uid != 0 {
		return errNotRoot
	}
	return nil
}

// missing lists the packages of the programs that are not there, sorted.
func (m machine) missing(wanted []tool) []string {
	var pkgs []string
	for _, t := range wanted {
		if t.program == cniPlugins {
			if m.cniDir() == "" {
				pkgs = append(pkgs, t.pkg)
			}
		} else if _, err := m.lookPath(t.program); err != nil {
			pkgs = append(pkgs, t.pkg)
		}
	}
	slices.Sort(pkgs)
	return slices.Compact(pkgs)
}

// cniDir is the folder that has the CNI plugins, empty if there is none.
func (m machine) cniDir() string {
	for _, dir := range cniDirs {
		found := true
		for _, plugin := range []string{"bridge", "host-local", "portmap", "loopback"} {
			if _, err := m.stat(filepath.Join(dir, plugin)); err != nil {
				found = false
			}
		}
		if found {
			return dir
		}
	}
	return ""
}
