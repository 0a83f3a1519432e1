package fib

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// The kernel keeps with a next hop what it made for the first packet that went by
// it, and gives that to all later ones, until it changes its tables: the whole
// answer (rt6i_pcpu, nhc_pcpu_rth_output, nhc_rth_input), and for IPv4 the source
// (nh_saddr). The hop of a plain route is its own. That of a next hop object belongs
// to all routes by it, in groups or alone, and so does what is kept there. Where
// these routes do not agree about a packet, nobody can tell from a state which one
// it was; the answer is Unknown then.

// object is what routes of a family make of a next hop object that they name.
type object struct {
	family netstate.Family
	id     uint32
	dev    string // of its first hop, from whose link IPv6 takes a source whatever hop is used
	uses   []use  // all that differ
	seen   map[trace]bool
	// IPv6: rules that suppress look at the length of the prefix.
	shortest, longest *netstate.Route
	// same says that all routes by its hops leave the same there.
	same bool
}

// use is a route that leaves something with a next hop object, and stands for all
// that leave the same.
type use struct {
	trace
	route *netstate.Route
}

// trace is what a route leaves with a next hop object for others.
type trace struct {
	made, came Verdict // what becomes of packets made here, and of those that came in; Unknown: it leaves nothing there
	src        netip.Addr
	scope      netstate.Scope
}

type objectKey struct {
	family netstate.Family
	id     uint32
}

// objects are the next hop objects.
type objects struct {
	byID map[uint32]*netstate.Nexthop
	// members lists the objects of each group, and for all others themselves.
	members map[uint32][]uint32
	named   map[objectKey]*object
	inOrder []*object // of the routes that named them first
	// through lists the named objects by which packets may come to each one that is
	// no group.
	through map[objectKey][]*object
}

func newObjects(nexthops []netstate.Nexthop) objects {
	if len(nexthops) == 0 {
		return objects{}
	}
	o := objects{byID: make(map[uint32]*netstate.Nexthop, len(nexthops)), members: make(map[uint32][]uint32, len(nexthops))}
	for i := range nexthops {
		n := &nexthops[i]
		o.byID[n.ID] = n
		ids := []uint32{n.ID}
		if len(n.Group) > 0 {
			ids = ids[:0]
			for _, m := range n.Group {
				ids = append(ids, m.ID)
			}
		}
		o.members[n.ID] = ids
	}
	return o
}

// drops says whether an object is a blackhole, or a group of one: then so are all
// routes by it.
func (o *objects) drops(id uint32) bool {
	for _, m := range o.members[id] {
		if n := o.byID[m]; n != nil && n.Blackhole {
			return true
		}
	}
	return false
}

// hop is that of a route's object. A reject route by an object is listed without
// it, but IPv6 looks at its link.
func (o *objects) hop(r *netstate.Route) *netstate.Hop {
	if n := o.byID[r.NexthopID]; n != nil && len(n.Group) == 0 && r.Hop == (netstate.Hop{}) {
		return &n.Hop
	}
	return &r.Hop
}

// add takes a route by an object.
func (o *objects) add(r *netstate.Route, dev string, t trace) {
	k := objectKey{r.Family, r.NexthopID}
	n := o.named[k]
	if n == nil {
		n = &object{family: r.Family, id: r.NexthopID, dev: dev, seen: make(map[trace]bool), shortest: r, longest: r}
		if o.named == nil {
			o.named = make(map[objectKey]*object)
		}
		o.named[k] = n
		o.inOrder = append(o.inOrder, n)
	}
	if r.To.Bits() < n.shortest.To.Bits() {
		n.shortest = r
	}
	if r.To.Bits() > n.longest.To.Bits() {
		n.longest = r
	}
	if len(n.uses) > 0 && n.uses[len(n.uses)-1].trace == t || n.seen[t] {
		return
	}
	n.seen[t] = true
	n.uses = append(n.uses, use{t, r})
}

