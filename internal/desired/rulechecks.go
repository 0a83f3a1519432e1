package desired

import (
	"fmt"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// checkForeign warns of rules at the priority of a foreign rule that selects
// some of the same packets: which of the two comes first depends on who was
// started first. A foreign rule that is just what is wanted stands for it.
func (s *ruleSet) checkForeign() {
	if len(s.fixed) == 0 || len(s.foreign) == 0 {
		return
	}
	at := make(map[uint32][]*netstate.Rule)
	for _, f := range s.foreign {
		at[f.Priority] = append(at[f.Priority], f.Rule)
	}
	wanted := make(map[netstate.Rule]bool)
	for i := range s.fixed {
		if at[s.fixed[i].Priority] != nil {
			wanted[s.fixed[i].Rule] = true
		}
	}
	warned := make(map[*written]bool)
	for i := range s.fixed {
		r := &s.fixed[i]
		for _, f := range at[r.Priority] {
			same := *f
			same.Protocol = r.Protocol
			if wanted[same] || warned[r.at] || !overlap(&r.Rule, f) {
				continue
			}
			warned[r.at] = true
			s.b.warn(r.at.key("priority"), fmt.Sprintf("somebody else's rule has the same priority and selects some of the same packets (%s), and nobody can say which comes first", f),
				"use another priority")
		}
	}
}

// overlap says whether some packet may be selected by both.
func overlap(a, b *netstate.Rule) bool {
	switch {
	case a.Not || b.Not || a.Unknown != "" || b.Unknown != "":
		return true
	case !makePfx(a.From).overlaps(makePfx(b.From)), !makePfx(a.To).overlaps(makePfx(b.To)):
		return false
	case a.IIF != "" && b.IIF != "" && a.IIF != b.IIF, a.OIF != "" && b.OIF != "" && a.OIF != b.OIF:
		return false
	case (a.Mark.Value^b.Mark.Value)&a.Mark.Mask&b.Mark.Mask != 0:
		return false
	case a.Proto != 0 && b.Proto != 0 && a.Proto != b.Proto, a.TOS != 0 && b.TOS != 0 && a.TOS != b.TOS:
		return false
	case a.DSCP.Set && b.DSCP.Set && a.DSCP != b.DSCP, a.TunID != 0 && b.TunID != 0 && a.TunID != b.TunID:
		return false
	case a.UID.Set && b.UID.Set && (a.UID.Hi < b.UID.Lo || b.UID.Hi < a.UID.Lo):
		return false
	}
	return portsMeet(a.SPort, b.SPort) && portsMeet(a.DPort, b.DPort)
}

func portsMeet(a, b netstate.PortRange) bool {
	any := netstate.PortRange{}
	return a == any || b == any || a.Hi >= b.Lo && b.Hi >= a.Lo
}

// checkGotos finds gotos that the kernel refuses, since they lead back, and
// such that lead nowhere, which it passes over.
func (s *ruleSet) checkGotos() {
	targets := make(map[uint32]bool)
	found := false
	for i := range s.listed {
		found = found || s.listed[i].Action == netstate.Goto
	}
	if !found {
		return
	}
	for i := range s.out {
		targets[s.out[i].Priority] = true
	}
	for _, f := range s.foreign {
		targets[f.Priority] = true
	}
	back := make(map[Origin]bool)
	warned := make(map[Origin]bool)
	for i := range s.listed {
		r := &s.listed[i]
		if r.Action != netstate.Goto {
			continue
		}
		switch {
		case r.Goto <= r.Priority:
			if !back[r.Origin] {
				back[r.Origin] = true
				s.b.fail(s.b.placeOfRule(r), fmt.Sprintf("goto %d from priority %d: the kernel takes only targets further down", r.Goto, r.Priority), "use a higher target, or a lower priority")
			}
		case !targets[r.Goto]:
			if !warned[r.Origin] {
				warned[r.Origin] = true
				s.b.warn(s.b.placeOfRule(r), fmt.Sprintf("no %s rule has the priority %d, so the kernel passes this rule over", s.family, r.Goto), "add a rule with this priority (nop does nothing else)")
			}
		}
	}
}

// placeOfRule finds the goto of the written rule that r was made of.
func (b *builder) placeOfRule(r *Rule) part {
	p := part{r.Origin.Object, r.Origin.Pos, "spec.rules"}
	for i := range r.Origin.Object.Policy.Rules {
		if r.Origin.Object.Policy.Rules[i].Pos == r.Origin.Pos {
			p.path = fmt.Sprintf("spec.rules[%d].goto", i)
			break
		}
	}
	return p
}

// checkLinks warns of rules about links that are not there. The kernel takes such
// rules, and they select nothing until the link comes.
func (b *builder) checkLinks(all []written) {
	if len(b.facts.State.Links) == 0 {
		return
	}
	for i := range all {
		w := &all[i]
		for _, k := range [...]struct{ key, dev string }{{"iif", w.spec.IIF}, {"oif", w.spec.OIF}} {
			if k.dev != "" && b.host.links[k.dev] == nil {
				b.warn(w.key(k.key), fmt.Sprintf("no link named %s in this namespace, so the rule selects nothing until there is one; %s", k.dev, b.host.linkNames()), "")
			}
		}
	}
}

// checkEmptyTables warns of rules to tables that nobody puts routes in, once an
// object and table. A rule for both families without prefixes is fine where one
// of them has routes.
func (b *builder) checkEmptyTables(all []written) {
	type use struct {
		obj   *spec.Object
		table spec.TableRef
	}
	more := make(map[use]int) // how many warnings the first stands for
	var first []*written
	for i := range all {
		w := &all[i]
		if w.looksUp == w.filled {
			continue
		}
		if id, _ := b.lookupTable(w.spec.Table); kernelTable(id) {
			continue
		}
		if len(w.spec.From)+len(w.spec.To) == 0 && w.spec.Family == 0 && (w.filled[0] || w.filled[1]) {
			continue
		}
		u := use{w.obj, w.spec.Table}
		if more[u]++; more[u] == 1 {
			first = append(first, w)
		}
	}
	for _, w := range first {
		what := "no"
		switch {
		case len(w.spec.From)+len(w.spec.To) == 0 && w.spec.Family == 0:
		case w.looksUp[0] && !w.filled[0] && w.looksUp[1] && !w.filled[1]:
		case w.looksUp[0] && !w.filled[0]:
			what = "no IPv4"
		default:
			what = "no IPv6"
		}
		others := ""
		if n := more[use{w.obj, w.spec.Table}]; n > 1 {
			others = fmt.Sprintf(" (%d rules of this object look it up)", n)
		}
		b.warn(w.key("table"), fmt.Sprintf("table %s has %s routes, neither on this host nor in the objects, so packets go on to the next rule%s", w.spec.Table, what, others),
			"give the table routes, or leave the rule out")
	}
}
