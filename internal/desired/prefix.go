package desired

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// pfx is a prefix as two words, for the sorting and splitting of many. IPv4
// addresses stand in the upper half of hi. Bits beyond n are zero. It says
// nothing about the family: prefixes of two families are never compared.
type pfx struct {
	hi, lo uint64
	n      uint8
}

// makePfx takes the zero Prefix for all addresses.
func makePfx(p netip.Prefix) pfx {
	a := p.Addr()
	switch {
	case a.Is4():
		b := a.As4()
		return pfx{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32, n: uint8(p.Bits())}
	case a.Is6():
		b := a.As16()
		return pfx{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:]), n: uint8(p.Bits())}
	}
	return pfx{}
}

// prefix is the inverse of makePfx: all addresses give the zero Prefix, as the
// selectors of netstate.Rule have it.
func (p pfx) prefix(f netstate.Family) netip.Prefix {
	switch {
	case p.n == 0:
		return netip.Prefix{}
	case f == netstate.IPv4:
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(p.hi>>32))
		return netip.PrefixFrom(netip.AddrFrom4(b), int(p.n))
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], p.hi)
	binary.BigEndian.PutUint64(b[8:], p.lo)
	return netip.PrefixFrom(netip.AddrFrom16(b), int(p.n))
}

func (p pfx) compare(q pfx) int {
	return cmp.Or(cmp.Compare(p.hi, q.hi), cmp.Compare(p.lo, q.lo), cmp.Compare(p.n, q.n))
}

// same counts the leading bits that the two addresses have in common.
func (p pfx) same(q pfx) uint8 {
	if x := p.hi ^ q.hi; x != 0 {
		return uint8(bits.LeadingZeros64(x))
	}
	return uint8(64 + bits.LeadingZeros64(p.lo^q.lo))
}

// covers says whether q lies in p; a prefix covers itself.
func (p pfx) covers(q pfx) bool { return p.n <= q.n && p.same(q) >= p.n }

// overlaps says whether one of the two lies in the other.
func (p pfx) overlaps(q pfx) bool { return p.same(q) >= min(p.n, q.n) }

// cut is the first n bits of p.
func (p pfx) cut(n uint8) pfx {
	switch {
	case n == 0:
		return pfx{}
	case n <= 64:
		return pfx{p.hi &^ (1<<(64-n) - 1), 0, n}
	}
	return pfx{p.hi, p.lo &^ (1<<(128-n) - 1), n}
}

// common is the longest prefix that holds both.
func (p pfx) common(q pfx) pfx { return p.cut(min(p.n, q.n, p.same(q))) }

// bit is the bit at place i, counted from the left.
func (p pfx) bit(i uint8) bool {
	if i < 64 {
		return p.hi>>(63-i)&1 != 0
	}
	return p.lo>>(127-i)&1 != 0
}

// half is the lower or the upper half of p.
func (p pfx) half(upper bool) pfx {
	h := pfx{p.hi, p.lo, p.n + 1}
	switch {
	case !upper:
	case p.n < 64:
		h.hi |= 1 << (63 - p.n)
	default:
		h.lo |= 1 << (127 - p.n)
	}
	return h
}
