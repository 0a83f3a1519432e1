package plan

import (
	"math"
	"slices"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// summarise says what the edits of the family's trees mean in the user's rules.
// A rule of the user may stand in several leaves, and leaves are rebuilt for
// reasons of their own, so ops are not what the user wants to read.
func (d *ruleDiff) summarise(listed []desired.Rule) {
	first := len(d.p.Trees)
	index := make(map[*span]int)
	change := func(sp *span) *TreeChange {
		i, ok := index[sp]
		if !ok {
			i = len(d.p.Trees)
			index[sp] = i
			d.p.Trees = append(d.p.Trees, TreeChange{Family: sp.family, Gate: sp.gate, End: sp.end, Rules: sp.rules})
		}
		return &d.p.Trees[i]
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
	if len(d.p.Trees) == first {
		return
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
	order := make(map[netstate.Rule]int, len(listed))
	for i := range listed {
		order[noPriority(&listed[i].Rule)] = i
	}
	for i := first; i < len(d.p.Trees); i++ {
		d.p.Trees[i].finish(stood, stays, listed, order)
	}
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
	at := func(r *desired.Rule) int {
		if i, ok := order[noPriority(&r.Rule)]; ok {
			return i
		}
		return math.MaxInt
	}
	slices.SortStableFunc(c.Add, func(a, b desired.Rule) int {
		switch i, j := at(&a), at(&b); {
		case i < j:
			return -1
		case i > j:
			return 1
		}
		return 0
	})
	for i := range c.Add {
		if j := at(&c.Add[i]); j < len(listed) {
			c.Add[i] = listed[j]
		}
	}
}
