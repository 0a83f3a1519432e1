package desired

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
)

// routeRef is a route of an object, by which routes are sorted before they are
// made: a made route is large, and is written once.
type routeRef struct {
	to           pfx
	family       netstate.Family
	table        uint32
	metric       uint32
	object       int32 // indexes into builder.objs and on
	tables, item int32
}

func (r *routeRef) compare(o *routeRef) int {
	if c := cmp.Or(cmp.Compare(r.family, o.family), cmp.Compare(r.table, o.table)); c != 0 {
		return c
	}
	if c := r.to.compare(o.to); c != 0 {
		return c
	}
	return cmp.Compare(r.metric, o.metric)
}

// buildRoutes makes the wanted routes, sorted, and notes which tables have any.
func (b *builder) buildRoutes() {
	b.host = newHostView(b)
	refs := b.collectRoutes()
	byKey := func(x, y routeRef) int { return x.compare(&y) }
	if !slices.IsSortedFunc(refs, byKey) {
		slices.SortStableFunc(refs, byKey)
	}
	b.want.Routes = make([]Route, 0, len(refs))
	for i := range refs {
		var r netstate.Route
		if !b.makeRoute(&refs[i], &r) {
			continue
		}
		if n := len(b.want.Routes); n > 0 && i > 0 && refs[i].compare(&refs[i-1]) == 0 && b.want.Routes[n-1].Key() == r.Key() {
			b.clashes(&refs[i], &r, &b.want.Routes[n-1])
			continue
		}
		b.want.Routes = append(b.want.Routes, Route{r, Origin{b.objs[refs[i].object], b.specRoute(&refs[i]).Pos}})
	}
	b.checkSources()
	b.hasRoute = make(map[tableKey]bool)
	s := &b.facts.State
	for i := range s.Routes {
		if k := (tableKey{s.Routes[i].Family, s.Routes[i].Table}); !b.hasRoute[k] && b.own.Route(&s.Routes[i]) != owner.Ours {
			b.hasRoute[k] = true
		}
	}
	for i := range b.want.Routes {
		b.hasRoute[tableKey{b.want.Routes[i].Family, b.want.Routes[i].Table}] = true
	}
}

