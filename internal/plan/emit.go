package plan

import (
	"fmt"

	"github.com/viarule/viarule/internal/netstate"
)

// emit puts the edits of all groups into the stages. New rules come upward by
// priority and old ones go downward. So at every moment the list holds all of
// the old rules with a head of the new list, or all of the new ones with a head
// of the old list; and the first rule of it that decides a packet is the first
// of the old or the first of the new that does. A tree is one rule in this, which
// comes and goes by its gate. Where nobody sees it, the order is the fast one:
// downward for new rules, so that gotos find their targets too, and upward for
// old ones.
//
// Gotos that users wrote have no gate. Lists with such are changed downward and
// upward as trees are, so that none ever lacks its target.
func (d *ruleDiff) emit() {
	why := d.reasons()
	for _, sp := range d.behindGates() {
		d.emitHiddenGate(sp)
	}
	jumps := d.jumps()
	for i := len(d.groups) - 1; i >= 0; i-- {
		g := d.groups[i]
		if sp := g.span; sp == nil && jumps || sp != nil && !(sp.closing && g.priority == sp.gate) {
			d.emitAdds(g, why)
		}
	}
	for i := 0; i < len(d.groups); i++ {
		g := d.groups[i]
		if g.span == nil && !jumps {
			d.emitAdds(g, why)
		} else if g.span != nil && (i == 0 || d.groups[i-1].span != g.span) {
			d.emitOpen(g.span)
		}
	}
	for i := len(d.groups) - 1; i >= 0; i-- {
		g := d.groups[i]
		switch {
		case g.span == nil && !jumps:
			d.emitDels(g, why)
		case g.span != nil && (i == 0 || d.groups[i-1].span != g.span):
			if g.span.closing && g.priority == g.span.gate {
				d.emitAdds(g, why)
			}
			d.emitClose(g.span)
			for _, in := range d.within(g.span.gate, g.span.end) {
				d.emitDels(in, why)
			}
		}
	}
	for _, g := range d.groups {
		if g.span == nil && jumps {
			d.emitDels(g, why)
		}
	}
}

// jumps says whether a goto outside of trees comes or goes.
func (d *ruleDiff) jumps() bool {
	for _, g := range d.groups {
		if g.span != nil {
			continue
		}
		for _, t := range g.adds {
			if t.Action == netstate.Goto {
				return true
			}
		}
		for _, x := range g.dels {
			if g.cur[x].rule.Action == netstate.Goto {
				return true
			}
		}
	}
	return false
}

func (d *ruleDiff) emitAdds(g *group, why *reasons) {
	if g.span != nil && g.span.blocked {
		return
	}
	for _, t := range g.adds {
		d.s.add(g.addStage(), Op{
			Change:   netstate.Change{Verb: netstate.Add, Rule: &t.Rule.Rule},
			Reason:   why.added(g, t),
			Origin:   t.Origin,
			Compiled: t.Compiled || g.span != nil,
		})
	}
}

func (d *ruleDiff) emitDels(g *group, why *reasons) {
	sp := g.span
	if sp != nil && sp.blocked {
		return
	}
	for _, x := range g.dels {
		r := g.cur[x].rule
		if sp != nil && sp.gated && !sp.old && !sp.keepGate && g.priority == sp.gate && bareGoto(r) {
			continue // by emitOpen
		}
		d.s.add(g.delStage(), Op{
			Change:   netstate.Change{Verb: netstate.Delete, Rule: r},
			Reason:   why.removed(g, g.cur[x].kind, r),
			Compiled: sp != nil,
		})
	}
}

// behindGates returns the wanted spans that are changed behind a gate.
func (d *ruleDiff) behindGates() []*span {
	var list []*span
	for i := range d.spans {
		if sp := &d.spans[i]; sp.gated && !sp.blocked {
			list = append(list, sp)
		}
	}
	return list
}

// gateReason begins the reason of every op on a gate.
const gateReason = "gate: "

func (d *ruleDiff) gate(stage int, verb netstate.Verb, sp *span, r *netstate.Rule, reason string) {
	d.s.add(stage, Op{Change: netstate.Change{Verb: verb, Rule: r}, Reason: gateReason + reason, Origin: sp.origin, Compiled: true})
}

// emitHiddenGate closes a wanted tree until it is complete.
func (d *ruleDiff) emitHiddenGate(sp *span) {
	if !sp.keepGate && !sp.standing {
		d.gate(stageGates, netstate.Add, sp, sp.gateRule(), "the tree is not complete")
	}
}

