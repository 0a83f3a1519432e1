package kerneltest

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func (o Options) laws(t *testing.T) {
	t.Run("rules that are added are listed equal, in order, and go one by one", func(t *testing.T) {
		k := o.Open(t)
		rapid.Check(t, func(t *rapid.T) {
			defer clean(t, k)
			rules := rapid.SliceOfN(o.Rule(), 1, 6).Draw(t, "rules")
			var changes []netstate.Change
			for i := range rules {
				changes = append(changes, netstate.Change{Verb: netstate.Add, Rule: &rules[i]})
			}
			must(t, k, changes)
			want := slices.Clone(rules)
			slices.SortStableFunc(want, func(a, b netstate.Rule) int {
				return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
			})
			same(t, k, netstate.State{Rules: want})
			// The first of a list is the first that any delete of it can match.
			for len(want) > 0 {
				must(t, k, []netstate.Change{{Verb: netstate.Delete, Rule: &want[0]}})
				want = want[1:]
				same(t, k, netstate.State{Rules: want})
			}
		})
	})
	t.Run("routes that are added or put in place are listed equal, and go", func(t *testing.T) {
		k := o.Open(t)
		rapid.Check(t, func(t *rapid.T) {
			defer clean(t, k)
			routes := rapid.SliceOfNDistinct(Route(), 1, 6, func(r netstate.Route) netstate.RouteKey { return r.Key() }).Draw(t, "routes")
			for i := range routes {
				must(t, k, []netstate.Change{{Verb: netstate.Add, Route: &routes[i]}})
			}
			same(t, k, netstate.State{Routes: routes})
			for i := range routes {
				other := Route().Draw(t, "replacement")
				if other.Family != routes[i].Family {
					continue
				}
				other.Table, other.To, other.From = routes[i].Table, routes[i].To, routes[i].From
				other.TOS, other.Metric = routes[i].TOS, routes[i].Metric
				must(t, k, []netstate.Change{{Verb: netstate.Replace, Route: &other}})
				routes[i] = other
			}
			same(t, k, netstate.State{Routes: routes})
			// A route of metric 0 goes last: of the others a delete says the metric.
			slices.SortFunc(routes, func(a, b netstate.Route) int { return cmp.Compare(b.Metric, a.Metric) })
			for len(routes) > 0 {
				must(t, k, []netstate.Change{{Verb: netstate.Delete, Route: &routes[0]}})
				routes = routes[1:]
				same(t, k, netstate.State{Routes: routes})
			}
		})
	})
}

// Rule draws rules that a kernel of the release takes, of few priorities.
func (o Options) Rule() *rapid.Generator[netstate.Rule] {
	any := netstatetest.Rule(netstatetest.RuleOptions{NoUnknown: true})
	return rapid.Custom(func(t *rapid.T) netstate.Rule {
		r := any.Draw(t, "rule")
		r.Priority = rapid.Uint32Range(1000, 1003).Draw(t, "priority")
		if r.Action == netstate.Goto {
			r.Goto = rapid.SampledFrom([]uint32{1004, 1005, 1<<32 - 1}).Draw(t, "goto")
		}
		r.UID.Hi = min(r.UID.Hi, 1<<32-2) // the last number is no user's
		if !o.Release.AtLeast(6, 12) {
			r.DSCP = netstate.Opt{}
		}
		return netstate.CanonicalRule(r)
	})
}

var (
	gateways = map[string][]netip.Addr{
		"v0": {netip.MustParseAddr("10.1.0.8"), netip.MustParseAddr("10.1.0.9"), netip.MustParseAddr("2001:db8:1::8"), netip.MustParseAddr("fe80::8")},
		"v1": {netip.MustParseAddr("10.2.0.8"), netip.MustParseAddr("10.2.0.9"), netip.MustParseAddr("2001:db8:2::8"), netip.MustParseAddr("fe80::9")},
	}
	sources = map[netstate.Family]netip.Addr{
		netstate.IPv4: netip.MustParseAddr("10.2.0.1"), netstate.IPv6: netip.MustParseAddr("2001:db8:1::1"),
	}
	strangers = map[netstate.Family]netip.Addr{
		netstate.IPv4: netip.MustParseAddr("10.99.0.9"), netstate.IPv6: netip.MustParseAddr("2001:db8:99::9"),
	}
)

