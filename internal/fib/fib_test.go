package fib_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// parseFlow reads "to A from A iif D oif D vrf D check yes mark N tos N proto P sport N
// dport N uid N tun N".
func parseFlow(t *testing.T, text string) fib.Flow {
	t.Helper()
	var f fib.Flow
	words := strings.Fields(text)
	for i := 0; i+1 < len(words); i += 2 {
		w := words[i+1]
		n, _ := strconv.ParseUint(w, 0, 64)
		switch words[i] {
		case "to":
			f.To = netip.MustParseAddr(w)
		case "from":
			f.From = netip.MustParseAddr(w)
		case "iif":
			f.IIF = w
		case "oif":
			f.OIF = w
		case "vrf":
			f.VRF = w
		case "check":
			f.Check = w == "yes"
		case "mark":
			f.Mark = uint32(n)
		case "tos":
			f.TOS = uint8(n)
		case "proto":
			f.Proto = uint8(n)
		case "sport":
			f.SPort = uint16(n)
		case "dport":
			f.DPort = uint16(n)
		case "uid":
			f.UID = uint32(n)
		case "tun":
			f.TunID = n
		default:
			t.Fatalf("flow %q: %q", text, words[i])
		}
	}
	return f
}

// formatFlow writes what parseFlow reads.
func formatFlow(f *fib.Flow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "to %s", f.To)
	if f.From.IsValid() {
		fmt.Fprintf(&b, " from %s", f.From)
	}
	word := func(name, v string) {
		if v != "" && v != "0" && v != "0x0" {
			b.WriteString(" " + name + " " + v)
		}
	}
	word("iif", f.IIF)
	word("oif", f.OIF)
	word("mark", fmt.Sprintf("%#x", f.Mark))
	word("tos", fmt.Sprintf("%#x", f.TOS))
	word("proto", fmt.Sprint(f.Proto))
	word("sport", fmt.Sprint(f.SPort))
	word("dport", fmt.Sprint(f.DPort))
	word("uid", fmt.Sprint(f.UID))
	word("tun", fmt.Sprint(f.TunID))
	return b.String()
}

// describe gives a decision in a line.
func describe(d *fib.Decision) string {
	var b strings.Builder
	b.WriteString(d.Verdict.String())
	way := func(w fib.Way) {
		if w.Hop.Via.IsValid() {
			fmt.Fprintf(&b, " via %s", w.Hop.Via)
		}
		if w.Hop.Dev != "" {
			fmt.Fprintf(&b, " dev %s", w.Hop.Dev)
		}
		if w.Src.IsValid() {
			fmt.Fprintf(&b, " src %s", w.Src)
		}
	}
	way(d.Way)
	for _, w := range d.Multipath[min(1, len(d.Multipath)):] {
		b.WriteString(" or")
		way(w)
	}
	if d.Rule != nil {
		fmt.Fprintf(&b, " rule %d", d.Rule.Priority)
	}
	if d.Route != nil {
		fmt.Fprintf(&b, " table %d", d.Table)
	}
	if d.OnLink {
		b.WriteString(" onlink")
	}
	if d.Why != "" {
		b.WriteString(" (" + d.Why + ")")
	}
	return b.String()
}

// base is a host with two uplinks.
const base = `
link 1 lo up loopback
link 2 eth0 up
link 3 eth1 up group 7
addr 127.0.0.1/8 dev lo scope host
addr 192.0.2.7/24 dev eth0
addr 198.51.100.7/24 dev eth1
rule 0 from all table local proto kernel
rule 32766 from all table main proto kernel
rule 32767 from all table default proto kernel
rule -6 0 from all table local proto kernel
rule -6 32766 from all table main proto kernel
route local 127.0.0.0/8 dev lo table local scope host src 127.0.0.1
route local 192.0.2.7 dev eth0 table local scope host src 192.0.2.7
route local 198.51.100.7 dev eth1 table local scope host src 198.51.100.7
route broadcast 192.0.2.255 dev eth0 table local scope link src 192.0.2.7
route default via 192.0.2.1 dev eth0 table main
route 192.0.2.0/24 dev eth0 table main scope link src 192.0.2.7
route 198.51.100.0/24 dev eth1 table main scope link src 198.51.100.7
route -6 default via fe80::1 dev eth0 table main metric 1024
route -6 local 2001:db8::7 dev eth0 table local
`

const viaMain = "unicast via 192.0.2.1 dev eth0 src 192.0.2.7 rule 32766 table 254"

