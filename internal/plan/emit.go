package plan

import (
	"fmt"

	"github.com/viarule/viarule/internal/netstate"
)

// emit puts the edits of all groups into the stages: new rules downward by
// priority, so that every goto finds its target, and old ones upward.
func (d *ruleDiff) emit() {
	why := d.reasons()
	for _, sp := range d.closing() {
		d.emitGate(sp)
	}
	for i := len(d.groups) - 1; i >= 0; i-- {
		g := d.groups[i]
		if g.span != nil && g.span.blocked {
			continue
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
	for _, g := range d.groups {
		if g.span != nil && g.span.blocked {
			continue
		}
		for _, x := range g.dels {
			r := g.cur[x].rule
			if sp := g.span; sp != nil && sp.gated && !sp.old && !sp.keepGate && g.priority == sp.gate && bareGoto(r) {
				continue // by emitGate
			}
			d.s.add(g.delStage(), Op{
				Change:   netstate.Change{Verb: netstate.Delete, Rule: r},
				Reason:   why.removed(g, g.cur[x].kind, r),
				Compiled: g.span != nil,
			})
		}
	}
}

// closing returns the spans that are changed behind a gate.
func (d *ruleDiff) closing() []*span {
	var list []*span
	for i := range d.spans {
		if sp := &d.spans[i]; sp.gated && !sp.blocked {
			list = append(list, sp)
		}
	}
	for _, g := range d.groups {
		if sp := g.span; sp != nil && sp.old && (len(list) == 0 || list[len(list)-1] != sp) {
			list = append(list, sp)
		}
	}
	return list
}

// emitGate sets and removes the gate of a span.
func (d *ruleDiff) emitGate(sp *span) {
	gate := func(stage int, verb netstate.Verb, r *netstate.Rule, reason string) {
		d.s.add(stage, Op{Change: netstate.Change{Verb: verb, Rule: r}, Reason: reason, Origin: sp.origin, Compiled: true})
	}
	switch {
	case sp.keepGate: // it is among the rules of its group
	case sp.old:
		gate(stageClose, netstate.Add, sp.gateRule(), "gate: the tree goes")
		gate(stageOldGates, netstate.Delete, sp.gateRule(), "gate: the tree is gone")
	default:
		if !sp.standing {
			gate(stageGates, netstate.Add, sp.gateRule(), "gate: the tree is not complete")
		}
		at := d.at(sp.gate)
		for i := range at {
			if r := &at[i]; ours(r.Protocol) && bareGoto(r) {
				gate(stageOpen, netstate.Delete, r, "gate: the tree is complete")
			}
		}
		if !sp.standing {
			gate(stageOpen, netstate.Delete, sp.gateRule(), "gate: the tree is complete")
		}
	}
}

func (g *group) addStage() int {
	switch sp := g.span; {
	case sp == nil || sp.old:
		return stageRules
	case g.priority == sp.end:
		return stageEnds
	case sp.keepGate && g.priority == sp.gate:
		return stageGates
	}
	return stageRules
}

func (g *group) delStage() int {
	switch sp := g.span; {
	case sp == nil || !sp.gated:
		return stageOldRules
	case !sp.old:
		return stageRules
	case g.priority == sp.end:
		return stageOldEnds
	case sp.keepGate && g.priority == sp.gate:
		return stageOldGates
	}
	return stageOldRules
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
		return "gate: the tree is gone"
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
