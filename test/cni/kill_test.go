package cni

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// changing are the system calls that open, lock or change something. Each is a
// point at which the plugin is killed, when it enters the n-th.
var changing = []string{"sendto,sendmsg", "write,pwrite64", "openat", "renameat,renameat2,unlinkat,mkdirat", "flock,fcntl,setns,fsync,ftruncate"}

// TestKilledAtAnyPoint kills ADD, or the DEL behind it, when it enters its first,
// second, third, ... call of each kind. Whatever is left: a DEL leads back to
// what was before, in main too.
func TestKilledAtAnyPoint(t *testing.T) {
	for _, name := range names {
		for _, command := range []string{"ADD", "DEL"} {
			t.Run(name+" "+command, func(t *testing.T) {
				t.Parallel()
				newHost(t)
				pod := newPod(t)
				// More than the kernel's own route, so that there is much to move and put back.
				ipBatch(t, "pod", "link add net1 type veth peer name p1\nlink set net1 addrgenmode none\nlink set p1 addrgenmode none\nlink set net1 up\nlink set p1 up\naddr add 192.0.2.10/24 dev net1\naddr add 2001:db8:1::10/64 dev net1 nodad\n"+
					"route add 203.0.113.0/24 via 192.0.2.1 dev net1 metric 5 mtu 1400\nroute add 203.0.113.0/24 via 192.0.2.2 dev net1 metric 6\n"+
					"route add 2001:db8:ff::/48 via 2001:db8:1::1 dev net1 metric 5\nroute add 2001:db8:fe::/48 dev net1\nrule add pref 700 from 192.0.2.0/25 lookup 77\nroute add 198.51.100.0/24 via 192.0.2.9 dev net1 table 77\n")
				c := linkOf{"net1", first4, "192.0.2.1", first6, "2001:db8:1::1"}.call(name, "c1", pod)
				before, killed := routing(t, "pod"), 0
				for _, calls := range changing {
					for n := 1; n <= 200; n++ {
						if command == "DEL" {
							c.must(t)
						}
						died := netnstest.Kill(t, c.as(command).exec(), calls, n)
						c.as("DEL").must(t)
						where := fmt.Sprintf("%s killed at call %d of %s, then DEL", command, n, calls)
						if after := routing(t, "pod"); sortedLines(after) != sortedLines(before) {
							t.Fatalf("%s:\n%s\nbefore ADD:\n%s", where, after, before)
						}
						if left := records(t); len(left) > 0 {
							t.Fatalf("%s: records are left: %v", where, left)
						}
						if !died {
							break // there is no such call any more
						}
						killed++
					}
				}
				t.Logf("killed %d times", killed)
				if killed < 20 {
					t.Errorf("killed only %d times: the instrument does not work", killed)
				}
				c.must(t) // and all of it works still
				c.as("CHECK").must(t)
				c.as("DEL").must(t)
			})
		}
	}
}

// TestKilledThenCollected: GC cleans up after a killed ADD as DEL does.
func TestKilledThenCollected(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			newHost(t)
			pod := newPod(t)
			netnstest.IP(t, "-n pod link add net1 type veth peer name p1", "-n pod link set net1 addrgenmode none", "-n pod link set p1 addrgenmode none", "-n pod link set net1 up", "-n pod link set p1 up",
				"-n pod addr add "+first4+"/24 dev net1", "-n pod addr add "+first6+"/64 dev net1 nodad")
			c := linkOf{"net1", first4, "192.0.2.1", first6, "2001:db8:1::1"}.call(name, "c1", pod)
			before := routing(t, "pod")
			gc := c.as("GC")
			gc.container, gc.netns, gc.ifname = "", "", ""
			gc.stdin = strings.Replace(gc.stdin, `"prevResult"`, `"cni.dev/valid-attachments": [], "prevResult"`, 1)
			for n := 1; ; n++ {
				died := netnstest.Kill(t, c.exec(), "sendto,sendmsg", n)
				gc.must(t)
				if after := routing(t, "pod"); after != before || len(records(t)) > 0 {
					t.Fatalf("ADD killed at message %d, then GC: records %v\n%s\nbefore ADD:\n%s", n, records(t), after, before)
				}
				if !died {
					break
				}
			}
		})
	}
}
