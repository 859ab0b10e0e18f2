package poll

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	failed, late := errors.New("failed"), errors.New("late")
	for _, tt := range []struct {
		name  string
		holds func(after time.Duration) (bool, error)
		want  error
		after time.Duration
	}{
		{"at once", func(time.Duration) (bool, error) { return true, nil }, nil, 0},
		{"later", func(after time.Duration) (bool, error) { return after >= 3*time.Second, nil }, nil, 3 * time.Second},
		{"error", func(after time.Duration) (bool, error) {
			if after == time.Second {
				return false, failed
			}
			return false, nil
		}, failed, time.Second},
		{"never", func(time.Duration) (bool, error) { return false, nil }, late, 5500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				ctx, cancel := context.WithTimeoutCause(t.Context(), 5500*time.Millisecond, late)
				defer cancel()
				err := Until(ctx, time.Second, func() (bool, error) { return tt.holds(time.Since(begin)) })
				if took := time.Since(begin); !errors.Is(err, tt.want) || took != tt.after {
					t.Errorf("%v after %s, want %v after %s", err, took, tt.want, tt.after)
				}
			})
		})
	}
}
