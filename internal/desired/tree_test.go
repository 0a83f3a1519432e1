package desired_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

func counting(f netstate.Family, n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		b := netip.MustParseAddr("10.0.0.0").AsSlice()
		if f == netstate.IPv6 {
			b = netip.MustParseAddr("2001:db8::").AsSlice()
		}
		for j, v := len(b)-1, i; v > 0; j, v = j-1, v>>8 {
			b[j] |= byte(v)
		}
		a, _ := netip.AddrFromSlice(b)
		out[i] = netip.PrefixFrom(a, a.BitLen())
	}
	return out
}

func random(rnd *rand.Rand, f netstate.Family, n int) []netip.Prefix {
	seen := make(map[netip.Prefix]bool)
	out := make([]netip.Prefix, 0, n)
	for len(out) < n {
		a := randomAddr(rnd, f)
		if p := netip.PrefixFrom(a, a.BitLen()); !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

func TestTreeOfTenThousand(t *testing.T) {
	for _, fam := range netstate.Families {
		for name, prefixes := range map[string][]netip.Prefix{
			"counting": counting(fam, 10_000),
			"random":   random(rand.New(rand.NewPCG(1, 2)), fam, 10_000),
		} {
			t.Run(fmt.Sprint(fam, " ", name), func(t *testing.T) {
				objs := []spec.Object{sources("a", prefixes, constant[uint32](5000, len(prefixes)), nil)}
				f := kernelFacts(t, "")
				w, _ := build(t, objs, f)
				if len(w.Trees) != 1 {
					t.Fatalf("%d trees", len(w.Trees))
				}
				priorities := map[uint32]int{}
				most := 0
				for i := range w.Rules {
					priorities[w.Rules[i].Priority]++
					most = max(most, priorities[w.Rules[i].Priority])
				}
				t.Logf("%d rules, span %d-%d, %d priorities, most %d, longest way %d", len(w.Rules), w.Trees[0].Gate, w.Trees[0].End, len(priorities), most, longest(w, prefixes))
				if n := w.Trees[0].End - w.Trees[0].Gate + 1; n > 320 {
					t.Errorf("%d priorities", n)
				}
				if n := longest(w, prefixes); n > 110 {
					t.Errorf("a packet meets %d rules", n)
				}
				if len(w.Listed) != len(prefixes) {
					t.Errorf("%d rules are listed", len(w.Listed))
				}
				sameDecisions(t, rand.New(rand.NewPCG(3, 4)), f, w, nil, 100)
			})
		}
	}
}

// longest is the longest way that a packet of some prefix has through the rules.
func longest(w desired.Want, prefixes []netip.Prefix) int {
	rules := make([]netstate.Rule, len(w.Rules))
	for i := range w.Rules {
		rules[i] = w.Rules[i].Rule
	}
	most := 0
	for _, p := range prefixes {
		_, n := walkFrom(rules, packet{from: p.Addr()}, nil)
		most = max(most, n)
	}
	return most
}

// edit changes one thing in a list of rules.
type list struct {
	prefixes []netip.Prefix
	tables   []uint32
}

func (l *list) clone() list {
	return list{append([]netip.Prefix(nil), l.prefixes...), append([]uint32(nil), l.tables...)}
}

func TestOneMoreOneLessOneChanged(t *testing.T) {
	for _, fam := range netstate.Families {
		t.Run(fam.String(), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(5, 6))
			prefixes := random(rnd, fam, 10_000)
			if fam == netstate.IPv4 {
				prefixes = counting(fam, 10_000)
			}
			l := list{prefixes, constant[uint32](5000, 10_000)}
			f := kernelFacts(t, "")
			w, _ := desired.Build([]spec.Object{sources("a", l.prefixes, l.tables, nil)}, f)
			f = apply(f, w)
			most := 0
			for i := range 60 {
				n := l.clone()
				at := rnd.IntN(len(n.prefixes))
				switch i % 3 {
				case 0:
					a := randomAddr(rnd, fam)
					n.prefixes = append(n.prefixes[:at], append([]netip.Prefix{netip.PrefixFrom(a, a.BitLen())}, n.prefixes[at:]...)...)
					n.tables = append(n.tables[:at], append([]uint32{5000}, n.tables[at:]...)...)
				case 1:
					n.prefixes = append(n.prefixes[:at], n.prefixes[at+1:]...)
					n.tables = append(n.tables[:at], n.tables[at+1:]...)
				case 2:
					n.tables[at] = uint32(5001 + i)
				}
				next, ps := desired.Build([]spec.Object{sources("a", n.prefixes, n.tables, nil)}, f)
				if spec.Failed(ps) {
					t.Fatal(ps)
				}
				p := diff(f, w, next)
				most = max(most, len(p.Ops))
				if len(p.Ops) > 40 {
					t.Fatalf("edit %d: %d writes: %s", i, len(p.Ops), opsText(w.Rules, next.Rules))
				}
				for j := range p.Ops {
					if r := p.Ops[j].Rule; r.Priority == w.Trees[0].Gate {
						t.Fatalf("edit %d closes the tree", i)
					}
				}
				if i%30 < 3 {
					sameDecisions(t, rnd, f, next, nil, 20)
				}
				l, w, f = n, next, apply(f, next)
			}
			t.Logf("at most %d writes", most)
		})
	}
}