// seal finds out which routes meet at which objects, when all have been added.
func (o *objects) seal() {
	if len(o.inOrder) == 0 {
		return
	}
	o.through = make(map[objectKey][]*object, len(o.inOrder))
	for _, n := range o.inOrder {
		for _, id := range o.membersOf(n.id) {
			k := objectKey{n.family, id}
			o.through[k] = append(o.through[k], n)
		}
	}
	for _, n := range o.inOrder {
		n.same = len(n.uses) == 1 && !slices.ContainsFunc(o.membersOf(n.id), func(id uint32) bool { return !o.agree(n, id) })
	}
}

// agree says that all routes by a member of n leave the same there as n's only use.
func (o *objects) agree(n *object, id uint32) bool {
	if m := o.byID[id]; m != nil && m.Family == netstate.IPv4 && firstScope(m) != n.uses[0].scope {
		return false
	}
	for _, other := range o.through[objectKey{n.family, id}] {
		if len(other.uses) != 1 || other.uses[0].trace != n.uses[0].trace || other.dev != n.dev {
			return false
		}
	}
	return true
}

// membersOf lists the objects whose hops are those of an object. Of one that the
// state does not list, nothing is known but that routes name it.
func (o *objects) membersOf(id uint32) []uint32 {
	if ids := o.members[id]; ids != nil {
		return ids
	}
	return []uint32{id}
}

// sharing yields what shares a hop of a route: the objects that routes name and
// whose packets may go by it, the route's own among them, each with the object that
// the hop is.
func (o *objects) sharing(r *route, h *netstate.Hop) iter.Seq2[uint32, *object] {
	return func(yield func(uint32, *object) bool) {
		ids := o.membersOf(r.NexthopID)
		for i, id := range ids {
			if len(r.Hops) == len(ids) && r.Hops[i] != *h {
				continue
			}
			for _, n := range o.through[objectKey{r.Family, id}] {
				if !yield(id, n) {
					return
				}
			}
		}
	}
}

// trace says what a route leaves with its object.
func (f *FIB) trace(r *netstate.Route, v Verdict) trace {
	t := trace{made: v, came: v, src: r.Src, scope: r.Scope}
	if r.Family == netstate.IPv6 {
		// ip6_rt_init_dst: only these count. Errors do as well, and throw is one.
		if v == Broadcast || v == Multicast {
			t.made, t.came = Unicast, Unicast
		}
		if t.came == Unicast && r.To.Addr().IsMulticast() {
			t.came = Multicast
		}
		return t
	}
	switch v { // __mkroute_output
	case Anycast:
		t.made = Unicast
	case Multicast:
		if r.To.Bits() < 4 {
			t.made = Unknown
		}
	case Local:
		// Kept only where the route's link is the one that it is delivered by.
		if l := f.links[r.Hop.Dev]; l == nil || l != f.lo && !l.isVRF() {
			t.made = Unknown
		}
	case Unicast, Broadcast:
	default:
		t.made = Unknown // an error ends the lookup
	}
	if v != Unicast && v != Local && v != Broadcast { // __mkroute_input, ip_route_input_slow
		t.came = Unknown
	}
	return t
}

// of is the part for the packet.
func (t *trace) of(w *walk) Verdict {
	if w.flow.IIF != "" {
		return t.came
	}
	return t.made
}

// shares says whether other routes, whose answers the packet may get, leave
// something else with the next hop object of the match.
func (w *walk) shares(r *route) bool {
	return r.is&byObject != 0 && !w.flow.Check && !w.fib.objects.named[objectKey{r.Family, r.NexthopID}].same
}

// otherFate names a route that shares a next hop object with the match's and has
// another fate for the packet, "" where there is none.
func (w *walk) otherFate(m *match) string {
	if !w.shares(m.route) {
		return ""
	}
	t := w.fib.trace(m.route.Route, m.route.verdict)
	own := t.of(w)
	if own == Unknown {
		return ""
	}
	for i := range m.hops.len() {
		for id, n := range w.fib.objects.sharing(m.route, m.hops.at(i)) {
			for j := range n.uses {
				if u := &n.uses[j]; u.of(w) != Unknown && u.of(w) != own {
					return sharedWith(id, u.route) + " decides for both"
				}
			}
		}
	}
	return ""
}

