package netnstest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Kill runs a command and kills it when it enters its n-th system call of the given
// ones ("sendto,sendmsg"), counted from 1. It says whether that came to pass: a command
// that succeeded has no such call any more, and one that fails otherwise ends the test.
// It needs strace, and skips the test where that is not installed.
func Kill(t testing.TB, c *exec.Cmd, calls string, n int) bool {
	t.Helper()
	under(t, c, os.DevNull, calls, "signal=SIGKILL", n)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false
	case errors.As(err, &exit) && (exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL || exit.ExitCode() == 128+9):
		return true
	}
	t.Fatalf("%s: %v\n%s", c, err, out.Bytes())
	return false
}

// under has strace run a command, write the given calls to a log, and do something at the
// n-th of them.
func under(t testing.TB, c *exec.Cmd, log, calls, do string, n int) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace (tools/deps.sh installs it)")
	}
	c.Args = append([]string{strace, "-f", "-qq", "-o", log, "-e", "trace=" + calls,
		"-e", fmt.Sprintf("inject=%s:%s:when=%d", calls, do, n), "--", c.Path}, c.Args[1:]...)
	c.Path = strace
}
