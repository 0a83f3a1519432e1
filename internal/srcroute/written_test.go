package srcroute_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/srcroute"
)

// TestWrittenRules: rules in RoutingPolicy's words. A table is set, so that there is
// nothing else to be seen.
func TestWrittenRules(t *testing.T) {
	table := srcroute.Config{Own: true, Table: 7}
	const from4, from6 = "rule 2900 from 10.1.0.5 table 7 proto viarule-cni\n", "rule -6 2900 from 2001:db8:1::5 table 7 proto viarule-cni\n"
	for _, s := range []scenario{
		{name: "without an action: the attachment's table, of both families", rules: `[{"fwmark": 1}]`, want: from4 + from6 + `
			rule 2901 from all fwmark 0x1 table 7 proto viarule-cni
			rule -6 2901 from all fwmark 0x1 table 7 proto viarule-cni`},
		{name: "priorities count up, each family for itself", rules: `[{"fwmark": 1, "family": "IPv4"}, {"fwmark": 2}, {"fwmark": 3, "priority": 50}, {"fwmark": 4}]`, want: from4 + from6 + `
			rule 2901 from all fwmark 0x1 table 7 proto viarule-cni
			rule 2902 from all fwmark 0x2 table 7 proto viarule-cni
			rule -6 2901 from all fwmark 0x2 table 7 proto viarule-cni
			rule 50 from all fwmark 0x3 table 7 proto viarule-cni
			rule -6 50 from all fwmark 0x3 table 7 proto viarule-cni
			rule 2903 from all fwmark 0x4 table 7 proto viarule-cni
			rule -6 2902 from all fwmark 0x4 table 7 proto viarule-cni`},
		{name: "lists multiply", rules: `[{"from": ["10.1.0.0/24", "10.2.0.0/24", "2001:db8:5::/48"], "to": ["192.0.2.0/24", "198.51.100.1", "2001:db8:6::/48"]}]`, want: from4 + from6 + `
			rule 2901 from 10.1.0.0/24 to 192.0.2.0/24 table 7 proto viarule-cni
			rule 2901 from 10.1.0.0/24 to 198.51.100.1 table 7 proto viarule-cni
			rule 2901 from 10.2.0.0/24 to 192.0.2.0/24 table 7 proto viarule-cni
			rule 2901 from 10.2.0.0/24 to 198.51.100.1 table 7 proto viarule-cni
			rule -6 2901 from 2001:db8:5::/48 to 2001:db8:6::/48 table 7 proto viarule-cni`},
		{name: "the family of the prefixes", rules: `[{"to": ["2001:db8:6::/48"]}]`, want: from4 + from6 + `
			rule -6 2901 from all to 2001:db8:6::/48 table 7 proto viarule-cni`},
		{name: "every selector, IPv4", rules: `[{"not": true, "from": ["10.1.0.0/24"], "to": ["192.0.2.0/24"], "iif": "net1", "oif": "net2", "fwmark": "0x10/0xf0", "tos": 16,
			"ipproto": "tcp", "sport": "1000-2000", "dport": 80, "uidrange": "0-99", "realms": "3/4", "suppressPrefixLength": 0, "suppressIfGroup": 5}]`, want: from4 + from6 + `
			rule 2901 not from 10.1.0.0/24 to 192.0.2.0/24 iif net1 oif net2 fwmark 0x10/0xf0 tos 0x10 ipproto tcp sport 1000-2000 dport 80 uidrange 0-99 table 7 realms 3/4 suppress_prefixlength 0 suppress_ifgroup 5 proto viarule-cni`},
		{name: "every selector, IPv6", rules: `[{"not": true, "from": ["2001:db8:5::/48"], "to": ["2001:db8:6::/48"], "iif": "net1", "oif": "net2", "fwmark": "0x10/0xf0", "dscp": "EF",
			"ipproto": "udp", "sport": 53, "dport": "80-90", "uidrange": 7, "suppressPrefixLength": 64, "suppressIfGroup": 0}]`, want: from4 + from6 + `
			rule -6 2901 not from 2001:db8:5::/48 to 2001:db8:6::/48 iif net1 oif net2 fwmark 0x10/0xf0 dscp 46 ipproto udp sport 53 dport 80-90 uidrange 7-7 table 7 suppress_prefixlength 64 suppress_ifgroup 0 proto viarule-cni`},
		{name: "every action", rules: `[{"to": ["192.0.2.1"], "table": 9}, {"to": ["192.0.2.1"], "table": "main"}, {"to": ["2001:db8::1"], "table": "local"}, {"to": ["192.0.2.1"], "table": "default"},
			{"to": ["192.0.2.2"], "goto": 32766}, {"to": ["2001:db8::2"], "nop": true}, {"to": ["192.0.2.4"], "blackhole": true}, {"to": ["2001:db8::5"], "unreachable": true}, {"to": ["192.0.2.6"], "prohibit": true}]`, want: from4 + from6 + `
			rule 2901 from all to 192.0.2.1 table 9 proto viarule-cni
			rule 2902 from all to 192.0.2.1 table main proto viarule-cni
			rule -6 2901 from all to 2001:db8::1 table local proto viarule-cni
			rule 2903 from all to 192.0.2.1 table default proto viarule-cni
			rule 2904 from all to 192.0.2.2 goto 32766 proto viarule-cni
			rule -6 2902 from all to 2001:db8::2 nop proto viarule-cni
			rule 2905 from all to 192.0.2.4 blackhole proto viarule-cni
			rule -6 2903 from all to 2001:db8::5 unreachable proto viarule-cni
			rule 2906 from all to 192.0.2.6 prohibit proto viarule-cni`},
		{name: "the host's name of a table", rules: `[{"fwmark": 1}, {"to": ["192.0.2.1"], "table": "blue"}]`,
			err: `rules[1].table: names of tables are the host's, and a pod has none: "blue"; write its number, or main, default or local`},
	} {
		s.config, s.addrs = table, both
		s.run(t)
	}
	for _, s := range []scenario{
		{name: "of the family that the interface lacks", addrs: "10.1.0.5/24", rules: `[{"to": ["2001:db8::1"]}]`,
			err: "rules[0]: it is for IPv6, of which the interface has no address; say which table it looks into"},
		{name: "of the family that the interface lacks, said by family", addrs: "2001:db8:1::5/64", rules: `[{"family": "IPv4", "fwmark": 1}]`,
			err: "rules[0]: it is for IPv4, of which the interface has no address; say which table it looks into"},
		{name: "of the family that the interface lacks, with a table", addrs: "10.1.0.5/24", rules: `[{"to": ["2001:db8::1"], "table": 9}]`, want: from4 + `
			rule -6 2900 from all to 2001:db8::1 table 9 proto viarule-cni`},
		{name: "of one family only the interface's", addrs: "2001:db8:1::5/64", rules: `[{"fwmark": 1}]`, want: from6 + `
			rule -6 2901 from all fwmark 0x1 table 7 proto viarule-cni`},
	} {
		s.config = table
		s.run(t)
	}
	for _, s := range []scenario{
		{name: "drop-in: behind that of the address, so the same priority", rules: `[{"fwmark": 1}, {"fwmark": 2, "priority": 10}, {"fwmark": 3}]`, want: `
			rule 32765 from 10.1.0.5 table 7 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 7 proto viarule-cni
			rule 32765 from all fwmark 0x1 table 7 proto viarule-cni
			rule -6 32765 from all fwmark 0x1 table 7 proto viarule-cni
			rule 10 from all fwmark 0x2 table 7 proto viarule-cni
			rule -6 10 from all fwmark 0x2 table 7 proto viarule-cni
			rule 32765 from all fwmark 0x3 table 7 proto viarule-cni
			rule -6 32765 from all fwmark 0x3 table 7 proto viarule-cni`},
	} {
		s.config, s.addrs = srcroute.Config{Table: 7}, both
		s.run(t)
	}
}

