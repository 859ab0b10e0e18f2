//go:build unix

package cli

import "syscall"

// detached makes a child outlive the terminal.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
