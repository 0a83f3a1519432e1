package fib_test

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// links are one that is up and one that is down: a route by the latter sends the
// search on to the next shorter prefix.
const linksOfTable = `
link 1 lo up loopback
link 2 eth0 up
link 3 eth1
`

// scan is the slow way to the route for an address: of all that hold it and are not
// by eth1, the one of the longest prefix, of these the one of the lowest metric, of
// these the first.
func scan(routes []netstate.Route, to netip.Addr) *netstate.Route {
	var best *netstate.Route
	for i := range routes {
		r := &routes[i]
		if !r.To.Contains(to) || r.Hop.Dev == "eth1" {
			continue
		}
		if best == nil || r.To.Bits() > best.To.Bits() || r.To.Bits() == best.To.Bits() && r.Metric < best.Metric {
			best = r
		}
	}
	return best
}

// drawTable draws the routes of a table. Their prefixes begin at few places, so
// that many are in others, begin alike, or are the same; with spread they are all
// over the space.
func drawTable(rnd *rand.Rand, f netstate.Family) []netstate.Route {
	n := []int{0, 1, 2, 5, 30, 300}[rnd.IntN(6)]
	spread, longer := rnd.IntN(3), rnd.IntN(4)*f.Bits()/4
	routes := make([]netstate.Route, n)
	for i := range routes {
		b := netip.MustParseAddr("10.0.0.0").AsSlice()
		if f == netstate.IPv6 {
			b = netip.MustParseAddr("2001:db8::").AsSlice()
		}
		switch spread {
		case 0: // a few bits anywhere
			for range 3 {
				at := rnd.IntN(8 * len(b))
				b[at/8] ^= 0x80 >> (at % 8)
			}
		case 1: // in the last 16 bits
			b[len(b)-2], b[len(b)-1] = byte(rnd.IntN(2)), byte(rnd.Uint32())
		case 2:
			for j := range b {
				b[j] = byte(rnd.Uint32())
			}
		}
		a, _ := netip.AddrFromSlice(b)
		routes[i] = netstate.Route{
			Family: f, Table: benchTable, Type: netstate.RouteUnicast, Metric: uint32(1 + rnd.IntN(3)),
			To:  netip.PrefixFrom(a, longer+rnd.IntN(f.Bits()-longer+1)).Masked(),
			Hop: netstate.Hop{Dev: []string{"eth0", "eth0", "eth1"}[rnd.IntN(3)]},
		}
	}
	for range n / 4 {
		routes[rnd.IntN(n)].To = routes[rnd.IntN(n)].To
	}
	switch rnd.IntN(3) {
	case 0:
		netstate.SortRoutes(routes)
	case 1:
		kernelOrder(f, routes)
	}
	return routes
}

// TestLongestPrefix compares the search with a scan of all routes, at the bounds
// of all prefixes, next to them, and anywhere.
func TestLongestPrefix(t *testing.T) {
	links := netstatetest.ParseState(t, linksOfTable).Links
	rapid.Check(t, func(t *rapid.T) {
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		s := netstate.State{Links: links}
		family := netstate.Families[rnd.IntN(2)]
		s.Rules = []netstate.Rule{{Family: family, Action: netstate.ToTable, Table: benchTable}}
		s.Routes = drawTable(rnd, family)
		f := fib.New(&s)
		to := []netip.Addr{randomAddr(rnd, family.Default())}
		for i := range s.Routes {
			first, last := s.Routes[i].To.Addr(), netstate.LastOf(s.Routes[i].To)
			to = append(to, first.Prev(), first, randomAddr(rnd, s.Routes[i].To), last, last.Next())
		}
		for _, a := range to {
			if !a.IsValid() || a.Is4In6() || a.IsMulticast() || a.IsLinkLocalUnicast() {
				continue // before the first or behind the last, or not for tables alone
			}
			d := f.Lookup(fib.Flow{To: a, From: a, IIF: "eth0"})
			if want := scan(s.Routes, a); d.Route != want {
				t.Fatalf("%s: %v, not %v, of\n%s", a, d.Route, want, s)
			}
		}
	})
}

// TestTraceDecidesAsLookup holds that a lookup with a trace decides as one without.
func TestTraceDecidesAsLookup(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := netstatetest.State().Draw(t, "state")
		f := fib.New(&s)
		for _, family := range netstate.Families {
			flow := fib.Flow{To: netstatetest.Addr(family).Draw(t, "to")}
			if rapid.Bool().Draw(t, "comes in") {
				flow.IIF, flow.From = "eth0", netstatetest.Addr(family).Draw(t, "from")
			}
			l, tr := f.Lookup(flow), f.Trace(flow)
			if l.Steps != nil || describe(&l) != describe(&tr) || l.Rule != tr.Rule || l.Route != tr.Route {
				t.Fatalf("Lookup: %s, Trace: %s", describe(&l), describe(&tr))
			}
		}
	})
}