// TestPrioritiesEnd: where a band ends the rules share its last priority, in which they
// keep their order.
func TestPrioritiesEnd(t *testing.T) {
	var rules []string
	for i := range 200 {
		rules = append(rules, fmt.Sprintf(`{"to": ["192.0.2.%d"]}`, i))
	}
	for _, tt := range []struct{ priority, first, last uint32 }{{0, 2900, 2999}, {2999, 2999, 2999}, {3000, 3000, 3200}, {32700, 32700, 32765}} {
		(&scenario{}).built(t, srcroute.Config{Own: true, Table: 7, Priority: tt.priority}, "10.1.0.5/24", "["+strings.Join(rules, ",")+"]", func(w *srcroute.Want) {
			at := tt.first
			for i, r := range w.Rules {
				if r.Priority != at {
					t.Fatalf("priority %d: rule %d has %d, want %d", tt.priority, i, r.Priority, at)
				}
				at = min(at+1, tt.last)
			}
		})
	}
	// As the kernel does without a priority: one less each time, but never 0, which is
	// that of the rule for table local.
	c := srcroute.Config{Table: 7}
	a := attachment(t, "10.1.0.5/24, 10.1.0.6/24, 10.1.0.7/24")
	w, err := srcroute.Build(&c, a, &srcroute.Facts{Priority: [2]uint32{2, 32765}})
	if err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for _, r := range w.Rules {
		got = append(got, r.Priority)
	}
	if fmt.Sprint(got) != "[2 1 1]" {
		t.Errorf("drop-in counts down %d", got)
	}
}

