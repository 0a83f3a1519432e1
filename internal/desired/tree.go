package desired

import (
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// A tree stands for a run of rules that differ only in one prefix and the table.
// It is a list of groups of rules, each at one priority of its own:
//
//	Gate       empty; `from all goto End` stands here only while the tree is changed
//	Gate+1     `not from COMMON goto End`, where the run has a common prefix
//	Gate+2 …   groups: `from PREFIX goto GROUP` (splits) and rules of the run, and
//	           last `from REGION goto End`
//	End        `from all nop`
//
// A packet goes through the splits from group to group. Each group holds every
// rule of the run that may select a packet which comes to it, in the order of
// the run, so a lookup that finds no route goes on with the right one. REGION
// holds all packets that come to the group; that the group's end names it lets
// the end be deleted without hitting a split, for the kernel takes a message
// that names no prefix for any (rule_find in net/core/fib_rules.c).
//
// The end is never `lookup main` or the like: what the run does not decide goes
// on at the next rule behind End, whoever put it there.

const (
	// minRun is how many rules a run must have at least to become a tree. For
	// fewer the plain list is as fast.
	minRun = 11
	// leafFill is how many rules a group of a new tree has at most, as long as
	// the priorities suffice. 24 to 48 make 34 on average.
	leafFill = 48
	// leafMost is when a group is split, and leafLeast when it is joined with
	// the group that leads to it.
	leafMost, leafLeast = 64, 8
	// peelSize is how many rules move to a new group when one grows a little
	// beyond its most: few, so that one rule more is at most some 30 writes.
	peelSize = 12
	// treeMost is how many priorities all trees of a family together may take
	// when they are new, so that two generations fit in the band. A bigger run
	// gets bigger groups.
	treeMost = 320
	// spare priorities let groups be split later.
	minSpare = 4
	// copiesMost bounds, as a multiple of the run, how many copies of rules with
	// short prefixes there may be.
	copiesMost = 8
)

// run is a row of rules that differ in nothing but prefix and table.
type run struct {
	family netstate.Family
	byTo   bool   // the prefix is To; else From
	listed []rule // as the user has them
	rules  []rule // each but once, whatever its priority
	pfx    []pfx  // of each of rules
}

// group is a group of rules of a tree.
type group struct {
	priority uint32
	region   pfx // holds every packet that comes here
	exit     pfx // of the goto at the end
	splits   []split
	rules    []int32 // of the run, in its order
	entries  []entry // the order in the kernel
	// stood is the order that stands in the kernel, where the group does; new
	// ones have none.
	stood []entry
	grew  bool // a rule comes in
	lost  bool // a rule goes away for good
}

// split sends the packets of a prefix on to a group.
type split struct {
	pfx pfx
	to  *group
}

// entry is a split or a rule of the run.
type entry struct {
	to    *group // nil: a rule
	pfx   pfx    // of the split, or of a rule that stands
	rule  int32  // -1: one that is no rule of the run any more
	table uint32 // of a rule that stands
}

// tree is a compiled run.
type tree struct {
	run
	span
	common pfx // of length 0: none
	root   *group
	spare  uint32
}

func newRun(family netstate.Family, rules []rule, byTo bool) run {
	r := run{family: family, byTo: byTo, listed: rules, rules: rules}
	if !rules[0].auto { // those without a priority differ anyway
		r.rules = make([]rule, 0, len(rules))
		seen := make(map[content]bool, len(rules))
		for i := range rules {
			c := content{makePfx(*r.selector(&rules[i].Rule)), rules[i].Table}
			if !seen[c] {
				seen[c] = true
				r.rules = append(r.rules, rules[i])
			}
		}
	}
	r.pfx = make([]pfx, len(r.rules))
	for i := range r.rules {
		r.pfx[i] = makePfx(*r.selector(&r.rules[i].Rule))
	}
	return r
}

// fill puts the rules of the run into the groups.
func (t *tree) fill() (copies int) {
	t.each(func(g *group) { g.rules = g.rules[:0] })
	for i := range t.pfx {
		copies += t.root.add(t.pfx[i], int32(i))
	}
	return copies
}

func (g *group) add(p pfx, rule int32) (copies int) {
	for i := range g.splits {
		s := &g.splits[i]
		if !s.pfx.overlaps(p) {
			continue
		}
		copies += s.to.add(p, rule)
		if s.pfx.covers(p) {
			return copies
		}
	}
	g.rules = append(g.rules, rule)
	return copies + 1
}

// each calls f for every group, each before those that it leads to.
func (t *tree) each(f func(*group)) { t.root.each(f) }

func (g *group) each(f func(*group)) {
	f(g)
	for i := range g.splits {
		g.splits[i].to.each(f)
	}
}

// groups counts them.
func (t *tree) groups() (n uint32) {
	t.each(func(*group) { n++ })
	return n
}

// size is how many priorities a new tree takes: gate, common, groups, end.
func (t *tree) size() uint32 { return 3 + t.groups() + t.spare }

// number gives a new tree its priorities.
func (t *tree) number(at span) {
	t.span = at
	next := at.first + 2
	t.each(func(g *group) {
		g.priority = next
		next++
	})
}

// emitTree adds the rules of the tree.
func (s *ruleSet) emitTree(t *tree) {
	first := t.rules[0].at.origin()
	base := netstate.Rule{Family: t.family, Protocol: s.b.own.Protocol}
	s.out = slices.Grow(s.out, len(t.rules)+len(t.rules)/8)
	s.listed = slices.Grow(s.listed, len(t.listed))
	leadTo := func(priority uint32, p pfx, target uint32) *netstate.Rule {
		s.out = append(s.out, Rule{Rule: base, Origin: first, Compiled: true})
		r := &s.out[len(s.out)-1].Rule
		r.Priority, r.Action, r.Goto = priority, netstate.Goto, target
		*t.selector(r) = p.prefix(t.family)
		return r
	}
	if t.common.n > 0 {
		leadTo(t.first+1, t.common, t.last).Not = true
	}
	t.each(func(g *group) {
		for _, e := range g.entries {
			if e.to != nil {
				leadTo(g.priority, e.pfx, e.to.priority)
				continue
			}
			r := &t.rules[e.rule]
			s.out = append(s.out, Rule{Rule: r.Rule, Origin: r.at.origin(), Compiled: true})
			s.out[len(s.out)-1].Priority = g.priority
		}
		leadTo(g.priority, g.exit, t.last)
	})
	base.Priority, base.Action = t.last, netstate.Nop
	s.out = append(s.out, Rule{Rule: base, Origin: first, Compiled: true})
	for i := range t.listed {
		r := &t.listed[i]
		s.listed = append(s.listed, Rule{Rule: r.Rule, Origin: r.at.origin()})
		if r.auto {
			s.listed[len(s.listed)-1].Priority = t.first
		}
	}
	s.b.want.Trees = append(s.b.want.Trees, Tree{Family: t.family, Gate: t.first, End: t.last, Rules: len(t.listed), Origin: first})
}
