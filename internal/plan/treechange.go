package plan

import (
	"cmp"
	"math"
	"slices"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// Trees says what the plan changes in goto trees, in the users' rules. A rule of
// the user may stand in several leaves, and leaves are rebuilt for reasons of
// their own, so ops are not what the user wants to read. It is worked out at the
// first call, since it takes longer than the plan itself, and nothing but the
// plan's text needs it.
func (p *Plan) Trees() []TreeChange {
	for _, d := range p.edited {
		p.trees = d.summarise(p.trees)
	}
	p.edited = nil
	return p.trees
}

// summarise adds what the edits of the family's trees mean.
func (d *ruleDiff) summarise(trees []TreeChange) []TreeChange {
	first := len(trees)
	index := make(map[*span]int)
	change := func(sp *span) *TreeChange {
		i, ok := index[sp]
		if !ok {
			i = len(trees)
			index[sp] = i
			trees = append(trees, TreeChange{Family: sp.family, Gate: sp.gate, End: sp.end, Rules: sp.rules})
		}
		return &trees[i]
	}
	for _, g := range d.groups {
		if g.span == nil || g.span.blocked || len(g.adds) == 0 && len(g.dels) == 0 {
			continue
		}
		c := change(g.span)
		for _, t := range g.adds {
			if leaf(&t.Rule.Rule) {
				c.Add = append(c.Add, *t.Rule)
			}
		}
		for _, x := range g.dels {
			if r := g.cur[x].rule; leaf(r) {
				c.Remove = append(c.Remove, *r)
			}
		}
	}
	if len(trees) == first {
		return trees
	}
	stood := make(map[netstate.Rule]bool, len(d.have))
	for i := range d.have {
		if ours(d.have[i].Protocol) {
			stood[noPriority(&d.have[i])] = true
		}
	}
	stays := make(map[netstate.Rule]bool, len(d.want))
	for i := range d.want {
		stays[noPriority(&d.want[i].Rule)] = true
	}
	order := make(map[netstate.Rule]int, len(d.listed))
	for i := range d.listed {
		order[noPriority(&d.listed[i].Rule)] = i
	}
	for i := first; i < len(trees); i++ {
		trees[i].finish(stood, stays, d.listed, order)
	}
	return trees
}

// leaf says whether a rule of a tree stands for one that a user wrote.
func leaf(r *netstate.Rule) bool { return r.Action != netstate.Goto && r.Action != netstate.Nop }

// finish leaves of what was added and removed what the user sees as new and as
// gone, once each, the former as and in the order in which it was written.
func (c *TreeChange) finish(stood, stays map[netstate.Rule]bool, listed []desired.Rule, order map[netstate.Rule]int) {
	seen := make(map[netstate.Rule]bool)
	once := func(r *netstate.Rule, not map[netstate.Rule]bool) bool {
		k := noPriority(r)
		drop := not[k] || seen[k]
		seen[k] = true
		return drop
	}
	c.Add = slices.DeleteFunc(c.Add, func(r desired.Rule) bool { return once(&r.Rule, stood) })
	clear(seen)
	c.Remove = slices.DeleteFunc(c.Remove, func(r netstate.Rule) bool { return once(&r, stays) })
	type placed struct {
		at   int
		rule desired.Rule
	}
	list := make([]placed, len(c.Add))
	for i := range c.Add {
		list[i] = placed{math.MaxInt, c.Add[i]}
		if at, ok := order[noPriority(&c.Add[i].Rule)]; ok {
			list[i] = placed{at, listed[at]}
		}
	}
	slices.SortStableFunc(list, func(a, b placed) int { return cmp.Compare(a.at, b.at) })
	for i := range list {
		c.Add[i] = list[i].rule
	}
}
