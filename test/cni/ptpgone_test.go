package cni

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// TestPtpGC: libcni's GC removes what is not valid, of this network alone.
func TestPtpGC(t *testing.T) {
	newPtpHost(t)
	stays := ptpCall("stays", netnstest.Named(t, "a"), podRanges["both"], `, "ipMasq": true`)
	goes := ptpCall("goes", netnstest.Named(t, "b"), podRanges["both"], `, "ipMasq": true`)
	other := ptpCall("other", netnstest.Named(t, "c"), `[{"subnet": "10.2.0.0/24"}]`, `, "ipMasq": true`)
	other.stdin = strings.Replace(other.stdin, `"name": "pods"`, `"name": "others"`, 1)
	for _, c := range []call{stays, goes, other} {
		c.must(t)
	}
	// One whose namespace went without a DEL: its veth is gone, its addresses are not.
	lost := ptpCall("lost", netnstest.Named(t, "d"), podRanges["both"], `, "ipMasq": true`)
	lost.must(t)
	lostToo := other // one of the other network, whose GC has to find what is left of it
	lostToo.container, lostToo.netns = "lost-too", netnstest.Named(t, "e")
	lostToo.must(t)
	netnstest.IP(t, "-n d link del eth0", "-n e link del eth0")
	gc := stays.as("GC")
	gc.container, gc.netns, gc.ifname = "", "", ""
	gc.stdin = strings.Replace(gc.stdin, `"ipam"`, `"cni.dev/valid-attachments": [{"containerID": "stays", "ifname": "eth0"}], "ipam"`, 1)
	gc.must(t)
	gc.must(t)
	links := netnstest.Exec(t, "ip", "link", "show", "type", "veth")
	for alias, want := range map[string]bool{"viarule:ptp/pods/stays/eth0": true, "viarule:ptp/pods/goes/eth0": false, "viarule:ptp/others/other/eth0": true} {
		if strings.Contains(links, alias) != want {
			t.Errorf("%s is there: %t\n%s", alias, !want, links)
		}
	}
	if n := strings.Count(netnstest.Exec(t, "nft", "list", "map", "inet", "viarule_cni", "ptp-links"), ": goto"); n != 3 {
		t.Errorf("the map has %d elements, want 3", n)
	}
	if n := sourceChains(t); n != 2 {
		t.Errorf("%d chains check sources, want 2", n)
	}
	if got := ptpAddresses(t); len(got) != 4 {
		t.Errorf("addresses that are taken: %v", got)
	}
	for _, c := range []call{stays, other, goes, lost, lostToo} {
		c.as("DEL").must(t)
	}
	ptpLeaves(t)
	all := gc
	all.stdin = strings.Replace(gc.stdin, `[{"containerID": "stays", "ifname": "eth0"}]`, "null", 1)
	all.must(t)
	if chains := netnstest.Exec(t, "nft", "list", "table", "inet", "viarule_cni"); strings.Count(chains, "chain ptp-out-") != 1 {
		t.Errorf("the chains of this network are not gone, or the other's are:\n%s", chains)
	}
}

// TestPtpDelOfWhatIsGone: whatever is missing, DEL is a success.
func TestPtpDelOfWhatIsGone(t *testing.T) {
	newPtpHost(t)
	for i, gone := range []func(c *call){
		func(c *call) { c.netns = "" },
		func(c *call) { c.netns = "/run/netns/nowhere" },
		func(c *call) { netnstest.IP(t, "netns del "+filepath.Base(c.netns)) },
		func(c *call) { netnstest.IP(t, "-n "+filepath.Base(c.netns)+" link del eth0") },
		func(*call) { must(t, os.RemoveAll("/var/lib/cni")) },
		func(*call) { netnstest.Exec(t, "nft", "delete", "table", "inet", "viarule_cni") },
		func(*call) { must(t, os.RemoveAll("/run/viarule")) },
		func(c *call) { c.as("DEL").must(t) },
		func(c *call) { c.container = "never" },
	} {
		c := ptpCall(fmt.Sprintf("c%d", i), netnstest.Named(t, fmt.Sprintf("pod%d", i)), podRanges["both"], `, "ipMasq": true`)
		c.must(t)
		del := c.as("DEL")
		gone(&del)
		del.must(t)
		del.must(t)
		c.as("DEL").must(t)
		if ptpLeaves(t); t.Failed() {
			t.Fatalf("case %d", i)
		}
	}
}