// Every case with a want that was a surprise came from TestAgainstKernel.
func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name, state string
		flows       map[string]string
	}{
		{"the kernel's own rules", "", map[string]string{
			"to 8.8.8.8":                   viaMain,
			"to 8.8.8.8 from 198.51.100.7": "unicast via 192.0.2.1 dev eth0 src 198.51.100.7 rule 32766 table 254",
			"to 198.51.100.9":              "unicast dev eth1 src 198.51.100.7 rule 32766 table 254",
			"to 192.0.2.7":                 "local dev eth0 src 192.0.2.7 rule 0 table 255",
			"to 127.1.2.3":                 "local dev lo src 127.0.0.1 rule 0 table 255",
			"to ::ffff:8.8.8.8 from ::ffff:198.51.100.7": "unicast via 192.0.2.1 dev eth0 src 198.51.100.7 rule 32766 table 254",
			"to 2001:db8::7%eth0":                        "local dev eth0 rule 0 table 255",
			"to 192.0.2.255":                             "broadcast dev eth0 src 192.0.2.7 rule 0 table 255",
			"to 8.8.8.8 from 9.9.9.9":                    "invalid (the source 9.9.9.9 is not an address of this host)",
			"to 8.8.8.8 from 9.9.9.9 iif eth1":           "unicast via 192.0.2.1 dev eth0 src 9.9.9.9 rule 32766 table 254",
			"to 8.8.8.8 from 224.0.0.1":                  "invalid (224.0.0.1 cannot be a source)",
			"to 8.8.8.8 from 127.0.0.1":                  "invalid via 192.0.2.1 dev eth0 src 127.0.0.1 rule 32766 table 254 (a loopback address cannot be sent from eth0)",
			"to 8.8.8.8 from 2001:db8::1":                "invalid (the source 2001:db8::1 and the destination 8.8.8.8 are of two families)",
			"to 8.8.8.8 iif eth0 oif eth1":               "invalid (a packet that came in is not bound to a link)",
			"mark 1":                                     "invalid (no destination address)",
			"to 2001:db8:1::1":                           "unicast via fe80::1 dev eth0 rule 32766 table 254",
			"to 2001:db8::7":                             "local dev eth0 rule 0 table 255",
		}},
		{"answers of the second uplink", "rule 2200 from 198.51.100.7 table 5000 proto 118\nroute default via 198.51.100.1 dev eth1 table 5000 proto 118", map[string]string{
			"to 8.8.8.8 from 198.51.100.7": "unicast via 198.51.100.1 dev eth1 src 198.51.100.7 rule 2200 table 5000",
			"to 8.8.8.8 from 192.0.2.7":    viaMain,
			"to 8.8.8.8":                   viaMain,
		}},
		{"a table without an answer, throw, and reject routes", `
rule 10 from all to 10.0.0.0/8 table 100
rule 20 from all to 10.0.0.0/8 table 999
route throw 10.1.0.0/16 table 100
route unreachable 10.2.0.0/16 table 100
route prohibit 10.3.0.0/16 table 100
route blackhole 10.4.0.0/16 table 100
route throw 10.5.0.0/16 table 100
route 10.5.0.0/24 dev eth1 table 100 scope link
rule -6 10 from all table 100
route -6 throw 2001:db8:1::/48 table 100 metric 1024
route -6 unreachable 2001:db8:2::/48 table 100 metric 1024`, map[string]string{
			"to 10.1.0.1":      viaMain,
			"to 10.2.0.1":      "unreachable rule 10 table 100",
			"to 10.3.0.1":      "prohibit rule 10 table 100",
			"to 10.4.0.1":      "blackhole rule 10 table 100",
			"to 10.5.0.1":      "unicast dev eth1 src 198.51.100.7 rule 10 table 100",
			"to 10.5.1.1":      viaMain,
			"to 2001:db8:1::1": "unicast via fe80::1 dev eth0 rule 32766 table 254",
			"to 2001:db8:2::1": "unreachable rule 10 table 100",
		}},
		{"selectors", `
rule 1 from 192.0.2.0/24 to 10.1.0.0/16 prohibit
rule 3 from all to 10.3.0.0/16 iif lo prohibit
rule 4 from all to 10.4.0.0/16 iif eth1 prohibit
rule 5 from all to 10.5.0.0/16 oif eth1 prohibit
rule 6 from all to 10.6.0.0/16 fwmark 0x100/0xff00 prohibit
rule 7 from all to 10.7.0.0/16 tos 0x10 prohibit
rule 8 from all to 10.8.0.0/16 dscp 46 prohibit
rule 9 from all to 10.9.0.0/16 ipproto tcp sport 1000-2000 dport 443 prohibit
rule 10 from all to 10.10.0.0/16 uidrange 1000-2000 prohibit
rule 11 from all to 10.11.0.0/16 tun_id 7 prohibit
rule 12 from all to 10.12.0.0/16 dscp 0 prohibit
rule -6 1 from 2001:db8::/32 prohibit
rule -6 2 from all to 2001:db8:1::/48 tos 0xb8 prohibit
rule -6 3 from ::/1 to 2001:db8:2::/48 prohibit
rule -6 4 from all oif eth1 prohibit`, map[string]string{
			"to 10.1.0.1 from 192.0.2.7":                 "prohibit rule 1",
			"to 10.1.0.1":                                viaMain,
			"to 10.3.0.1":                                "prohibit rule 3",
			"to 10.4.0.1 from 9.9.9.9 iif eth1":          "prohibit rule 4",
			"to 10.4.0.1 from 9.9.9.9 iif eth0":          "unicast via 192.0.2.1 dev eth0 src 9.9.9.9 rule 32766 table 254",
			"to 10.5.0.1 oif eth1":                       "unicast dev eth1 src 198.51.100.7 onlink",
			"to 10.6.0.1 mark 0x1ff":                     "prohibit rule 6",
			"to 10.6.0.1 mark 0x2ff":                     viaMain,
			"to 10.7.0.1 tos 0xf3":                       "prohibit rule 7",
			"to 10.7.0.1 tos 0x08":                       viaMain,
			"to 10.8.0.1 tos 0xb8":                       "prohibit rule 8",
			"to 10.8.0.1 tos 0xbb":                       "prohibit rule 8",
			"to 10.8.0.1 tos 0x18":                       viaMain,
			"to 10.9.0.1 proto 6 sport 1500 dport 443":   "prohibit rule 9",
			"to 10.9.0.1 proto 17 sport 1500 dport 443":  viaMain,
			"to 10.9.0.1 proto 6 sport 2001 dport 443":   viaMain,
			"to 10.9.0.1 proto 6 sport 2000 dport 444":   viaMain,
			"to 10.10.0.1 uid 1000":                      "prohibit rule 10",
			"to 10.10.0.1":                               viaMain,
			"to 10.11.0.1 from 9.9.9.9 iif eth0 tun 7":   "prohibit rule 11",
			"to 10.11.0.1 from 9.9.9.9 iif eth0":         "unicast via 192.0.2.1 dev eth0 src 9.9.9.9 rule 32766 table 254",
			"to 10.12.0.1":                               "prohibit rule 12",
			"to 10.12.0.1 tos 4":                         viaMain,
			"to 2001:db8:9::1 from 2001:db8::7":          "prohibit rule 1",
			"to 2001:db8:1::1 tos 0xb8":                  "prohibit rule 2",
			"to 2001:db8:1::1 tos 0x98":                  "unicast via fe80::1 dev eth0 rule 32766 table 254",
			"to 2001:db8:2::1":                           "unicast via fe80::1 dev eth0 rule 32766 table 254", // without a source no prefix fits
			"to 2001:db8:3::1 oif eth1":                  "prohibit rule 4",
			"to 2001:db8:2::1 from 2001:db9::1 iif eth1": "prohibit rule 3",
			"to 2001:db8:2::1 from a001:db9::1 iif eth1": "unicast via fe80::1 dev eth0 src a001:db9::1 rule 32766 table 254",
		}},
		{"not, with a link that is not there", "rule 13 not from all to 10.13.0.0/16 iif gone prohibit", map[string]string{
			"to 10.13.0.1": "prohibit rule 13",
			"to 8.8.8.8":   "prohibit rule 13",
		}},
		{"not turns all selectors together", "rule 13 not from 192.0.2.0/24 to 10.2.0.0/16 prohibit", map[string]string{
			"to 10.2.0.1 from 192.0.2.7": viaMain,
			"to 10.3.0.1 from 192.0.2.7": "prohibit rule 13",
			"to 10.2.0.1":                "prohibit rule 13",
		}},
		{"goto and nop", `
rule 10 from all to 10.1.0.0/16 goto 30
rule 11 from all to 10.2.0.0/16 goto 25
rule 12 from all to 10.3.0.0/16 nop
rule 20 from all to 10.0.0.0/8 prohibit
rule 30 from all to 10.1.9.0/24 unreachable
rule 30 from all to 10.0.0.0/8 blackhole`, map[string]string{
			"to 10.1.0.1": "blackhole rule 30",
			"to 10.1.9.1": "unreachable rule 30",
			"to 10.2.0.1": "prohibit rule 20",
			"to 10.3.0.1": "prohibit rule 20",
		}},
		{"suppressors", `
rule 10 from all table main suppress_prefixlength 0
rule 20 from all table main suppress_ifgroup 7
rule 30 from all table 100
route default via 198.51.100.1 dev eth1 table 100
rule -6 10 from all table main suppress_prefixlength 0`, map[string]string{
			"to 8.8.8.8":       "unicast via 192.0.2.1 dev eth0 src 192.0.2.7 rule 20 table 254",
			"to 192.0.2.9":     "unicast dev eth0 src 192.0.2.7 rule 10 table 254",
			"to 2001:db8:1::1": "unicast via fe80::1 dev eth0 rule 32766 table 254",
		}},
		{"an IPv4 rule looks at the group of the first next hop only", `
rule 10 from all table 100 suppress_ifgroup 7
route 10.1.0.0/16 nexthop via 198.51.100.2 dev eth1 weight 1 nexthop via 192.0.2.2 dev eth0 weight 1 table 100
route 10.2.0.0/16 nexthop via 192.0.2.2 dev eth0 weight 1 nexthop via 198.51.100.2 dev eth1 weight 1 table 100`, map[string]string{
			"to 10.1.0.1":          viaMain,
			"to 10.2.0.1 oif eth1": "unicast via 198.51.100.2 dev eth1 src 198.51.100.7 rule 10 table 100",
		}},
		{"IPv6 routes alike but for the router preference", `
route -6 2001:db8:1::/48 dev eth0 table main metric 10
route -6 2001:db8:1::/48 dev eth1 table main metric 10 pref high
route -6 2001:db8:2::/48 dev eth0 table main metric 10 pref low
route -6 2001:db8:2::/48 dev eth1 table main metric 10
route -6 2001:db8:3::/48 dev eth0 table main metric 10
route -6 2001:db8:3::/48 dev eth1 table main metric 10`, map[string]string{
			"to 2001:db8:1::1":                           "unicast dev eth1 rule 32766 table 254",
			"to 2001:db8:2::1":                           "unicast dev eth1 rule 32766 table 254",
			"to 2001:db8:3::1":                           "unicast dev eth0 rule 32766 table 254",
			"to 2001:db8:3::1 from 2001:db9::1 iif eth1": "unicast dev eth1 src 2001:db9::1 rule 32766 table 254", // back where it came from
		}},
		{"an IPv6 hash decides whether a rule takes the route", `
rule -6 10 from all table 100 suppress_ifgroup 7
route -6 2001:db8:1::/48 nexthop via fe80::2 dev eth0 weight 1 nexthop via fe80::3 dev eth1 weight 1 table 100 metric 1024
route -6 2001:db8:2::/48 nexthop via fe80::2 dev eth1 weight 1 nexthop via fe80::3 dev eth1 weight 1 table 100 metric 1024`, map[string]string{
			"to 2001:db8:1::1": "unknown rule 10 table 100 (rule 10 takes only some next hops of route 2001:db8:1::/48, and a hash picks one)",
			"to 2001:db8:2::1": "unicast via fe80::1 dev eth0 rule 32766 table 254",
		}},
		{"metrics and TOS", `
rule 10 from all table 100
route 10.0.0.0/8 via 192.0.2.2 dev eth0 table 100 metric 20
route 10.0.0.0/8 via 192.0.2.3 dev eth0 table 100 metric 10
route 10.0.0.0/8 tos 0x10 via 192.0.2.4 dev eth0 table 100 metric 30
rule -6 10 from all table 100
route -6 2001:db8:1::/48 via fe80::2 dev eth0 table 100 metric 20
route -6 2001:db8:1::/48 via fe80::3 dev eth1 table 100 metric 10`, map[string]string{
			"to 10.0.0.1":               "unicast via 192.0.2.3 dev eth0 src 192.0.2.7 rule 10 table 100",
			"to 10.0.0.1 tos 0x10":      "unicast via 192.0.2.4 dev eth0 src 192.0.2.7 rule 10 table 100",
			"to 10.0.0.1 tos 0x08":      "unicast via 192.0.2.3 dev eth0 src 192.0.2.7 rule 10 table 100",
			"to 2001:db8:1::1":          "unicast via fe80::3 dev eth1 rule 10 table 100",
			"to 2001:db8:1::1 oif eth0": "unicast via fe80::2 dev eth0 rule 10 table 100",
		}},
		{"links that are down", `
link 4 eth2
addr 203.0.113.7/24 dev eth2
route local 203.0.113.7 dev eth2 table local scope host src 203.0.113.7
route 10.1.0.0/16 nexthop via 192.0.2.2 dev eth0 weight 1 nexthop via 203.0.113.1 dev eth2 weight 1 table main
route 10.2.0.0/16 via 203.0.113.1 dev eth2 table main
route -6 2001:db8:1::/48 nexthop via fe80::2 dev eth0 weight 1 nexthop via fe80::3 dev eth2 weight 1 table main metric 1024`, map[string]string{
			"to 10.1.0.1":          "unicast via 192.0.2.2 dev eth0 src 192.0.2.7 rule 32766 table 254",
			"to 10.2.0.1":          viaMain,
			"to 10.2.0.1 oif eth2": "no route (eth2 is down)",
			"to 10.2.0.1 oif eth9": "invalid (no such link: eth9)",
			"to 203.0.113.7":       "local dev eth2 src 203.0.113.7 rule 0 table 255", // own addresses outlive the link
			"to 2001:db8:1::1":     "unicast via fe80::2 dev eth0 rule 32766 table 254",
		}},
		{"multipath", `
route 10.1.0.0/16 nexthop via 192.0.2.2 dev eth0 weight 1 nexthop via 198.51.100.2 dev eth1 weight 5 table main
route -6 2001:db8:1::/48 nexthop via fe80::2 dev eth0 weight 1 nexthop via fe80::3 dev eth1 weight 1 table main metric 1024`, map[string]string{
			"to 10.1.0.1":               "unicast via 192.0.2.2 dev eth0 src 192.0.2.7 or via 198.51.100.2 dev eth1 src 198.51.100.7 rule 32766 table 254",
			"to 10.1.0.1 oif eth1":      "unicast via 198.51.100.2 dev eth1 src 198.51.100.7 rule 32766 table 254",
			"to 2001:db8:1::1":          "unicast via fe80::2 dev eth0 or via fe80::3 dev eth1 rule 32766 table 254",
			"to 2001:db8:1::1 oif eth1": "unicast via fe80::3 dev eth1 rule 32766 table 254",
			// With a source the link is only preferred, and the hash does not look at it.
			"to 2001:db8:1::1 oif eth1 from 2001:db8::7": "unicast via fe80::3 dev eth1 src 2001:db8::7 or via fe80::2 dev eth0 src 2001:db8::7 rule 32766 table 254",
		}},
		{"a default route for multicast has no gateway", `
rule 10 from all table 100
route multicast default via inet6 fe80::1 dev eth0 table 100 scope link
route multicast 10.0.0.0/8 via inet6 fe80::1 dev eth0 table 100 scope link`, map[string]string{
			"to 8.8.8.8":                       "multicast dev eth0 src 192.0.2.7 rule 10 table 100",
			"to 10.0.0.1":                      "multicast via fe80::1 dev eth0 src 192.0.2.7 rule 10 table 100",
			"to 8.8.8.8 from 9.9.9.9 iif eth1": "multicast via fe80::1 dev eth0 src 9.9.9.9 rule 10 table 100",
		}},
		{"a bound IPv4 socket overrules the tables", "rule 10 from all to 10.0.0.0/8 blackhole", map[string]string{
			"to 10.0.0.1 oif eth1": "unicast dev eth1 src 198.51.100.7 onlink",
			"to 8.8.8.8 oif eth0":  viaMain,
		}},
		{"next hop objects", `
nexthop 1 blackhole
nexthop 2 via 192.0.2.2 dev eth0
nexthop -6 3 blackhole
route 10.1.0.0/16 nhid 1 table main
route 10.2.0.0/24 via 192.0.2.2 dev eth0 nhid 2 table main
route 10.2.0.0/16 dev eth1 table main scope link
route -6 2001:db8:1::/48 nhid 3 table main metric 1024`, map[string]string{
			"to 10.1.0.1":          "blackhole rule 32766 table 254",
			"to 10.2.0.1":          "unicast via 192.0.2.2 dev eth0 src 192.0.2.7 rule 32766 table 254",
			"to 10.2.0.1 oif eth1": "unicast dev eth1 src 198.51.100.7 onlink", // the object hides the route of 10.2.0.0/16
			"to 10.2.9.1 oif eth1": "unicast dev eth1 src 198.51.100.7 rule 32766 table 254",
			"to 2001:db8:1::1":     "blackhole rule 32766 table 254",
		}},
		{"source-specific routes hide those without a source", `
route -6 2001:db8:1::/48 via fe80::2 dev eth1 table main metric 1024
route -6 2001:db8:1::/48 from 2001:db8::/64 via fe80::3 dev eth1 table main metric 1024
route -6 2001:db8:1::/48 from 2001:db8::7 via fe80::4 dev eth1 table main metric 1024
route -6 default from 2001:db8:a::/48 via fe80::5 dev eth1 table main metric 1024`, map[string]string{
			"to 2001:db8:1::1 from 2001:db8::7":   "unicast via fe80::4 dev eth1 src 2001:db8::7 rule 32766 table 254",
			"to 2001:db8:1::1 from 2001:db8::8":   "unicast via fe80::3 dev eth1 src 2001:db8::8 rule 32766 table 254",
			"to 2001:db8:1::1 from 2001:db8:b::1": "unicast via fe80::1 dev eth0 src 2001:db8:b::1 rule 32766 table 254",
			"to 2001:db8:1::1 from 2001:db8:a::1": "unicast via fe80::5 dev eth1 src 2001:db8:a::1 rule 32766 table 254",
			"to 2001:db8:1::1":                    "unicast via fe80::1 dev eth0 rule 32766 table 254",
		}},
		{"source addresses", `
addr 192.0.2.8/24 dev eth0 flags 0x1
addr 192.0.2.129/25 dev eth0
addr 10.255.0.1/32 dev lo
link 5 tun0 up
addr 10.7.0.1/24 dev tun0 scope link
addr 10.8.0.1/24 dev eth1 peer 10.9.0.0/24
route 10.0.0.0/8 via 192.0.2.200 dev eth0 table main
route 10.1.0.0/16 dev tun0 table main
route 10.2.0.0/16 dev tun0 table main scope link
route 10.3.0.0/16 via 10.9.0.5 dev eth1 table main
route 10.4.0.0/16 via inet6 fe80::9 dev eth1 table main src 10.255.0.1`, map[string]string{
			"to 10.0.0.1": "unicast via 192.0.2.200 dev eth0 src 192.0.2.7 rule 32766 table 254", // 192.0.2.0/24 holds it, and comes first
			"to 10.1.0.1": "unicast dev tun0 src 10.255.0.1 rule 32766 table 254",                // lo before the others
			"to 10.2.0.1": "unicast dev tun0 src 10.7.0.1 rule 32766 table 254",
			"to 10.3.0.1": "unicast via 10.9.0.5 dev eth1 src 10.8.0.1 rule 32766 table 254",
			"to 10.4.0.1": "unicast via fe80::9 dev eth1 src 10.255.0.1 rule 32766 table 254",
		}},
		{"VRFs", `
link 4 blue up kind vrf vrftable 10
link 6 eth2 up master blue
link 7 br0 up kind bridge
link 8 eth3 up master br0
rule 1000 from all l3mdev proto kernel
rule 1004 not from all l3mdev
rule 1002 from all to 10.8.0.0/16 oif blue unreachable
rule 1003 from all to 10.7.0.0/16 iif blue unreachable
route 10.1.0.0/16 dev eth2 table 10 scope link`, map[string]string{
			"to 10.1.0.1 oif blue":              "unicast dev eth2 rule 1000 table 10",
			"to 10.1.0.1 oif eth2":              "unicast dev eth2 rule 1000 table 10",
			"to 10.1.0.1 from 9.9.9.9 iif eth2": "unicast dev eth2 src 9.9.9.9 rule 1000 table 10",
			"to 10.1.0.1 from 9.9.9.9 iif eth3": "unicast via 192.0.2.1 dev eth0 src 9.9.9.9 rule 1004 table 254", // without a VRF the table is 0, which is main
			"to 10.8.0.1 oif blue":              "unreachable rule 1002",
			"to 10.7.0.1 from 9.9.9.9 iif eth2": "unreachable rule 1003",
			"to 10.9.0.1":                       "unicast via 192.0.2.1 dev eth0 src 192.0.2.7 rule 1004 table 254",
		}},
		{"a loopback address as source, and next hops that are VRFs", `
link 4 blue up kind vrf vrftable 10
link 5 red up kind vrf vrftable 11
route 10.1.0.0/16 nexthop dev eth1 weight 1 nexthop dev blue weight 1 table main
route 10.2.0.0/16 nexthop dev red weight 1 nexthop dev blue weight 1 table main
route 10.3.0.0/16 nexthop dev eth1 weight 1 nexthop dev eth0 weight 1 table main`, map[string]string{
			"to 10.1.0.1 from 127.0.0.1": "unknown dev eth1 src 127.0.0.1 or dev blue src 127.0.0.1 rule 32766 table 254 (a loopback address cannot be sent from some next hops of route 10.1.0.0/16, and a hash picks one)",
			"to 10.2.0.1 from 127.0.0.1": "unicast dev red src 127.0.0.1 or dev blue src 127.0.0.1 rule 32766 table 254",
			"to 10.3.0.1 from 127.0.0.1": "invalid dev eth1 src 127.0.0.1 or dev eth0 src 127.0.0.1 rule 32766 table 254 (a loopback address cannot be sent from eth1)",
		}},
		{"an l3mdev rule with not, before the VRF was looked for", `
link 4 blue up kind vrf vrftable 10
link 6 eth2 up master blue
rule 1000 not from all tun_id 7 l3mdev
rule 1001 from all l3mdev
rule 1002 from all to 10.9.0.0/16 l3mdev
rule 1003 not from all tun_id 7 l3mdev
route 10.1.0.0/16 dev eth2 table 10 scope link
route throw default table 10
route 10.1.0.0/16 dev eth1 table main scope link
route throw default table main metric 0`, map[string]string{
			"to 10.1.0.1 oif blue": "unicast dev eth1 rule 1000 table 254",
		}},
		{"IPv6 destinations of a link, from a VRF", `
link 4 blue up kind vrf vrftable 10
link 6 eth2 up master blue
link 7 eth3 up master blue
rule -6 10 from all prohibit
route -6 fe80::/64 dev eth2 table 10 metric 256
route -6 multicast ff00::/8 dev eth2 table 10 metric 256
route -6 throw ff05::/16 table 10 metric 256
route -6 unreachable fe80::8/125 table 10 metric 256
route -6 2001:db8:1::/64 dev eth2 table 10 metric 256`, map[string]string{
			"to fe80::9 oif eth2":                  "unicast dev eth2 table 10",
			"to ff0e::9 oif eth2":                  "multicast dev eth2 table 10",
			"to ff05::9 oif eth2":                  "multicast dev eth2 table 10", // a throw route is on lo
			"to fe80::1 oif eth3":                  "no route",
			"to fe80::9 oif blue":                  "no route (blue is a VRF, and such destinations are on its ports)",
			"to 2001:db8:1::9 oif eth2":            "prohibit rule 10",
			"to fe80::9 oif eth0":                  "prohibit rule 10",
			"to fe80::9 from 2001:db8::9 iif eth2": "prohibit rule 10",
		}},
		{"IPv4 source addresses in a VRF", `
link 4 blue up kind vrf vrftable 10
link 6 eth2 up master blue
link 7 eth3 up master blue
addr 10.6.0.1/24 dev eth2
addr 10.6.0.2/24 dev eth2 scope link
addr 10.4.0.1/32 dev blue
rule 1000 from all l3mdev
route default dev eth3 table 10 scope link
route 10.7.0.0/16 via 198.51.100.9 dev eth1 table 10 src 198.51.100.7
route local 10.8.0.0/16 dev eth1 table 10 scope host`, map[string]string{
			"to 8.8.8.8 oif blue":  "unicast dev eth3 src 10.4.0.1 rule 1000 table 10",                  // that of the VRF before that of another port
			"to 10.7.0.1 oif blue": "unicast via 198.51.100.9 dev eth1 src 10.4.0.1 rule 1000 table 10", // the route leaves the VRF
			"to 10.8.0.1 oif blue": "local dev eth1 src 10.8.0.1 rule 1000 table 10",
		}},
		{"what is not known of rules", `
rule 10 from all to 10.1.0.0/16 table main unknown 0500190001000000
rule 11 not from all to 10.2.0.0/16 iif eth1 table main unknown 0500190001000000
rule -6 10 from all to 2001:db8:1::/48 table main unknown 0500190001000000`, map[string]string{
			"to 10.1.0.1":      "unknown rule 10 (rule 10 uses attribute 25)",
			"to 2001:db8:1::1": "unknown rule 10 (rule 10 uses attribute 25)",
			"to 2001:db8:2::1": "unicast via fe80::1 dev eth0 rule 32766 table 254",
			"to 8.8.8.8":       "unknown rule 11 (rule 11 uses attribute 25)",
		}},
		{"what is not known of routes", `
route 10.3.0.0/16 nexthop dev eth1 unknown 06001500010000000800160000000000 table main
route 10.4.0.0/16 dev eth1 table main scope link unknown 080008000c000500
route 10.5.0.0/16 dev eth1 table main unknown 00
route -6 2001:db8:1::/48 via fe80::2 dev eth1 table main metric 1024 unknown 0400ff00`, map[string]string{
			"to 10.3.0.1":      "unknown rule 32766 table 254 (a next hop of route 10.3.0.0/16 uses attributes 21, 22)",
			"to 10.4.0.1":      "unicast dev eth1 src 198.51.100.7 rule 32766 table 254", // only a metric
			"to 10.5.0.1":      "unknown rule 32766 table 254 (route 10.5.0.0/16 uses attributes that cannot be read)",
			"to 2001:db8:1::1": "unknown rule 32766 table 254 (route 2001:db8:1::/48 uses attribute 255)",
		}},
	} {
		s := netstatetest.ParseState(t, base+c.state)
		f := fib.New(&s)
		for text, want := range c.flows {
			d := f.Lookup(parseFlow(t, text))
			if got := describe(&d); got != want {
				t.Errorf("%s: %s\n got %s\nwant %s", c.name, text, got, want)
			}
		}
	}
}