// emitOpen removes the gate of a wanted tree, and what else of gates stands there.
func (d *ruleDiff) emitOpen(sp *span) {
	if sp.old || sp.blocked || sp.keepGate || !sp.gated {
		return
	}
	const reason = "the tree is complete"
	at := d.at(sp.gate)
	for i := range at {
		if r := &at[i]; ours(r.Protocol) && bareGoto(r) {
			d.gate(stageOpen, netstate.Delete, sp, r, reason)
		}
	}
	if !sp.standing {
		d.gate(stageOpen, netstate.Delete, sp, sp.gateRule(), reason)
	}
}

// emitClose sets the gate of an old tree, and removes it behind the tree.
func (d *ruleDiff) emitClose(sp *span) {
	if sp.old && !sp.keepGate {
		d.gate(stageClose, netstate.Add, sp, sp.gateRule(), "the tree goes")
		d.gate(stageOldGates, netstate.Delete, sp, sp.gateRule(), "the tree is gone")
	}
}

func (g *group) addStage() int {
	switch sp := g.span; {
	case sp == nil:
		return stageOpen
	case g.priority == sp.end:
		return stageEnds
	case sp.closing && g.priority == sp.gate:
		return stageClose
	case sp.closing:
		return stageOldTrees
	case sp.keepGate && g.priority == sp.gate:
		return stageGates
	}
	return stageHidden
}

func (g *group) delStage() int {
	switch sp := g.span; {
	case sp != nil && !sp.gated && g.hidden:
		return stageHidden
	case sp == nil || !sp.gated:
		return stageClose
	case sp.closing:
		return stageOldTrees
	case !sp.old:
		return stageHidden
	case g.priority == sp.end:
		return stageOldEnds
	case sp.keepGate && g.priority == sp.gate:
		return stageOldGates
	}
	return stageOldTrees
}

// reasons knows what is added and removed, by what it does and by what it
// selects, so that the reason of an op can name the other half of a change.
type reasons struct {
	gone, come map[netstate.Rule]uint32 // without priority → a priority
	was, is    map[netstate.Rule]bool   // without action
}

func (d *ruleDiff) reasons() *reasons {
	adds, dels := 0, 0
	for _, g := range d.groups {
		adds, dels = adds+len(g.adds), dels+len(g.dels)
	}
	if adds == 0 || dels == 0 {
		return &reasons{}
	}
	w := &reasons{make(map[netstate.Rule]uint32, dels), make(map[netstate.Rule]uint32, adds), make(map[netstate.Rule]bool, dels), make(map[netstate.Rule]bool, adds)}
	for _, g := range d.groups {
		for _, t := range g.adds {
			if r := &t.Rule.Rule; !g.stands(r) {
				w.come[noPriority(r)] = g.priority
				w.is[selectors(r)] = true
			}
		}
		for _, x := range g.dels {
			if r := g.cur[x].rule; !g.wants(r) {
				w.gone[noPriority(r)] = g.priority
				w.was[selectors(r)] = true
			}
		}
	}
	return w
}

// noPriority is what a rule does, wherever it stands.
func noPriority(r *netstate.Rule) netstate.Rule {
	c := *r
	c.Priority, c.Protocol = 0, 0
	return c
}

// selectors is what a rule selects, and where.
func selectors(r *netstate.Rule) netstate.Rule {
	c := *r
	c.Action, c.Table, c.Goto, c.Realms, c.L3MDev, c.Protocol = 0, 0, 0, 0, false, 0
	c.SuppressPrefixLength, c.SuppressIfGroup = netstate.Opt{}, netstate.Opt{}
	return c
}

func (w *reasons) added(g *group, t *target) string {
	r := &t.Rule.Rule
	if g.stands(r) {
		return "order among equal priorities"
	}
	for i := range g.cur {
		if e := &g.cur[i]; e.kind == taken && sameRuleButMark(r, e.rule) {
			return "taken over from proto " + netstate.ProtocolName(e.rule.Protocol)
		}
	}
	if p, ok := w.gone[noPriority(r)]; ok {
		return fmt.Sprintf("moved from priority %d", p)
	}
	if w.was[selectors(r)] {
		return "action changed"
	}
	return "new"
}

func (w *reasons) removed(g *group, kind entryKind, r *netstate.Rule) string {
	switch {
	case kind == taken:
		return "taken over"
	case g.span != nil && bareGoto(r) && g.priority == g.span.gate:
		return gateReason + "the tree is gone"
	case g.wants(r):
		return "another copy stands in its place"
	}
	if p, ok := w.come[noPriority(r)]; ok && p != g.priority {
		return fmt.Sprintf("moved to priority %d", p)
	}
	if w.is[selectors(r)] {
		return "replaced"
	}
	return "not wanted any more"
}
