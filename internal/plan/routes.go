package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// routeDiff works out the writes to the routes. The kernel's semantics that it
// guards against:
//
//   - IPv4 takes several routes of one key (ip route append, prepend); the first
//     decides, and NLM_F_REPLACE swaps the first, whoever made it
//     (fib_table_insert in net/ipv4/fib_trie.c).
//   - IPv6 joins routes of one key to a multipath route, and NLM_F_REPLACE
//     removes every hop of it (fib6_add_rt2node in net/ipv6/ip6_fib.c). So a key
//     is written only where the dump shows nothing, or one route and that ours.
//   - A delete takes what it does not name as a wildcard. It names the protocol,
//     so only routes of ours are ever hit.
type routeDiff struct {
	p     *Plan
	s     *stages
	have  []netstate.Route
	index *routeIndex
	seen  []bool // routes of wanted keys

	adopt   bool
	mayDrop func(*netstate.Route) bool // whether ours, not wanted, may go

	chain    []int32
	replaces [2][]Op // link, gateway
}

// diffRoutes adds to s what leads from have to want.
func diffRoutes(p *Plan, s *stages, want []desired.Route, have []netstate.Route, adopt bool, mayDrop func(*netstate.Route) bool) {
	if len(want) == 0 && !anyOurs(have) {
		return
	}
	d := routeDiff{p: p, s: s, have: have, index: newRouteIndex(have), seen: make([]bool, len(have)), adopt: adopt, mayDrop: mayDrop}
	for i := range want {
		if i > 0 && sameKey(&want[i].Route, &want[i-1].Route) {
			if !want[i].Equal(&want[i-1].Route) {
				p.Conflicts = append(p.Conflicts, Finding{Route: &want[i-1].Route, Origin: want[i].Origin, What: "another object wants a different route of the same key"})
			}
			continue
		}
		d.want(&want[i])
	}
	for i := range have {
		if ours(have[i].Protocol) && !d.seen[i] {
			d.drop(&have[i], nil)
		}
	}
	for i, stage := range [...]int{stageLinkRoutes, stageGatewayRoutes} {
		s[stage] = byLength(s[stage])
		if len(d.replaces[i]) > 0 {
			s[stage] = append(s[stage], byLength(d.replaces[i])...)
		}
	}
	for _, stage := range [...]int{stageOldGatewayRoutes, stageOldLinkRoutes} {
		s[stage] = byLength(s[stage])
		slices.Reverse(s[stage])
	}
	explainMoves(s)
}

func anyOurs(routes []netstate.Route) bool {
	for i := range routes {
		if ours(routes[i].Protocol) {
			return true
		}
	}
	return false
}

// want decides on one wanted route.
func (d *routeDiff) want(w *desired.Route) {
	d.chain = d.index.find(&w.Route, d.chain[:0])
	exact, foreign := -1, false // foreign: something of others stands before exact
	for _, i := range d.chain {
		d.seen[i] = true
		if exact < 0 {
			if d.have[i].Equal(&w.Route) {
				exact = int(i)
			} else if !ours(d.have[i].Protocol) {
				foreign = true
			}
		}
	}
	switch {
	case len(d.chain) == 0:
		d.add(w)
		return
	case exact >= 0 && foreign && w.Family == netstate.IPv4:
		d.conflict(w, &d.have[d.chain[0]], "a foreign route of the same key stands before it and decides in its place")
	case exact >= 0:
		// It is there.
	default:
		d.change(w)
	}
	if len(d.chain) > 1 {
		d.dropExtras(w, exact)
	}
}

// change decides on a wanted route whose key is there, but not as it is wanted.
func (d *routeDiff) change(w *desired.Route) {
	first := &d.have[d.chain[0]]
	switch {
	case ours(first.Protocol) && (len(d.chain) == 1 || w.Family == netstate.IPv4):
		d.replace(w, first, routeChange(first, &w.Route))
	case ours(first.Protocol):
		d.conflict(w, first, "another route of the same key stands beside it, and a change might take that away")
	case !sameRouteButMark(first, &w.Route):
		d.conflict(w, first, "a foreign route of the same key is in the way")
	case d.adopt && adoptable(first.Protocol) && (len(d.chain) == 1 || w.Family == netstate.IPv4):
		d.replace(w, first, "taken over from proto "+netstate.ProtocolName(first.Protocol))
	default:
		d.p.Satisfied = append(d.p.Satisfied, Finding{Route: first, Origin: w.Origin,
			What: "a route of proto " + netstate.ProtocolName(first.Protocol) + " provides it"})
	}
}

func (d *routeDiff) conflict(w *desired.Route, with *netstate.Route, what string) {
	d.p.Conflicts = append(d.p.Conflicts, Finding{Route: with, Origin: w.Origin, What: what})
}

func (d *routeDiff) add(w *desired.Route) {
	stage := stageLinkRoutes
	if hasGateway(&w.Route) {
		stage = stageGatewayRoutes
	}
	d.s.add(stage, Op{Change: netstate.Change{Verb: netstate.Add, Route: &w.Route}, Reason: "new", Origin: w.Origin})
}

