package desired

import (
	"fmt"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// placeAuto gives the rules without a priority theirs, in the band, clear of
// foreign rules, of those with a priority of their own and of their trees.
//
// Rules in between those that a tree of given priorities stands for would come
// in an order that their numbers do not show, so they are put there only where
// there is no other place.
func (s *ruleSet) placeAuto(fixedTrees, fixedRanges []span) {
	if len(s.auto) == 0 || s.placeClearOf(fixedRanges) {
		return
	}
	if len(fixedTrees) > 0 {
		s.findTrees() // the first try has used them up
		if s.placeClearOf(fixedTrees) {
			return
		}
	}
	band := s.b.own.Priorities
	s.b.fail(s.auto[0].at.key(""), fmt.Sprintf("there is no free priority from %d to %d for the %s rules without a priority", band.First, band.Last, s.family),
		"give the rules priorities, or remove rules of others from there")
}

// placeClearOf places the rules clear of the spans, or says that it cannot.
func (s *ruleSet) placeClearOf(spans []span) bool {
	b := &band{span: span{s.b.own.Priorities.First, s.b.own.Priorities.Last}}
	hard := makeSpans(s.barred(), spans)
	var trees, ours []span
	for _, t := range s.trees {
		trees = append(trees, t.span)
	}
	inTrees := makeSpans(trees)
	b.plain = make(map[netstate.Rule]standingRule)
	for _, r := range s.ours {
		at := span{r.Priority, r.Priority}
		ours = append(ours, at)
		if _, in := inTrees.meets(at); in || r.Priority < b.first || r.Priority > b.last {
			continue
		}
		if n := len(b.standing); n == 0 || b.standing[n-1] != r.Priority {
			b.standing = append(b.standing, r.Priority)
		}
		content := *r.Rule
		content.Priority = 0
		_, barred := hard.meets(at)
		if _, twice := b.plain[content]; !twice && !barred {
			b.plain[content] = r
		}
	}
	// What is skipped while a tree that stands is taken away must not be in its
	// span, and a new tree must be whole before what it replaces goes: so both
	// keep clear of what stands.
	b.forRules = makeSpans(hard, trees)
	b.forTrees = makeSpans(hard, trees, ours)
	s.makeSlots(b, hard)
	if !s.settle(b) {
		return false
	}
	for _, l := range b.lists {
		s.warnSlow(l, fmt.Sprintf("there is no room from %d to %d for a tree", b.first, b.last), "remove rules of others from there, or merge prefixes")
	}
	for i := range b.slots {
		switch sl := &b.slots[i]; {
		case sl.run == nil:
			s.emit(&sl.rules[0], sl.at.first)
		case sl.kept:
			s.emitTree(sl.run.stood)
		default:
			sl.run.new().number(sl.at)
			s.emitTree(sl.run.new())
		}
	}
	return true
}

// barred are the priorities that no rule without one may share: those of foreign
// rules, since who comes first would be chance; of the user's own, since nobody
// said which comes first; and of gotos' targets, since a rule there would be
// jumped to.
func (s *ruleSet) barred() []span {
	var out []span
	one := func(p uint32) { out = append(out, span{p, p}) }
	for _, r := range s.foreign {
		one(r.Priority)
		if r.Action == netstate.Goto {
			one(r.Goto)
		}
	}
	for _, list := range [][]rule{s.fixed, s.auto} {
		for i := range list {
			if list[i].Action == netstate.Goto {
				one(list[i].Goto)
			}
		}
	}
	for i := range s.fixed {
		one(s.fixed[i].Priority)
	}
	return out
}

// makeSlots cuts the rules into runs and single ones.
func (s *ruleSet) makeSlots(b *band, hard spans) {
	var runs []*candidate
	total := 0
	for rest := s.auto; len(rest) > 0; {
		plain, compiled, byTo := nextRun(rest)
		b.addPlain(plain)
		if len(compiled) > 0 {
			c := &candidate{run: newRun(s.family, compiled, byTo), order: -1}
			runs = append(runs, c)
			total += len(compiled)
			b.slots = append(b.slots, slot{rules: compiled, run: c, order: -1})
		}
		rest = rest[len(plain)+len(compiled):]
	}
	for _, c := range runs {
		c.most = max(treeMost*len(c.rules)/total-3, 2)
	}
	s.adopt(runs, func(_ *candidate, t *standingTree) bool {
		_, meets := hard.meets(t.span)
		return !meets && t.first >= b.first && t.last <= b.last
	})
}

// addPlain adds rules, each with the place where it stands.
func (b *band) addPlain(rules []rule) {
	for i := range rules {
		sl := slot{rules: rules[i : i+1], order: -1}
		if r, ok := b.plain[rules[i].Rule]; ok {
			sl.order, sl.stands = r.index, span{r.Priority, r.Priority}
		}
		b.slots = append(b.slots, sl)
	}
}

// settle places the slots. The trees that stand are kept as long as that is
// possible, those that a new one would be better than as long as the new one
// finds no room beside them.
func (s *ruleSet) settle(b *band) bool {
	again := func(keepPoor bool) {
		for i := range b.slots {
			if c := b.slots[i].run; c != nil {
				b.slots[i].order = -1
				if c.stood != nil && (keepPoor || !c.poor) {
					b.slots[i].order, b.slots[i].stands = c.order, c.stood.span
				}
			}
		}
	}
	for {
		again(false)
		if b.place(false) {
			return true
		}
		again(true)
		if b.place(false) {
			return true
		}
		smaller := false
		for i := range b.slots {
			if c := b.slots[i].run; c != nil && c.most > 8 {
				c.most, c.fresh, smaller = c.most/2, nil, true
			}
		}
		if !smaller {
			break
		}
	}
	if b.place(true) {
		return true
	}
	// No room for all of the trees: what has none becomes a list.
	slots := b.slots
	b.slots = nil
	for i := range slots {
		if c := slots[i].run; c == nil || c.stood != nil {
			b.slots = append(b.slots, slots[i])
			continue
		}
		b.lists = append(b.lists, slots[i].rules)
		b.addPlain(slots[i].rules)
	}
	return b.place(true)
}

// candidate is a run of which a tree is to be made.
type candidate struct {
	run
	most  int   // groups of a new tree
	stood *tree // the tree that stands, changed so that it fits; nil: none
	order int   // of that, in the kernel's list
	poor  bool  // a new one would be much better
	fresh *tree
}

// new is a new tree for the run.
func (c *candidate) new() *tree {
	if c.fresh == nil {
		c.fresh = newTree(c.run, c.most)
	}
	return c.fresh
}

// adopt finds for each run the tree that stands for it, among those for which
// usable says yes, and changes that.
func (s *ruleSet) adopt(runs []*candidate, usable func(c *candidate, t *standingTree) bool) {
	if len(s.trees) == 0 {
		return
	}
	type pair struct{ score, run, tree int }
	contents := make([]map[content]int32, len(runs))
	var pairs []pair
	for i, c := range runs {
		like := template(&c.rules[0].Rule, c.byTo)
		for j, t := range s.trees {
			if !t.whole || t.byTo != c.byTo || t.template != like || !usable(c, t) {
				continue
			}
			if contents[i] == nil {
				contents[i] = c.contents()
			}
			if n := t.shares(contents[i]); n > 0 {
				pairs = append(pairs, pair{n, i, j})
			}
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return b.score - a.score })
	for _, p := range pairs {
		if c, t := runs[p.run], s.trees[p.tree]; c.stood == nil && t.whole {
			c.stood, c.poor = t.edit(c.run, contents[p.run], c.most)
			c.order = t.order
			t.whole = false // it is used up
		}
	}
}