func (b *builder) collectRoutes() []routeRef {
	n := 0
	for _, o := range b.objs {
		for i := range o.Policy.Tables {
			n += len(o.Policy.Tables[i].Routes)
		}
	}
	refs := make([]routeRef, 0, n)
	for oi, o := range b.objs {
		for ti := range o.Policy.Tables {
			t := &o.Policy.Tables[ti]
			id := b.tables[t.Name].id
			if id == 0 {
				continue // its problem is known
			}
			for ri := range t.Routes {
				r := &t.Routes[ri]
				f := familyOf(r)
				ref := routeRef{makePfx(r.To), f, id, r.Metric, int32(oi), int32(ti), int32(ri)}
				if f == netstate.IPv6 && ref.metric == 0 {
					ref.metric = defaultMetric6
				}
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

// familyOf takes a default route that names no address for one of IPv4, as ip
// does.
func familyOf(r *spec.Route) netstate.Family {
	if f := r.Family(); f != 0 {
		return f
	}
	return netstate.IPv4
}

// defaultMetric6 is what an IPv6 route without a metric gets
// (IP6_RT_PRIO_USER).
const defaultMetric6 = 1024

func (b *builder) specRoute(ref *routeRef) *spec.Route {
	return &b.objs[ref.object].Policy.Tables[ref.tables].Routes[ref.item]
}

// place is where the route is written, or one of its keys.
func (b *builder) place(ref *routeRef, key string) part {
	p := part{b.objs[ref.object], b.specRoute(ref).Pos, fmt.Sprintf("spec.tables[%d].routes[%d]", ref.tables, ref.item)}
	if key != "" {
		p.path += "." + key
	}
	return p
}

// makeRoute gives the route in the kernel's canonical form. It says false where
// the route has an error.
func (b *builder) makeRoute(ref *routeRef, r *netstate.Route) bool {
	sr := b.specRoute(ref)
	*r = netstate.Route{
		Family: ref.family, Table: ref.table, To: sr.To, Metric: ref.metric, Type: sr.Type,
		Protocol: b.own.Protocol, Src: sr.Src, MTU: sr.MTU, AdvMSS: sr.AdvMSS,
	}
	if !r.To.IsValid() {
		r.To = r.Family.Default()
	}
	b.setScope(sr, r)
	if !sr.Type.Forwards() {
		return true
	}
	local := sr.Type == netstate.RouteLocal
	if len(sr.Nexthops) == 0 {
		return b.setHop(ref, r, &r.Hop, hopQuery{ref.family, ref.table, local, sr.Via, sr.Dev, sr.OnLink}, "", sr.Pos)
	}
	if len(sr.Nexthops) == 1 { // the kernel makes a plain route of it
		n := &sr.Nexthops[0]
		return b.setHop(ref, r, &r.Hop, hopQuery{ref.family, ref.table, local, n.Via, n.Dev, n.OnLink}, "nexthops[0].", n.Pos)
	}
	r.Hops = make([]netstate.Hop, len(sr.Nexthops))
	ok := true
	for i := range sr.Nexthops {
		n := &sr.Nexthops[i]
		r.Hops[i].Weight = max(n.Weight, 1)
		q := hopQuery{ref.family, ref.table, local, n.Via, n.Dev, n.OnLink}
		if !b.setHop(ref, r, &r.Hops[i], q, fmt.Sprintf("nexthops[%d].", i), n.Pos) {
			ok = false
		}
	}
	return ok
}

// setScope takes what ip-route takes where the user says nothing: an IPv4 route
// without a gateway leads to the link itself.
func (b *builder) setScope(sr *spec.Route, r *netstate.Route) {
	switch {
	case r.Family == netstate.IPv6:
	case sr.Scope != nil:
		r.Scope = *sr.Scope
	case sr.Type == netstate.RouteLocal:
		r.Scope = netstate.ScopeHost
	case sr.Type == netstate.RouteUnicast && !sr.Via.IsValid() && len(sr.Nexthops) == 0:
		r.Scope = netstate.ScopeLink
	}
}

// setHop fills in a next hop. A route that stands just so was taken by the
// kernel: it has no problem, whatever became of the addresses since.
func (b *builder) setHop(ref *routeRef, r *netstate.Route, hop *netstate.Hop, q hopQuery, prefix string, pos spec.Pos) bool {
	a := b.host.resolve(q)
	if a.what == "" && r.Family == netstate.IPv4 && r.Scope >= netstate.ScopeLink && q.via.IsValid() {
		a = hopAnswer{key: "scope", what: "a route with a gateway cannot have the scope of a link or a host", do: "leave scope out"}
		prefix = ""
	}
	if a.what != "" {
		if dev, ok := b.standingHop(r, q); ok {
			a = hopAnswer{dev: dev}
		}
	}
	if a.what != "" {
		p := b.place(ref, prefix+a.key)
		if pos.Line > 0 {
			p.pos = pos
		}
		b.fail(p, a.what, a.do)
		return false
	}
	hop.Via, hop.Dev, hop.OnLink = q.via, a.dev, q.onlink
	return true
}

// standingHop finds the link that q's gateway has in the route of r's key that
// stands already, where that is ours.
func (b *builder) standingHop(r *netstate.Route, q hopQuery) (string, bool) {
	s := b.host.stands(r.Key())
	if s == nil || b.own.Route(s) != owner.Ours {
		return "", false
	}
	fits := func(h *netstate.Hop) bool {
		return h.Via == q.via && h.OnLink == q.onlink && (q.dev == "" || h.Dev == q.dev)
	}
	if fits(&s.Hop) && s.Hop.Dev != "" {
		return s.Hop.Dev, true
	}
	for i := range s.Hops {
		if fits(&s.Hops[i]) {
			return s.Hops[i].Dev, true
		}
	}
	return "", false
}

// clashes reports two different routes with the key of one; the kernel would
// take the second for a change of the first.
func (b *builder) clashes(ref *routeRef, r *netstate.Route, first *Route) {
	if r.Equal(&first.Route) {
		return
	}
	at := part{obj: first.Origin.Object, pos: first.Origin.Pos}
	b.fail(b.place(ref, "to"), fmt.Sprintf("table %s has another route to %s with the same metric, in %s", b.nameOf(r.Table), destination(r.To), at),
		"give one of them another metric")
}

func destination(p netip.Prefix) string {
	if p.Bits() == 0 {
		return "default"
	}
	return p.String()
}

// checkSources drops the routes whose source address the kernel would refuse.
// It runs last, since wanted local routes make sources too.
func (b *builder) checkSources() {
	good := make(map[netip.Addr]bool)
	var bad []int
	for i := range b.want.Routes {
		r := &b.want.Routes[i]
		if !r.Src.IsValid() {
			continue
		}
		ok, known := good[r.Src]
		if !known {
			ok = b.host.isSource(r.Src)
			good[r.Src] = ok
		}
		if ok {
			continue
		}
		if s := b.host.stands(r.Key()); s != nil && s.Src == r.Src && b.own.Route(s) == owner.Ours {
			continue
		}
		bad = append(bad, i)
	}
	if len(bad) == 0 {
		return
	}
	drop := make(map[int]bool, len(bad))
	for _, i := range bad {
		r := &b.want.Routes[i]
		drop[i] = true
		texts, _ := b.host.subnets(r.Family, "")
		what := fmt.Sprintf("%s is not an address of this host", r.Src)
		if len(texts) > 0 {
			what += " (" + some(texts) + ")"
		}
		b.fail(b.pathOf(&b.want.Routes[i], "src"), what, "use one of its addresses, or leave src out")
	}
	kept := b.want.Routes[:0]
	for i := range b.want.Routes {
		if !drop[i] {
			kept = append(kept, b.want.Routes[i])
		}
	}
	b.want.Routes = kept
}

// pathOf finds the written route that r was made of.
func (b *builder) pathOf(r *Route, key string) part {
	o := r.Origin.Object
	for i := range o.Policy.Tables {
		t := &o.Policy.Tables[i]
		if b.tables[t.Name].id != r.Table {
			continue
		}
		for j := range t.Routes {
			if t.Routes[j].Pos == r.Origin.Pos && (t.Routes[j].To == r.To || !t.Routes[j].To.IsValid()) {
				return part{o, r.Origin.Pos, fmt.Sprintf("spec.tables[%d].routes[%d].%s", i, j, key)}
			}
		}
	}
	return part{o, r.Origin.Pos, "spec.tables"}
}
