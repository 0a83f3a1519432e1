package netnstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Fault runs a command of which the n-th system call of the given ones ("sendto,sendmsg"),
// counted from 1, fails with errno ("ENOBUFS") and is not done. It gives the command's
// standard output, its error, and the calls that failed: none where there were fewer, several
// where several threads had as many.
// It needs strace, and skips the test where that is not installed.
func Fault(t testing.TB, c *exec.Cmd, calls, errno string, n int) (out []byte, failed []string, err error) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "calls")
	under(t, c, log, calls, "error="+errno, n)
	out, err = c.Output()
	said, lerr := os.ReadFile(log)
	if lerr != nil {
		t.Fatal(lerr)
	}
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, "(INJECTED)") {
			failed = append(failed, strings.TrimSpace(line))
		}
	}
	return out, failed, err
}
