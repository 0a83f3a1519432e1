package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// sourceList is what a user has: sources and their tables, in order.
type sourceList struct {
	prefixes []netip.Prefix
	tables   []uint32
}

func (l *sourceList) insert(at int, p netip.Prefix, table uint32) {
	l.prefixes = slices.Insert(l.prefixes, at, p)
	l.tables = slices.Insert(l.tables, at, table)
}

func (l *sourceList) remove(at int) {
	l.prefixes = slices.Delete(l.prefixes, at, at+1)
	l.tables = slices.Delete(l.tables, at, at+1)
}

// build asks desired for the Want of the list on a host as it is.
func (l *sourceList) build(tb rapid.TB, k *kernel) desired.Want {
	p := &spec.RoutingPolicy{}
	for i, x := range l.prefixes {
		p.Rules = append(p.Rules, spec.Rule{From: []netip.Prefix{x}, Action: netstate.ToTable, Table: spec.TableRef{ID: l.tables[i]}, Pos: spec.Pos{Line: int32(i + 1)}})
	}
	w, problems := desired.Build([]spec.Object{{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "a"}, File: "a.yaml", Policy: p}}, desired.Facts{State: k.state()})
	if spec.Failed(problems) {
		tb.Fatalf("desired: %v", problems)
	}
	return w
}

// randomSource is an address or a short prefix among few or many networks.
func randomSource(rnd *rand.Rand, f netstate.Family, nets, wide int) netip.Prefix {
	b := netip.MustParseAddr("10.0.0.0").AsSlice()
	if f == netstate.IPv6 {
		b = netip.MustParseAddr("2001:db8::").AsSlice()
	}
	n := len(b)
	b[n-3], b[n-2], b[n-1] = byte(rnd.IntN(nets)), byte(rnd.IntN(4)), byte(rnd.IntN(256))
	a, _ := netip.AddrFromSlice(b)
	bits := a.BitLen()
	if wide > 0 && rnd.IntN(wide) == 0 {
		bits -= rnd.IntN(20)
	}
	p, _ := a.Prefix(bits)
	return p
}

