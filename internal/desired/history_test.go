package desired_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// TestTreesGrowAndShrink goes from a few rules to hundreds and back by small
// steps, some with prefixes that hold many others: groups are split and joined.
func TestTreesGrowAndShrink(t *testing.T) {
	for seed := range uint64(12) {
		for _, fam := range netstate.Families {
			t.Run(fmt.Sprint(fam, seed), func(t *testing.T) {
				t.Parallel()
				growAndShrink(t, fam, rand.New(rand.NewPCG(seed, 1)))
			})
		}
	}
}

func growAndShrink(t *testing.T, fam netstate.Family, rnd *rand.Rand) {
	f := kernelFacts(t, "")
	var l list
	add := func() {
		p := randomPrefix(rnd, fam, 5)
		if rnd.IntN(8) == 0 {
			p = netip.PrefixFrom(p.Addr(), p.Bits()-1-rnd.IntN(6)).Masked()
		}
		at := rnd.IntN(len(l.prefixes) + 1)
		l.prefixes = slices.Insert(l.prefixes, at, p)
		l.tables = slices.Insert(l.tables, at, 5000+uint32(rnd.IntN(4)))
	}
	remove := func() {
		at := rnd.IntN(len(l.prefixes))
		l.prefixes = slices.Delete(l.prefixes, at, at+1)
		l.tables = slices.Delete(l.tables, at, at+1)
	}
	moved := 0 // how often a tree was made anew
	spans := map[uint32]bool{}
	for step := range 160 {
		change := add
		if step >= 80 {
			change = remove
		}
		n := 1 + rnd.IntN(8)
		for range min(n, max(n, len(l.prefixes))) {
			if step < 80 || len(l.prefixes) > 0 {
				change()
			}
		}
		objs := []spec.Object{sources("a", l.prefixes, l.tables, nil)}
		w, _ := desired.Build(objs, f)
		sameDecisions(t, rnd, f, w, map[uint32]bool{5001: true}, 5)
		checkShape(t, f, w)

		now := map[uint32]bool{}
		for i := range w.Trees {
			if now[w.Trees[i].Gate] = true; !spans[w.Trees[i].Gate] {
				moved++
			}
		}
		spans = now
		f = apply(f, w)
		if again, _ := desired.Build(objs, f); step%8 == 0 && wantText(again) != wantText(w) {
			t.Fatalf("step %d: not a fixed point", step)
		}
	}
	if moved > 8 {
		t.Errorf("the tree was made anew %d times", moved)
	}
}

// hosts are 10.0.0.FIRST and on, n of them.
func hosts(first, n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(first + i)}), 32)
	}
	return out
}

// groups are the priorities of a want, with the number of rules at each.
func groups(w desired.Want) (n int, biggest int) {
	at := map[uint32]int{}
	for i := range w.Rules {
		at[w.Rules[i].Priority]++
		biggest = max(biggest, at[w.Rules[i].Priority])
	}
	return len(at), biggest
}

// step builds a list of hosts, each to a table of its own, and checks it.
func step(t *testing.T, f *desired.Facts, prefixes []netip.Prefix, tables []uint32) desired.Want {
	t.Helper()
	w, ps := desired.Build([]spec.Object{sources("a", prefixes, tables, nil)}, *f)
	if spec.Failed(ps) {
		t.Fatal(ps)
	}
	sameDecisions(t, rand.New(rand.NewPCG(1, 1)), *f, w, nil, 10)
	checkShape(t, *f, w)
	*f = apply(*f, w)
	return w
}

func TestGroupsAreSplitAndJoined(t *testing.T) {
	f := kernelFacts(t, "")
	all := hosts(0, 200)
	w := step(t, &f, all[:40], constant[uint32](1, 40))
	if n, _ := groups(w); n != 3 {
		t.Fatalf("%d groups at the beginning", n)
	}
	for n := 41; n <= 200; n++ {
		before := w
		w = step(t, &f, all[:n], constant[uint32](1, n))
		if c := ops(before.Rules, w.Rules); c > 40 {
			t.Fatalf("%d writes for rule %d", c, n)
		}
	}
	n, biggest := groups(w)
	if n < 5 || biggest > 80 {
		t.Errorf("%d groups, the biggest of %d", n, biggest)
	}
	gate := w.Trees[0].Gate
	for n := 199; n >= 11; n-- {
		before := w
		w = step(t, &f, all[:n], constant[uint32](1, n))
		if c := ops(before.Rules, w.Rules); c > 40 {
			t.Fatalf("%d writes for one less than %d", c, n)
		}
	}
	if n, _ := groups(w); n > 4 || w.Trees[0].Gate != gate {
		t.Errorf("%d groups are left, gate %d, was %d", n, w.Trees[0].Gate, gate)
	}
	w = step(t, &f, all[:10], constant[uint32](1, 10))
	if len(w.Trees) != 0 || len(w.Rules) != 10 {
		t.Errorf("10 rules are still a tree")
	}
}

// TestCoveringRuleGoesBehindASplit: 10.0.0.192/26 is split off a group in which
// 10.0.0.128/25 comes first; when that becomes the last, packets of the split must
// not meet it.
func TestCoveringRuleGoesBehindASplit(t *testing.T) {
	f := kernelFacts(t, "")
	cover := netip.MustParsePrefix("10.0.0.128/25")
	list := func(middle int) []netip.Prefix {
		return slices.Concat([]netip.Prefix{cover}, hosts(0, 13), hosts(128, middle), hosts(192, 12))
	}
	tables := make([]uint32, 100)
	for i := range tables {
		tables[i] = uint32(i + 1)
	}
	step(t, &f, list(20), tables)
	step(t, &f, list(38), slices.Concat(tables[:34], tables[80:98], tables[34:46]))
	w := step(t, &f, list(40), slices.Concat(tables[:34], tables[80:100], tables[34:46]))
	if n, _ := groups(w); n != 4 {
		t.Fatalf("%d groups:\n%s", n, wantText(w))
	}
	w = step(t, &f, list(0), slices.Concat(tables[:14], tables[34:46]))
	if n, _ := groups(w); n != 4 {
		t.Fatalf("%d groups:\n%s", n, wantText(w))
	}
	last := slices.Concat(list(0)[1:], []netip.Prefix{cover})
	step(t, &f, last, slices.Concat(tables[1:14], tables[34:46], tables[:1]))
}
