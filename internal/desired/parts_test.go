package desired

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
)

func randomPfx(rnd *rand.Rand, f netstate.Family) netip.Prefix {
	b := make([]byte, f.Bits()/8)
	for i := range b {
		b[i] = []byte{0, 0xff, 0x80, byte(rnd.Uint32())}[rnd.IntN(4)]
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, 1+rnd.IntN(f.Bits())).Masked()
}

// TestPfx compares with netip, on prefixes that are often near each other.
func TestPfx(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		f := netstate.Families[rnd.IntN(2)]
		p, q := randomPfx(rnd, f), randomPfx(rnd, f)
		if rnd.IntN(2) == 0 {
			q = netip.PrefixFrom(p.Addr(), 1+rnd.IntN(f.Bits())).Masked()
		}
		x, y := makePfx(p), makePfx(q)
		if x.prefix(f) != p {
			t.Fatalf("%s comes back as %s", p, x.prefix(f))
		}
		if got, want := x.overlaps(y), p.Overlaps(q); got != want {
			t.Fatalf("%s overlaps %s: %v", p, q, got)
		}
		if got, want := x.covers(y), p.Bits() <= q.Bits() && p.Contains(q.Addr()); got != want {
			t.Fatalf("%s covers %s: %v", p, q, got)
		}
		c := x.common(y)
		if !c.covers(x) || !c.covers(y) || int(c.n) < f.Bits() && x != c && y != c && c.half(x.bit(c.n)).covers(y) {
			t.Fatalf("%s is common to %s and %s", c.prefix(f), p, q)
		}
		if got, want := x.compare(y), p.Addr().Compare(q.Addr()); want != 0 && got != want {
			t.Fatalf("%s compares with %s as %d", p, q, got)
		}
		if int(x.n) < f.Bits() {
			lower, upper := x.half(false), x.half(true)
			if !x.covers(lower) || !x.covers(upper) || lower.overlaps(upper) || lower.common(upper) != x || lower.bit(x.n) || !upper.bit(x.n) {
				t.Fatalf("%s has the halves %s and %s", p, lower.prefix(f), upper.prefix(f))
			}
		}
	}
	if (makePfx(netip.Prefix{}) != pfx{}) || (pfx{}).prefix(netstate.IPv6).IsValid() {
		t.Error("the zero Prefix is not all addresses")
	}
}

// TestSpans compares with a slow list of booleans.
func TestSpans(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		var list []span
		taken := make([]bool, 42)
		for range rnd.IntN(6) {
			s := span{rnd.Uint32N(40), 0}
			s.last = min(s.first+rnd.Uint32N(8), 39)
			list = append(list, s)
			for p := s.first; p <= s.last; p++ {
				taken[p] = true
			}
		}
		all := makeSpans(list)
		in := span{rnd.Uint32N(40), 0}
		in.last = min(in.first+rnd.Uint32N(40), 39)
		if _, got := all.meets(in); got != slices.Contains(taken[in.first:in.last+1], true) {
			t.Fatalf("%v meets %v: %v", all, in, got)
		}
		size := 1 + rnd.Uint32N(9)
		want, found := uint32(0), false
		best := uint32(0)
		for p := in.first; p <= in.last; p++ {
			n := uint32(0)
			for p+n <= in.last && !taken[p+n] {
				n++
			}
			if n >= size && !found {
				want, found = p, true
			}
			best = max(best, n)
		}
		if got, ok := all.free(in, size); ok != found || ok && got != want {
			t.Fatalf("%v: %d in a row within %v: %d %v, not %d %v", all, size, in, got, ok, want, found)
		}
		got, ok := all.widest(in)
		if ok != (best > 0) || ok && (got.last-got.first+1 != best || slices.Contains(taken[got.first:got.last+1], true) || got.first < in.first || got.last > in.last) {
			t.Fatalf("%v: widest within %v is %v %v, not %d", all, in, got, ok, best)
		}
	}
	top := makeSpans([]span{{1<<32 - 2, 1<<32 - 1}})
	if p, ok := top.free(span{1<<32 - 5, 1<<32 - 1}, 4); ok {
		t.Errorf("%d is free", p)
	}
	if w, ok := top.widest(span{1<<32 - 5, 1<<32 - 1}); !ok || w != (span{1<<32 - 5, 1<<32 - 3}) {
		t.Errorf("widest is %v", w)
	}
}

// TestKeepOrder: what must come first does, and nothing moves without need.
func TestKeepOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		n := rnd.IntN(9)
		rank := rnd.Perm(n)
		related := make([]bool, n*n)
		for i := range related {
			related[i] = rnd.IntN(4) == 0
		}
		before := func(i, j int) bool { return rank[i] < rank[j] && related[min(i, j)*n+max(i, j)] }
		order := keepOrder(n, before)
		at := make([]int, n)
		for p, i := range order {
			at[i] = p
		}
		fits := true
		for i := range n {
			for j := range n {
				if before(i, j) {
					fits = fits && i < j
					if at[i] > at[j] {
						t.Fatalf("%d comes before %d in %v", j, i, order)
					}
				}
			}
		}
		if fits && !slices.IsSorted(order) {
			t.Fatalf("%v: nothing had to move", order)
		}
		if s := slices.Sorted(slices.Values(order)); len(s) != n || n > 0 && (s[0] != 0 || s[n-1] != n-1) {
			t.Fatalf("%v is no order", order)
		}
	}
	if order := keepOrder(3, func(i, j int) bool { return i != j }); len(order) != 3 {
		t.Errorf("a cycle gives %v", order)
	}
}