// TestLookupAllocatesNothing holds that a decision for one way needs no memory,
// with rules and routes of all kinds on its way.
func TestLookupAllocatesNothing(t *testing.T) {
	s := netstatetest.ParseState(t, base+`
link 4 blue up kind vrf vrftable 10
link 5 eth2 up master blue
rule 5 from all l3mdev
rule 10 from 192.0.2.0/25 to 10.0.0.0/8 iif eth0 fwmark 0x1/0xff ipproto tcp dport 80 table 100
rule 15 not from all uidrange 1-5 goto 30
rule 20 from all prohibit
rule 30 from all table main suppress_prefixlength 0
rule -6 10 from 2001:db8::/64 fwmark 0x1/0xff ipproto tcp dport 80 table 100
rule -6 30 from all table main suppress_prefixlength 0
route 10.1.0.0/16 nexthop via 192.0.2.2 dev eth0 weight 1 nexthop via 198.51.100.2 dev eth1 weight 5 table main
route 10.0.0.0/8 via 192.0.2.3 dev eth0 table 100`)
	f := fib.New(&s)
	for _, text := range []string{
		"to 8.8.8.8", "to 8.8.8.8 from 192.0.2.7", "to 192.0.2.7", "to 192.0.2.9", "to 10.9.0.1 from 192.0.2.9 iif eth0 mark 1 proto 6 dport 80",
		"to 8.8.8.8 oif eth1", "to 10.1.0.1 oif eth1 from 198.51.100.7", "to 8.8.8.8 from 10.0.0.1 iif eth2",
		"to 2001:db8:1::1", "to 2001:db8::7", "to 2001:db8:1::1 from 2001:db8::9 iif eth0 mark 1 proto 6 dport 80", "to fe80::5 oif eth1",
	} {
		flow := parseFlow(t, text)
		limit := 0.0
		if strings.HasPrefix(text, "to 10.1.0.1") {
			limit = 1 // the hops by the link are picked out
		}
		if n := testing.AllocsPerRun(10, func() { f.Lookup(flow) }); n > limit {
			d := f.Lookup(flow)
			t.Errorf("%s: %s, after %v allocations", text, describe(&d), n)
		}
	}
}

// TestPrefixesThatMakeNoSense holds that they are taken for none.
func TestPrefixesThatMakeNoSense(t *testing.T) {
	four, six := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	s := netstate.State{
		Rules: []netstate.Rule{
			{Family: netstate.IPv4, Priority: 1, From: netip.PrefixFrom(six, 0), Action: netstate.Prohibit},
			{Family: netstate.IPv4, Priority: 2, To: netip.PrefixFrom(six, 0), Action: netstate.Prohibit},
			{Family: netstate.IPv4, Priority: 3, Action: netstate.ToTable, Table: benchTable},
			{Family: netstate.IPv4, Priority: 4, Action: netstate.Unreachable},
			{Family: netstate.IPv6, Priority: 1, From: netip.PrefixFrom(four, 0), Action: netstate.Prohibit},
			{Family: netstate.IPv6, Priority: 2, Action: netstate.Unreachable},
		},
		Routes: []netstate.Route{
			{Family: netstate.IPv4, Table: benchTable, Type: netstate.RouteUnicast, To: netip.PrefixFrom(four, 33)},
			{Family: netstate.IPv4, Table: benchTable, Type: netstate.RouteUnicast, To: netip.PrefixFrom(six, 0)},
			{Family: netstate.IPv4, Table: benchTable, Type: netstate.RouteUnicast},
			{Family: 7, Table: benchTable, Type: netstate.RouteUnicast, To: netip.PrefixFrom(four, 0)},
		},
	}
	f := fib.New(&s)
	for _, flow := range []fib.Flow{{To: four}, {To: six, From: six}} {
		if d := f.Lookup(flow); d.Verdict != fib.Unreachable {
			t.Errorf("to %s: %s", flow.To, describe(&d))
		}
	}
}

// TestGotoLeadsOn holds that a goto back, or to itself, is passed as one to nowhere:
// the kernel takes none of them.
func TestGotoLeadsOn(t *testing.T) {
	s := netstatetest.ParseState(t, base+`
rule 10 from all nop
rule 20 from all goto 10
rule 30 from all goto 30
rule -6 20 from all goto 20`)
	f := fib.New(&s)
	for text, want := range map[string]string{
		"to 8.8.8.8":       viaMain,
		"to 2001:db8:1::1": "unicast via fe80::1 dev eth0 rule 32766 table 254",
	} {
		if d := f.Lookup(parseFlow(t, text)); describe(&d) != want {
			t.Errorf("%s: %s", text, describe(&d))
		}
	}
}

// kernelOrder sorts routes of one table as the kernel lists them: IPv4 by address,
// the longest prefix first (fib_table_dump); IPv6 each prefix behind all that are in
// it (fib6_walk_continue).
func kernelOrder(f netstate.Family, routes []netstate.Route) {
	slices.SortStableFunc(routes, func(a, b netstate.Route) int {
		if f == netstate.IPv6 && a.To.Overlaps(b.To) || a.To.Addr() == b.To.Addr() {
			return cmp.Or(cmp.Compare(b.To.Bits(), a.To.Bits()), cmp.Compare(a.Metric, b.Metric))
		}
		return a.To.Addr().Compare(b.To.Addr())
	})
}
