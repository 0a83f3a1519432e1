package netstate_test

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func TestCanonicalRoute(t *testing.T) {
	via4, via6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	to4, to6 := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::1/48")
	for _, tt := range []struct {
		name string
		give netstate.Route
		want string
	}{
		{"IPv4 by a link has link scope", netstate.Route{Family: netstate.IPv4, To: to4, Table: 100, Hop: netstate.Hop{Dev: "eth0"}},
			"route 10.0.0.0/8 dev eth0 table 100 scope link"},
		{"IPv4 by a gateway is global, the default table main", netstate.Route{Family: netstate.IPv4, Hop: netstate.Hop{Via: via4}},
			"route default via 192.0.2.1 table 254"},
		{"local is of the host", netstate.Route{Family: netstate.IPv4, To: to4, Table: 1, Type: netstate.RouteLocal, Hop: netstate.Hop{Dev: "lo"}},
			"route local 10.0.0.0/8 dev lo table 1 scope host"},
		{"a given scope stays", netstate.Route{Family: netstate.IPv4, To: to4, Table: 1, Scope: netstate.ScopeHost, Hop: netstate.Hop{Dev: "eth0"}},
			"route 10.0.0.0/8 dev eth0 table 1 scope host"},
		{"a type that drops has no next hop", netstate.Route{Family: netstate.IPv6, Table: 5, Type: netstate.RouteUnreachable, Hop: netstate.Hop{Dev: "lo"}},
			"route -6 unreachable default table 5 metric 1024"},
		{"IPv6 gets its metric, loses host bits and scope", netstate.Route{Family: netstate.IPv6, To: to6, Table: 5, Scope: netstate.ScopeLink, Hop: netstate.Hop{Via: via6}},
			"route -6 2001:db8:1::/48 via 2001:db8::1 table 5 metric 1024"},
		{"IPv6 from anywhere", netstate.Route{Family: netstate.IPv6, To: to6, From: netip.MustParsePrefix("::/0"), Table: 5, Metric: 7, Hop: netstate.Hop{Dev: "eth0"}},
			"route -6 2001:db8:1::/48 dev eth0 table 5 metric 7"},
		{"one of several is just one", netstate.Route{Family: netstate.IPv4, To: to4, Table: 5, Hops: []netstate.Hop{{Via: via4, Weight: 3}}},
			"route 10.0.0.0/8 via 192.0.2.1 table 5"},
		{"several weigh at least 1", netstate.Route{Family: netstate.IPv4, To: to4, Table: 5, Hops: []netstate.Hop{{Via: via4}, {Dev: "eth1", Weight: 2}}},
			"route 10.0.0.0/8 nexthop via 192.0.2.1 weight 1 nexthop dev eth1 weight 2 table 5"},
		{"a lock needs an MTU", netstate.Route{Family: netstate.IPv4, To: to4, Table: 5, MTULock: true, Hop: netstate.Hop{Via: via4}},
			"route 10.0.0.0/8 via 192.0.2.1 table 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := netstate.CanonicalRoute(tt.give).String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestCanonicalRule(t *testing.T) {
	for _, tt := range []struct {
		name string
		give netstate.Rule
		want string
	}{
		{"a mark without a mask has all of it", netstate.Rule{Family: netstate.IPv4, Priority: 1, Mark: netstate.Mark{Value: 5}, Table: 100},
			"rule 1 from all fwmark 0x5 table 100"},
		{"everything is no selector", netstate.Rule{Family: netstate.IPv6, From: netip.MustParsePrefix("::/0"), To: netip.MustParsePrefix("::/0"), Table: 100, Action: netstate.ToTable},
			"rule -6 0 from all table 100"},
		{"only a look-up has a table", netstate.Rule{Family: netstate.IPv4, Action: netstate.Blackhole, Table: 100, Goto: 7},
			"rule 0 from all blackhole"},
		{"the VRF's table is not told", netstate.Rule{Family: netstate.IPv4, Action: netstate.ToTable, L3MDev: true, Table: 100},
			"rule 0 from all l3mdev"},
		{"suppressing nothing", netstate.Rule{Family: netstate.IPv4, Table: 100, SuppressPrefixLength: netstate.Some(0xffffffff), SuppressIfGroup: netstate.Opt{Val: 3}},
			"rule 0 from all table 100"},
		{"host bits stay: the kernel keeps them", netstate.Rule{Family: netstate.IPv4, From: netip.MustParsePrefix("10.0.0.1/8"), Table: 100},
			"rule 0 from 10.0.0.1/8 table 100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := netstate.CanonicalRule(tt.give).String(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestCanonicalIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := netstate.CanonicalRule(netstatetest.Rule(netstatetest.RuleOptions{}).Draw(t, "rule"))
		if again := netstate.CanonicalRule(r); again != r {
			t.Errorf("rule\n%s\nbecomes\n%s", r, again)
		}
		o := netstate.CanonicalRoute(netstatetest.Route().Draw(t, "route"))
		if again := netstate.CanonicalRoute(o); !again.Equal(&o) {
			t.Errorf("route\n%s\nbecomes\n%s", o, again)
		}
	})
}
