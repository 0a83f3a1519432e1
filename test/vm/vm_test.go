package vm

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// guests are the packages whose tests run in the machine, and which of their
// tests: those that ask the kernel. Emulation is some twenty times slower than
// the host, hence fewer rounds for property tests.
var guests = []guest{
	{"internal/kernel", "FakeAgrees|Named|Open|Without|Unknown|Snapshot|Sockets|Forget|Contract|Enter|NamespaceLock|AcceptsSurvive/(restore,_then|load,_then|native)|AcceptsGo|Forward|ForeignRules|Pair|Setup|Link|Kinds|AddAddr|Nft|Probe|Surroundings|Sysctls|Opaque|View", 5},
	{"internal/fib", "AgainstKernel|LeavesItsVRF|NextHopObject|RefusedRoute", 40},
	{"internal/sim", "AgainstPackets", 60},
	{"internal/apply", `Adoption|SomebodyElse|LinkGone/_(0|9|18|27)$|ApplyAgain`, 5},
	{"internal/guard", "Undoes|Survives|Inherits|ConfirmKeeps|Rollback|SecondApply|Recover", 5},
	{"internal/lab", "Guide|TwoUplinks|UpCheckDown|ObjectsMake|ObjectsAreApplied|Traffic|AsWritten|BridgeAndPolicy|VLANAndVRF|DownRemoves", 5},
	{"internal/host", "NoPacket|Foreign|Tree|PodsAre|RouterAdv", 5},
	{"internal/cni/ptp", "ForwardAll", 5},
	{"test/script", "Scripts|GuideShows/./(vlan|pods|telephony)|GuideConf/(vrf|rules)|PluginKilled", 5},
	{"test/cni", `ReferenceSuite|TestChains/ipvlan/1\.1\.0|TestPtp$|PtpSpoof|PtpARP|PtpPolicy/(strict|by)|PtpTime|PtpChains|PtpReusedAddr|PtpCheck/(echo_0|nft|ip_-n_pod_neigh)|PtpMasq|PtpSbr|TestPods$|PodsMasq|PodsCome|Portmap/iptables`, 5},
}

type guest struct {
	pkg, run string // the folder of a package, and a regular expression of its tests
	rounds   int    // of property tests
}

// guestLog is how much of a failed package's output is shown, in lines.
const guestLog = 1500

const bootLimit = 22 * time.Minute

var (
	reStart  = regexp.MustCompile(`^=== PACKAGE (\S+)$`)
	reResult = regexp.MustCompile(`^(\s*)--- (PASS|FAIL|SKIP): (\S+) \((\d+\.\d+)s\)`)
	reExit   = regexp.MustCompile(`^=== EXIT (\S+) (\d+) after (\d+) s$`)
)

func TestNamespaceTestsUnderDebianKernel(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	if os.Getuid() != 0 {
		t.Skip("not root: cannot install QEMU or read the kernel's package")
	}
	for _, program := range []string{"qemu-system-x86_64", "busybox", "cpio", "apt-get"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s, and it could not be installed (tools/deps.sh)", program)
		}
	}
	payload := t.TempDir()
	buildPayload(t, payload)

	ctx, cancel := context.WithTimeout(t.Context(), bootLimit+time.Minute)
	defer cancel()
	boot := exec.CommandContext(ctx, "./boot.sh", payload)
	boot.Env = append(os.Environ(), fmt.Sprintf("LIMIT=%d", int(bootLimit.Seconds())))
	boot.Stderr = os.Stderr
	out, err := boot.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := boot.Start(); err != nil {
		t.Fatal(err)
	}
	report(t, bufio.NewScanner(out))
	if err := boot.Wait(); err != nil {
		t.Errorf("the machine: %v", err)
	}
}

// chosen are the guests, or those that VM_ONLY names, by comma.
func chosen() []guest {
	only := os.Getenv("VM_ONLY")
	if only == "" {
		return guests
	}
	return slices.DeleteFunc(slices.Clone(guests), func(g guest) bool { return !slices.Contains(strings.Split(only, ","), g.pkg) })
}

