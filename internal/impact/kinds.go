package impact

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// kind is addresses between which nothing tells a difference, in either world.
type kind struct {
	a, b      netip.Addr // two of them, or one twice
	links     []string   // by which routes to them go
	uses      [2]uses    // axes that rules may look at which select by from, by to
	dsfield   bool       // some route to them has a TOS
	inMap     bool       // of nftables
	host      bool       // addresses of this host
	odd       bool       // those that sim and fib treat in ways of their own: loopback, multicast, ...
	broadcast bool       // packets to them may be broadcasts
	own       bool       // of this host, or nobody's: local and broadcast addresses, loopback
	touched   bool       // routes or maps differ between the worlds
	ruleTouch [2]bool    // rules that select by from, by to
}

// strange says whether few packets have such addresses: broadcast, multicast, loopback.
func (k *kind) strange() bool { return k.odd || k.own && !k.host }

// half is what is known of one family in one world.
type half struct {
	state  *netstate.State
	rules  *ruleList
	sights [2]*sight // by from, by to
	nft    *nftView
	routes []*netstate.Route // by prefix
	drops  map[uint32]bool   // next hop objects that are blackholes
	locals map[netip.Addr]bool
}

func newHalf(s *netstate.State, f netstate.Family, routes []*netstate.Route, nft *nftView, ax *axes, numbers map[netstate.Rule]uint32) *half {
	h := &half{state: s, rules: newRuleList(s, f, ax), nft: nft, routes: routes, drops: map[uint32]bool{}, locals: map[netip.Addr]bool{}}
	h.sights = [2]*sight{newSight(h.rules, false, numbers), newSight(h.rules, true, numbers)}
	for i := range s.Nexthops {
		if s.Nexthops[i].Blackhole {
			h.drops[s.Nexthops[i].ID] = true
		}
	}
	for i := range s.Addrs {
		if a := s.Addrs[i].Prefix.Addr(); netstate.FamilyOf(a) == f {
			h.locals[a] = true
		}
	}
	return h
}

// routesOf gives the routes of a family by prefix, those of one prefix in the state's
// order. What package fib does not take is left out.
func routesOf(s *netstate.State, f netstate.Family) []*netstate.Route {
	var out []*netstate.Route
	for i := range s.Routes {
		if r := &s.Routes[i]; r.Family == f && r.To.IsValid() && netstate.FamilyOf(r.To.Addr()) == f {
			out = append(out, r)
		}
	}
	byPrefix := func(a, b *netstate.Route) int {
		return cmp.Or(comparePrefix(a.To.Masked(), b.To.Masked()), cmp.Compare(a.Table, b.Table))
	}
	if !slices.IsSortedFunc(out, byPrefix) {
		slices.SortStableFunc(out, byPrefix)
	}
	return out
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Prefixes that sim and fib treat in ways of their own.
var special = map[netstate.Family][]netip.Prefix{
	netstate.IPv4: {
		netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("255.255.255.255/32"),
	},
	netstate.IPv6: {
		netip.MustParsePrefix("::/128"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
		netip.MustParsePrefix("::ffff:0:0/96"), // IPv4, for sockets: no packet has them
	},
}

// cuts gives every prefix that some packet's way may depend on.
func (h *half) cuts(f netstate.Family) []netip.Prefix {
	out := slices.Clone(special[f])
	add := func(p netip.Prefix) {
		if p.IsValid() && netstate.FamilyOf(p.Addr()) == f {
			out = append(out, p.Masked())
		}
	}
	for _, r := range h.rules.rules {
		add(r.From)
		add(r.To)
	}
	for i, r := range h.routes {
		if i == 0 || h.routes[i-1].To != r.To {
			add(r.To)
		}
		add(r.From)
	}
	for a := range h.locals {
		add(netip.PrefixFrom(a, a.BitLen()))
	}
	for p := range h.nearness(f) {
		out = append(out, p)
	}
	for _, m := range h.nft.maps {
		for _, e := range m.Elems {
			if m.Family == f && netstate.FamilyOf(e.First) == f && netstate.FamilyOf(e.Last) == f {
				out = append(out, prefixesOf(e.First, e.Last)...)
			}
		}
	}
	return out
}

// labels6 are the prefixes by which the kernel chooses sources (package fib follows it),
// multicast aside.
var labels6 = []netip.Prefix{
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("2001::/32"), netip.MustParsePrefix("2001:10::/28"), netip.MustParsePrefix("3ffe::/16"),
	netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"), netip.MustParsePrefix("fc00::/7"),
}

// nearness gives the prefixes that decide which address of the host IPv6 packets get
// as their source, each with a number: it looks at scopes, labels, and how many bits
// source and destination have in common.
func (h *half) nearness(f netstate.Family) map[netip.Prefix]uint64 {
	if f != netstate.IPv6 {
		return nil
	}
	out := map[netip.Prefix]uint64{}
	for i, p := range labels6 {
		out[p] = uint64(i + 1)
	}
	for b := range 256 { // flags and scope
		out[netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff, byte(b)}), 16)] = 100 + uint64(b&0x0f)
	}
	add := func(a netip.Addr, bits int) {
		p, _ := a.Prefix(bits)
		b := p.Addr().As16()
		out[p] = mix(uint64(bits)+1000, binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
	}
	for i := range h.state.Addrs {
		if p := h.state.Addrs[i].Prefix; p.Addr().Is6() {
			for bits := 1; bits <= p.Bits(); bits++ {
				add(p.Addr(), bits)
			}
			add(p.Addr(), 128)
		}
	}
	return out
}

