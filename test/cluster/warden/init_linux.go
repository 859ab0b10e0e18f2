package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// reap waits for children, its own and those the kernel hands to process 1,
// until SIGTERM or SIGINT.
func reap() error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT)
	for s := range signals {
		if s != unix.SIGCHLD {
			return nil
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
		}
	}
	return nil
}
