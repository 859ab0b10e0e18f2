package cli

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// detached makes a child outlive the terminal.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.DETACHED_PROCESS}
}
