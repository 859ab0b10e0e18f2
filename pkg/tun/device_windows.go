package tun

import "os"

// OpenFile is not there yet: Windows has no TUN of its own.
func OpenFile(int) (*os.File, string, error) { return nil, "", ErrUnsupported }

// Open is not there yet: Windows has no TUN of its own.
func Open(int) (Device, error) { return nil, ErrUnsupported }

// FromFile takes file over and fails.
func FromFile(file *os.File, _ string, _ int) (Device, error) {
	_ = file.Close()
	return nil, ErrUnsupported
}
