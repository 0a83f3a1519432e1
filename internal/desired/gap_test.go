package desired_test

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/kernelfake"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/spec"
)

// diff is the plan from a state, which holds the want before, to the next want.
func diff(f desired.Facts, before, next desired.Want) plan.Plan {
	rec := plan.Recorded{Rules: map[netstate.Rule]bool{}, Routes: map[netstate.RouteKey]bool{}}
	for _, w := range []desired.Want{before, next} {
		for i := range w.Rules {
			rec.Rules[w.Rules[i].Rule] = true
		}
		for i := range w.Routes {
			rec.Routes[w.Routes[i].Key()] = true
		}
	}
	return plan.Diff(plan.Input{Want: next, Have: f.State, Recorded: rec})
}

// TestEditsLeaveNoGap lets plan carry out random edits on the fake kernel, and
// looks after every single write: each packet meets its old or its new decision.
func TestEditsLeaveNoGap(t *testing.T) {
	base := kernelFacts(t, `
		rule 2000 from 10.0.0.0/9 iif eth1 table 77 proto static
		rule 5000 from all table 78 proto static
		rule -6 2000 from 2001:db8::/33 iif eth1 table 77 proto static
		rule -6 5000 from all table 78 proto static`)
	rapid.Check(t, func(t *rapid.T) {
		rnd := dice(t)
		fam := netstate.Families[rnd.IntN(2)]
		spread := rnd.IntN(8)
		l := list{}
		grow := func(n int) {
			for range n {
				at := rnd.IntN(len(l.prefixes) + 1)
				l.prefixes = slices.Insert(slices.Clone(l.prefixes), at, randomPrefix(rnd, fam, spread))
				l.tables = slices.Insert(slices.Clone(l.tables), at, 5000+uint32(rnd.IntN(3)))
			}
		}
		grow([]int{0, 10, 30, 80, 150, 250}[rnd.IntN(6)])
		k := kernelfake.New(base.State)
		f, before := base, desired.Want{}
		for range 1 + rnd.IntN(5) {
			next, ps := desired.Build([]spec.Object{sources("a", l.prefixes, l.tables, nil)}, f)
			if spec.Failed(ps) {
				t.Fatalf("%v", ps)
			}
			p := diff(f, before, next)
			if len(p.Conflicts)+len(p.Orphans) > 0 {
				t.Fatalf("%v %v", p.Conflicts, p.Orphans)
			}
			packets := probes(rnd, next, fam)
			oldRules, _ := lists(f, before, fam)
			newRules, _ := lists(f, next, fam)
			for i := range p.Ops {
				if _, failed := k.Apply(context.Background(), []netstate.Change{p.Ops[i].Change}); len(failed) > 0 {
					t.Fatalf("%s: %v", p.Ops[i].Change, failed[0])
				}
				if i%(1+len(p.Ops)/200) != 0 {
					continue
				}
				now := familyRules(t, k, fam)
				for _, x := range packets {
					if got := walk(now, x, nil); got != walk(oldRules, x, nil) && got != walk(newRules, x, nil) {
						t.Fatalf("after %d of %d writes, %s, %v meets %s, before %s, then %s", i+1, len(p.Ops), p.Ops[i].Change, x, got, walk(oldRules, x, nil), walk(newRules, x, nil))
					}
				}
			}
			if got, want := ruleText(familyRules(t, k, fam)), ruleText(newRules); got != want {
				t.Fatalf("the kernel has\n%s\nand not\n%s", got, want)
			}
			before, f = next, apply(f, next)
			switch rnd.IntN(4) {
			case 0, 1:
				grow(1 + rnd.IntN(2)*rnd.IntN(40))
			case 2:
				for range min(len(l.prefixes), 1+rnd.IntN(20)) {
					at := rnd.IntN(len(l.prefixes))
					l.prefixes = slices.Delete(slices.Clone(l.prefixes), at, at+1)
					l.tables = slices.Delete(slices.Clone(l.tables), at, at+1)
				}
			case 3:
				if len(l.tables) > 0 {
					l.tables[rnd.IntN(len(l.tables))] = 5000 + uint32(rnd.IntN(3))
				}
			}
		}
	})
}

func probes(rnd *rand.Rand, w desired.Want, fam netstate.Family) []packet {
	var out []packet
	for i := range w.Listed {
		if w.Listed[i].From.IsValid() && rnd.IntN(len(w.Listed)/10+1) == 0 {
			for _, a := range neighbours(w.Listed[i].From) {
				out = append(out, packet{a, netip.Addr{}, "eth1"})
			}
		}
	}
	for range 10 {
		out = append(out, packet{randomAddr(rnd, fam), netip.Addr{}, "eth0"})
	}
	return out
}

func familyRules(t fatal, k *kernelfake.Kernel, fam netstate.Family) []netstate.Rule {
	t.Helper()
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return slices.DeleteFunc(s.Rules, func(r netstate.Rule) bool { return r.Family != fam })
}
