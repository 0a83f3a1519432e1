package fib

import (
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// decide6 is ip6_route_output_flags for packets made here and ip6_route_input
// for others.
func (w *walk) decide6() Decision {
	if w.flow.IIF != "" {
		// The input link counts as the wanted output link: of two routes alike,
		// the one that goes back is taken (ip6_pol_route_input).
		w.oif = w.flow.IIF
		w.strict = needsLink(w.flow.To)
	} else {
		w.oif = w.flow.OIF
		w.strict = needsLink(w.flow.To) || w.flow.OIF != "" && !w.flow.From.IsValid()
	}
	d, m, done := w.linkScope6()
	if !done {
		d, m = w.rules()
	}
	if !d.Verdict.Goes() {
		return d
	}
	if why := w.obstacles(m); why != "" {
		d.Verdict, d.Why = Unknown, why
		return d
	}
	d.Way = w.way6(m.route, m.hops.at(0))
	if n := m.hops.len(); n > 1 {
		d.Multipath = make([]Way, n)
		for i := range d.Multipath {
			d.Multipath[i] = w.way6(m.route, m.hops.at(i))
		}
	}
	if m.route.is&byObject != 0 {
		if why := w.otherSource(&d, &m); why != "" {
			d.Verdict, d.Why = Unknown, why
		}
	}
	return d
}

func (w *walk) way6(r *route, h *netstate.Hop) Way {
	dev := h.Dev
	if r.NexthopID != 0 {
		all := hopsOf(r)
		dev = all.at(0).Dev // nexthop_fib6_nh, whatever hop is picked
	}
	return Way{Hop: *h, Src: w.source6(r.Src, dev)}
}

// needsLink is rt6_need_strict: such destinations exist once a link.
func needsLink(a netip.Addr) bool {
	return a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsLoopback()
}

// find6 is fib6_table_lookup with fib6_select_path: the longest destination
// prefix, in it the longest source prefix, with a route that may be used.
//
// A destination that has source-specific routes hides its routes without a
// source from packets that none of them fits: fib6_node_lookup_1 goes on to the
// next shorter destination. Only the default destination, and whatever is met
// after a first find that could not be used (fib6_backtrack), does not hide them.
func (w *walk) find6(t *table) match {
	found := false
	for g := t.longest(w.dst); g >= 0; g = t.parents[g] {
		routes := t.of(g)
		plain := 0 // of the first without a source
		for plain < len(routes) && routes[plain].is&specific != 0 {
			plain++
		}
		specific := routes[:plain]
		for len(specific) > 0 {
			n := 1
			for n < len(specific) && specific[n].From == specific[0].From {
				n++
			}
			if specific[0].From.Contains(w.from) {
				found = true
				if m := w.select6(specific[:n]); m.route != nil {
					return m
				}
			}
			specific = specific[n:]
		}
		if plain == len(routes) || plain > 0 && !found && t.bits[g] > 0 {
			continue
		}
		found = true
		if m := w.select6(routes[plain:]); m.route != nil {
			return m
		}
	}
	return match{}
}

// select6 is find_rr_leaf: among the routes of the lowest metric the one with the
// best score. Only where none of them may be used do the others count, and then
// all of them at once, whatever their metrics.
func (w *walk) select6(routes []route) match {
	n := 1
	for n < len(routes) && routes[n].Metric == routes[0].Metric {
		n++
	}
	if m := w.best6(routes[:n]); m.route != nil {
		return m
	}
	return w.best6(routes[n:])
}

// best6 is __find_rr_leaf: of equal scores the first counts.
func (w *walk) best6(routes []route) match {
	best, at := -1, 0
	var found *route
	for i := range routes {
		r := &routes[i]
		if r.is&drops != 0 {
			// Taken whatever was found before, and it ends the search.
			return match{route: r}
		}
		hops := hops6(r)
		for j := range hops.len() {
			s := w.score6(r, hops.at(j))
			if s <= best {
				continue
			}
			best, found, at = s, r, j
			if r.NexthopID != 0 {
				break // nexthop_for_each_fib6_nh stops at the first
			}
		}
	}
	if found == nil {
		return match{}
	}
	return match{route: found, hops: w.usable6(found, at)}
}

// hops6 returns the route's hops. IPv6 hangs routes that reject on lo, so that a
// socket that is bound to another link does not meet them; but not those by a next
// hop object.
func hops6(r *route) hops {
	if r.is&(rejects|byObject) == rejects {
		return hops{one: &byLo}
	}
	return hopsOf(r)
}

var byLo = netstate.Hop{Dev: "lo"}

// score6 is find_match and rt6_score_route, without what depends on neighbours.
func (w *walk) score6(r *route, h *netstate.Hop) int {
	score := 0
	switch {
	case r.is&(rejects|byObject) != rejects && w.dead(r, h):
		return -1
	case w.oif == "" || w.oif == h.Dev:
		score = 2
	case w.strict:
		return -1
	}
	// IPV6_DECODE_PREF: low 1, medium 2, high 3.
	return score | int(r.pref&3^2)<<2
}

// usable6 returns the hops among which the hash picks (fib6_select_path), the
// one that was found first. A next hop object is picked from without a look at
// the wanted link.
func (w *walk) usable6(r *route, found int) hops {
	all := hops6(r)
	first := all.at(found)
	if all.len() == 1 {
		return all
	}
	usable := append(make([]netstate.Hop, 0, all.len()), *first)
	for i := range all.len() {
		h := all.at(i)
		ok := w.score6(r, h) >= 0
		if r.NexthopID != 0 {
			ok = !w.dead(r, h)
		}
		if ok && *h != *first {
			usable = append(usable, *h)
		}
	}
	return hops{several: usable}
}

// obstacles names what keeps us from knowing the way that a chosen route goes.
func (w *walk) obstacles(m match) string {
	if m.route.is&strange == 0 {
		return ""
	}
	if why := obstacle(m.route.Unknown); why != "" {
		return "route " + m.route.To.String() + " " + why
	}
	for i := range m.hops.len() {
		if why := obstacle(m.hops.at(i).Unknown); why != "" {
			return "a next hop of route " + m.route.To.String() + " " + why
		}
	}
	return ""
}
