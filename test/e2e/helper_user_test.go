//go:build linux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubectl-tele/kubectl-tele/test/rig"
)

// person is an ordinary user, known at one laptop only, who may use sudo there.
const (
	person    = "teleperson"
	personUID = 4242
	stranger  = "telestranger"
)

// person's files at the laptop, whose /run is its own.
const (
	personPlugin = "/run/kubectl-tele"
	personConfig = "/run/kubeconfig"
	personFolder = "/run/person"
)

// addPerson makes the person, and a stranger who may not use sudo, at one
// laptop, in its own mount namespace. The machine's /etc stays as it is.
func addPerson(t *testing.T, desk *rig.Desk) {
	t.Helper()
	script := fmt.Sprintf(`set -e
mkdir -p /run/etc/sudoers.d
for f in passwd group; do cp /etc/$f /run/etc/$f; done
echo '%[1]s:*:%[2]d:%[2]d::%[3]s:/bin/sh' >>/run/etc/passwd
echo '%[4]s:*:%[5]d:%[5]d::/nonexistent:/bin/sh' >>/run/etc/passwd
echo '%[1]s:x:%[2]d:' >>/run/etc/group
echo '%[1]s ALL=(root) NOPASSWD: ALL' >/run/etc/sudoers.d/person
chmod 0440 /run/etc/sudoers.d/person
mount --bind /run/etc/passwd /etc/passwd
mount --bind /run/etc/group /etc/group
mount --bind /run/etc/sudoers.d /etc/sudoers.d
cp "$PLUGIN" %[6]s
install -o %[2]d -m 0600 "$CONFIG" %[7]s
install -d -o %[2]d -g %[2]d -m 0700 %[3]s
`, person, personUID, personFolder, stranger, personUID+1, personPlugin, personConfig)
	cmd := desk.Command(t.Context(), "", "sh", "-c", script)
	cmd.Env = append(cmd.Env, "PLUGIN="+world.Plugin, "CONFIG="+world.Cluster.Kubeconfig("alice"))
	mustRun(t, cmd)
}

// asUser is a command at the laptop as a user who is not root.
func asUser(ctx context.Context, desk *rig.Desk, uid int, argv ...string) *exec.Cmd {
	id := strconv.Itoa(uid)
	cmd := desk.Command(ctx, "", append([]string{"env", "-C", "/", "setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--"}, argv...)...)
	cmd.Env = append(cmd.Env, "HOME="+personFolder, "XDG_RUNTIME_DIR="+personFolder, "XDG_CACHE_HOME="+personFolder,
		"KUBECACHEDIR="+personFolder, "KUBECONFIG="+personConfig, "TELE_AGENT_IMAGE="+world.AgentImage)
	return cmd
}

// TestConnectAsUser: nothing but the helper is root, and the helper is told no
// more than its socket: no kubeconfig, no token, nothing of the user's
// environment.
func TestConnectAsUser(t *testing.T) {
	t.Parallel()
	desk := newDesk(t)
	addPerson(t, desk)
	c := connected{desk, machineOf(t, desk)}
	run := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		mustRun(t, asUser(ctx, desk, personUID, append([]string{personPlugin}, args...)...))
	}
	begin := time.Now()
	run("connect")
	t.Logf("connect: %.1f s", time.Since(begin).Seconds())
	mustRun(t, asUser(t.Context(), desk, personUID, "curl", "-sS", "--max-time", "60", "http://front.shop"))

	session, helper := pidOf(t, desk, sessionArg), pidOf(t, desk, helperArg)
	for pid, uid := range map[int]uint32{session: personUID, helper: 0} {
		info, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != uid {
			t.Errorf("process %d has uid %d, not %d", pid, got, uid)
		}
	}
	for _, file := range []string{"environ", "cmdline"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", helper, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"KUBECONFIG", personConfig, "TELE_AGENT_IMAGE"} {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("the helper knows %s: %q", secret, text)
			}
		}
	}
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", helper))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if to, err := os.Readlink(fd); err == nil && to == personConfig {
			t.Errorf("the helper has %s open", to)
		}
	}

	begin = time.Now()
	run("quit")
	c.asBefore(t, begin, soon)

	// What a killed helper leaves takes root to put back.
	run("connect")
	killProcess(t, pidOf(t, desk, helperArg))
	killProcess(t, pidOf(t, desk, sessionArg))
	run("quit")
	c.asBefore(t, time.Now(), soon)
}