// Route draws routes of the tables 1000 and 1001 that a namespace with Fixture
// takes, with few destinations.
func Route() *rapid.Generator[netstate.Route] {
	return rapid.Custom(func(t *rapid.T) netstate.Route {
		f := netstatetest.Family().Draw(t, "family")
		r := netstate.Route{
			Family: f,
			Table:  rapid.Uint32Range(1000, 1001).Draw(t, "table"),
			Metric: rapid.SampledFrom([]uint32{1024, 0, 5, 1<<32 - 1}).Draw(t, "metric"),
			Type: rapid.SampledFrom([]netstate.RouteType{
				netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteUnicast, netstate.RouteLocal,
				netstate.RouteBlackhole, netstate.RouteUnreachable, netstate.RouteProhibit, netstate.RouteThrow,
			}).Draw(t, "type"),
			Protocol: rapid.SampledFrom([]uint8{118, 3, 99, 120}).Draw(t, "protocol"),
			MTU:      rapid.SampledFrom([]uint32{0, 0, 1400, 65000}).Draw(t, "mtu"),
			AdvMSS:   rapid.SampledFrom([]uint32{0, 0, 1300}).Draw(t, "advmss"),
		}
		r.MTULock = r.MTU != 0 && rapid.Bool().Draw(t, "lock")
		if f == netstate.IPv6 {
			r.To = netip.MustParsePrefix(rapid.SampledFrom([]string{"::/0", "2001:db8:9::/48", "2001:db8:9::1/128"}).Draw(t, "to"))
			if rapid.IntRange(0, 3).Draw(t, "source specific") == 3 {
				r.From = netip.MustParsePrefix("2001:db8:8::/48")
			}
			r.Pref = rapid.SampledFrom([]uint8{0, 0, 1, 3}).Draw(t, "pref")
		} else {
			r.To = netip.MustParsePrefix(rapid.SampledFrom([]string{"0.0.0.0/0", "10.9.0.0/16", "10.9.0.1/32"}).Draw(t, "to"))
			r.TOS = rapid.SampledFrom([]uint8{0, 0, 4, 0x10}).Draw(t, "tos")
		}
		switch {
		case r.Type == netstate.RouteLocal:
			r.Hop.Dev = "lo"
		case r.Type == netstate.RouteUnicast && rapid.IntRange(0, 3).Draw(t, "several paths") == 3:
			// The kernel keeps the order of paths, and each only once.
			for _, h := range rapid.SliceOfNDistinct(hop(f, true), 2, 4, rapid.ID).Draw(t, "paths") {
				h.Weight = rapid.SampledFrom([]uint16{1, 2, 256}).Draw(t, "weight")
				r.Hops = append(r.Hops, h)
			}
		case r.Type == netstate.RouteUnicast:
			r.Hop = hop(f, false).Draw(t, "hop")
			if f == netstate.IPv4 {
				r.Realms = rapid.SampledFrom([]uint32{0, 0, 3 << 16, 4}).Draw(t, "realms")
			}
		}
		if r.Type == netstate.RouteUnicast && rapid.IntRange(0, 3).Draw(t, "has a source") == 3 {
			r.Src = sources[f]
		}
		return netstate.CanonicalRoute(r)
	})
}

// hop draws a next hop. One of several IPv6 paths must have a gateway.
func hop(f netstate.Family, gateway bool) *rapid.Generator[netstate.Hop] {
	return rapid.Custom(func(t *rapid.T) netstate.Hop {
		h := netstate.Hop{Dev: rapid.SampledFrom([]string{"v0", "v1"}).Draw(t, "dev")}
		switch rapid.IntRange(0, 3).Draw(t, "kind of hop") {
		case 3:
			if f == netstate.IPv4 || !gateway {
				return h
			}
		case 2:
			h.Via, h.OnLink = strangers[f], true
			return h
		}
		h.Via = rapid.SampledFrom(gateways[h.Dev]).Filter(func(a netip.Addr) bool {
			return f == netstate.IPv4 || a.Is6()
		}).Draw(t, "via")
		return h
	})
}

// must does changes that must succeed.
func must(t *rapid.T, k Kernel, changes []netstate.Change) {
	n, failed := k.Apply(context.Background(), changes)
	if n != len(changes) || len(failed) > 0 {
		t.Fatalf("%d of %d changes tried%s", n, len(changes), failures(failed, changes))
	}
}

// same checks what the namespace holds.
func same(t *rapid.T, k Kernel, want netstate.State) {
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want.Routes = slices.Clone(want.Routes)
	netstate.SortRoutes(want.Routes)
	if got := text(s); got != want.String() {
		t.Fatalf("got:\n%s\nwant:\n%s", got, want.String())
	}
}

// clean removes what a check left, failed or not.
func clean(t *rapid.T, k Kernel) {
	if err := Clean(k); err != nil {
		t.Fatal(err)
	}
}

// Clean removes all that the tests of this package make from a namespace.
func Clean(k Kernel) error {
	s, err := k.Snapshot(context.Background())
	if err != nil {
		return err
	}
	// One by one: some are gone before their turn, with another that they hang on.
	del := func(ch netstate.Change) {
		ch.Verb = netstate.Delete
		k.Apply(context.Background(), []netstate.Change{ch})
	}
	for i := range s.Nexthops {
		del(netstate.Change{Nexthop: &s.Nexthops[i]})
	}
	for i := range s.Rules {
		if !initialRule(&s.Rules[i]) {
			del(netstate.Change{Rule: &s.Rules[i]})
		}
	}
	for i := range s.Routes {
		if s.Routes[i].Table >= 1000 {
			del(netstate.Change{Route: &s.Routes[i]})
		}
	}
	return nil
}
