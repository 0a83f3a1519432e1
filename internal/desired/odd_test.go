package desired_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/kernelfake"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// TestDamagedTrees builds on trees of which somebody removed, doubled or changed
// rules, or whose making was cut off: the result is right all the same, plan
// leads to it, and it stays.
func TestDamagedTrees(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		fam := netstate.Families[rnd.IntN(2)]
		var l list
		for range 20 + rnd.IntN(200) {
			l.prefixes = append(l.prefixes, randomPrefix(rnd, fam, rnd.IntN(6)))
			l.tables = append(l.tables, 5000+uint32(rnd.IntN(3)))
		}
		objs := []spec.Object{sources("a", l.prefixes, l.tables, nil)}
		base := kernelFacts(t, "")
		w, _ := desired.Build(objs, base)
		f := apply(base, w)
		rules := slices.Clone(f.State.Rules)
		var damage []string
		for range 1 + rnd.IntN(4) {
			at := rnd.IntN(len(rules))
			if rules[at].Protocol != netstate.ProtocolObject {
				continue
			}
			kind := rnd.IntN(7)
			damage = append(damage, fmt.Sprint(kind, " ", rules[at]))
			switch kind {
			case 0:
				rules = slices.Delete(rules, at, at+1)
			case 1:
				rules = slices.Insert(rules, at, rules[at])
			case 2:
				rules[at].IIF = "eth1"
			case 3: // a gate
				rules = append(rules, netstate.Rule{Family: fam, Priority: w.Trees[0].Gate, Action: netstate.Goto, Goto: w.Trees[0].End, Protocol: netstate.ProtocolObject})
			case 4: // cut off as it was made, downward
				rules = slices.DeleteFunc(rules, func(r netstate.Rule) bool {
					return r.Family == fam && r.Protocol == netstate.ProtocolObject && r.Priority < rules[at].Priority
				})
			case 5:
				for rules[at].Action != netstate.Goto && at > 0 {
					at--
				}
				rules[at].Goto++
			case 6: // another way into some group
				if r := rules[at]; r.Priority > w.Trees[0].Gate+2 {
					rules = slices.Insert(rules, 0, netstate.Rule{Family: fam, Priority: w.Trees[0].Gate + 2, From: l.prefixes[0], Action: netstate.Goto, Goto: r.Priority, Protocol: netstate.ProtocolObject})
				}
			}
			sortRules(rules)
		}
		f.State.Rules = rules
		next, ps := desired.Build(objs, f)
		if spec.Failed(ps) {
			t.Fatalf("seed %d: %v", seed, ps)
		}
		sameDecisions(t, rnd, f, next, nil, 10)
		checkShape(t, f, next)
		k := kernelfake.New(f.State)
		p := diff(f, desired.Want{Rules: owned(rules)}, next)
		for i := range p.Ops {
			if _, failed := k.Apply(context.Background(), []netstate.Change{p.Ops[i].Change}); len(failed) > 0 {
				t.Fatalf("seed %d: %v: %s: %v", seed, damage, p.Ops[i].Change, failed[0])
			}
		}
		real, _ := lists(f, next, fam)
		if got, want := ruleText(familyRules(t, k, fam)), ruleText(real); got != want {
			t.Fatalf("seed %d: %v: the kernel has\n%s\nand not\n%s", seed, damage, got, want)
		}
		f.State.Rules = slices.Concat(familyRules(t, k, netstate.IPv4), familyRules(t, k, netstate.IPv6))
		if again, _ := desired.Build(objs, f); wantText(again) != wantText(next) {
			t.Fatalf("seed %d: %v: not a fixed point", seed, damage)
		}
	}
}

func owned(rules []netstate.Rule) (out []desired.Rule) {
	for i := range rules {
		if rules[i].Protocol == netstate.ProtocolObject {
			out = append(out, desired.Rule{Rule: rules[i]})
		}
	}
	return out
}

