package plan

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// routeIndex finds the routes of a state by their key. Go's own map would spend
// most of the time of a large Diff on hashing and copying keys of 80 bytes.
type routeIndex struct {
	routes []netstate.Route
	slots  []routeSlot     // open addressing
	next   map[int32]int32 // further routes of the same key, in the state's order; nil: all keys differ
	guess  int             // where the next route to be found may be: lists are mostly in one order
}

type routeSlot struct {
	first int32  // index of the first route of a key plus 1; 0: empty
	tag   uint32 // of the key's hash, so that routes of other keys need not be looked at
}

func newRouteIndex(routes []netstate.Route) *routeIndex {
	x := &routeIndex{routes: routes, slots: make([]routeSlot, 1<<bits.Len(uint(2*len(routes)+1)))}
	// Backwards, so that a slot ends up with the first route of its key.
	for i := len(routes) - 1; i >= 0; i-- {
		s := x.slot(&routes[i])
		if was := s.first; was != 0 {
			if x.next == nil {
				x.next = make(map[int32]int32)
			}
			x.next[int32(i)] = was - 1
		}
		s.first = int32(i) + 1
	}
	return x
}

// slot returns where the routes of r's key are, or the empty slot where they
// would be.
func (x *routeIndex) slot(r *netstate.Route) *routeSlot {
	h := hashKey(r)
	tag := uint32(h >> 32)
	mask := len(x.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		s := &x.slots[i]
		if s.first == 0 {
			s.tag = tag
			return s
		}
		if s.tag == tag && sameKey(&x.routes[s.first-1], r) {
			return s
		}
	}
}

// find appends to buf the indexes of all routes that have r's key, in the
// state's order, which is the kernel's order of preference.
func (x *routeIndex) find(r *netstate.Route, buf []int32) []int32 {
	if x.next == nil && x.guess < len(x.routes) && sameKey(&x.routes[x.guess], r) {
		buf = append(buf, int32(x.guess))
		x.guess++
		return buf
	}
	i := x.slot(r).first - 1
	if i < 0 {
		return buf
	}
	buf = append(buf, i)
	x.guess = int(i) + 1
	for {
		n, ok := x.next[i]
		if !ok {
			return buf
		}
		buf, i = append(buf, n), n
	}
}

func sameKey(a, b *netstate.Route) bool {
	return a.To == b.To && a.Table == b.Table && a.Metric == b.Metric && a.Family == b.Family && a.TOS == b.TOS && a.From == b.From
}

func hashKey(r *netstate.Route) uint64 {
	h := uint64(r.Table)<<32 | uint64(r.Metric)
	h = mix(h, uint64(r.Family)<<32|uint64(r.TOS)<<16|uint64(uint16(r.To.Bits())))
	h = mixPrefix(h, r.To)
	if r.From.IsValid() {
		h = mixPrefix(mix(h, uint64(r.From.Bits())), r.From)
	}
	return h
}

func mixPrefix(h uint64, p netip.Prefix) uint64 {
	a := p.Addr().As16()
	return mix(mix(h, binary.BigEndian.Uint64(a[:8])), binary.BigEndian.Uint64(a[8:]))
}

// mix folds v into h by a wide multiplication, as wyhash does.
func mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^0x9e3779b97f4a7c15, v^0xd6e8feb86659fd93)
	return hi ^ lo
}