// otherLength names a route that shares a next hop object with the match's, of
// which the rule's suppress_prefixlength says something else. IPv6 alone asks for
// that of the answer, and not of the route that was found (fib6_rule_suppress).
func (w *walk) otherLength(r *rule, m *match) string {
	if m.route.is&byObject == 0 || w.family != netstate.IPv6 || !r.SuppressPrefixLength.Set || w.flow.Check {
		return ""
	}
	short := func(o *netstate.Route) bool { return o.To.Bits() <= int(r.SuppressPrefixLength.Val) }
	own := short(m.route.Route)
	for i := range m.hops.len() {
		for id, n := range w.fib.objects.sharing(m.route, m.hops.at(i)) {
			for _, o := range [...]*netstate.Route{n.shortest, n.longest} {
				if short(o) != own {
					return sharedWith(id, o) + fmt.Sprintf(" decides whether rule %d suppresses both", r.Priority)
				}
			}
		}
	}
	return ""
}

// otherSource names a route that shares a next hop object with the one that decided,
// and would give the packet another source; "" where there is none.
func (w *walk) otherSource(d *Decision, m *match) string {
	if w.flow.From.IsValid() || w.flow.IIF != "" || !w.shares(m.route) {
		return ""
	}
	other := w.otherSource4
	if w.family == netstate.IPv6 {
		other = w.otherSource6
	}
	for i := range m.hops.len() {
		way := &d.Way
		if len(d.Multipath) > 0 {
			way = &d.Multipath[i]
		}
		if why := other(m.route, m.hops.at(i), way.Src); why != "" {
			return why
		}
	}
	return ""
}

func (w *walk) otherSource6(r *route, h *netstate.Hop, src netip.Addr) string {
	own := w.fib.objects.named[objectKey{r.Family, r.NexthopID}]
	for id, n := range w.fib.objects.sharing(r, h) {
		for j := range n.uses {
			u := &n.uses[j]
			if u.src == r.Src && n.dev == own.dev {
				continue
			}
			if other := w.source6(u.src, n.dev); other != src {
				return sharedWith(id, u.route) + " gives both the source: " + sourceText(src) + " or " + sourceText(other)
			}
		}
	}
	return ""
}

// otherSource4 is about what fib_result_prefsrc remembers: what the first route
// without a source of its own got, or the object itself when it was made, of which
// each may have another scope. It does so with IPv4 objects only.
func (w *walk) otherSource4(r *route, h *netstate.Hop, src netip.Addr) string {
	if r.Src.IsValid() || r.verdict == Local || w.leavesVRF(h.Dev) {
		return ""
	}
	for id, n := range w.fib.objects.sharing(r, h) {
		own := w.fib.objects.byID[id]
		if own != nil && own.Family != netstate.IPv4 {
			continue
		}
		for j := range n.uses {
			u := &n.uses[j]
			if u.src.IsValid() || u.scope == r.Scope {
				continue
			}
			if other := w.fib.selectAddr(h.Dev, h.Via, u.scope); other != src {
				return sharedWith(id, u.route) + " gives both the source: " + sourceText(src) + " or " + sourceText(other)
			}
		}
		if own == nil || firstScope(own) == r.Scope {
			continue
		}
		if other := w.fib.selectAddr(h.Dev, h.Via, firstScope(own)); other != src {
			return fmt.Sprintf("next hop object %d may still give the source that it got when it was made: %s or %s", id, sourceText(src), sourceText(other))
		}
	}
	return ""
}

// firstScope is the scope for which an IPv4 object chooses its source when it is made:
// that of what is reached by it (nh_create_ipv4, Linux 5.19).
func firstScope(n *netstate.Nexthop) netstate.Scope { return max(n.Scope, 1) - 1 }

func sharedWith(id uint32, r *netstate.Route) string {
	return fmt.Sprintf("next hop object %d is shared with the %s route %s of table %d, and the first of them that was used", id, r.Type, r.To, r.Table)
}

func sourceText(a netip.Addr) string {
	if !a.IsValid() {
		return "none"
	}
	return a.String()
}