// TestTreeIsMended: what a small damage leaves of a tree is gone on with.
func TestTreeIsMended(t *testing.T) {
	for i := range 4 {
		fam := netstate.Families[i%2]
		prefixes := counting(fam, 300)
		if i > 1 { // which have no common prefix
			prefixes = random(rand.New(rand.NewPCG(1, 1)), fam, 300)
		}
		objs := []spec.Object{sources("a", prefixes, constant[uint32](1, 300), nil)}
		base := kernelFacts(t, filled)
		w, _ := build(t, objs, base)
		for name, damage := range map[string]func(rules []netstate.Rule) []netstate.Rule{
			"a gate was left standing": func(rules []netstate.Rule) []netstate.Rule {
				return append(rules, netstate.Rule{Family: fam, Priority: w.Trees[0].Gate, Action: netstate.Goto, Goto: w.Trees[0].End, Protocol: netstate.ProtocolObject})
			},
			"a rule was changed": func(rules []netstate.Rule) []netstate.Rule {
				i := slices.IndexFunc(rules, func(r netstate.Rule) bool { return r.Table == 1 && r.Family == fam })
				rules[i].IIF = "eth1"
				return rules
			},
			"a change was cut off, and rules are there twice": func(rules []netstate.Rule) []netstate.Rule {
				return append(rules, slices.DeleteFunc(slices.Clone(rules), func(r netstate.Rule) bool { return r.Priority != w.Trees[0].Gate+2 })...)
			},
			"a rule is gone": func(rules []netstate.Rule) []netstate.Rule {
				i := slices.IndexFunc(rules, func(r netstate.Rule) bool { return r.Table == 1 && r.Family == fam })
				return slices.Delete(rules, i, i+1)
			},
		} {
			f := apply(base, w)
			f.State.Rules = damage(f.State.Rules)
			sortRules(f.State.Rules)
			again, _ := build(t, objs, f)
			if len(again.Trees) != 1 || again.Trees[0].Gate != w.Trees[0].Gate {
				t.Errorf("%s %s: %v", fam, name, again.Trees)
			}
			if c := ops(owned(f.State.Rules), again.Rules); c > 5 && !strings.Contains(name, "twice") {
				t.Errorf("%s %s: %d writes", fam, name, c)
			}
		}
	}
}

// TestSomebodyComesIntoATree: the tree moves out of the way of a foreign rule, and
// where there is no room it becomes a list, with a word about it.
func TestSomebodyComesIntoATree(t *testing.T) {
	prefixes := counting(netstate.IPv4, 3000)
	objs := []spec.Object{sources("a", prefixes, constant[uint32](1, 3000), nil)}
	f := kernelFacts(t, filled)
	w, _ := build(t, objs, f)
	f = apply(f, w)
	intrude := func(p uint32) {
		f.State.Rules = append(slices.Clone(f.State.Rules), netstate.Rule{Family: netstate.IPv4, Priority: p, IIF: "eth1", Action: netstate.ToTable, Table: 9, Protocol: 4})
		sortRules(f.State.Rules)
	}
	gate := w.Trees[0].Gate
	intrude(gate + 20)
	w, ps := build(t, objs, f)
	if len(w.Trees) != 1 || w.Trees[0].Gate <= gate+20 || len(ps) > 0 {
		t.Fatalf("%v %v", w.Trees, ps)
	}
	checkShape(t, f, w)
	f = apply(f, w)
	for p := uint32(2205); p < 3000; p += 5 {
		intrude(p)
	}
	w, ps = build(t, objs, f)
	if len(w.Trees) != 0 || len(w.Rules) != 3000 {
		t.Fatalf("%v, %d rules", w.Trees, len(w.Rules))
	}
	if got, want := problemText(ps), "a.yaml:1: warning: spec.rules[0]: every packet has to go through 3000 IPv4 rules one by one: there is no room from 2200 to 2999 for a tree; remove rules of others from there, or merge prefixes\n"; got != want {
		t.Errorf("got %s", got)
	}
	sameDecisions(t, rand.New(rand.NewPCG(1, 1)), f, w, nil, 10)
}

// TestManyTrees: runs that other rules part share the band, and grow into what is
// left of it.
func TestManyTrees(t *testing.T) {
	for _, fam := range netstate.Families {
		rnd := rand.New(rand.NewPCG(1, 9))
		prefixes := random(rnd, fam, 12_000)
		part := func(i int, r *spec.Rule) {
			if i%3000 == 0 {
				r.IIF = "eth1"
			}
		}
		objs := func(n int) []spec.Object {
			return []spec.Object{sources("a", prefixes[:n], constant[uint32](1, n), part)}
		}
		f := kernelFacts(t, filled)
		w, ps := build(t, objs(11_000), f)
		if len(w.Trees) != 4 || len(ps) > 0 {
			t.Fatalf("%d trees, %v", len(w.Trees), ps)
		}
		checkShape(t, f, w)
		before := w
		f = apply(f, w)
		w, _ = build(t, objs(11_001), f)
		if c := ops(before.Rules, w.Rules); c > 40 {
			t.Errorf("%d writes for one more", c)
		}
		f = apply(f, w)
		w, ps = build(t, objs(12_000), f)
		if len(w.Trees) != 4 || len(ps) > 0 {
			t.Fatalf("%d trees, %v", len(w.Trees), ps)
		}
		sameDecisions(t, rnd, f, w, nil, 50)
		checkShape(t, f, w)
	}
}