func TestTooManyRules(t *testing.T) {
	var from, to []string
	for i := range 100 {
		from = append(from, fmt.Sprintf(`"10.1.0.%d"`, i))
		to = append(to, fmt.Sprintf(`"10.2.0.%d"`, i))
	}
	one := `{"from": [` + strings.Join(from, ",") + `], "to": [` + strings.Join(to, ",") + `]}`
	(&scenario{name: "one more than there may be", config: srcroute.Config{Table: 7}, addrs: "10.1.0.5/24", rules: "[" + one + "," + one + "]",
		err: "rules[0]: it brings the attachment to more than 4096 rules in the kernel; use shorter lists in from and to"}).run(t)
}

func TestWrittenRoutes(t *testing.T) {
	const rules = `
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni`
	const ownRules = `
			rule 2900 from 10.1.0.5 table 5000 proto viarule-cni
			rule -6 2900 from 2001:db8:1::5 table 5001 proto viarule-cni`
	for _, s := range []scenario{
		{name: "each into the table of its family", addrs: "10.1.0.5/24, 2001:db8:1::5/64",
			routes: `[{"to": "192.0.2.0/24", "via": "10.1.0.9", "metric": 5, "mtu": 1400, "advmss": 1300}, {"to": "2001:db8:6::/48", "via": "2001:db8:1::9"}, {"to": "198.51.100.0/24"}]`, want: `
			route 198.51.100.0/24 dev net1 table 100 proto viarule-cni scope link
			route 192.0.2.0/24 via 10.1.0.9 dev net1 table 100 metric 5 proto viarule-cni mtu 1400 advmss 1300
			route -6 2001:db8:6::/48 via 2001:db8:1::9 dev net1 table 101 metric 1024 proto viarule-cni` + rules},
		{name: "own gives a source", config: own, addrs: "10.1.0.5/24, 2001:db8:1::5/64",
			routes: `[{"to": "192.0.2.0/24", "via": "10.1.0.9"}, {"to": "2001:db8:6::/48"}, {"to": "198.51.100.0/24", "src": "10.1.0.77"}, {"to": "203.0.113.0/24", "dev": "net2"}]`, want: `
			route -6 2001:db8:6::/48 dev net1 table 5001 metric 1024 proto viarule-cni src 2001:db8:1::5
			route 198.51.100.0/24 dev net1 table 5000 proto viarule-cni scope link src 10.1.0.77
			route 203.0.113.0/24 dev net2 table 5000 proto viarule-cni scope link
			route 192.0.2.0/24 via 10.1.0.9 dev net1 table 5000 proto viarule-cni src 10.1.0.5` + ownRules},
		{name: "in place of what was found", addrs: both, main: main,
			routes: `[{"to": "default", "via": "10.1.0.7"}, {"to": "10.1.0.0/24", "type": "Blackhole"}]`, want: `
			route -6 2001:db8:1::/64 dev net1 table 101 metric 256 proto viarule-cni
			route -6 fe80::/64 dev net1 table 101 metric 256 proto viarule-cni
			route blackhole 10.1.0.0/24 table 100 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			route default via 10.1.0.7 dev net1 table 100 proto viarule-cni` + rules + `
			- route default via 10.1.0.1 dev net1 table main
			- route -6 default via 2001:db8:1::1 dev net1 table main metric 1024
			- route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`},
		{name: "with table they go there", config: srcroute.Config{Table: 7}, addrs: both, main: main, routes: `[{"to": "192.0.2.0/24", "via": "10.1.0.9"}, {"to": "::/0", "type": "Unreachable"}]`, want: `
			route -6 unreachable default table 7 metric 1024 proto viarule-cni
			route 192.0.2.0/24 via 10.1.0.9 dev net1 table 7 proto viarule-cni
			rule 32765 from 10.1.0.5 table 7 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 7 proto viarule-cni`},
		{name: "next hops", addrs: both, routes: `[{"to": "192.0.2.0/24", "nexthops": [{"via": "10.1.0.8", "weight": 2}, {"via": "10.9.0.1", "dev": "net2", "onlink": true}]}, {"to": "198.51.100.0/24", "nexthops": [{"via": "10.1.0.8"}]}]`,
			config: srcroute.Config{Table: 7}, want: `
			route 192.0.2.0/24 nexthop via 10.1.0.8 dev net1 weight 2 nexthop via 10.9.0.1 dev net2 weight 1 onlink table 7 proto viarule-cni
			route 198.51.100.0/24 via 10.1.0.8 dev net1 table 7 proto viarule-cni
			rule 32765 from 10.1.0.5 table 7 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 7 proto viarule-cni`},
		{name: "every type and scope", config: srcroute.Config{Table: 7}, addrs: "10.1.0.5/24", routes: `[{"to": "192.0.2.1", "type": "Throw"}, {"to": "192.0.2.2", "type": "Prohibit"},
			{"to": "192.0.2.3", "type": "Local"}, {"to": "192.0.2.4", "scope": "Site"}]`, want: `
			route throw 192.0.2.1 table 7 proto viarule-cni
			route prohibit 192.0.2.2 table 7 proto viarule-cni
			route local 192.0.2.3 dev net1 table 7 proto viarule-cni scope host
			route 192.0.2.4 dev net1 table 7 proto viarule-cni scope site
			rule 32765 from 10.1.0.5 table 7 proto viarule-cni`},
		{name: "of the family that the interface lacks", addrs: "10.1.0.5/24", routes: `[{"to": "192.0.2.0/24"}, {"to": "::/0", "via": "fe80::1"}]`,
			err: "routes[1]: the interface has no IPv6 address; leave it out"},
	} {
		s.run(t)
	}
}

// built calls f with what Build makes.
func (*scenario) built(t *testing.T, c srcroute.Config, addrs, rules string, f func(*srcroute.Want)) {
	t.Helper()
	c.Rules = parseRules(t, rules)
	a := attachment(t, addrs)
	w, err := srcroute.Build(&c, a, facts(t, &c, a, ""))
	if err != nil {
		t.Fatal(err)
	}
	f(w)
}
