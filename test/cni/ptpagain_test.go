package cni

import (
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// TestPtpAgain: an ADD for an interface that a container has already is an error that
// changes nothing, also where it asks for other addresses or another network.
func TestPtpAgain(t *testing.T) {
	newPtpHost(t)
	first := ptpCall("c1", netnstest.Named(t, "pod"), podRanges["both"], `, "ipMasq": true`)
	out := first.must(t)
	check := first.as("CHECK")
	check.stdin = strings.Replace(first.stdin, `"ipam"`, `"prevResult": `+out+`, "ipam"`, 1)
	check.must(t)
	before, addresses := ptpState(t)+netnstest.Exec(t, "ip", "link", "show", "type", "veth"), strings.Join(ptpAddresses(t), " ")
	for name, change := range map[string]func(c *call){
		"the same":   func(*call) {},
		"other IPv4": func(c *call) { c.args = "IP=10.1.0.77" },
		"other IPv6": func(c *call) { c.args = "IP=2001:db8:1::77" },
		"other addresses": func(c *call) {
			c.stdin = strings.Replace(c.stdin, `"ipam"`, `"runtimeConfig": {"ips": ["10.1.0.77", "2001:db8:1::77"]}, "ipam"`, 1)
		},
		"other network":   func(c *call) { c.stdin = strings.Replace(c.stdin, `"name": "pods"`, `"name": "others"`, 1) },
		"other namespace": func(c *call) { c.netns = netnstest.Named(t, "other"); c.args = "IP=10.1.0.77" },
		"executed by name": func(c *call) {
			c.stdin = strings.Replace(c.stdin, `"ranges"`, `"addresses": [{"address": "10.1.0.99/24"}], "ranges"`, 1)
			c.stdin = strings.Replace(c.stdin, `"host-local"`, `"static"`, 1)
		},
	} {
		c := first
		change(&c)
		_, err := c.run(t)
		if err == nil || !strings.Contains(explain(err).Error(), "call DEL before ADD") {
			t.Errorf("%s: %v", name, explain(err))
		}
		if after := ptpState(t) + netnstest.Exec(t, "ip", "link", "show", "type", "veth"); after != before {
			t.Errorf("%s:\n%s\nbefore:\n%s", name, after, before)
		}
		if after := strings.Join(ptpAddresses(t), " "); after != addresses {
			t.Errorf("%s: addresses %s, before %s", name, after, addresses)
		}
		check.must(t)
	}
	first.as("DEL").must(t)
	ptpLeaves(t)
}

// TestPtpOddNames: whatever the names are, there is an interface with just that name, or an
// error and nothing. CHECK, GC and DEL find it again.
func TestPtpOddNames(t *testing.T) {
	newPtpHost(t)
	c := ptpCall("c1", netnstest.Named(t, "pod"), podRanges["both"], `, "ipMasq": true`)
	c.must(t)
	c.as("DEL").must(t)
	before := ptpState(t)
	for _, ifname := range []string{"e.1", "eth0@if2", "%d", "e%d", "%s%n", "all", "default", "lo", "bonding_masters", "-h", "e\x01", "e\x7f", "\xff\xfe", "ü", "\u202ex", `"`, `\`, "e'", "$(id)", "123456789012345", "e\u00a0"} {
		c := c
		c.ifname = ifname
		out, err := c.run(t)
		if err != nil {
			if s := explain(err).Error(); !strings.Contains(s, "code 4: ") && !strings.Contains(s, "code 5: ") {
				t.Errorf("%q: %s", ifname, s)
			}
		} else {
			check := c.as("CHECK")
			check.stdin = strings.Replace(c.stdin, `"ipam"`, `"prevResult": `+out+`, "ipam"`, 1)
			if _, err := check.run(t); err != nil {
				t.Errorf("%q: CHECK: %v", ifname, explain(err))
			}
			t.Logf("%q is taken", ifname)
		}
		if err == nil {
			c.as("DEL").must(t)
		}
		if ptpLeaves(t); t.Failed() {
			t.Fatalf("%q", ifname)
		}
		if after := ptpState(t); after != before {
			t.Fatalf("%q:\n%s\nbefore:\n%s", ifname, after, before)
		}
		if links := netnstest.Exec(t, "ip", "-n", "pod", "-o", "link"); strings.Count(links, "\n") != 1 {
			t.Fatalf("%q: the pod has\n%s", ifname, links)
		}
	}
}
