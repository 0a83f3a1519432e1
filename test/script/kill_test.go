package script

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
)

const firstPolicy = `apiVersion: viarule.io/v1alpha1
kind: RoutingPolicy
metadata: {name: killed}
spec:
  tables:
  - {name: up, routes: [{to: 0.0.0.0/0, via: 10.0.0.9, dev: eth0}, {to: "::/0", via: "2001:db8::9", dev: eth0}]}
  rules:
  - {from: [10.1.0.0/24, "2001:db8:a::/64"], table: up}
  - {from: [TREE], table: up}
`

// secondPolicy changes a gateway, a table's name, a tree and a priority.
var secondPolicy = strings.NewReplacer("0.9", "0.8", "::9", "::8", "up", "other", "TREE", sources(12, 20), "10.1.0.0/24", "10.1.4.0/22").Replace(firstPolicy)

func sources(from, to int) string {
	var list []string
	for i := from; i < from+to; i++ {
		list = append(list, fmt.Sprintf("10.7.0.%d", i))
	}
	return strings.Join(list, ", ")
}

// TestKilledAtAnyPoint kills `viarule apply` when it enters its first, second,
// third, ... system call of each kind that changes something. Whatever is left:
// the next apply converges, and delete --all leads back to what was before.
func TestKilledAtAnyPoint(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	program := programLink(t, "viarule")
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.yaml"), filepath.Join(dir, "second.yaml")
	for name, text := range map[string]string{first: strings.Replace(firstPolicy, "TREE", sources(1, 24), 1), second: secondPolicy} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	killed := 0
	for _, start := range []struct{ name, file string }{{"a first apply", ""}, {"a change", first}} {
		for _, call := range []string{"sendto,sendmsg", "write,pwrite64", "renameat,renameat2", "unlinkat"} {
			for n := 1; n <= 40; n++ {
				hostWithTwoLinks(t)
				before := rulesAndRoutes(t)
				if start.file != "" {
					run(t, program, "apply", "-f", start.file)
				}
				died := netnstest.Kill(t, exec.Command(program, "apply", "-f", second), call, n)
				where := fmt.Sprintf("%s, killed at call %d of %s", start.name, n, call)
				run(t, program, "apply", "-f", second)
				if out := run(t, program, "plan", "-f", second, "--exit-code"); !strings.Contains(out, "nothing to do") {
					t.Fatalf("%s: the next apply did not converge:\n%s", where, out)
				}
				run(t, program, "status")
				run(t, program, "delete", "--all")
				if after := rulesAndRoutes(t); after != before {
					t.Fatalf("%s: after delete --all:\n%s\nbefore the first apply:\n%s", where, after, before)
				}
				if left, _ := filepath.Glob("/etc/iproute2/rt_*.d/viarule.conf"); len(left) > 0 {
					t.Fatalf("%s: delete --all left %v", where, left)
				}
				if !died {
					break // there is no such call any more
				}
				killed++
			}
		}
	}
	t.Logf("killed %d times", killed)
	if killed < 20 {
		t.Errorf("killed only %d times: the instrument does not work", killed)
	}
}

// programLink gives this test program the name of another, under which it is that one.
func programLink(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// hostWithTwoLinks moves the test to a new namespace, with no records of an
// earlier one. Without IPv6 addresses of the links' own: they come by themselves.
func hostWithTwoLinks(t *testing.T) {
	t.Helper()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll("/run/viarule"); err != nil {
		t.Fatal(err)
	}
	netnstest.IP(t, "link set lo up", "link add eth0 type veth peer name peer0", "link set eth0 addrgenmode none", "link set peer0 addrgenmode none",
		"link set eth0 up", "link set peer0 up", "addr add 10.0.0.1/24 dev eth0", "addr add 2001:db8::1/64 dev eth0 nodad",
		"rule add pref 2205 from 10.1.0.0/16 lookup 77", "route add 10.1.0.0/16 via 10.0.0.7 table 77")
}

// rulesAndRoutes leaves out table local, which the kernel fills when it notices
// that links are up.
func rulesAndRoutes(t *testing.T) string {
	t.Helper()
	var s strings.Builder
	for _, args := range []string{"-d -N rule", "-d -N -6 rule", "-d -N route show table all", "-d -N -6 route show table all"} {
		for line := range strings.Lines(netnstest.Exec(t, "ip", strings.Fields(args)...)) {
			if !strings.Contains(line, "table 255") {
				s.WriteString(line)
			}
		}
	}
	return s.String()
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("viarule %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
