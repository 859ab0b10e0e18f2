package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawn starts a command in the namespaces and cgroups named by flags, in a
// session of its own, and prints its process ID as seen from here. The warden
// enters the cgroup before the command exists, so nothing of it can be missed.
func spawn(args []string) error {
	flags := flag.NewFlagSet("spawn", flag.ContinueOnError)
	var (
		network = flags.String("net", "", "network namespace `file`")
		mount   = flags.String("mount", "", "mount namespace `file`")
		process = flags.String("pid", "", "process namespace `file`")
		fresh   = flags.Bool("new", false, "make a process and a mount namespace")
		cgroup  = flags.String("cgroup", "", "cgroup, in every hierarchy")
		logFile = flags.String("log", os.DevNull, "`file` that output is appended to")
		dir     = flags.String("dir", "/", "working directory")
		listen  = flags.String("listen", "", "TCP `address` the command gets a listener for, as its file descriptor 3")
		in      = flags.String("listen-net", "", "network namespace `file` of that listener")
	)
	if err := flags.Parse(args); err != nil {
		return err
	}
	argv := flags.Args()
	if len(argv) == 0 {
		return fmt.Errorf("no command to spawn")
	}
	if err := joinCgroup(*cgroup); err != nil {
		return err
	}
	output, err := os.OpenFile(*logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	// Namespaces belong to the thread; the child is forked from this one, and
	// the thread ends with the program.
	runtime.LockOSThread()
	var files []*os.File
	if *listen != "" {
		file, err := listenIn(*in, *listen)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	if err := enter(*network, *mount, *process); err != nil {
		return err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = *dir
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if *fresh {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	return nil
}

// listenIn listens in a network namespace, and leaves the thread in its own.
func listenIn(netns, address string) (*os.File, error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer func() { _ = home.Close() }()
	if err := enter(netns, "", ""); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }()
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("leave namespace %s: %w", netns, err)
	}
	return listener.(*net.TCPListener).File()
}

// enter joins the namespaces whose file is not empty. All files are opened
// before the first is entered, since the mount namespace may hide them.
func enter(network, mount, process string) error {
	wanted := []struct {
		file string
		kind int
	}{{network, unix.CLONE_NEWNET}, {process, unix.CLONE_NEWPID}, {mount, unix.CLONE_NEWNS}}
	fds := make([]int, len(wanted))
	for i, w := range wanted {
		if w.file == "" {
			continue
		}
		fd, err := unix.Open(w.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", w.file, err)
		}
		fds[i] = fd
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare file system attributes: %w", err)
	}
	for i, w := range wanted {
		if w.file == "" {
			continue
		}
		if err := unix.Setns(fds[i], w.kind); err != nil {
			return fmt.Errorf("enter namespace %s: %w", w.file, err)
		}
	}
	return nil
}

// joinCgroup moves this process into the named cgroup of every hierarchy that has it.
func joinCgroup(name string) error {
	if name == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", name, "cgroup.procs"))
	if err != nil {
		return err
	}
	files = append(files, filepath.Join("/sys/fs/cgroup", name, "cgroup.procs"))
	joined := 0
	for _, file := range files {
		if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0); err == nil {
			joined++
		} else if !os.IsNotExist(err) {
			return fmt.Errorf("join cgroup %s: %w", name, err)
		}
	}
	if joined == 0 {
		return fmt.Errorf("join cgroup %s: no such cgroup", name)
	}
	return nil
}