// TestTreeSameDecisions lets random policies go through random changes, each
// built on what the one before left in the kernel.
func TestTreeSameDecisions(t *testing.T) {
	base := kernelFacts(t, `
		rule 2000 from 10.0.0.0/9 iif eth1 table 77 proto static
		rule 5000 from all table 78 proto static
		rule -6 2000 from 2001:db8::/33 iif eth1 table 77 proto static
		rule -6 5000 from all table 78 proto static`)
	rapid.Check(t, func(t *rapid.T) {
		rnd := dice(t)
		fam := netstate.Families[rnd.IntN(2)]
		size := []int{0, 11, 20, 60, 120, 300}[rnd.IntN(6)]
		spread := rnd.IntN(8)
		byTo := rnd.IntN(2) == 0
		fixed := rnd.IntN(4) == 0
		empty := map[uint32]bool{5001: true, 5003: true}
		f := base
		var l list
		grow := func(n int) {
			for range n {
				at := rnd.IntN(len(l.prefixes) + 1)
				l.prefixes = append(l.prefixes[:at:at], append([]netip.Prefix{randomPrefix(rnd, fam, spread)}, l.prefixes[at:]...)...)
				l.tables = append(l.tables[:at:at], append([]uint32{5000 + uint32(rnd.IntN(5))}, l.tables[at:]...)...)
			}
		}
		object := func() spec.Object {
			return sources("a", l.prefixes, l.tables, func(i int, r *spec.Rule) {
				if byTo {
					r.From, r.To = r.To, r.From
				}
				if fixed {
					r.Priority = netstate.Some(uint32(1000 + i))
				}
				if i == 40 {
					r.IIF = "eth1"
				}
				if i == 70 {
					r.Not = true
				}
			})
		}
		grow(size)
		for step := range 1 + rnd.IntN(8) {
			w, ps := desired.Build([]spec.Object{object()}, f)
			if spec.Failed(ps) {
				t.Fatalf("%v", ps)
			}
			sameDecisions(t, rnd, f, w, empty, 20)
			checkShape(t, f, w)
			next := apply(f, w)
			if again, _ := desired.Build([]spec.Object{object()}, next); wantText(again) != wantText(w) {
				t.Fatalf("step %d: not a fixed point: first\n%s\nthen\n%s", step, wantText(w), wantText(again))
			}
			f = next
			switch rnd.IntN(6) {
			case 0:
				grow(1)
			case 1:
				grow(rnd.IntN(100))
			case 2:
				for range min(len(l.prefixes), 1+rnd.IntN(100)) {
					at := rnd.IntN(len(l.prefixes))
					l.prefixes = append(l.prefixes[:at:at], l.prefixes[at+1:]...)
					l.tables = append(l.tables[:at:at], l.tables[at+1:]...)
				}
			case 3:
				for range rnd.IntN(10) {
					if len(l.tables) > 0 {
						l.tables[rnd.IntN(len(l.tables))] = 5000 + uint32(rnd.IntN(5))
					}
				}
			case 4:
				if len(l.tables) > 1 { // two change places
					i, j := rnd.IntN(len(l.tables)), rnd.IntN(len(l.tables))
					l.prefixes[i], l.prefixes[j] = l.prefixes[j], l.prefixes[i]
					l.tables[i], l.tables[j] = l.tables[j], l.tables[i]
				}
			case 5: // somebody comes into the band
				s := f.State
				s.Rules = append([]netstate.Rule(nil), s.Rules...)
				s.Rules = append(s.Rules, netstate.Rule{Family: fam, Priority: 2200 + rnd.Uint32N(60), IIF: "eth1", Action: netstate.ToTable, Table: 79, Protocol: 4})
				sortRules(s.Rules)
				f.State = s
			}
		}
	})
}

// checkShape checks what plan relies on: the spans are apart and nobody else is
// in them, gotos lead forward, each group ends in a goto to the end, and no
// delete of one of its rules would hit an earlier one.
func checkShape(t fatal, f desired.Facts, w desired.Want) {
	t.Helper()
	for i, tr := range w.Trees {
		groups := map[uint32][]netstate.Rule{}
		for j := range w.Rules {
			r := &w.Rules[j]
			if r.Family != tr.Family || r.Priority < tr.Gate || r.Priority > tr.End {
				continue
			}
			if !r.Compiled {
				t.Fatalf("%s stands in the tree %d-%d", r.Rule, tr.Gate, tr.End)
			}
			groups[r.Priority] = append(groups[r.Priority], r.Rule)
		}
		for r := range foreignRules(f.State.Rules, tr.Family) {
			if r.Priority >= tr.Gate && r.Priority <= tr.End {
				t.Fatalf("%s stands in the tree %d-%d", r, tr.Gate, tr.End)
			}
		}
		for _, o := range w.Trees[i+1:] {
			if o.Family == tr.Family && o.Gate <= tr.End && tr.Gate <= o.End {
				t.Fatalf("the trees %d-%d and %d-%d overlap", tr.Gate, tr.End, o.Gate, o.End)
			}
		}
		if groups[tr.Gate] != nil {
			t.Fatalf("%s stands where the gate may", groups[tr.Gate])
		}
		for p, g := range groups {
			if last := g[len(g)-1]; p != tr.End && (last.Action != netstate.Goto || last.Goto != tr.End) {
				t.Fatalf("the group %d ends in %s", p, last)
			}
			for a := range g {
				if g[a].Action == netstate.Goto && (g[a].Goto <= p || g[a].Goto > tr.End || groups[g[a].Goto] == nil) {
					t.Fatalf("%s leads nowhere", g[a])
				}
				for b := range a {
					if g[b].Action == g[a].Action && (!g[a].From.IsValid() || g[a].From == g[b].From) && (!g[a].To.IsValid() || g[a].To == g[b].To) &&
						(g[a].Table == 0 || g[a].Table == g[b].Table) {
						t.Fatalf("a delete of %s would hit %s", g[a], g[b])
					}
				}
			}
		}
	}
}
