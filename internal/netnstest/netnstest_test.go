package netnstest_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

func TestNewHasOnlyLo(t *testing.T) {
	netnstest.New(t)
	links := netnstest.Exec(t, "ip", "-br", "link")
	if n := strings.Count(links, "\n"); n != 1 || !strings.HasPrefix(links, "lo") || !strings.Contains(links, "LOWER_UP") {
		t.Errorf("links of a new namespace:\n%s", links)
	}
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Errorf("lo does not work: %v", err)
			continue
		}
		l.Close()
	}
}

func TestSubtestsDoNotShareANamespace(t *testing.T) {
	for _, name := range []string{"first", "second"} {
		netnstest.Run(t, name, func(t *testing.T) {
			// Fails with "File exists" where the first test's rule is still there.
			netnstest.IP(t, "rule add pref 77 from 192.0.2.1 lookup 77", "-6 rule add pref 77 from 2001:db8::1 lookup 77")
		})
	}
}

func TestMountsHideTheHost(t *testing.T) {
	before := tree(t, "/run/netns", "/etc/iproute2")
	netnstest.Run(t, "inside", func(t *testing.T) {
		if got := netnstest.Exec(t, "ls", "/run"); strings.TrimSpace(got) != "netns" {
			t.Errorf("/run holds %q, want only netns", got)
		}
		path := netnstest.Named(t, "netnstest-a")
		netnstest.Exec(t, "ip", "-n", "netnstest-a", "rule", "add", "pref", "77", "from", "192.0.2.1", "lookup", "77")
		if got := netnstest.Exec(t, "ip", "rule"); strings.Contains(got, "192.0.2.1") {
			t.Errorf("the named namespace is the test's own:\n%s", got)
		}
		netnstest.In(t, "netnstest-a", func() {
			if got := netnstest.Exec(t, "ip", "rule"); !strings.Contains(got, "192.0.2.1") {
				t.Errorf("%s is another namespace inside In:\n%s", path, got)
			}
		})
		f := "/etc/iproute2/rt_tables.d/netnstest.conf"
		if err := os.WriteFile(f, []byte("4711 netnstest\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		netnstest.IP(t, "rule add pref 78 lookup netnstest")
	}, netnstest.Mounts())
	if after := tree(t, "/run/netns", "/etc/iproute2"); after != before {
		t.Errorf("the host changed from\n%s\nto\n%s", before, after)
	}
}

// tree lists what stands below dirs.
func tree(t *testing.T, dirs ...string) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			b.WriteString(path + "\n")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestHideSysctl(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.Named(t, "other")
	const dir = "/proc/sys/net/ipv6/conf/all/"
	netnstest.HideSysctl(t, "net/ipv6/conf/all/accept_ra")
	if _, err := os.Stat(dir + "accept_ra"); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	netnstest.Exec(t, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/lo/forwarding"); err != nil || string(b) != "1\n" {
		t.Errorf("another one of the folder is not the kernel's: %q, %v", b, err)
	}
	netnstest.In(t, "other", func() {
		if _, err := os.Stat(dir + "accept_ra"); err != nil {
			t.Errorf("another namespace lacks it: %v", err)
		}
	})
}

// TestIPKeepsTheOrder: lines that need each other, of one call and of several, and one
// that a batch would read otherwise.
func TestIPKeepsTheOrder(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.IP(t, "netns add a", "link add x type veth peer name y netns a", "link set x name z", "addr add 192.0.2.1/24 dev z", "link set z up",
		"-n a link set y up", "-n a addr add 192.0.2.2/24 dev y", "-n a -6 route add 2001:db8::/64 dev y", "-6 rule add pref 77 from 2001:db8::1 lookup 77",
		`link set z alias "it's#1"`, "link add w type bridge", "link del w", "link add w type veth peer name v", "addr add 192.0.2.3/32 dev w")
	for _, want := range []struct{ args, text string }{
		{"addr show dev z", "192.0.2.1/24"}, {"addr show dev w", "192.0.2.3/32"}, {"link show dev z", `alias "it's#1"`},
		{"-n a addr show dev y", "192.0.2.2/24"}, {"-n a -6 route", "2001:db8::/64 dev y"}, {"-6 rule", "2001:db8::1"},
	} {
		if got := netnstest.Exec(t, "ip", strings.Fields(want.args)...); !strings.Contains(got, want.text) {
			t.Errorf("ip %s has no %s:\n%s", want.args, want.text, got)
		}
	}
}