// behaviour is all of a route that decides about packets.
type behaviour struct {
	from      netip.Prefix
	tos       uint8
	metric    uint32
	typ       netstate.RouteType
	scope     netstate.Scope
	src       netip.Addr
	hop       netstate.Hop
	hops      string
	nexthop   uint32
	drops     bool
	realms    uint32
	pref      uint8
	unknown   string
	length    int  // the prefix's, as far as rules with suppress_prefixlength tell lengths apart
	whole     bool // the default prefix, which IPv6 treats specially
	hack      bool // what shorter prefixes do to multicast packets of IPv4: they lose their gateway
	sameStart bool // as the next shorter prefix with routes: a dead next hop object hides that one
}

// chain is the routes of a table that hold an address.
type chain struct {
	sum   uint64
	start netip.Addr // of the longest prefix
}

type tableOf struct {
	world int
	table uint32
}

// look is what is known of the addresses of a node; those below inherit it.
type look struct {
	seen    [2][2]seen // by world, then from and to
	routes  [2]uint64
	sources [2]uint64 // source prefixes of routes
	nft     [2]uint64
	special uint64
	near    uint64 // to addresses of the host: decides which one an IPv6 packet gets as its source
	links   []string
	own     bool
	odd     bool // routes of types that are the source of no packet: broadcast, anycast, multicast
	dsfield bool
	touched bool
}

// identity tells kinds apart.
type identity struct {
	rules           [2][2]uint64
	routes, sources [2]uint64
	nft             [2]uint64
	special         uint64
	near            uint64
	local           [2]bool
	touched         bool
}

// kinds sorts the addresses of a family.
type kinds struct {
	forest *forest
	list   []kind
	first  map[int32]int32 // of a coarse kind, by its smallest member: the one to try
	// coarse are the kinds that only the choice of a source tells apart: to packets that
	// have one they are the same.
	coarse []set
	none   kind // packets made here whose source is not chosen yet

	worlds     [2]*half
	behaviours map[behaviour]uint64
	words      map[string]uint64
	chains     map[tableOf]chain
	next       [2]int                 // route of each world
	suppress   []int                  // lengths that rules suppress
	lost       func(link string) bool // links that only one of the worlds has
	maps       map[string]bool        // whose addresses are touched
	reroutes   bool                   // viarule's nftables may mark packets made here
	custom     bool                   // odd sources are judged differently in the two worlds
	sources    map[netip.Prefix]bool
	elems      [2]map[netip.Prefix]uint64
	inMaps     map[netip.Prefix]bool // elements of maps
	nearness   map[netip.Prefix]uint64
}

// undo takes back what a node added to the chains.
type undo struct {
	at  tableOf
	old chain
}

// level is a node on the way down.
type level struct {
	look
	end   int32
	undos []undo
}