// buildPayload lays out what the guest sees as /payload: a test program for
// each package, its testdata, and the script that runs them.
func buildPayload(t *testing.T, dir string) {
	t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var run strings.Builder
	run.WriteString("#!/usr/bin/bash\nrc=0\n")
	if seed := os.Getenv("RAPID_SEED"); seed != "" {
		if _, err := strconv.ParseUint(seed, 10, 64); err != nil {
			t.Fatalf("RAPID_SEED: %v", err)
		}
		fmt.Fprintf(&run, "export RAPID_SEED=%s\n", seed)
	}
	for _, g := range chosen() {
		pkg := g.pkg
		src, dst := filepath.Join(top, pkg), filepath.Join(dir, pkg)
		if _, err := os.Stat(src); err != nil {
			t.Fatalf("guests names a package that is not there: %v", err)
		}
		if err := os.MkdirAll(dst, 0o755); err != nil {
			t.Fatal(err)
		}
		command(t, src, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dst, "tests"), ".") // some have a go.mod of their own
		if _, err := os.Stat(filepath.Join(dst, "tests")); err != nil {
			t.Fatalf("%s has no tests", pkg)
		}
		command(t, src, "sh", "-c", `find . -name '*.txtar' -o -path '*/testdata/*' -not -path '*/rapid/*' -type f | cpio -pdm "$1" 2>/dev/null`, "sh", dst)
		if pkg == "test/cni" { // its tests run programs of other projects
			command(t, src, "env", "VIARULE_CNI_PACK="+filepath.Join(dst, "programs"), filepath.Join(dst, "tests"))
		}
		fmt.Fprintf(&run, "echo '=== PACKAGE %[1]s'\nSECONDS=0\ncd /payload/%[1]s && VIARULE_VM=1 ./tests -test.v -test.timeout 15m -test.run '%[2]s' $(./tests -h 2>&1 | grep -q rapid.checks && echo -rapid.checks=%[3]d)\ns=$?; [ $s = 0 ] || rc=1; echo \"=== EXIT %[1]s $s after $SECONDS s\"\n", pkg, g.run, g.rounds)
	}
	run.WriteString("exit $rc\n")
	for _, shared := range []string{"examples", "docs", "demo"} {
		command(t, top, "cp", "-a", shared, dir)
	}
	if err := os.WriteFile(filepath.Join(dir, "run"), []byte(run.String()), 0o755); err != nil {
		t.Fatal(err)
	}
}

func command(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// A spent is the time that a test took in the machine.
type spent struct {
	test    string
	seconds float64
}

// report turns the guest's output into subtests, so that the count at the end
// of the suite is right and a failure shows its own log. It logs what took the time.
func report(t *testing.T, lines *bufio.Scanner) {
	lines.Buffer(nil, 1<<20)
	var pkg string
	var log []string
	var tests []spent
	exited := map[string]bool{}
	for lines.Scan() {
		line := lines.Text()
		log = append(log, line)
		switch {
		case reStart.MatchString(line):
			pkg, log, tests = reStart.FindStringSubmatch(line)[1], nil, nil
		case reExit.MatchString(line):
			m := reExit.FindStringSubmatch(line)
			exited[m[1]] = true
			t.Logf("%s: %s s%s", m[1], m[3], slowest(tests))
			if m[2] != "0" {
				t.Errorf("%s: exit status %s\n%s", m[1], m[2], strings.Join(log[max(0, len(log)-guestLog):], "\n"))
			}
		case reResult.MatchString(line):
			m := reResult.FindStringSubmatch(line)
			if seconds, err := strconv.ParseFloat(m[4], 64); err == nil && m[1] == "" {
				tests = append(tests, spent{m[3], seconds})
			}
			t.Run(pkg+"/"+m[3], func(t *testing.T) {
				switch m[2] {
				case "FAIL":
					t.Error("failed in the machine")
				case "SKIP":
					t.Skip("skipped in the machine")
				}
			})
		}
	}
	for _, g := range chosen() {
		if !exited[g.pkg] {
			t.Errorf("%s did not finish in the machine; last lines:\n%s", g.pkg, strings.Join(log[max(0, len(log)-20):], "\n"))
		}
	}
}

// slowest names the tests that took a second or more, up to eight of them.
func slowest(tests []spent) string {
	slices.SortStableFunc(tests, func(a, b spent) int { return cmp.Compare(b.seconds, a.seconds) })
	var s strings.Builder
	for _, t := range tests[:min(8, len(tests))] {
		if t.seconds >= 1 {
			fmt.Fprintf(&s, ", %s %.0f", t.test, t.seconds)
		}
	}
	return s.String()
}
