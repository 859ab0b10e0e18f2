// Package tuntest lets the tests of a package run in a network namespace of
// their own, so that they may make devices, addresses and routes and send
// packets to any range without touching the machine.
package tuntest

import (
	"os"
	"testing"
)

// isolated is set in the environment of the process that runs the tests.
const isolated = "TELE_TEST_NETNS"

// Main is a TestMain: it runs m in a fresh network namespace (inside a fresh
// user namespace where the caller is not root) and exits. Where that cannot
// be had, the tests run in place and those that need it skip; see NeedTUN.
func Main(m *testing.M) {
	if os.Getenv(isolated) != "" {
		if err := loopbackUp(); err != nil {
			_, _ = os.Stderr.WriteString("tuntest: " + err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	code, ok := rerun()
	if !ok {
		code = m.Run()
	}
	os.Exit(code)
}

// NeedTUN skips the test, loudly, unless devices can be made.
func NeedTUN(tb testing.TB) {
	tb.Helper()
	if os.Getenv(isolated) == "" {
		tb.Skip("SKIPPED: needs root or user namespaces, and a network namespace of its own")
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		tb.Skipf("SKIPPED: no tun here: %v", err)
	}
	_ = f.Close()
}