// TestTreesOfDesired lets desired and this package work together: lists grow,
// shrink and change, each plan starts from what the one before left, and every
// packet meets its old or its new decision after each op. The tree that is in use
// is never closed for it.
func TestTreesOfDesired(t *testing.T) {
	counts := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		f := rapid.SampledFrom(netstate.Families[:]).Draw(t, "family")
		nets, wide := rapid.IntRange(1, 40).Draw(t, "nets"), rapid.IntRange(0, 30).Draw(t, "wide")
		k := newKernel(netstate.State{Rules: []netstate.Rule{
			{Family: f, Priority: 0, Action: netstate.ToTable, Table: 255, Protocol: 2},
			{Family: f, Priority: 1000, From: randomSource(rnd, f, nets, 1), Action: netstate.ToTable, Table: 77, Protocol: 4},
			{Family: f, Priority: 32766, Action: netstate.ToTable, Table: 254, Protocol: 2},
		}}, nil)
		var l sourceList
		old := desired.Want{}
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			kind := rapid.SampledFrom([]string{"one more", "one less", "another table", "many more", "many less", "none"}).Draw(t, "change")
			times := 1
			switch kind {
			case "many more":
				times = rapid.IntRange(10, 200).Draw(t, "times")
			case "many less":
				times = rapid.IntRange(10, 200).Draw(t, "times")
			case "none":
				l = sourceList{}
			}
			for range times {
				switch n := len(l.prefixes); kind {
				case "one more", "many more":
					if p := randomSource(rnd, f, nets, wide); !slices.Contains(l.prefixes, p) {
						l.insert(rnd.IntN(n+1), p, 5000+uint32(rnd.IntN(3)))
					}
				case "one less", "many less":
					if n > 0 {
						l.remove(rnd.IntN(n))
					}
				case "another table":
					if n > 0 {
						l.tables[rnd.IntN(n)] = emptyTable
					}
				}
			}
			want := l.build(t, k)
			p := Diff(input(k, want, union(old, want), false))
			if len(p.Conflicts)+len(p.Orphans) > 0 {
				t.Fatalf("%s: findings:\n%s", kind, show(&p))
			}
			if closesUsed(&p, k) {
				t.Fatalf("%s: a tree in use is closed:\n%s\nstate:\n%s", kind, show(&p), k.state())
			}
			var probes []packet
			for range 60 {
				probes = append(probes, packet{randomSource(rnd, f, nets, 0).Addr(), netip.Addr{}})
			}
			for i := range p.Trees() { // what changes is looked at
				for _, r := range p.Trees()[i].Remove {
					probes = append(probes, packet{r.From.Addr(), netip.Addr{}})
				}
			}
			if len(probes) > 100 {
				probes = probes[:100]
			}
			if len(p.Ops) > 0 { // killed somewhere, and begun anew with what is there
				half := k.clone()
				for i := range p.Ops[:rapid.IntRange(0, len(p.Ops)-1).Draw(t, "killed after")] {
					if err := half.apply(&p.Ops[i].Change); err != nil {
						t.Fatal(err)
					}
				}
				next := l.build(t, half)
				q := Diff(input(half, next, union(old, want, next), false))
				if len(q.Conflicts)+len(q.Orphans) > 0 {
					t.Fatalf("%s: findings after a kill:\n%s\nstate:\n%s", kind, show(&q), half.state())
				}
				watch(t, half, &q, probes)
				checkEnd(t, half, &next)
			}
			watch(t, k, &p, probes)
			checkEnd(t, k, &want)
			again := l.build(t, k)
			if q := Diff(input(k, again, union(want), false)); !q.Empty() {
				t.Fatalf("%s: a second run finds\n%s", kind, show(&q))
			}
			how := "plain"
			for i := range p.Ops {
				if p.Ops[i].Compiled && how == "plain" {
					how = "tree in place"
				}
				if p.Ops[i].Reason == gateReason+"the tree is complete" {
					how = "tree built"
				}
			}
			counts[fmt.Sprintf("%s: %s", kind, how)]++
			old = want
		}
	})
	t.Log(counts)
}

// TestOneMoreAmongTenThousand holds the bar: at most 40 writes.
func TestOneMoreAmongTenThousand(t *testing.T) {
	for _, f := range netstate.Families {
		rnd := rand.New(rand.NewPCG(7, uint64(f)))
		var l sourceList
		for len(l.prefixes) < 10_000 {
			b := netip.MustParseAddr("10.0.0.0").AsSlice()
			if f == netstate.IPv6 {
				b = netip.MustParseAddr("2001:db8::").AsSlice()
			}
			n := len(b)
			b[n-3], b[n-2], b[n-1] = byte(len(l.prefixes)>>12), byte(rnd.IntN(256)), byte(rnd.IntN(256))
			a, _ := netip.AddrFromSlice(b)
			l.prefixes, l.tables = append(l.prefixes, netip.PrefixFrom(a, a.BitLen())), append(l.tables, 5000)
		}
		k := newKernel(netstate.State{}, nil)
		old := l.build(t, k)
		for i := range old.Rules {
			k.rules = append(k.rules, old.Rules[i].Rule)
		}
		most := 0
		for range 30 {
			l.insert(rnd.IntN(len(l.prefixes)), randomSource(rnd, f, 3, 0), 5001)
			want := l.build(t, k)
			p := Diff(input(k, want, union(old, want), false))
			if len(p.Ops) > 40 {
				t.Fatalf("%s: one policy more is %d writes:\n%s", f, len(p.Ops), show(&p))
			}
			most = max(most, len(p.Ops))
			for i := range p.Ops {
				if err := k.apply(&p.Ops[i].Change); err != nil {
					t.Fatal(err)
				}
			}
			old = want
		}
		t.Logf("%s: at most %d writes", f, most)
	}
}
