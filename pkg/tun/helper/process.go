package helper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kubectl-tele/kubectl-tele/pkg/dns/osdns"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/poll"
)

// busyLimit is how long a helper waits for its predecessor, which may still be
// undoing its work.
const busyLimit = 5 * time.Second

// busyEvery is how often it tries.
const busyEvery = 100 * time.Millisecond

// Run is the privileged helper's process. It serves the session of user uid at
// the socket, and returns when that session is gone and everything is undone.
// It calls reached once the session has sent its first request. Only one helper
// of a user runs at a time.
func Run(ctx context.Context, socket string, uid int, reached func()) error {
	log, closeLog, err := openLog()
	if err != nil {
		return err
	}
	defer closeLog()
	resolver, err := osdns.New(osdns.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = resolver.Close() }()
	cfg := processConfig(uid, log)
	cfg.SetDNS = func(dev string, d DNS) error {
		return ignoreChanged(log, resolver.Set(dev, osdns.Config{Servers: d.Servers, Search: d.Search, Domains: d.Domains, Ndots: d.Ndots}))
	}
	var host Host
	if err := retryInUse(ctx, func() error {
		host, err = NewHost(cfg)
		return err
	}); err != nil {
		return err
	}
	return Serve(ctx, socket, uid, &announcingHost{Host: host, reached: reached}, log)
}

// CleanUp undoes, as root, what a helper of user uid that was killed has left
// on this machine.
func CleanUp(ctx context.Context, uid int) error {
	log, closeLog, err := openLog()
	if err != nil {
		return err
	}
	defer closeLog()
	return retryInUse(ctx, func() error { return cleanUp(processConfig(uid, log)) })
}

// Left reports whether a helper of user uid is running on this machine, or was
// killed and has left something for CleanUp to undo.
func Left(uid int) bool {
	_, err := os.Lstat(journalFile(uid))
	return err == nil
}

func journalFile(uid int) string {
	return filepath.Join(osdns.DefaultJournalDir, fmt.Sprintf("helper-%d.json", uid))
}

func processConfig(uid int, log *slog.Logger) HostConfig {
	return HostConfig{
		CleanUpDNS: func() error { return ignoreChanged(log, osdns.CleanUp(osdns.Options{})) },
		Journal:    journalFile(uid),
		Log:        log,
	}
}

// openLog opens the log that the helpers of this machine share.
func openLog() (*slog.Logger, func(), error) {
	dir := osdns.DefaultJournalDir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("make the folder of the helper's journal: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "helper.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open the helper's log: %w", err)
	}
	return slog.New(slog.NewTextHandler(file, nil)), func() { _ = file.Close() }, nil
}

// retryInUse calls try until it returns something else than ErrInUse, for at
// most busyLimit.
func retryInUse(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, busyLimit)
	defer cancel()
	var err error
	waited := poll.Until(ctx, busyEvery, func() (bool, error) {
		err = try()
		return !errors.Is(err, ErrInUse), nil
	})
	if waited != nil {
		return hint.With(errors.New("another session of this user has this machine's network"),
			"kubectl tele status shows it", "kubectl tele quit --all ends it")
	}
	return err
}

// ignoreChanged logs what others have changed in the resolver's settings since
// they were set, and returns nil for it: their settings stay, which is no
// failure. Other errors are returned as they are.
func ignoreChanged(log *slog.Logger, err error) error {
	if changed, ok := errors.AsType[*osdns.ChangedError](err); ok {
		log.Warn("others have changed the resolver settings, which stay as they are", "paths", changed.Paths)
		return nil
	}
	return err
}

// announcingHost calls reached at the session's first request.
type announcingHost struct {
	Host
	once    sync.Once
	reached func()
}

func (h *announcingHost) OpenTUN(mtu int) (*os.File, string, error) {
	h.once.Do(h.reached)
	return h.Host.OpenTUN(mtu)
}
