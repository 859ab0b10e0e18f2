package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// lockLimit is how long a session that is ending may keep its successor waiting.
const lockLimit = shutdownLimit + 2*time.Second

// Listen opens the control socket in a session's folder, which it makes. It waits
// for a session there that is ending, and fails if one is running. The caller
// calls release when the session has ended: it removes the socket and unlocks the
// folder.
func Listen(dir string) (l net.Listener, release func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the session's folder: %w", err)
	}
	unlock, err := waitLock(dir)
	if err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(pidFile(dir), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		unlock()
		return nil, nil, fmt.Errorf("write the session's process id: %w", err)
	}
	_ = os.Remove(controlSocket(dir))
	l, err = net.Listen("unix", controlSocket(dir))
	if err != nil {
		unlock()
		return nil, nil, fmt.Errorf("open the control socket: %w", err)
	}
	return l, func() {
		_ = l.Close()
		_ = os.Remove(controlSocket(dir))
		_ = os.Remove(pidFile(dir))
		unlock()
	}, nil
}

// waitLock takes the lock of a folder. It waits while the session that has it is
// ending.
func waitLock(dir string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lockLimit)
	defer cancel()
	for {
		unlock, err := lock(dir)
		if err == nil {
			return unlock, nil
		}
		stayErr := NewClient(dir).Stay(ctx)
		if version := (*VersionError)(nil); stayErr == nil || errors.As(stayErr, &version) || ctx.Err() != nil {
			return nil, fmt.Errorf("another session is running here: %w", err)
		}
		select {
		case <-time.After(lockEvery):
		case <-ctx.Done():
		}
	}
}
