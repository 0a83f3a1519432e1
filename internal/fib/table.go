package fib

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// key is an address, its bits from the left: IPv4 has the first 32. So prefixes of
// both families are compared by the same few instructions.
type key struct{ hi, lo uint64 }

func keyOf(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// maskOf is the mask of a prefix of n bits.
func maskOf(n int) key {
	return key{^uint64(0) << (64 - min(n, 64)), ^uint64(0) << (128 - max(n, 64))}
}

func (k key) and(m key) key { return key{k.hi & m.hi, k.lo & m.lo} }

func (k key) compare(o key) int { return cmp.Or(cmp.Compare(k.hi, o.hi), cmp.Compare(k.lo, o.lo)) }

// shared is the number of bits from the left in which two addresses agree.
func (k key) shared(o key) int {
	if x := k.hi ^ o.hi; x != 0 {
		return bits.LeadingZeros64(x)
	}
	return 64 + bits.LeadingZeros64(k.lo^o.lo)
}

// table holds the routes of a table in the order of their prefixes: by address,
// then the shorter before the longer. Those of one prefix are a group, and each
// group knows the next shorter prefix around it, its parent. The longest prefix
// that holds an address is then the last one that begins at or before it, or one
// of the parents of that; and the parents from there on are all the others that
// hold it.
//
// New makes all of it for all tables, so that lookups only read and need no lock.
// It is cheap: the kernel lists most routes in this order, those that it does not
// are sorted and merged in (see add), and all else is a single pass. gaissmai/bart, a trie, was measured and left out: its lookups take
// twice as long, to build it takes as long as all of New, and it has to be asked
// again for each shorter prefix.
//
// Lookups wait for memory, more than for anything else. So what they read of each
// route is close together, and of netstate.Route only what they return.
type table struct {
	// The groups, side by side in several slices.
	starts  []uint64 // where the prefix begins: the first 64 bits
	ends    []uint64 // the other 64 bits
	bits    []uint8  // the length of the prefix
	parents []int32  // the group of the next shorter prefix that holds this one; -1: none
	first   []int32  // of its routes
	routes  []route
	// jump cuts the space from the first start to the last into slots of a size
	// 1<<shift, and says for each slot which group is the first that begins in it or
	// behind. There is one more, for the end. With starts that are spread well, one
	// or two are left in each slot; with all in one, it is a binary search.
	jump  []int32
	shift uint
	late  []placed // routes that came out of order, until seal
}

// newTable makes a table that will have so many routes.
func newTable(routes int) *table {
	return &table{
		starts:  make([]uint64, 0, routes),
		ends:    make([]uint64, 0, routes),
		bits:    make([]uint8, 0, routes),
		parents: make([]int32, 0, routes),
		first:   make([]int32, 0, routes),
		routes:  make([]route, 0, routes),
	}
}

// route is a route with what of it does not depend on the packet.
type route struct {
	*netstate.Route
	hop     *netstate.Hop // the only one; maybe an equal one of another route
	verdict Verdict       // where it is chosen
	tos     uint8
	pref    uint8
	is      traits
}

type traits uint8

const (
	rejects  traits = 1 << iota // its type has no use for next hops
	drops                       // by a next hop object that is a blackhole
	down                        // a hop is by a link that is down
	several                     // it has several hops
	specific                    // only packets of some sources may take it
	strange                     // it, or a hop, has attributes that viarule does not know
	byObject                    // it names a next hop object
)

// newRoute says what of a route does not depend on the packet. dead says that a
// hop is by a link that is down.
func (f *FIB) newRoute(r *netstate.Route, hop *netstate.Hop, dead bool) route {
	c := route{Route: r, hop: hop, verdict: typeVerdict(r.Type), tos: r.TOS, pref: r.Pref}
	unknown := r.Unknown != "" || r.Hop.Unknown != ""
	for i := range r.Hops {
		unknown = unknown || r.Hops[i].Unknown != ""
	}
	if r.NexthopID != 0 {
		if f.objects.drops(r.NexthopID) {
			c.verdict, c.is = Blackhole, drops
		}
		c.is |= byObject
		first := hop
		if len(r.Hops) > 0 {
			first = &r.Hops[0]
		}
		f.objects.add(r, first.Dev, f.trace(r, c.verdict))
	}
	if !r.Type.Forwards() {
		c.is |= rejects
	}
	if dead {
		c.is |= down
	}
	if len(r.Hops) > 0 {
		c.is |= several
	}
	if r.From.IsValid() {
		c.is |= specific
	}
	if unknown {
		c.is |= strange
	}
	return c
}

// prefix is a prefix as tables compare it.
type prefix struct {
	start key
	bits  uint8
}

func prefixOf(p netip.Prefix) prefix {
	return prefix{keyOf(p.Addr()).and(maskOf(p.Bits())), uint8(p.Bits())}
}

func (p prefix) compare(o prefix) int {
	return cmp.Or(p.start.compare(o.start), cmp.Compare(p.bits, o.bits))
}

// placed is a route and where it belongs.
type placed struct {
	prefix
	route
}

// compare orders routes of a table.
func (p *placed) compare(o *placed) int {
	if c := p.prefix.compare(o.prefix); c != 0 {
		return c
	}
	return preference(p.Route, o.Route)
}

// add takes a route, whose To must be valid, in the order of the state. The
// kernel lists routes in the order of the table, except that IPv4 has the longest
// first of those that begin at the same address (fib_table_dump), and IPv6 has
// each behind those whose prefixes it holds (fib6_walk_continue). Such a route, and
// whatever else comes too late, waits for seal.
func (t *table) add(r route) {
	p := placed{prefixOf(r.To), r}
	if n := len(t.starts); n > 0 {
		last := placed{t.prefix(n - 1), t.routes[len(t.routes)-1]}
		if p.compare(&last) < 0 {
			t.late = append(t.late, p)
			return
		}
	}
	t.push(&p)
}

// push puts a route behind the others. Those that are equal to it are already
// there.
func (t *table) push(p *placed) {
	t.routes = append(t.routes, p.route)
	parent := int32(-1)
	if last := len(t.starts) - 1; last >= 0 {
		before := t.prefix(last)
		if before == p.prefix {
			return
		}
		parent = t.covering(int32(last), before.start.shared(p.start))
	}
	t.starts = append(t.starts, p.start.hi)
	t.ends = append(t.ends, p.start.lo)
	t.bits = append(t.bits, p.bits)
	t.parents = append(t.parents, parent)
	t.first = append(t.first, int32(len(t.routes))-1)
}

// preference orders routes of one prefix as the kernel tries them: IPv4 by TOS,
// the highest first, and IPv6 by the length of the source prefix, the longest
// first; then by metric, the lowest first.
func preference(a, b *netstate.Route) int {
	if c := cmp.Or(cmp.Compare(b.TOS, a.TOS), cmp.Compare(sourceBits(b), sourceBits(a))); c != 0 {
		return c
	}
	return cmp.Or(a.From.Addr().Compare(b.From.Addr()), cmp.Compare(a.Metric, b.Metric))
}

func sourceBits(r *netstate.Route) int { return max(r.From.Bits(), 0) }

// seal makes a table with all of its routes ready. It has at least one.
func (t *table) seal() {
	if len(t.late) > 0 {
		t.merge()
	}
	n := len(t.starts)
	first := t.starts[0]
	span := t.starts[n-1] - first
	for slots := uint64(max(n/2, 1)); span>>t.shift >= slots; {
		t.shift++
	}
	t.jump = make([]int32, span>>t.shift+2)
	next := uint64(0) // slot
	for g, start := range t.starts {
		for ; next <= (start-first)>>t.shift; next++ {
			t.jump[next] = int32(g)
		}
	}
	t.jump[next] = int32(n)
}

// merge puts the late routes where they belong, each before a route that came in
// order: that is why it is late. One that is equal to another route stands behind it,
// as in the state.
func (t *table) merge() {
	late := make([]*placed, len(t.late))
	for i := range late {
		late[i] = &t.late[i]
	}
	slices.SortStableFunc(late, (*placed).compare)
	old := *t
	*t = *newTable(len(old.routes) + len(late))
	for g := range old.starts {
		p := placed{prefix: old.prefix(g)}
		for _, p.route = range old.of(int32(g)) {
			for len(late) > 0 && late[0].compare(&p) < 0 {
				t.push(late[0])
				late = late[1:]
			}
			t.push(&p)
		}
	}
}

// longest is the group of the longest prefix that holds an address, -1 where none
// does. Its parents hold the address too.
func (t *table) longest(k key) int32 {
	// An address behind the last start belongs to the last slot. One before the first
	// gets some slot: no prefix holds it, whatever group is found.
	slot := min((k.hi-t.starts[0])>>t.shift, uint64(len(t.jump)-2))
	from, to := max(int(t.jump[slot])-1, 0), int(t.jump[slot+1])
	// The last group that begins at or before the address.
	at := from + lastNotAbove(t.starts[from:to], k.hi)
	if x := t.starts[at] ^ k.hi; x != 0 {
		return t.covering(int32(at), bits.LeadingZeros64(x))
	}
	if t.ends[at] > k.lo {
		at = t.before(at, k.lo)
		if at < 0 {
			return -1
		}
	}
	return t.covering(int32(at), t.prefix(at).start.shared(k))
}

// lastNotAbove finds the last of some sorted numbers that is not above n; the first
// is not. The loop has no branch that depends on them.
func lastNotAbove(sorted []uint64, n uint64) int {
	at := 0
	for left := len(sorted); left > 1; {
		half := left / 2
		_, above := bits.Sub64(n, sorted[at+half], 0)
		at += half &^ -int(above)
		left -= half
	}
	return at
}

// before finds the last group before another one that begins at or before an
// address of the same first 64 bits, -1 where there is none.
func (t *table) before(g int, lo uint64) int {
	same, _ := slices.BinarySearch(t.starts[:g], t.starts[g])
	n, _ := slices.BinarySearchFunc(t.ends[same:g], lo, func(e, lo uint64) int {
		if e <= lo {
			return -1
		}
		return 1
	})
	return same + n - 1
}

// prefix is that of a group.
func (t *table) prefix(g int) prefix {
	return prefix{key{t.starts[g], t.ends[g]}, t.bits[g]}
}

// covering goes from a group up to the first one whose prefix is not longer than
// n bits.
func (t *table) covering(g int32, n int) int32 {
	for g >= 0 && int(t.bits[g]) > n {
		g = t.parents[g]
	}
	return g
}

// of gives the routes of a group, in the order in which the kernel tries them.
func (t *table) of(g int32) []route {
	if len(t.routes) == len(t.starts) {
		return t.routes[g : g+1] // one each, as in most tables
	}
	if int(g)+1 < len(t.first) {
		return t.routes[t.first[g]:t.first[g+1]]
	}
	return t.routes[t.first[g]:]
}
