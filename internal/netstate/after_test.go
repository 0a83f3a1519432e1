package netstate_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func changesOf(t testing.TB, text string) []netstate.Change {
	t.Helper()
	var out []netstate.Change
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, netstatetest.ParseChange(t, line))
		}
	}
	return out
}

func TestAfter(t *testing.T) {
	for _, tt := range []struct{ name, before, plan, want string }{
		{"rules go behind those of their priority, the first of equal ones goes", `
			rule 0 from all table 255
			rule 2200 from 10.0.0.1 table 5000
			rule 2200 from 10.0.0.2 table 5000
			rule 2200 from 10.0.0.1 table 5000
			rule 32766 from all table 254
			rule -6 0 from all table 255`, `
			+ rule 2200 from 10.0.0.3 table 5000
			- rule 2200 from 10.0.0.1 table 5000
			+ rule 100 from all blackhole
			+ rule -6 2300 from 2001:db8::/32 table 5000
			- rule 2200 from 10.0.0.9 table 5000`, `
			rule 0 from all table 255
			rule 100 from all blackhole
			rule 2200 from 10.0.0.2 table 5000
			rule 2200 from 10.0.0.1 table 5000
			rule 2200 from 10.0.0.3 table 5000
			rule 32766 from all table 254
			rule -6 0 from all table 255
			rule -6 2300 from 2001:db8::/32 table 5000`},
		{"routes", `
			route default via 10.0.0.1 dev eth0 table 254
			route 10.0.0.0/8 via 10.0.0.1 dev eth0 table 5000
			route 10.0.0.0/8 via 10.0.0.2 dev eth0 table 5000
			route -6 default via 2001:db8::1 dev eth0 table 254 metric 1024`, `
			~ route default via 10.0.0.9 dev eth0 table 254
			- route 10.0.0.0/8 via 10.0.0.2 dev eth0 table 5000
			+ route blackhole 10.1.0.0/16 table 5000
			~ route -6 2001:db8::/32 via 2001:db8::2 dev eth0 table 254 metric 1024
			- route -6 default via 2001:db8::1 dev eth0 table 254 metric 1024
			- route -6 default via 2001:db8::1 dev eth0 table 254 metric 1024
			~ sysctl net/ipv4/ip_forward = 1`, `
			route default via 10.0.0.9 dev eth0 table 254
			route 10.0.0.0/8 via 10.0.0.1 dev eth0 table 5000
			route blackhole 10.1.0.0/16 table 5000
			route -6 2001:db8::/32 via 2001:db8::2 dev eth0 table 254 metric 1024`},
		{"next hop objects", `
			nexthop 1 via 10.0.0.1 dev eth0
			nexthop 2 via 10.0.0.2 dev eth0`, `
			- nexthop 1 via 10.0.0.1 dev eth0
			~ nexthop 2 via 10.0.0.3 dev eth0
			- nexthop 7 via 10.0.0.1 dev eth0
			+ nexthop 3 via 10.0.0.1 dev eth0`, `
			nexthop 2 via 10.0.0.3 dev eth0
			nexthop 3 via 10.0.0.1 dev eth0`},
	} {
		before := netstatetest.ParseState(t, tt.before)
		text := before.String()
		list := changesOf(t, tt.plan)
		var changes []*netstate.Change
		for i := range list {
			changes = append(changes, &list[i])
		}
		if got, want := netstate.After(before, changes).String(), netstatetest.ParseState(t, tt.want).String(); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, want)
		}
		if before.String() != text {
			t.Errorf("%s: After changed its argument", tt.name)
		}
	}
}

func TestAfterALinkGoes(t *testing.T) {
	before := netstatetest.ParseState(t, `
		link 2 eth0 up
		link 3 v1 kind vlan up parent eth0 vlan 100
		addr 10.0.0.5/24 dev eth0
		addr 10.1.0.5/24 dev v1
		route default via 10.1.0.1 dev v1 table 254
		route 10.0.0.0/8 table 254 nexthop via 10.0.0.1 dev eth0 weight 1 nexthop via 10.1.0.1 dev v1 weight 1
		route 10.0.0.0/24 dev eth0 table 254
		route -6 default table 254 metric 1024 nexthop via fe80::1 dev eth0 weight 1 nexthop via fe80::1 dev v1 weight 1
		route -6 2001:db8::/48 dev v1 table 254 metric 1024`)
	text := before.String()
	route := netstatetest.ParseChange(t, "+ route default via 10.0.0.1 dev eth0 table 254")
	got := netstate.After(before, []*netstate.Change{
		{Verb: netstate.Delete, Link: &netstate.Link{Name: "v1"}},
		&route,
	}).String()
	want := netstatetest.ParseState(t, `
		link 2 eth0 up
		addr 10.0.0.5/24 dev eth0
		route 10.0.0.0/24 dev eth0 table 254
		route -6 default via fe80::1 dev eth0 table 254 metric 1024
		route default via 10.0.0.1 dev eth0 table 254`).String()
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if before.String() != text {
		t.Error("After changed its argument")
	}
}

func TestAfterNft(t *testing.T) {
	before := netstatetest.ParseState(t, "nft table viarule\nnft chain a")
	table := netstate.NftTable{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{{Name: "b"}}}
	for _, c := range []struct {
		verb netstate.Verb
		want string
	}{{netstate.Delete, ""}, {netstate.Replace, "nft table viarule\nnft chain b\n"}} {
		got := netstate.After(before, []*netstate.Change{{Verb: c.verb, Nft: &table}})
		if got.String() != c.want {
			t.Errorf("verb %d: %s, want %s", c.verb, got, c.want)
		}
	}
	if before.Nft[0].Chains[0].Name != "a" {
		t.Error("After changed its argument")
	}
}

func TestAfterSysctls(t *testing.T) {
	before := []netstate.Sysctl{{Key: "a", Value: "1"}, {Key: "c", Value: "1"}}
	text := slices.Clone(before)
	got := netstate.AfterSysctls(before, []*netstate.Change{
		{Verb: netstate.Replace, Sysctl: &netstate.Sysctl{Key: "c", Value: "2"}}, {Verb: netstate.Replace, Sysctl: &netstate.Sysctl{Key: "b", Value: "3"}},
	})
	if want := []netstate.Sysctl{{Key: "a", Value: "1"}, {Key: "b", Value: "3"}, {Key: "c", Value: "2"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !slices.Equal(before, text) {
		t.Error("AfterSysctls changed its argument")
	}
}