func (k *kinds) sort(f netstate.Family) {
	k.behaviours, k.words, k.chains = map[behaviour]uint64{}, map[string]uint64{}, map[tableOf]chain{}
	k.sources, k.inMaps = map[netip.Prefix]bool{}, map[netip.Prefix]bool{}
	k.prepare(f)
	var top look
	for w, h := range k.worlds {
		for d, s := range h.sights {
			top.seen[w][d] = s.bare()
		}
	}
	bare := top
	at, coarseAt := map[identity]int32{}, map[identity]int{}
	levels := []level{{look: top, end: int32(len(k.forest.nodes))}}
	for i := range k.forest.nodes {
		n := &k.forest.nodes[i]
		for int32(i) >= levels[len(levels)-1].end && len(levels) > 1 {
			l := &levels[len(levels)-1]
			for _, u := range slices.Backward(l.undos) {
				k.chains[u.at] = u.old
			}
			levels = levels[:len(levels)-1]
		}
		l := level{look: levels[len(levels)-1].look, end: n.end}
		k.enter(&l, n.Prefix, f)
		levels = append(levels, l)
		if a := n.Addr(); a.Is4In6() && n.Bits() >= 96 {
			continue
		}
		id := k.identify(&l.look, n.Prefix)
		if n.Addr().IsUnspecified() && n.IsSingleIP() {
			k.none = newKind(&l.look, &id)
			if f == netstate.IPv6 { // no prefix holds it, not even one that holds ::
				id.rules[0][0], id.rules[1][0] = bare.seen[0][0].sum, bare.seen[1][0].sum
				k.none = newKind(&bare, &id)
			}
			// What the output hook marks is routed again, with the source that was chosen:
			// it may be of any kind.
			k.none.touched, k.none.own = k.reroutes, true
			if k.reroutes {
				k.none.uses[0] = k.worlds[0].rules.used | k.worlds[1].rules.used
			}
		}
		j, there := at[id]
		if !there {
			a, b, ok := k.forest.examples(int32(i))
			if !ok {
				continue // all of it is in prefixes below
			}
			j = int32(len(k.list))
			at[id] = j
			this := newKind(&l.look, &id)
			this.a, this.b = a, b
			k.list = append(k.list, this)
			id.near = 0
			c, there := coarseAt[id]
			if !there {
				c = len(k.coarse)
				coarseAt[id] = c
				k.coarse = append(k.coarse, nil)
			}
			k.coarse[c] = append(k.coarse[c], j)
		}
		n.kind = j
	}
	k.exemplify(f)
	if f == netstate.IPv4 {
		k.linkBroadcasts()
	}
}

// linkBroadcasts has broadcasts look at the rules for packets from 0.0.0.0 too: the
// check of their source walks the rules from there, and not from where they go.
func (k *kinds) linkBroadcasts() {
	nowhere := &k.list[k.of(netip.IPv4Unspecified())]
	for i := range k.list {
		if k.list[i].broadcast {
			k.list[i].uses[0] |= nowhere.uses[0]
			k.list[i].ruleTouch[0] = k.list[i].ruleTouch[0] || nowhere.ruleTouch[0]
		}
	}
}

func newKind(l *look, id *identity) kind {
	k := kind{inMap: id.nft != [2]uint64{}, host: id.local[0] || id.local[1], odd: l.special != 0, broadcast: l.odd || l.special != 0, links: l.links, dsfield: l.dsfield, own: l.own, touched: l.touched || id.touched}
	for d := range k.uses {
		k.uses[d] = l.seen[0][d].uses | l.seen[1][d].uses
		k.ruleTouch[d] = id.rules[0][d] != id.rules[1][d]
	}
	return k
}

// Addresses that people know to be far away.
var wellKnown = [...]netip.Addr{
	netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("1.1.1.1"),
	netip.MustParseAddr("2001:4860:4860::8888"), netip.MustParseAddr("2620:fe::fe"), netip.MustParseAddr("2606:4700:4700::1111"),
}

// exemplify has kinds that hold well-known addresses stand for packets by those.
func (k *kinds) exemplify(f netstate.Family) {
	for i := len(wellKnown) - 1; i >= 0; i-- {
		a := wellKnown[i]
		if netstate.FamilyOf(a) != f {
			continue
		}
		j := k.of(a)
		k.list[j].a, k.list[j].b = a, k.list[j].a
		for _, c := range k.coarse {
			if n := slices.Index(c, int32(j)); n > 0 {
				c[0], c[n] = c[n], c[0]
			}
		}
	}
	k.first = map[int32]int32{}
	for _, c := range k.coarse {
		first := c[0]
		slices.Sort(c)
		k.first[c[0]] = first
	}
}

// prepare indexes by prefix what nodes look up.
func (k *kinds) prepare(f netstate.Family) {
	lengths := map[int]bool{}
	k.nearness = map[netip.Prefix]uint64{}
	for w, h := range k.worlds {
		maps.Copy(k.nearness, h.nearness(f))
		for _, r := range h.rules.rules {
			if r.SuppressPrefixLength.Set {
				lengths[int(r.SuppressPrefixLength.Val)] = true
			}
		}
		for _, r := range h.routes {
			if r.From.IsValid() {
				k.sources[r.From.Masked()] = true
			}
		}
		k.elems[w] = map[netip.Prefix]uint64{}
		for name, m := range h.nft.maps {
			for _, e := range m.Elems {
				if m.Family != f || netstate.FamilyOf(e.First) != f || netstate.FamilyOf(e.Last) != f {
					continue
				}
				sum := mix(1, k.word(name), k.word(h.nft.chainContent(e.Chain, 0)))
				for _, p := range prefixesOf(e.First, e.Last) {
					k.elems[w][p] ^= sum
					k.inMaps[p] = k.inMaps[p] || k.maps[name]
				}
			}
		}
	}
	for n := range lengths {
		k.suppress = append(k.suppress, n)
	}
	slices.Sort(k.suppress)
}

