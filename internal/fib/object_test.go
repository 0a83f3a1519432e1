package fib_test

import (
	"testing"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// sharers is a host with two links, of whose routes some share next hop objects.
const sharers = `
link 1 lo up loopback
link 2 eth0 up
link 3 eth1 up group 7
rule 0 from all table local proto kernel
rule 32766 from all table main proto kernel
rule -6 0 from all table local proto kernel
rule -6 32766 from all table main proto kernel
addr 10.0.0.7/24 dev eth0
addr 10.1.0.7/24 dev eth1
nexthop 1 dev eth0 scope link
nexthop 2 dev eth1 scope link
nexthop 4 group 1/2
nexthop -6 5 dev eth0 scope link
nexthop -6 6 dev eth1 scope link
nexthop 8 group 5/6
`

const (
	oneAddress  = "addr 2001:db8:1::1/64 dev lo\n"
	eachOne     = "addr 2001:db8:1::1/64 dev eth0\naddr 2001:db8:2::1/64 dev eth1\n"
	eachWay6    = "route -6 2001:db8:a::/48 dev eth1 nhid 6 table main metric 1024\nroute -6 2001:db8:b::/48 nexthop dev eth0 weight 1 nexthop dev eth1 weight 1 nhid 8 table main metric 1024\n"
	bothTypes6  = "route -6 2001:db8:a::/48 dev eth1 nhid 6 table main metric 1024\nroute -6 local 2001:db8:b::/48 dev eth1 nhid 6 table main metric 1024\n"
	bothTypes4  = "route 10.8.0.0/16 dev eth0 nhid 1 table main scope link\nroute local 10.9.0.0/16 dev eth0 nhid 1 table main scope host\n"
	twoLengths6 = "route -6 2001:db8:a::/56 dev eth1 nhid 6 table 100 metric 1024\nroute -6 2001:db8:b::/48 dev eth1 nhid 6 table main metric 1024\nroute -6 2001:db8:a::/48 dev eth0 table main metric 1024\n"
)

// TestSharedNextHopObjects holds what is in doubt where routes share next hop
// objects, and what is not. That the kernel is so is held by
// TestRoutesShareANextHopObject.
func TestSharedNextHopObjects(t *testing.T) {
	for _, c := range []struct {
		name, state string
		flows       map[string]string
	}{
		{"equal sources", oneAddress + eachWay6, map[string]string{
			"to 2001:db8:a::1": "unicast dev eth1 src 2001:db8:1::1 rule 32766 table 254",
			"to 2001:db8:b::1": "unicast dev eth0 src 2001:db8:1::1 or dev eth1 src 2001:db8:1::1 rule 32766 table 254",
		}},
		{"another first link", eachOne + eachWay6, map[string]string{
			"to 2001:db8:a::1":                           "unknown dev eth1 src 2001:db8:2::1 rule 32766 table 254 (next hop object 6 is shared with the unicast route 2001:db8:b::/48 of table 254, and the first of them that was used gives both the source: 2001:db8:2::1 or 2001:db8:1::1)",
			"to 2001:db8:b::1":                           "unknown dev eth0 src 2001:db8:1::1 or dev eth1 src 2001:db8:1::1 rule 32766 table 254 (next hop object 6 is shared with the unicast route 2001:db8:a::/48 of table 254, and the first of them that was used gives both the source: 2001:db8:1::1 or 2001:db8:2::1)",
			"to 2001:db8:a::1 from 2001:db8:2::1":        "unicast dev eth1 src 2001:db8:2::1 rule 32766 table 254",
			"to 2001:db8:a::1 from 2001:db8::1 iif eth0": "unicast dev eth1 src 2001:db8::1 rule 32766 table 254",
		}},
		{"another first link, but the hop that they share is down", eachOne + "link 3 eth1 group 7\n" + eachWay6, map[string]string{
			"to 2001:db8:b::1": "unicast dev eth0 src 2001:db8:1::1 rule 32766 table 254",
		}},
		{"another source, by an object that the state does not list", eachOne + `
route -6 2001:db8:a::/48 dev eth1 nhid 9 table main metric 1024
route -6 2001:db8:b::/48 dev eth1 nhid 9 table 100 metric 1024 src 2001:db8:1::1`, map[string]string{
			"to 2001:db8:a::1": "unknown dev eth1 src 2001:db8:2::1 rule 32766 table 254 (next hop object 9 is shared with the unicast route 2001:db8:b::/48 of table 100, and the first of them that was used gives both the source: 2001:db8:2::1 or 2001:db8:1::1)",
		}},
		{"the same source written out", eachOne + `
route -6 2001:db8:a::/48 dev eth1 nhid 6 table main metric 1024
route -6 2001:db8:b::/48 dev eth1 nhid 6 table main metric 1024 src 2001:db8:2::1`, map[string]string{
			"to 2001:db8:a::1": "unicast dev eth1 src 2001:db8:2::1 rule 32766 table 254",
			"to 2001:db8:b::1": "unicast dev eth1 src 2001:db8:2::1 rule 32766 table 254",
		}},
		{"IPv6 types", oneAddress + bothTypes6, map[string]string{
			"to 2001:db8:a::1":                                     "unknown rule 32766 table 254 (next hop object 6 is shared with the local route 2001:db8:b::/48 of table 254, and the first of them that was used decides for both)",
			"to 2001:db8:b::1 from 2001:db8::1 iif eth0":           "unknown rule 32766 table 254 (next hop object 6 is shared with the unicast route 2001:db8:a::/48 of table 254, and the first of them that was used decides for both)",
			"to 2001:db8:b::1 from 2001:db8::1 iif eth0 check yes": "local dev eth1 src 2001:db8::1 rule 32766 table 254",
		}},
		{"IPv6 types that are treated alike", oneAddress + `
route -6 2001:db8:a::/48 dev eth1 nhid 6 table main metric 1024
route -6 multicast 2001:db8:b::/48 dev eth1 nhid 6 table main metric 1024`, map[string]string{
			"to 2001:db8:a::1": "unicast dev eth1 src 2001:db8:1::1 rule 32766 table 254",
			"to 2001:db8:b::1": "multicast dev eth1 src 2001:db8:1::1 rule 32766 table 254",
		}},
		{"multicast prefixes, of packets that came in", oneAddress + `
route -6 2001:db8:a::/48 dev eth1 nhid 6 table main metric 1024
route -6 multicast ff0e::/48 dev eth1 nhid 6 table main metric 1024`, map[string]string{
			"to 2001:db8:a::1":                           "unicast dev eth1 src 2001:db8:1::1 rule 32766 table 254",
			"to 2001:db8:a::1 from 2001:db8::1 iif eth0": "unknown rule 32766 table 254 (next hop object 6 is shared with the multicast route ff0e::/48 of table 254, and the first of them that was used decides for both)",
		}},
		{"link-local destinations of a VRF", oneAddress + `
link 4 blue up kind vrf vrftable 10
link 5 eth2 up master blue
nexthop -6 7 dev eth2 scope link
route -6 fe80::/64 dev eth2 nhid 7 table 10 metric 1024
route -6 local 2001:db8:b::/48 dev eth2 nhid 7 table 10 metric 1024`, map[string]string{
			"to fe80::1 oif eth2": "unknown table 10 (next hop object 7 is shared with the local route 2001:db8:b::/48 of table 10, and the first of them that was used decides for both)",
		}},
		{"lengths of IPv6 prefixes", oneAddress + twoLengths6 + "rule -6 10 from all table 100 suppress_prefixlength 48", map[string]string{
			"to 2001:db8:a::1": "unknown rule 10 table 100 (next hop object 6 is shared with the unicast route 2001:db8:b::/48 of table 254, and the first of them that was used decides whether rule 10 suppresses both)",
		}},
		{"lengths of IPv6 prefixes, all of which are suppressed", oneAddress + twoLengths6 + "rule -6 10 from all table 100 suppress_prefixlength 56", map[string]string{
			"to 2001:db8:a::1": "unicast dev eth0 src 2001:db8:1::1 rule 32766 table 254",
		}},
		{"lengths of IPv6 prefixes, none of which is suppressed", oneAddress + twoLengths6 + "rule -6 10 from all table 100 suppress_prefixlength 47", map[string]string{
			"to 2001:db8:a::1": "unicast dev eth1 src 2001:db8:1::1 rule 10 table 100",
		}},
		{"lengths of IPv6 prefixes, where the link is suppressed", oneAddress + twoLengths6 + "rule -6 10 from all table 100 suppress_prefixlength 48 suppress_ifgroup 7", map[string]string{
			"to 2001:db8:a::1": "unicast dev eth0 src 2001:db8:1::1 rule 32766 table 254",
		}},
		{"lengths of IPv4 prefixes", `
rule 10 from all table 100 suppress_prefixlength 16
route 10.8.0.0/24 dev eth0 nhid 1 table 100 scope link
route 10.9.0.0/16 dev eth0 nhid 1 table 100 scope link`, map[string]string{
			"to 10.8.0.1": "unicast dev eth0 src 10.0.0.7 rule 10 table 100",
		}},
		{"IPv6 reject routes by an object look at its link", oneAddress + `
nexthop -6 7 dev eth1 scope link
nexthop -6 9 dev eth2 scope link
link 5 eth2
route -6 unreachable 2001:db8:a::/48 nhid 7 table main metric 10
route -6 prohibit 2001:db8:a::/48 nhid 9 table main metric 1
route -6 default dev eth0 table main metric 1024`, map[string]string{
			"to 2001:db8:a::1":          "unreachable rule 32766 table 254",
			"to 2001:db8:a::1 oif eth0": "unicast dev eth0 src 2001:db8:1::1 rule 32766 table 254",
			"to 2001:db8:a::1 oif eth1": "unreachable rule 32766 table 254",
		}},
		{"a group of one blackhole", `
nexthop 3 blackhole
nexthop 9 group 3
nexthop -6 10 blackhole
nexthop 11 group 10
route 10.8.0.0/16 nhid 9 table main
route -6 2001:db8:a::/48 nhid 11 table main metric 1024`, map[string]string{
			"to 10.8.0.1":      "blackhole rule 32766 table 254",
			"to 2001:db8:a::1": "blackhole rule 32766 table 254",
		}},
		{"IPv4 types, of packets that came in", bothTypes4, map[string]string{
			"to 10.8.0.1":                                  "unicast dev eth0 src 10.0.0.7 rule 32766 table 254",
			"to 10.9.0.1":                                  "local dev eth0 src 10.9.0.1 rule 32766 table 254",
			"to 10.8.0.1 from 10.5.0.1 iif eth1":           "unknown dev eth0 src 10.5.0.1 rule 32766 table 254 (next hop object 1 is shared with the local route 10.9.0.0/16 of table 254, and the first of them that was used decides for both)",
			"to 10.9.0.1 from 10.5.0.1 iif eth1":           "unknown dev eth0 src 10.5.0.1 rule 32766 table 254 (next hop object 1 is shared with the unicast route 10.8.0.0/16 of table 254, and the first of them that was used decides for both)",
			"to 10.8.0.1 from 10.5.0.1 iif eth1 check yes": "unicast dev eth0 src 10.5.0.1 rule 32766 table 254",
		}},
		{"IPv4 types, of packets made here", `
route 10.8.0.0/16 dev eth0 nhid 1 table main scope link
route multicast 10.9.0.0/16 dev eth0 nhid 1 table main scope link`, map[string]string{
			"to 10.8.0.1":                        "unknown dev eth0 src 10.0.0.7 rule 32766 table 254 (next hop object 1 is shared with the multicast route 10.9.0.0/16 of table 254, and the first of them that was used decides for both)",
			"to 10.8.0.1 from 10.5.0.1 iif eth1": "unicast dev eth0 src 10.5.0.1 rule 32766 table 254",
		}},
		{"IPv4 types of which nothing is kept, or the same", `
route 10.8.0.0/16 dev eth0 nhid 1 table main scope link
route anycast 10.9.0.0/16 dev eth0 nhid 1 table main scope link
route multicast 224.0.0.0/3 dev eth0 nhid 1 table main scope link
route unreachable 10.7.0.0/16 nhid 1 table main`, map[string]string{
			"to 10.8.0.1":                        "unicast dev eth0 src 10.0.0.7 rule 32766 table 254",
			"to 10.9.0.1":                        "anycast dev eth0 src 10.0.0.7 rule 32766 table 254",
			"to 10.8.0.1 from 10.5.0.1 iif eth1": "unicast dev eth0 src 10.5.0.1 rule 32766 table 254",
			"to 10.7.0.1":                        "unreachable rule 32766 table 254",
		}},
		{"IPv4 types of a group's hop", bothTypes4 + "route 10.7.0.0/16 nexthop dev eth0 weight 1 nexthop dev eth1 weight 1 nhid 4 table main", map[string]string{
			"to 10.7.0.1 from 10.5.0.1 iif eth1": "unknown dev eth0 src 10.5.0.1 or dev eth1 src 10.5.0.1 rule 32766 table 254 (next hop object 1 is shared with the local route 10.9.0.0/16 of table 254, and the first of them that was used decides for both)",
			"to 10.7.0.1 oif eth1":               "unicast dev eth1 src 10.1.0.7 rule 32766 table 254",
		}},
		{"IPv4 scopes", `
addr 10.0.1.7/24 dev eth0 scope link
nexthop 9 via 10.0.1.1 dev eth0
nexthop -6 10 via fe80::1 dev eth0 scope link
nexthop 11 via 10.0.1.1 dev eth0 scope link
link 5 eth2 up
addr 169.254.0.1/16 dev eth2 scope link
addr 10.2.0.7/24 dev eth2
nexthop 12 dev eth2 scope host
nexthop 13 dev eth2 scope host
route 10.3.0.0/16 dev eth2 nhid 12 table main scope link
route 10.4.0.0/16 dev eth2 nhid 13 table main
route 10.5.0.0/16 via 10.0.1.1 dev eth0 nhid 11 table main
route 10.6.0.0/16 via 10.0.1.1 dev eth0 nhid 9 table main scope link
route 10.7.0.0/16 via 10.0.1.1 dev eth0 nhid 9 table main src 10.1.0.7
route 10.8.0.0/16 via 10.0.1.1 dev eth0 nhid 9 table main
route 10.9.0.0/16 via inet6 fe80::1 dev eth0 nhid 10 table main`, map[string]string{
			"to 10.8.0.1":                        "unknown via 10.0.1.1 dev eth0 src 10.0.0.7 rule 32766 table 254 (next hop object 9 is shared with the unicast route 10.6.0.0/16 of table 254, and the first of them that was used gives both the source: 10.0.0.7 or 10.0.1.7)",
			"to 10.5.0.1":                        "unicast via 10.0.1.1 dev eth0 src 10.0.0.7 rule 32766 table 254", // an object by a gateway chooses none of the scope link
			"to 10.3.0.1":                        "unicast dev eth2 src 169.254.0.1 rule 32766 table 254",
			"to 10.4.0.1":                        "unknown dev eth2 src 10.2.0.7 rule 32766 table 254 (next hop object 13 may still give the source that it got when it was made: 10.2.0.7 or 169.254.0.1)",
			"to 10.8.0.1 from 10.0.0.7":          "unicast via 10.0.1.1 dev eth0 src 10.0.0.7 rule 32766 table 254",
			"to 10.8.0.1 from 10.5.0.1 iif eth1": "unicast via 10.0.1.1 dev eth0 src 10.5.0.1 rule 32766 table 254",
			"to 10.7.0.1":                        "unicast via 10.0.1.1 dev eth0 src 10.1.0.7 rule 32766 table 254",
			"to 10.9.0.1":                        "unicast via fe80::1 dev eth0 src 10.0.0.7 rule 32766 table 254", // an IPv6 object remembers no source
		}},
	} {
		s := netstatetest.ParseState(t, sharers+c.state)
		f := fib.New(&s)
		for text, want := range c.flows {
			d := f.Lookup(parseFlow(t, text))
			if got := describe(&d); got != want {
				t.Errorf("%s: %s\n got %s\nwant %s", c.name, text, got, want)
			}
		}
	}
}
