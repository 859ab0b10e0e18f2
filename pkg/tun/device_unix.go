//go:build linux || darwin

package tun

import (
	"fmt"
	"os"
	"syscall"

	"github.com/songgao/water"
)

// device is a TUN whose packets come and go over a pollable file.
type device struct {
	*water.Interface
	file *os.File
	raw  syscall.RawConn
	name string
	mtu  int
}

func (d *device) Name() string { return d.name }
func (d *device) MTU() int     { return d.mtu }

// newDevice takes file over, which must be in non-blocking mode.
func newDevice(file *os.File, name string, mtu int) (*device, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	return &device{
		Interface: &water.Interface{ReadWriteCloser: file},
		file:      file,
		raw:       raw,
		name:      name,
		mtu:       mtu,
	}, nil
}

// FromFile makes a Device of a TUN that another process has opened. It takes
// file over, also when it fails.
func FromFile(file *os.File, name string, mtu int) (Device, error) {
	defer func() { _ = file.Close() }()
	if err := checkMTU(mtu); err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	if err := checkFile(file, name); err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	// A file made of a descriptor in blocking mode never gets to the poller,
	// and Close would then not end a Read. So the descriptor is duplicated
	// and wrapped anew.
	fd, err := duplicate(file)
	if err != nil {
		return nil, fmt.Errorf("device %s: duplicate its descriptor: %w", name, err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("device %s: make it non-blocking: %w", name, err)
	}
	d, err := newDevice(os.NewFile(uintptr(fd), name), name, mtu)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Open makes a TUN and gives it its MTU. It needs root, or CAP_NET_ADMIN.
func Open(mtu int) (Device, error) {
	file, name, err := OpenFile(mtu)
	if err != nil {
		return nil, err
	}
	return FromFile(file, name, mtu)
}