// TestTrace holds that each rule on the way is told with what came of it.
func TestTrace(t *testing.T) {
	s := netstatetest.ParseState(t, base+`
rule 10 from all to 10.9.0.0/16 prohibit
rule 20 from all goto 40
rule 30 from all prohibit
rule 40 from all table main suppress_prefixlength 0
rule 50 from all goto 55
rule 60 not from all to 10.0.0.0/8 prohibit
rule 70 from all table 100
route throw default table 100`)
	d := fib.New(&s).Trace(parseFlow(t, "to 10.1.0.1"))
	var got []string
	for _, st := range d.Steps {
		line := fmt.Sprintf("%d %s", st.Rule.Priority, st.Outcome)
		if st.Detail != "" {
			line += ": " + st.Detail
		}
		if st.Route != nil {
			line += " by " + st.Route.To.String()
		}
		got = append(got, line)
	}
	want := `0 missed
10 not selected: to
20 jumped
40 suppressed by 0.0.0.0/0
50 passed: no rule has the priority
60 not selected: not
70 thrown by 0.0.0.0/0
32766 decided by 0.0.0.0/0`
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	// A lookup without a trace decides the same.
	if l := fib.New(&s).Lookup(parseFlow(t, "to 10.1.0.1")); describe(&l) != describe(&d) || l.Steps != nil {
		t.Errorf("Lookup: %s, Trace: %s", describe(&l), describe(&d))
	}
}

