package session

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
	"github.com/kubectl-tele/kubectl-tele/pkg/tun/helper"
)

// helperBusyLimit is how long a helper waits for the one before, which undoes
// its work while its successor is being started.
const helperBusyLimit = 5 * time.Second

// ServeHelper is the privileged helper's process: it serves the session at the
// socket, of user uid, until that is gone, and undoes everything. reached is
// called once the session has spoken.
func ServeHelper(ctx context.Context, socket string, uid int, reached func()) error {
	log, closeLog, err := openHelperLog()
	if err != nil {
		return err
	}
	defer closeLog()
	resolver, err := osdns.New(osdns.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = resolver.Close() }()
	cfg := helperConfig(uid, log)
	cfg.SetDNS = func(dev string, d helper.DNS) error {
		return undone(log, resolver.Set(dev, osdns.Config{Servers: d.Servers, Search: d.Search, Domains: d.Domains, Ndots: d.Ndots}))
	}
	var host helper.Host
	if err := whenFree(ctx, func() error {
		host, err = helper.NewHost(cfg)
		return err
	}); err != nil {
		return err
	}
	return helper.Serve(ctx, socket, uid, &announcing{Host: host, reached: reached}, log)
}

// CleanUpHelper undoes, as root, what a helper of user uid that was killed has
// left on this machine.
func CleanUpHelper(ctx context.Context, uid int) error {
	log, closeLog, err := openHelperLog()
	if err != nil {
		return err
	}
	defer closeLog()
	return whenFree(ctx, func() error { return helper.CleanUp(helperConfig(uid, log)) })
}

// HelperLeft says whether a helper of user uid is at work on this machine, or
// was killed and has left its work to CleanUpHelper.
func HelperLeft(uid int) bool {
	_, err := os.Lstat(helperJournal(uid))
	return err == nil
}

func helperJournal(uid int) string {
	return filepath.Join(osdns.DefaultJournalDir, fmt.Sprintf("helper-%d.json", uid))
}

func helperConfig(uid int, log *slog.Logger) helper.HostConfig {
	return helper.HostConfig{
		CleanUpDNS: func() error { return undone(log, osdns.CleanUp(osdns.Options{})) },
		Journal:    helperJournal(uid),
		Log:        log,
	}
}

// openHelperLog opens the log that the helpers of this machine share.
func openHelperLog() (*slog.Logger, func(), error) {
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

// whenFree tries until no other helper of the user is at work.
func whenFree(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, helperBusyLimit)
	defer cancel()
	for {
		err := try()
		if !errors.Is(err, helper.ErrInUse) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return hint.With(errors.New("another session of this user has this machine's network"),
				"kubectl tele status shows it", "kubectl tele quit --all ends it")
		}
	}
}

// undone makes a note of what others changed meanwhile, which stays as they
// want it; that is no failure.
func undone(log *slog.Logger, err error) error {
	if changed, ok := errors.AsType[*osdns.ChangedError](err); ok {
		log.Warn("resolver settings were changed by others meanwhile and stay so", "paths", changed.Paths)
		return nil
	}
	return err
}

// announcing calls reached with the session's first request.
type announcing struct {
	helper.Host
	once    sync.Once
	reached func()
}

func (a *announcing) OpenTUN(mtu int) (*os.File, string, error) {
	a.once.Do(a.reached)
	return a.Host.OpenTUN(mtu)
}
