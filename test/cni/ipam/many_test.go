package ipam

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

const dual = `{"cniVersion": "1.1.0", "name": "pods", "type": "ptp", "cni.dev/valid-attachments": [], "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/22"}], [{"subnet": "2001:db8:1::/64"}]]}}`

const podsDir = "/var/lib/cni/networks/pods"

// atOnce runs all calls at the same time, as often as they are there.
func atOnce(t *testing.T, calls []call, command string) (said []string) {
	t.Helper()
	var waits []func() (string, error)
	for _, c := range calls {
		waits = append(waits, c.as(command).start())
	}
	for i, wait := range waits {
		out, err := wait()
		if err != nil {
			t.Errorf("%s %s: %v", command, calls[i].container, err)
		}
		said = append(said, out)
	}
	return said
}

// TestHundredAtOnce: of both programs, and nobody gets what another one has.
func TestHundredAtOnce(t *testing.T) {
	newHost(t)
	var calls []call
	for n := range 100 {
		program := ours
		if n%3 == 0 {
			program = hostLocal
		}
		calls = append(calls, call{program: program, container: fmt.Sprintf("c%d", n), ifname: "eth0", stdin: dual})
	}
	for range 2 {
		seen := map[string]bool{}
		for _, out := range atOnce(t, calls, "ADD") {
			for line := range strings.Lines(out) {
				if _, a, ok := strings.Cut(line, `"address":`); ok {
					seen[a] = true
				}
			}
		}
		if n := len(allocations(podsDir)); len(seen) != 200 || n != 200 {
			t.Errorf("%d addresses, %d files", len(seen), n)
		}
		atOnce(t, calls, "CHECK")
		rand.Shuffle(len(calls), func(i, j int) { calls[i].program, calls[j].program = calls[j].program, calls[i].program })
		atOnce(t, calls, "DEL")
		if left := allocations(podsDir); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}

// changing are the system calls that open, lock or change something. Each is a point at
// which the program is killed, when it enters the n-th.
var changing = []string{"write,pwrite64,ftruncate,utimensat", "openat", "renameat,renameat2,unlinkat,mkdirat", "flock"}

// TestKilledAtAnyPoint kills ADD, or the DEL behind it, at each of its calls. Then a DEL,
// by either program, frees the address, and what another attachment has stays.
func TestKilledAtAnyPoint(t *testing.T) {
	newHost(t)
	other := call{program: ours, command: "ADD", container: "other", ifname: "eth0", stdin: dual}
	other.must(t)
	c := call{program: ours, command: "ADD", container: "c1", ifname: "eth0", stdin: dual}
	killed := 0
	for _, command := range []string{"ADD", "DEL"} {
		for i, calls := range changing {
			for n := 1; ; n++ {
				if command == "DEL" {
					c.must(t)
				}
				died := netnstest.Kill(t, c.as(command).exec(), calls, n)
				del := c.as("DEL")
				if (n+i)%2 == 0 {
					del.program = hostLocal
				}
				del.must(t)
				where := fmt.Sprintf("%s killed at call %d of %s, then DEL", command, n, calls)
				left := slices.DeleteFunc(allocations(podsDir), func(s string) bool { return strings.HasPrefix(s, ".viarule ") })
				if len(left) != 2 || !strings.Contains(left[0], "other") || !strings.Contains(left[1], "other") {
					t.Fatalf("%s: %q", where, left)
				}
				other.as("CHECK").must(t)
				if !died {
					break // there is no such call any more
				}
				killed++
			}
		}
	}
	t.Logf("killed %d times", killed)
	if killed < 30 {
		t.Errorf("killed only %d times: the instrument does not work", killed)
	}
	c.must(t) // and all of it works still
	c.as("DEL").must(t)
	other.as("DEL").must(t)
	if left := files(podsDir); len(left) != 2 {
		t.Errorf("left: %q", left)
	}
}

// TestFewFilesAreOpened: with thousands of allocations neither ADD nor DEL opens more of
// their files than the one that it makes or removes, not even where the next addresses
// are taken.
func TestFewFilesAreOpened(t *testing.T) {
	newHost(t)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace (tools/deps.sh installs it)")
	}
	if err := os.MkdirAll(podsDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for n := range 900 {
		if err := os.WriteFile(fmt.Sprintf("%s/10.1.%d.%d", podsDir, n>>8, n&255), []byte(fmt.Sprintf("c%d\r\neth0", n)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := call{program: ours, command: "ADD", container: "first", ifname: "eth0", stdin: dual}
	c.must(t) // reads them all, since others have made them
	c.container = "second"
	for _, command := range []string{"ADD", "CHECK", "DEL"} {
		// As after a reboot that lost the place, so that ADD must look for a free one.
		if err := os.WriteFile(podsDir+"/last_reserved_ip.0", []byte("10.1.0.77"), 0o600); err != nil {
			t.Fatal(err)
		}
		trace := filepath.Join(t.TempDir(), "trace")
		cmd := c.as(command).exec()
		cmd.Args = append([]string{strace, "-f", "-qq", "-o", trace, "-e", "trace=openat,renameat2", "--", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = strace
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		opened := strings.Count(string(text), `, "10.1.`)
		if most := map[string]int{"ADD": 70, "CHECK": 1, "DEL": 1}[command]; opened > most || opened == 0 {
			t.Errorf("%s names %d files of addresses", command, opened)
		}
	}
}
