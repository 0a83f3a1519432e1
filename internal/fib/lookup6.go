package fib

import (
	"net/netip"
	"slices"

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
	d, m := w.rules()
	if !d.Verdict.Goes() {
		return d
	}
	if why := w.obstacles(m); why != "" {
		d.Verdict, d.Why = Unknown, why
		return d
	}
	src := w.flow.From
	if !src.IsValid() {
		src = m.route.Src
	}
	ways := make([]Way, len(m.hops))
	for i, h := range m.hops {
		ways[i] = Way{Hop: h, Src: src}
	}
	d.Way = ways[0]
	if len(ways) > 1 {
		d.Multipath = ways
	}
	return d
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
	var m match
	found := false
	t.all(w.flow.To, func(routes []route) bool {
		plain := slices.IndexFunc(routes, func(r route) bool { return !r.From.IsValid() })
		if plain < 0 {
			plain = len(routes)
		}
		specific := routes[:plain]
		for len(specific) > 0 {
			n := 1
			for n < len(specific) && specific[n].From == specific[0].From {
				n++
			}
			if specific[0].From.Contains(w.from) {
				found = true
				if m = w.select6(specific[:n]); m.route != nil {
					return false
				}
			}
			specific = specific[n:]
		}
		if plain == len(routes) || plain > 0 && !found && routes[0].to.Bits() > 0 {
			return true
		}
		found = true
		m = w.select6(routes[plain:])
		return m.route == nil
	})
	return m
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
	best := -1
	var m match
	for _, r := range routes {
		if w.fib.dropNH[r.NexthopID] {
			// Taken whatever was found before, and it ends the search.
			return match{route: r.Route}
		}
		for _, h := range w.hops6(r.Route) {
			s := w.score6(r.Route, h)
			if s <= best {
				continue
			}
			best = s
			m = match{r.Route, w.usable6(r.Route, h)}
			if r.NexthopID != 0 {
				break // nexthop_for_each_fib6_nh stops at the first
			}
		}
	}
	return m
}

// hops6 returns the route's hops. IPv6 hangs routes that reject on lo, so that a
// socket that is bound to another link does not meet them.
func (w *walk) hops6(r *netstate.Route) []netstate.Hop {
	if !r.Type.Forwards() {
		return []netstate.Hop{{Dev: "lo"}}
	}
	return hopsOf(r)
}

// score6 is find_match and rt6_score_route, without what depends on neighbours.
func (w *walk) score6(r *netstate.Route, h netstate.Hop) int {
	score := 0
	switch {
	case r.Type.Forwards() && w.fib.dead(h.Dev):
		return -1
	case w.oif == "" || w.oif == h.Dev:
		score = 2
	case w.strict:
		return -1
	}
	// IPV6_DECODE_PREF: low 1, medium 2, high 3.
	return score | int(r.Pref&3^2)<<2
}

// usable6 returns the hops among which the hash picks (fib6_select_path), the
// one that was found first. A next hop object is picked from without a look at
// the wanted link.
func (w *walk) usable6(r *netstate.Route, found netstate.Hop) []netstate.Hop {
	hops := []netstate.Hop{found}
	for _, h := range w.hops6(r) {
		ok := w.score6(r, h) >= 0
		if r.NexthopID != 0 {
			ok = !w.fib.dead(h.Dev)
		}
		if ok && h != found {
			hops = append(hops, h)
		}
	}
	return hops
}

// obstacles names what keeps us from knowing the way that a chosen route goes.
func (w *walk) obstacles(m match) string {
	if why := obstacle(m.route.Unknown); why != "" {
		return "route " + m.route.To.String() + " " + why
	}
	for _, h := range m.hops {
		if why := obstacle(h.Unknown); why != "" {
			return "a next hop of route " + m.route.To.String() + " " + why
		}
	}
	return ""
}
