//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// When both ends are looked at.
const whenIdle = "idle, new"

func whenOpen(n int) string { return fmt.Sprintf("%d open connections", n) }

// cpuFor is how long CPU time is looked at.
const cpuFor = 10 * time.Second

// needs measures memory and CPU of the session and its agent, which run on
// this machine.
func (b *stage) needs(ctx context.Context, report *Report, when string) error {
	b.say("memory and CPU, " + when)
	status, err := b.status(ctx)
	if err != nil {
		return err
	}
	agent, err := processOf(string(b.agent.UID), "tele-agent")
	if err != nil {
		return err
	}
	before, err := cpuTimes(status.PID, agent)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(cpuFor):
	}
	after, err := cpuTimes(status.PID, agent)
	if err != nil {
		return err
	}
	ends := Ends{When: when, SessionCPU: (after[0] - before[0]).Seconds() / cpuFor.Seconds(), AgentCPU: (after[1] - before[1]).Seconds() / cpuFor.Seconds()}
	if ends.SessionMB, err = residentMB(status.PID); err != nil {
		return err
	}
	if ends.AgentMB, err = residentMB(agent); err != nil {
		return err
	}
	report.Ends = append(report.Ends, ends)
	return nil
}

// dialsAtOnce bounds how many connections are being opened.
const dialsAtOnce = 64

// idleFlows opens n connections, or as many as can be, asks once on each, and
// leaves them alone.
func (b *stage) idleFlows(ctx context.Context, report *Report, n int) error {
	b.say(fmt.Sprintf("opening %d connections", n))
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		conns  []net.Conn
		begun  int
		failed error
	)
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	more := func() bool {
		mu.Lock()
		defer mu.Unlock()
		begun++
		return begun <= n && failed == nil
	}
	for range dialsAtOnce {
		wg.Go(func() {
			for more() {
				conn, err := b.openIdle(ctx)
				mu.Lock()
				if err == nil {
					conns = append(conns, conn)
				} else {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failed != nil {
		b.say(fmt.Sprintf("only %d of %d connections: %v", len(conns), n, failed))
	}
	return b.needs(ctx, report, whenOpen(len(conns)))
}

// idleLimit is much longer than one of many connections takes.
const idleLimit = 10 * time.Second

func (b *stage) openIdle(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, idleLimit)
	defer cancel()
	conn, err := b.dialer(Tele)(ctx, "tcp", b.app)
	if err != nil {
		return nil, err
	}
	if err := askOn(conn); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// askOn asks once on a connection and leaves it open.
func askOn(conn net.Conn) error {
	request, err := http.NewRequest(http.MethodGet, base+"/healthz", nil)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(readyLimit)); err != nil {
		return err
	}
	if err := request.Write(conn); err != nil {
		return err
	}
	reply, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, reply.Body)
	return errors.Join(err, reply.Body.Close())
}

// processOf finds a process of a pod on this machine.
func processOf(uid, program string) (pid int, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		cgroup, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(cgroup), uid) {
			continue // it has ended, or is another's
		}
		exe, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if name, _, _ := strings.Cut(string(exe), "\x00"); err == nil && filepath.Base(name) == program {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, fmt.Errorf("no process %s of pod %s on this machine", program, uid)
}

// cpuTimes is what processes have used so far.
func cpuTimes(pids ...int) (times []time.Duration, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, err
		}
		// The name, in parentheses, may contain anything. utime and stime are
		// the fields 14 and 15, in 1/100 s.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 13 {
			return nil, fmt.Errorf("stat of process %d has %d fields", pid, len(fields))
		}
		ticks := 0
		for _, field := range fields[11:13] {
			n, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			ticks += n
		}
		times = append(times, time.Duration(ticks)*10*time.Millisecond)
	}
	return times, nil
}

func residentMB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(text), " kB"))
			return float64(kb) * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}

// machine is where this runs.
func machine(version string) (Machine, error) {
	m := Machine{Version: version, Cores: runtime.NumCPU(), Go: runtime.Version()}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, err
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(cpus)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m, nil
}
