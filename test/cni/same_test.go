package cni

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
)

// TestTwoInterfacesInOneNetwork: two interfaces of a pod in the same subnets. The
// second's ADD and DEL leave the first as it was, in main too.
func TestTwoInterfacesInOneNetwork(t *testing.T) {
	for _, plugin := range []string{`{"type": "sbr"}`, `{"type": "sbr", "addSourceHints": true}`, `{"type": "viarule-sbr"}`} {
		t.Run(plugin, func(t *testing.T) {
			t.Parallel()
			newHost(t)
			pod := newPod(t)
			// Answers at the link for which it is asked only, so that it matters by which a
			// packet leaves.
			for _, which := range []string{"all", "default"} {
				netnstest.In(t, "pod", func() { writeSysctl(t, "ipv4/conf/"+which+"/arp_ignore", "1") })
			}
			config := func(n int) string {
				return fmt.Sprintf(`{"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": {"type": "static", "addresses": [
					{"address": "192.0.2.1%[1]d/24", "gateway": "192.0.2.1"}, {"address": "2001:db8:1::1%[1]d/64", "gateway": "2001:db8:1::1"}]}}`, n)
			}
			first := attach(t, ours, "1.0.0", pod, "net1", config(0), plugin)
			second := attach(t, ours, "1.0.0", pod, "net2", config(1), plugin)
			clean := routing(t, "pod")
			first.add(t)
			before := routing(t, "pod")
			second.add(t)
			for i, a := range []attachment{first, second} {
				if err := a.check(); err != nil {
					t.Errorf("CHECK of interface %d: %v", i+1, explain(err))
				}
			}
			if line := missing(routing(t, "pod"), before); line != "" {
				t.Errorf("the ADD of the second interface took away:\n%s", line)
			}
			for _, source := range []string{"192.0.2.10", "192.0.2.11", "2001:db8:1::10", "2001:db8:1::11"} {
				leaves(t, "pod", source, outsideOf(source), goesBy("network", source))
			}
			second.del(t)
			if after := routing(t, "pod"); sortedLines(after) != sortedLines(before) {
				t.Errorf("after the DEL of the second:\n%s\nbefore its ADD:\n%s", after, before)
			}
			first.del(t)
			if after := routing(t, "pod"); after != clean {
				t.Errorf("after both DELs:\n%s\nat first:\n%s", after, clean)
			}
			nothingLeft(t, "pod")
		})
	}
}

// missing are the lines of before that text lacks.
func missing(text, before string) string {
	var gone strings.Builder
	for line := range strings.Lines(before) {
		if !strings.Contains(text, line) {
			gone.WriteString(line)
		}
	}
	return gone.String()
}

// TestNamespaceGone: a pod's namespace goes without DEL. DEL is a success all the
// same, and where none comes the next ADD elsewhere drops the record.
func TestNamespaceGone(t *testing.T) {
	for _, name := range names {
		for _, del := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, DEL %v", name, del), func(t *testing.T) {
				newHost(t)
				call := func(ns string) call {
					path := newNamespace(t, ns)
					ipBatch(t, ns, nthLink(1).batch())
					c := nthLink(1).call(name, "c-"+ns, path)
					c.must(t)
					return c
				}
				c := call("pod1")
				if err := unix.Unmount(c.netns, unix.MNT_DETACH); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(c.netns); err != nil {
					t.Fatal(err)
				}
				if del {
					c.as("DEL").must(t)
					nothingLeft(t)
				}
				d := call("pod2")
				if n := len(records(t)); n != 1 {
					t.Errorf("%d records, want that of pod2: %v", n, records(t))
				}
				d.as("DEL").must(t)
				nothingLeft(t, "pod2")
			})
		}
	}
}

// TestTwoInterfacesThatStay: as above, but DEL comes while the links are there still,
// in the order of ADD and in the other one. Main has both links' routes as before.
// Not so with sbr, which takes routes out of main: the kernel does not take back a
// second one of the same key (the interface plugin's DEL removes the link anyway).
func TestTwoInterfacesThatStay(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		t.Run(fmt.Sprintf("DEL %v", order), func(t *testing.T) {
			newHost(t)
			pod := newPod(t)
			links := []linkOf{{"net1", first4, "192.0.2.1", first6, "2001:db8:1::1"}, {"net2", "192.0.2.11", "192.0.2.1", "2001:db8:1::11", "2001:db8:1::1"}}
			for _, l := range links {
				ipBatch(t, "pod", l.batch())
			}
			before := routing(t, "pod")
			for _, l := range links {
				l.call(own, "c1", pod).must(t)
			}
			for _, i := range order {
				links[i].call(own, "c1", pod).as("DEL").must(t)
			}
			if after := routing(t, "pod"); sortedLines(after) != sortedLines(before) {
				t.Errorf("after DEL:\n%s\nbefore ADD:\n%s", after, before)
			}
			nothingLeft(t, "pod")
		})
	}
}