// word gives a number to a text.
func (k *kinds) word(s string) uint64 {
	n, there := k.words[s]
	if !there {
		n = uint64(len(k.words) + 1)
		k.words[s] = n
	}
	return n
}

// enter adds to what is known above a prefix what the prefix adds.
func (k *kinds) enter(l *level, p netip.Prefix, f netstate.Family) {
	for w, h := range k.worlds {
		for d, s := range h.sights {
			l.seen[w][d] = s.below(&l.seen[w][d], p)
		}
		l.nft[w] ^= k.elems[w][p]
		if k.sources[p] {
			l.sources[w] = mix(l.sources[w], k.word("source "+p.String()))
		}
		for k.next[w] < len(h.routes) && h.routes[k.next[w]].To.Masked() == p {
			k.enterRoutes(l, w, p)
		}
	}
	if n := k.nearness[p]; n != 0 {
		l.near = mix(l.near, n)
	}
	l.touched = l.touched || k.inMaps[p]
	if slices.Contains(special[f], p) {
		l.special = mix(l.special, k.word("special "+p.String()))
		l.own = true
	}
}

// enterRoutes takes the routes of one table to a prefix.
func (k *kinds) enterRoutes(l *level, w int, p netip.Prefix) {
	h := k.worlds[w]
	at := tableOf{w, h.routes[k.next[w]].Table}
	old := k.chains[at]
	now := chain{sum: mix(old.sum, 1), start: p.Addr()}
	for ; k.next[w] < len(h.routes); k.next[w]++ {
		r := h.routes[k.next[w]]
		if r.To.Masked() != p || r.Table != at.table {
			break
		}
		b := k.behaviour(h, r)
		b.sameStart = old.sum != 0 && old.start == p.Addr()
		n, there := k.behaviours[b]
		if !there {
			n = uint64(len(k.behaviours) + 1)
			k.behaviours[b] = n
		}
		now.sum = mix(now.sum, n)
		k.enterRoute(l, r)
	}
	k.chains[at] = now
	l.undos = append(l.undos, undo{at, old})
	if old.sum != 0 {
		l.routes[w] ^= mix(7, uint64(at.table), old.sum)
	}
	l.routes[w] ^= mix(7, uint64(at.table), now.sum)
}

func (k *kinds) enterRoute(l *level, r *netstate.Route) {
	l.dsfield = l.dsfield || r.TOS != 0
	switch r.Type {
	case netstate.RouteBroadcast, netstate.RouteAnycast, netstate.RouteMulticast:
		l.odd, l.own = true, true
	case netstate.RouteLocal:
		l.own = true
	}
	link := func(name string) {
		if name == "" {
			return
		}
		l.touched = l.touched || k.lost(name)
		if !slices.Contains(l.links, name) {
			l.links = append(slices.Clip(l.links), name)
		}
	}
	link(r.Hop.Dev)
	for _, h := range r.Hops {
		link(h.Dev)
	}
}

func (k *kinds) behaviour(h *half, r *netstate.Route) behaviour {
	b := behaviour{
		from: r.From, tos: r.TOS, metric: r.Metric, typ: r.Type, scope: r.Scope, src: r.Src, hop: r.Hop, nexthop: r.NexthopID,
		drops: h.drops[r.NexthopID], realms: r.Realms, pref: r.Pref, unknown: r.Unknown, whole: r.To.Bits() == 0,
		hack: r.Type == netstate.RouteMulticast && r.To.Bits() < 4,
	}
	if len(r.Hops) > 0 {
		b.hops = fmt.Sprint(r.Hops)
	}
	b.length, _ = slices.BinarySearch(k.suppress, r.To.Bits())
	return b
}

func (k *kinds) identify(l *look, p netip.Prefix) identity {
	id := identity{routes: l.routes, sources: l.sources, nft: l.nft, special: l.special, near: l.near}
	for w, h := range k.worlds {
		for d := range h.sights {
			id.rules[w][d] = l.seen[w][d].sum
		}
		id.local[w] = p.IsSingleIP() && h.locals[p.Addr()]
	}
	id.touched = l.touched || id.routes[0] != id.routes[1] || id.nft[0] != id.nft[1] || id.local[0] != id.local[1] || k.custom && l.odd
	return id
}

// of tells which kind an address is of; dead where it is of none.
func (k *kinds) of(a netip.Addr) int {
	return int(k.forest.nodes[k.forest.find(a)].kind)
}