// TestConnectWithoutSudo: who may not become root is told so, with what works
// all the same.
func TestConnectWithoutSudo(t *testing.T) {
	t.Parallel()
	desk := newDesk(t)
	addPerson(t, desk)
	before := machineOf(t, desk)
	mustRun(t, desk.Command(t.Context(), "", "chown", "-R", strconv.Itoa(personUID+1), personFolder, personConfig))
	result, err := rig.Run(asUser(t.Context(), desk, personUID+1, personPlugin, "connect"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", result)
	if result.Code != 1 || !strings.Contains(result.Stderr, "\nerror: start the privileged helper") || !strings.Contains(result.Stderr, "kubectl tele intercept") {
		t.Errorf("without sudo: %+v", result)
	}
	quiet(t, desk, before)
}

// TestHelperRefuses: the helper does nothing for a socket in a place where
// anybody but the user could have put it, nor in another's name.
func TestHelperRefuses(t *testing.T) {
	t.Parallel()
	desk := newDesk(t)
	addPerson(t, desk)
	before := machineOf(t, desk)
	mustRun(t, desk.Command(t.Context(), "", "sh", "-c", fmt.Sprintf(`set -e
install -d -m 0700 /run/roots
install -d -o %[1]d -m 0755 /run/open
install -d -o %[1]d -m 0700 /run/good
ln -s /run/good /run/link
touch /run/good/file && chown %[1]d /run/good/file`, personUID)))
	uid := strconv.Itoa(personUID)
	for name, test := range map[string]struct {
		socket, uid string
		sudoUID     string
		says        string
	}{
		"FolderOfRoot":    {"/run/roots/helper.sock", uid, "", "belongs to uid 0"},
		"FolderOpen":      {"/run/open/helper.sock", uid, "", "0700"},
		"FolderOfOther":   {"/run/good/helper.sock", strconv.Itoa(personUID + 1), "", "belongs to uid " + uid},
		"FolderLinked":    {"/run/link/helper.sock", uid, "", "not a folder"},
		"NoSocket":        {"/run/good/file", uid, "", "not a socket"},
		"Missing":         {"/run/good/none", uid, "", "no such file"},
		"Relative":        {"helper.sock", uid, "", "absolute"},
		"InOthersName":    {"/run/good/helper.sock", uid, strconv.Itoa(personUID + 1), "was asked for by uid"},
		"NoUID":           {"/run/good/helper.sock", "-1", "", "--uid"},
		"SocketAndNobody": {"", uid, "", "--socket"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := desk.Command(t.Context(), "", personPlugin, "__helper", "--socket", test.socket, "--uid="+test.uid)
			cmd.Env = append(cmd.Env, "SUDO_UID="+test.sudoUID)
			result, err := rig.Run(cmd)
			if err != nil {
				t.Fatal(err)
			}
			if result.Code == 0 || !strings.Contains(result.Stdout+result.Stderr, test.says) {
				t.Errorf("not refused, or not because %q: %+v", test.says, result)
			}
		})
	}
	result, err := rig.Run(asUser(t.Context(), desk, personUID, personPlugin, "__helper", "--socket", "/run/good/helper.sock", "--uid", uid))
	if err != nil || result.Code == 0 || !strings.Contains(result.Stdout+result.Stderr, "must be root") {
		t.Errorf("a helper that is not root: %+v, %v", result, err)
	}
	quiet(t, desk, before)
}
