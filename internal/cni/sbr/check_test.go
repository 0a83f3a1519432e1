package sbr_test

import (
	"os"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/cni/sbr"
	"github.com/viarule/viarule/internal/netnstest"
)

// TestCheck: each kind of drift is named, and CHECK changes nothing.
func TestCheck(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		first, from4 := table[name], map[string]string{sbr.DropIn: "32765", sbr.Own: "2900"}[name]
		src := map[string]string{sbr.DropIn: "", sbr.Own: " src 10.1.0.5"}[name]
		c := adding(name, "net1").with(`"strictReversePath": true, "rules": [{"fwmark": 1}]`)
		before := world(t)
		for _, tt := range []struct {
			what  string
			drift string // of `ip`; a word with a slash in it is written to a sysctl
			words []string
			ok    map[string]bool // for whom that is no drift
		}{
			{"nothing", "", nil, map[string]bool{sbr.DropIn: true, sbr.Own: true}},
			{"a rule is missing", "rule del from 10.1.0.5", []string{"missing: rule " + from4 + " from 10.1.0.5 table " + first + " proto 119"}, nil},
			{"a rule of IPv6 is missing", "-6 rule del from 2001:db8:1::5", []string{"missing: rule -6 " + from4 + " from 2001:db8:1::5"}, nil},
			{"a written rule is missing", "rule del fwmark 1", []string{"from all fwmark 0x1 table " + first}, nil},
			{"a rule with another table", "rule del from 10.1.0.5; rule add pref " + from4 + " from 10.1.0.5 lookup 77 proto 119", []string{"missing: rule " + from4 + " from 10.1.0.5"}, nil},
			{"a rule with another mark", "rule del from 10.1.0.5; rule add pref " + from4 + " from 10.1.0.5 lookup " + first, []string{"missing: rule " + from4 + " from 10.1.0.5"}, map[string]bool{sbr.DropIn: true}},
			{"a rule twice", "rule add pref " + from4 + " from 10.1.0.5 lookup " + first + " proto 4", nil, map[string]bool{sbr.DropIn: true, sbr.Own: true}},
			{"a route is missing", "route del default table " + first, []string{"missing: route default via 10.1.0.1 dev net1 table " + first}, nil},
			{"a route of IPv6 is missing", "-6 route del default table " + second[name], []string{"missing: route -6 default via 2001:db8:1::1"}, nil},
			{"all routes are missing", "route flush table " + first, []string{"missing: route 10.1.0.0/24", "missing: route default", "missing: route 192.0.2.0/24"}, nil},
			{"another gateway", "route replace default via 10.1.0.99 dev net1 table " + first + " proto 119" + src, []string{"wrong: route default via 10.1.0.99 dev net1", "which should be route default via 10.1.0.1"}, nil},
			{"another gateway, IPv6", "-6 route del default table " + second[name] + "; -6 route add default via 2001:db8:1::99 dev net1 table " + second[name] + " proto 119", []string{"wrong: route -6 default via 2001:db8:1::99"}, nil},
			{"a route with another mark", "route replace default via 10.1.0.1 dev net1 table " + first + " proto 4" + src, []string{"wrong: route default via 10.1.0.1 dev net1 table " + first + " proto 4"}, map[string]bool{sbr.DropIn: true}},
			{"the address's own route", "addr del 10.1.0.5/24 dev net1", []string{"missing: route 10.1.0.0/24"}, map[string]bool{}},
			{"a sysctl", "net1/rp_filter=0", []string{"net/ipv4/conf/net1/rp_filter is 0, not 1"}, nil},
			{"another sysctl", "net1/src_valid_mark=0", []string{"net/ipv4/conf/net1/src_valid_mark is 0, not 1"}, nil},
			{"the sysctl of all", "all/rp_filter=2", []string{"net/ipv4/conf/all/rp_filter is 2"}, nil},
			{"the link", "link del net1", []string{"the interface is missing"}, nil},
		} {
			t.Run(tt.what, func(t *testing.T) {
				newPod(t)
				if tt.what == "nothing" {
					c.as("CHECK").fails(t, 101, "net1 is not routed by source as it was made: ")
				}
				c.must(t)
				for line := range strings.SplitSeq(tt.drift, "; ") {
					switch key, value, isSysctl := strings.Cut(line, "="); {
					case isSysctl:
						netnstest.In(t, "pod", func() { writeFile(t, "/proc/sys/net/ipv4/conf/"+key, value) })
					case line != "":
						netnstest.IP(t, "-n pod "+line)
					}
				}
				drifted := world(t)
				if tt.ok[name] {
					c.as("CHECK").must(t)
				} else {
					c.as("CHECK").fails(t, 101, append(tt.words, "net1 is not routed by source as it was made: ")...)
				}
				same(t, "what CHECK changed", world(t), drifted)
				c.as("DEL").must(t)
				nothingRecorded(t)
			})
		}
		same(t, "this pod", world(t), before)
	})
}

// TestCheckOfMain: what ADD did to main is part of it.
func TestCheckOfMain(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		c := adding(name, "net1")
		c.must(t)
		if name == sbr.DropIn {
			netnstest.IP(t, "-n pod route add 10.1.0.0/24 dev net1 proto kernel scope link src 10.1.0.5")
			c.as("CHECK").fails(t, 101, "back in main: route 10.1.0.0/24 dev net1")
		} else {
			netnstest.IP(t, "-n pod route replace 192.0.2.0/24 via 10.1.0.9 dev net1 metric 5 mtu 1400")
			c.as("CHECK").fails(t, 101, "wrong: route 192.0.2.0/24 via 10.1.0.9 dev net1 table 254")
		}
		// An address that came later has no rule.
		more := c.as("CHECK")
		more.config = strings.Replace(more.config, `"ips": [`, `"ips": [{"address": "10.1.0.6/24", "interface": 0},`, 1)
		more.fails(t, 101, "there is no rule from 10.1.0.6")
		more.as("CHECK").with(`"table": "x"`).fails(t, 6, "table: ")
	})
}

// TestStatus: whoever may not work here is told so.
func TestStatus(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		c := call{name: name, command: "STATUS", container: "-", netns: "-", ifname: "-", path: programs, config: `{"cniVersion": "1.1.0", "name": "n"}`}
		if a := c.must(t); a.stdout != "" {
			t.Errorf("STATUS prints %s", a.stdout)
		}
		same(t, "after STATUS", world(t), before)
		nobody := c
		nobody.attr = credentials(65534)
		nobody.fails(t, 50, "the plugin cannot work here: ")
		// /run/viarule is not the only thing: it may be there, and others' to write to.
		if err := os.RemoveAll("/run/viarule"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir("/run/viarule", 0o700); err != nil {
			t.Fatal(err)
		}
		nobody.fails(t, 50, "the plugin cannot work here: ")
		if err := os.Chown("/run/viarule", 65534, 65534); err != nil {
			t.Fatal(err)
		}
		nobody.fails(t, 50, "the plugin cannot work here: ", "root")
		if err := os.Chmod("/run/viarule", 0o777); err != nil {
			t.Fatal(err)
		}
		c.fails(t, 50, "/run/viarule")
	})
}

// TestWithoutRoot: the other calls say what they lack, too.
func TestWithoutRoot(t *testing.T) {
	each(t, func(t *testing.T, name string) {
		before := world(t)
		c := adding(name, "net1")
		c.attr = credentials(65534)
		c.fails(t, 5, "needs root")
		c.as("CHECK").fails(t, 5, "needs root")
		c.as("DEL").fails(t, 5, "needs root")
		same(t, "after all", world(t), before)
	})
}