func TestFixedTrees(t *testing.T) {
	prefixes := counting(netstate.IPv4, 200)
	at := func(priority func(i int) uint32) []spec.Object {
		return []spec.Object{sources("a", prefixes, constant[uint32](1, len(prefixes)), func(i int, r *spec.Rule) {
			r.Priority = netstate.Some(priority(i))
		})}
	}
	for _, c := range []struct {
		name     string
		objs     []spec.Object
		have     string
		trees    string
		problems string
	}{{
		name:  "within their own priorities",
		objs:  at(func(i int) uint32 { return 1000 + uint32(i) }),
		trees: "1000-1012 of 200",
	}, {
		name:  "two priorities far from each other are room enough",
		objs:  at(func(i int) uint32 { return 1000 + uint32(i/100)*50 }),
		trees: "1000-1012 of 200",
	}, {
		name:  "few priorities make big groups",
		objs:  at(func(i int) uint32 { return 1000 + uint32(i/34) }),
		trees: "1000-1005 of 200",
	}, {
		name:     "one priority is none",
		objs:     at(func(i int) uint32 { return 1000 }),
		problems: "a.yaml:1: warning: spec.rules[0]: every packet has to go through 200 IPv4 rules one by one: they all have the priority 1000, and a tree needs several; leave the priorities out, and viarule makes a tree of them that is as fast as a few rules",
	}, {
		name:     "two priorities are too few",
		objs:     at(func(i int) uint32 { return 1000 + uint32(i%2) }),
		problems: "a.yaml:1: warning: spec.rules[0]: every packet has to go through 200 IPv4 rules one by one: they have the priorities 1000 to 1001, and that is too few for a tree; leave the priorities out, and viarule makes a tree of them that is as fast as a few rules",
	}, {
		name:     "a foreign rule, or where somebody jumps to, parts them",
		objs:     at(func(i int) uint32 { return 1000 + uint32(i) }),
		have:     "rule 900 from all iif eth1 goto 1150 proto static\nrule 1100 from all iif eth1 table 9 proto static\nrule 1100 from all iif eth0 table 9 proto static",
		trees:    "1000-1009 of 100, 1101-1109 of 49, 1151-1159 of 49",
		problems: "a.yaml:101: warning: spec.rules[100].priority: somebody else's rule has the same priority and selects some of the same packets (rule 1100 from all iif eth1 table 9 proto 4), and nobody can say which comes first; use another priority",
	}, {
		name:  "a foreign rule that is just one of them parts them too, since it stands for it",
		objs:  at(func(i int) uint32 { return 1000 + uint32(i) }),
		have:  "rule 1006 from 10.0.0.6 table 1 proto static",
		trees: "1007-1019 of 193",
	}, {
		name: "another rule of ours at the first and the last priority stays outside",
		objs: []spec.Object{sources("a", prefixes, constant[uint32](1, len(prefixes)), func(i int, r *spec.Rule) {
			r.Priority = netstate.Some(1000 + uint32(i+1)/2)
			if i == 0 || i == 199 {
				r.IIF = "eth1"
			}
		})},
		trees: "1001-1013 of 198",
	}, {
		name: "rules in between part them",
		objs: []spec.Object{sources("a", prefixes, constant[uint32](1, len(prefixes)), func(i int, r *spec.Rule) {
			r.Priority = netstate.Some(1000 + uint32(i)/3)
			if i == 98 || i == 102 {
				r.IIF = "eth1"
			}
		})},
		trees: "1000-1009 of 98, 1035-1044 of 97",
	}, {
		name:  "not where rules of ours stand, for the tree must be whole before they go",
		objs:  at(func(i int) uint32 { return 1000 + uint32(i) }),
		have:  "rule 1010 from 10.0.0.10 table 1 proto 118\nrule 1012 from 10.0.0.12 table 1 proto 118\nrule 1100 from 10.0.0.100 table 1 proto 118",
		trees: "1101-1113 of 200",
	}} {
		t.Run(c.name, func(t *testing.T) {
			f := kernelFacts(t, filled+"\n"+c.have)
			w, ps := build(t, c.objs, f)
			var trees []string
			for _, x := range w.Trees {
				trees = append(trees, fmt.Sprintf("%d-%d of %d", x.Gate, x.End, x.Rules))
			}
			if got := strings.Join(trees, ", "); got != c.trees {
				t.Errorf("trees %s", got)
			}
			if got, want := problemText(ps), lines(c.problems); got != want {
				t.Errorf("got %s", got)
			}
			if len(w.Listed) != 200 {
				t.Errorf("%d rules are listed", len(w.Listed))
			}
			checkShape(t, f, w)
			sameDecisions(t, rand.New(rand.NewPCG(1, 1)), f, w, nil, 50)
		})
	}
}

