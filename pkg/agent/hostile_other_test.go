//go:build !linux

package agent

// beApp is for tests that run on Linux.
func beApp() {}