// TestSameWay compares decisions of two states, as the check does whether an
// apply would cut off a session.
func TestSameWay(t *testing.T) {
	before := netstatetest.ParseState(t, base)
	for _, c := range []struct {
		name, state string
		want        bool
	}{
		{"nothing", "", true},
		{"another rule to the same way", "rule 2200 from 192.0.2.0/24 table 5000\nroute default via 192.0.2.1 dev eth0 table 5000", true},
		{"another gateway", "rule 2200 from 192.0.2.0/24 table 5000\nroute default via 192.0.2.2 dev eth0 table 5000", false},
		{"another link", "rule 2200 from 192.0.2.0/24 table 5000\nroute default via 192.0.2.1 dev eth1 table 5000", false},
		{"no way", "rule 2200 from 192.0.2.0/24 prohibit", false},
		{"one more way", "rule 2200 from 192.0.2.0/24 table 5000\nroute default nexthop via 192.0.2.1 dev eth0 weight 1 nexthop via 192.0.2.2 dev eth0 weight 1 table 5000", false},
		{"who knows", "rule 2200 from 192.0.2.0/24 table main unknown 0400ff00", false},
	} {
		after := netstatetest.ParseState(t, base+c.state)
		flow := parseFlow(t, "from 192.0.2.7 to 8.8.8.8")
		a, b := fib.New(&before).Lookup(flow), fib.New(&after).Lookup(flow)
		if a.SameWay(&b) != c.want || b.SameWay(&a) != c.want {
			t.Errorf("%s: same way: %t", c.name, !c.want)
		}
		if c.name == "who knows" && b.SameWay(&b) {
			t.Error("what is not known is not the same as itself")
		}
	}
}

// TestNoPanic takes states that make no sense.
func TestNoPanic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := netstatetest.State().Draw(t, "state")
		f := fib.New(&s)
		for _, family := range netstate.Families {
			flow := fib.Flow{To: netstatetest.Addr(family).Draw(t, "to"), UID: rapid.Uint32().Draw(t, "uid")}
			for i := range s.Links {
				flow.OIF = s.Links[i].Name
				f.Trace(flow)
			}
			flow.OIF, flow.IIF, flow.From = "", "eth0", netstatetest.Addr(family).Draw(t, "from")
			d := f.Trace(flow)
			if d.Verdict.Goes() && d.Route == nil {
				t.Fatalf("%s without a route", d.Verdict)
			}
		}
	})
}