// TestFixedTreeLeavesSharedPriorities: other rules of ours stand at the first and
// the last priority of a run that has just room for a tree.
func TestFixedTreeLeavesSharedPriorities(t *testing.T) {
	objs := []spec.Object{sources("a", counting(netstate.IPv4, 22), constant[uint32](1, 22), func(i int, r *spec.Rule) {
		r.Priority = netstate.Some(1000 + uint32(i+1)/4)
		if i == 0 || i == 21 {
			r.IIF = "eth1"
		}
	})}
	f := kernelFacts(t, filled)
	w, ps := build(t, objs, f)
	if len(w.Trees) != 1 || w.Trees[0].Gate != 1001 || w.Trees[0].End != 1004 || len(ps) > 0 {
		t.Errorf("%v %v", w.Trees, ps)
	}
	checkShape(t, f, w)
	sameDecisions(t, rand.New(rand.NewPCG(1, 1)), f, w, nil, 10)
}

// TestUsersNopIsNoTree: gotos to a nop that the user wants are left alone.
func TestUsersNopIsNoTree(t *testing.T) {
	runBuildCases(t, []buildCase{{
		name: "in the band",
		have: filled + `
			rule 2210 from 10.0.0.0/8 table 1 proto 118
			rule 2210 from 10.0.0.0/8 goto 2900 proto 118
			rule 2900 from all nop proto 118`,
		objs: `a:
  rules:
  - {from: [10.0.0.0/8], table: 1}
  - {from: [10.0.0.0/8], goto: 2900}
  - {priority: 2900, family: IPv4, nop: true}`,
		want: `
			rule 2210 from 10.0.0.0/8 table 1 proto 118
			rule 2210 from 10.0.0.0/8 goto 2900 proto 118
			rule 2900 from all nop proto 118`,
	}})
}

// TestTreesAreOnlyOfWhatIsAlike: a rule with another selector, another action or
// `not`, or one that selects all, is not compiled, and parts what it stands in.
func TestTreesAreOnlyOfWhatIsAlike(t *testing.T) {
	for name, odd := range map[string]func(*spec.Rule){
		"iif":      func(r *spec.Rule) { r.IIF = "eth1" },
		"not":      func(r *spec.Rule) { r.Not = true },
		"all":      func(r *spec.Rule) { r.From = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} },
		"to":       func(r *spec.Rule) { r.To = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
		"action":   func(r *spec.Rule) { r.Action = netstate.Blackhole },
		"goto":     func(r *spec.Rule) { r.Action, r.Goto = netstate.Goto, 5000 },
		"suppress": func(r *spec.Rule) { r.SuppressPrefixLength = netstate.Some(0) },
	} {
		t.Run(name, func(t *testing.T) {
			f := kernelFacts(t, filled+"\nrule 5000 from all table 9 proto static")
			w, ps := build(t, []spec.Object{sources("a", counting(netstate.IPv4, 31), constant[uint32](1, 31), func(i int, r *spec.Rule) {
				if i == 15 {
					odd(r)
				}
			})}, f)
			if len(w.Trees) != 2 || w.Trees[0].Rules != 15 || w.Trees[1].Rules != 15 || len(ps) > 0 {
				t.Errorf("%v %v", w.Trees, ps)
			}
			plain := 0
			for i := range w.Rules {
				if !w.Rules[i].Compiled {
					plain++
				}
			}
			if plain != 1 || len(w.Listed) != 31 {
				t.Errorf("%d plain rules, %d listed", plain, len(w.Listed))
			}
		})
	}
	f := kernelFacts(t, filled)
	w, _ := build(t, []spec.Object{sources("a", counting(netstate.IPv4, 10), constant[uint32](1, 10), nil)}, f)
	if len(w.Trees) != 0 {
		t.Errorf("a tree of 10")
	}
	for _, odd := range []func(int, *spec.Rule){
		func(_ int, r *spec.Rule) { r.Not = true },
		func(_ int, r *spec.Rule) { r.Action, r.Goto, r.Table = netstate.Goto, 5000, spec.TableRef{} },
	} {
		if w, _ := build(t, []spec.Object{sources("a", counting(netstate.IPv4, 30), constant[uint32](1, 30), odd)}, f); len(w.Trees) != 0 {
			t.Errorf("a tree of %s", w.Rules[0].Rule)
		}
	}
	all := func(i int, r *spec.Rule) { r.Action, r.Table = netstate.Prohibit, spec.TableRef{} }
	w, _ = build(t, []spec.Object{sources("a", counting(netstate.IPv6, 11), constant[uint32](1, 11), all)}, f)
	if len(w.Trees) != 1 || w.Trees[0].Rules != 11 {
		t.Errorf("no tree of 11 rules that prohibit")
	}
}
