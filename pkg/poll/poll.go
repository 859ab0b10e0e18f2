// Package poll is the one way to wait for what announces itself by nothing.
package poll

import (
	"context"
	"time"
)

// Until calls holds at once and then every interval, until it returns true or an
// error, which Until returns. When ctx ends before, the error is the cause of its
// end.
func Until(ctx context.Context, interval time.Duration, holds func() (bool, error)) error {
	for {
		if done, err := holds(); done || err != nil {
			return err
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
