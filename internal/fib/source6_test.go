package fib_test

import (
	"testing"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// hostSix is a host whose IPv6 traffic leaves by eth0, and for 2001:db8:f::/48 by
// eth1. The flags of addresses are IFA_F_*.
const hostSix = `
link 1 lo up loopback
link 2 eth0 up
link 3 eth1 up
addr ::1/128 dev lo scope host
rule -6 0 from all table local proto kernel
rule -6 32766 from all table main proto kernel
route -6 default via fe80::1 dev eth0 table main metric 1024
route -6 2001:db8:f::/48 dev eth1 table main metric 1024
route -6 local ::1 dev lo table local
route -6 multicast ff00::/8 dev eth0 table local metric 256
`

// TestSource6 holds the rules of RFC 6724 as Linux has them, each by a case that
// only this rule decides.
func TestSource6(t *testing.T) {
	for _, c := range []struct{ name, addrs, flow, want string }{
		{"nothing but loopback", "", "to 2001:db8:a::1", "::1"},
		{"of another link, before none", "addr 2001:db8:1::1/64 dev eth1", "to 2001:db8:a::1", "2001:db8:1::1"},
		{"the destination itself", `
			addr 2001:db8:1::1/64 dev eth0
			addr 2001:db8:a::1/64 dev eth1`, "to 2001:db8:a::1", "2001:db8:a::1"},
		{"a scope that is enough", `
			addr fe80::7/64 dev eth0 scope link
			addr 2001:db8:1::1/64 dev eth1`, "to 2001:db8:a::1", "2001:db8:1::1"},
		{"the smallest scope that is enough", `
			addr 2001:db8:1::1/64 dev eth0
			addr fec0::1/64 dev eth1 scope site`, "to fec0:0:1::1", "fec0::1"},
		{"the largest scope where none is enough", `
			addr fe80::7/64 dev eth0 scope link
			addr fec0::1/64 dev eth1 scope site`, "to 2001:db8:a::1", "fec0::1"},
		{"not a deprecated one", `
			addr 2001:db8:a::7/64 dev eth0 flags 0x20
			addr 2001:db8:1::1/64 dev eth0`, "to 2001:db8:a::1", "2001:db8:1::1"},
		{"a deprecated one, before none", "addr 2001:db8:a::7/64 dev eth0 flags 0x20", "to 2001:db8:a::1", "2001:db8:a::7"},
		{"a deprecated one, before a scope that is not enough", `
			addr fe80::7/64 dev eth0 scope link
			addr 2001:db8:a::7/64 dev eth0 flags 0x20`, "to 2001:db8:a::1", "2001:db8:a::7"},
		{"not a tentative one", "addr 2001:db8:a::7/64 dev eth0 flags 0x40", "to 2001:db8:a::1", "::1"},
		{"nor one that another host has", "addr 2001:db8:a::7/64 dev eth0 flags 0x48", "to 2001:db8:a::1", "::1"},
		{"an optimistic one, before none", "addr 2001:db8:a::7/64 dev eth0 flags 0x44", "to 2001:db8:a::1", "2001:db8:a::7"},
		{"not an optimistic one", `
			addr 2001:db8:a::7/64 dev eth0 flags 0x44
			addr 2001:db8:1::1/64 dev eth0`, "to 2001:db8:a::1", "2001:db8:1::1"},
		{"a deprecated one before an optimistic one, all else alike", `
			addr 2001:db8:1::7/64 dev eth0 flags 0x44
			addr 2001:db8:1::8/64 dev eth0 flags 0x20`, "to 2001:db8:a::1", "2001:db8:1::8"},
		{"addresses that hold an IPv4 address are never deprecated", `
			addr 2001:db8:a::7/64 dev eth0 flags 0x20
			addr ::9/128 dev eth0 flags 0x20`, "to 2001:db8:a::1", "::9"},
		{"not an ORCHID for what is none", `
			addr 2001:10::7/64 dev eth0
			addr 4000::7/64 dev eth0`, "to fd00::1", "4000::7"},
		{"a home address", `
			addr 2001:db8:a::7/64 dev eth0
			addr 2001:db8:1::1/64 dev eth1 flags 0x10`, "to 2001:db8:a::1", "2001:db8:1::1"},
		{"of the link it leaves by", `
			addr 2001:db8:a::7/64 dev eth1
			addr 2001:db8:1::1/64 dev eth0`, "to 2001:db8:a::1", "2001:db8:1::1"},
		{"of that link, by a route of its own", `
			addr 2001:db8:a::7/64 dev eth0
			addr 2001:db8:1::1/64 dev eth1`, "to 2001:db8:f::1", "2001:db8:1::1"},
		{"the label of the destination", `
			addr 2001:db8:1::1/64 dev eth0
			addr fd00::7/64 dev eth0`, "to fd00:1::1", "fd00::7"},
		{"the label, though fewer bits are alike", `
			addr 2002:1::1/64 dev eth0
			addr 3ffe::1/64 dev eth0
			addr fd00::7/64 dev eth0
			addr 4000::7/64 dev eth0`, "to 2001:db8:a::1", "4000::7"},
		{"a public one", `
			addr 2001:db8:a::7/64 dev eth0 flags 0x1
			addr 2001:db8:1::1/64 dev eth0`, "to 2001:db8:a::1", "2001:db8:1::1"},
		{"the longest common prefix", `
			addr 2001:db8:1::1/64 dev eth0
			addr 2001:db8:a::7/64 dev eth0
			addr 2001:db8:2::1/64 dev eth0`, "to 2001:db8:a::1", "2001:db8:a::7"},
		{"a prefix counts no further than it is long", `
			addr 2001:db8:a::2/64 dev eth0
			addr 2001:db8:a::7/64 dev eth0`, "to 2001:db8:a::6", "2001:db8:a::2"},
		{"the common bits of the second half", `
			addr 2001:db8:a::2/128 dev eth0
			addr 2001:db8:a::7/128 dev eth0`, "to 2001:db8:a::6", "2001:db8:a::7"},
		{"the first of those alike, link by link", `
			addr 2001:db8:2::1/32 dev eth1
			addr 2001:db8:3::1/32 dev eth1
			addr 2001:db8:4::1/32 dev lo
			addr 2001:db8:5::1/32 dev lo`, "to 2001:db8:a::1", "2001:db8:4::1"},
		{"for a link-local destination only of the link", `
			addr 2001:db8:1::1/64 dev eth1
			addr fe80::7/64 dev eth1 scope link`, "to fe80::9 oif eth0", ""},
		{"for a link-local destination also a larger scope", "addr 2001:db8:1::1/64 dev eth0", "to fe80::9 oif eth0", "2001:db8:1::1"},
		{"for multicast only of the link", `
			addr 2001:db8:1::1/64 dev eth1
			addr fe80::7/64 dev eth0 scope link`, "to ff0e::9 oif eth0", "fe80::7"},
		{"for itself", "addr 2001:db8:1::1/64 dev eth0", "to ::1", "::1"},
		{"the flow's own", "addr 2001:db8:1::1/64 dev eth0", "to 2001:db8:a::1 from 2001:db8:9::1", "2001:db8:9::1"},
		{"the route's", `
			addr 2001:db8:1::1/64 dev eth0
			route -6 2001:db8:a::/48 dev eth0 table main metric 1024 src 2001:db8:1::2`, "to 2001:db8:a::1", "2001:db8:1::2"},
		{"a group's first next hop gives the link", `
			addr 2001:db8:1::1/64 dev eth0
			addr 2001:db8:2::1/64 dev eth1
			nexthop -6 5 dev eth0
			nexthop -6 6 dev eth1
			nexthop 8 group 6/5
			route -6 2001:db8:a::/48 nexthop dev eth1 weight 1 nexthop dev eth0 weight 1 nhid 8 table main metric 1024`, "to 2001:db8:a::1", "2001:db8:2::1"},
		{"in a VRF of its links", `
			link 4 blue up kind vrf vrftable 10
			link 5 eth2 up master blue
			link 6 eth3 up master blue
			addr 2001:db8:a::7/64 dev eth1
			addr 2001:db8:2::1/64 dev eth3
			addr 2001:db8:3::1/64 dev blue
			addr fe80::7/64 dev eth2 scope link
			rule -6 1000 from all l3mdev
			route -6 default dev eth2 table 10 metric 1024`, "to 2001:db8:a::1 oif blue", "2001:db8:3::1"},
		{"a lone address of link and VRF is taken as it is", `
			link 4 blue up kind vrf vrftable 10
			link 5 eth2 up master blue
			link 6 eth3 up master blue
			addr 2001:db8:2::1/64 dev eth3
			addr fe80::7/64 dev eth2 scope link
			rule -6 1000 from all l3mdev
			route -6 default dev eth2 table 10 metric 1024`, "to 2001:db8:a::1 oif blue", "fe80::7"},
		{"a lone address of a VRF that the route names is not", `
			link 4 blue up kind vrf vrftable 10
			link 5 eth2 up master blue
			addr 2001:db8:2::1/64 dev blue flags 0x20
			addr 2001:db8:3::1/64 dev eth2
			route -6 2001:db8:a::/48 dev blue table main metric 1024`, "to 2001:db8:a::1", "2001:db8:3::1"},
		{"by a route that leaves the VRF of the VRF", `
			link 4 blue up kind vrf vrftable 10
			addr 2001:db8:a::7/64 dev eth1
			addr 2001:db8:3::1/64 dev blue
			rule -6 1000 from all l3mdev
			route -6 default dev eth1 table 10 metric 1024 src 2001:db8:a::7`, "to 2001:db8:a::1 oif blue", "2001:db8:3::1"},
		{"outside of VRFs none of theirs", `
			link 4 blue up kind vrf vrftable 10
			addr 2001:db8:a::7/64 dev blue`, "to 2001:db8:a::1", "::1"},
	} {
		s := netstatetest.ParseState(t, hostSix+c.addrs)
		d := fib.New(&s).Lookup(parseFlow(t, c.flow))
		got := ""
		if d.Src.IsValid() {
			got = d.Src.String()
		}
		if got != c.want || !d.Verdict.Goes() {
			t.Errorf("%s: %s: got %q, want %q (%s)", c.name, c.flow, got, c.want, describe(&d))
		}
	}
}