func (d *routeDiff) replace(w *desired.Route, before *netstate.Route, reason string) {
	stage, list := stageLinkRoutes, &d.replaces[0]
	if hasGateway(&w.Route) {
		stage, list = stageGatewayRoutes, &d.replaces[1]
	}
	*list = append(*list, Op{Change: netstate.Change{Verb: netstate.Replace, Route: &w.Route}, BeforeRoute: before,
		Stage: stage, Reason: reason, Origin: w.Origin})
}

// drop decides on a route of ours that nobody wants. Those that share its key
// and stay are given as beside.
func (d *routeDiff) drop(r *netstate.Route, beside []*netstate.Route) {
	if !d.mayDrop(r) {
		d.p.Orphans = append(d.p.Orphans, Finding{Route: r, What: "no record says whose it is"})
		return
	}
	for _, b := range beside {
		if !distinct(r, b) {
			d.p.Orphans = append(d.p.Orphans, Finding{Route: r, What: "it cannot be removed: the kernel might remove another route of the same key in its place"})
			return
		}
	}
	stage := stageOldLinkRoutes
	if hasGateway(r) {
		stage = stageOldGatewayRoutes
	}
	d.s.add(stage, Op{Change: netstate.Change{Verb: netstate.Delete, Route: r}, BeforeRoute: r, Reason: "not wanted any more"})
}

// dropExtras removes what is ours of w's key beside the route that w is, or is
// replaced with. It takes more than viarule to make such routes.
func (d *routeDiff) dropExtras(w *desired.Route, exact int) {
	keep := exact
	if keep < 0 && ours(d.have[d.chain[0]].Protocol) {
		keep = int(d.chain[0])
	}
	beside := []*netstate.Route{&w.Route}
	if keep >= 0 {
		beside = append(beside, &d.have[keep])
	}
	for _, i := range d.chain {
		if int(i) != keep && ours(d.have[i].Protocol) {
			d.drop(&d.have[i], beside)
		}
	}
}

// distinct says whether the kernel, asked to delete a, certainly leaves b alone.
func distinct(a, b *netstate.Route) bool {
	if a.Protocol != b.Protocol {
		return true
	}
	if a.Family == netstate.IPv4 && (a.Type != b.Type || a.Scope != b.Scope && a.Scope != netstate.ScopeNowhere) {
		return true
	}
	if len(a.Hops) > 0 || len(b.Hops) > 0 || a.NexthopID != 0 || b.NexthopID != 0 {
		return false
	}
	return a.Hop.Dev != "" && b.Hop.Dev != "" && a.Hop.Dev != b.Hop.Dev ||
		a.Hop.Via.IsValid() && b.Hop.Via.IsValid() && a.Hop.Via != b.Hop.Via
}

// hasGateway says whether the kernel looks up a gateway when r is added.
func hasGateway(r *netstate.Route) bool {
	return r.Hop.Via.IsValid() || r.NexthopID != 0 || slices.ContainsFunc(r.Hops, func(h netstate.Hop) bool { return h.Via.IsValid() })
}

// sameRouteButMark says whether the routes differ in nothing but their protocol.
func sameRouteButMark(a, b *netstate.Route) bool {
	c := *a
	c.Protocol = b.Protocol
	return c.Equal(b)
}

// routeChange says in a few words what becomes different.
func routeChange(before, after *netstate.Route) string {
	switch {
	case before.Type != after.Type:
		return "type changed"
	case before.NexthopID != after.NexthopID || len(before.Hops) != len(after.Hops) || !slices.Equal(before.Hops, after.Hops):
		return "next hops changed"
	case before.Hop.Via != after.Hop.Via:
		return "gateway changed"
	case before.Hop.Dev != after.Hop.Dev:
		return "device changed"
	case before.Hop != after.Hop:
		return "next hop changed"
	case before.Src != after.Src:
		return "source address changed"
	case before.Scope != after.Scope:
		return "scope changed"
	case before.MTU != after.MTU || before.MTULock != after.MTULock:
		return "mtu changed"
	case before.AdvMSS != after.AdvMSS:
		return "advmss changed"
	}
	return "attributes changed"
}

// explainMoves gives routes that only change their metric the reason why they
// are added here and removed there.
func explainMoves(s *stages) {
	type place struct {
		family   netstate.Family
		table    uint32
		to, from netip.Prefix
	}
	at := func(r *netstate.Route) place { return place{r.Family, r.Table, r.To, r.From} }
	adds, dels := len(s[stageLinkRoutes])+len(s[stageGatewayRoutes]), len(s[stageOldGatewayRoutes])+len(s[stageOldLinkRoutes])
	if adds == 0 || dels == 0 {
		return
	}
	going := make(map[place]*Op, dels)
	for _, stage := range [...]int{stageOldGatewayRoutes, stageOldLinkRoutes} {
		for i := range s[stage] {
			going[at(s[stage][i].Route)] = &s[stage][i]
		}
	}
	for _, stage := range [...]int{stageLinkRoutes, stageGatewayRoutes} {
		for i := range s[stage] {
			op := &s[stage][i]
			old := going[at(op.Route)]
			if op.Verb != netstate.Add || old == nil || old.Route.Metric == op.Route.Metric {
				continue
			}
			op.Reason = fmt.Sprintf("metric changed from %d", old.Route.Metric)
			old.Reason = fmt.Sprintf("metric changed to %d", op.Route.Metric)
		}
	}
}
