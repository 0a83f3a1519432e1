package spec

import (
	"fmt"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// pairsOf calls f for each pair of the rule's prefixes of one family, in the
// kernel's form: a prefix of length 0 is the zero Prefix, as is a list that is
// not there.
func (r *Rule) pairsOf(family netstate.Family, f func(from, to netip.Prefix) bool) {
	all := []netip.Prefix{family.Default()}
	from, to := r.From, r.To
	if len(from) == 0 {
		from = all
	}
	if len(to) == 0 {
		to = all
	}
	for _, a := range from {
		if netstate.FamilyOf(a.Addr()) != family {
			continue
		}
		for _, b := range to {
			if netstate.FamilyOf(b.Addr()) == family && !f(a, b) {
				return
			}
		}
	}
}

// selector is all that a rule of one family selects packets by.
type selector struct {
	family     netstate.Family
	not        bool
	from, to   netip.Prefix
	iif, oif   string
	mark       netstate.Mark
	proto, tos uint8
	sport      netstate.PortRange
	dport      netstate.PortRange
	dscp       netstate.Opt
	uid        netstate.UIDRange
}

func (r *Rule) selector(f netstate.Family, from, to netip.Prefix) selector {
	return selector{
		family: f, not: r.Not, from: from, to: to, iif: r.IIF, oif: r.OIF, mark: r.Mark, proto: r.Proto, tos: r.TOS,
		sport: r.SPort, dport: r.DPort, dscp: r.DSCP, uid: r.UID,
	}
}

// checkSameRules finds rules with the same priority and selectors. Within an
// object the written order decides, and that there are two is most likely a
// slip; of different objects, nobody could say which comes first.
func (v *validator) checkSameRules() {
	type key struct {
		selector
		priority uint32
	}
	seen := map[key]place{}
	v.same = map[place]bool{}
	for i := range v.objs {
		o := &v.objs[i]
		if o.Policy == nil {
			continue
		}
		for j := range o.Policy.Rules {
			r, here := &o.Policy.Rules[j], place{o, -1, index(j)}
			if !r.Priority.Set {
				continue
			}
			told := false
			for _, f := range r.Families() {
				r.pairsOf(f, func(from, to netip.Prefix) bool {
					k := key{r.selector(f, from, to), r.Priority.Val}
					first, again := seen[k]
					switch {
					case !again:
						seen[k] = here
					case told:
					case first.obj == o:
						told, v.same[here] = true, true
						v.warn(here, "", fmt.Sprintf("the rule in %s has the same priority and selectors, so that this one is used only where the other one finds no route", first.seenFrom(o)), "leave one out, or give it another priority")
					default:
						told = true
						v.fail(here, "", fmt.Sprintf("a rule with the priority %d and the same selectors is in %s already", r.Priority.Val, first.seenFrom(o)), "give it another priority, or leave one out")
					}
					return true
				})
			}
		}
	}
}

// checkTargets looks at where rules lead to, as far as it can be judged without
// a host; with one, package desired does.
func (v *validator) checkTargets() {
	filled, targets := map[string]bool{}, map[netstate.Family]map[uint32]bool{
		// The kernel's own rules; IPv6 has none for the table default.
		netstate.IPv4: {32766: true, 32767: true}, netstate.IPv6: {32766: true},
	}
	for i := range v.objs {
		if e := v.objs[i].External; e != nil && len(e.Gateways) > 0 {
			for _, key := range v.tableKeys(v.ownTable(&v.objs[i])) {
				filled[key] = true
			}
		}
		p := v.objs[i].Policy
		if p == nil {
			continue
		}
		for j := range p.Tables {
			filled[p.Tables[j].Name] = filled[p.Tables[j].Name] || len(p.Tables[j].Routes) > 0
		}
		for j := range p.Rules {
			if r := &p.Rules[j]; r.Priority.Set {
				for _, f := range netstate.Families {
					targets[f][r.Priority.Val] = targets[f][r.Priority.Val] || r.forFamily(f)
				}
			}
		}
	}
	for i := range v.objs {
		p := v.objs[i].Policy
		if p == nil {
			continue
		}
		for j := range p.Rules {
			r, here := &p.Rules[j], place{&v.objs[i], -1, index(j)}
			switch r.Action {
			case netstate.ToTable:
				v.checkTableUse(here, r.Table, filled)
			case netstate.Goto:
				v.checkGoto(here, r, targets)
			}
		}
	}
}

func (v *validator) checkTableUse(here place, ref TableRef, filled map[string]bool) {
	name := v.tableKey(ref)
	_, declared := v.tables[name]
	declared = declared || filled[name] // by an external network
	switch {
	case wellKnown(name) != 0:
	case v.known.Tables != nil:
		// What is in the host's tables is for package desired to say.
		if _, there := v.known.Tables[name]; ref.Name != "" && !there && !declared {
			v.fail(here, "table", fmt.Sprintf("there is no table %s, neither here nor in this host's rt_tables", ref), "add it to tables, or write its number")
		}
	case !declared && ref.Name != "":
		v.warn(here, "table", fmt.Sprintf("no table is called %s here, so that the host must know one", ref), "add it to tables, or write its number")
	case !filled[name]:
		v.warn(here, "table", fmt.Sprintf("the table %s has no routes here, so that packets go on to the next rule unless others fill it", ref), "give it routes")
	}
}

func (v *validator) checkGoto(here place, r *Rule, targets map[netstate.Family]map[uint32]bool) {
	if !r.Priority.Set && v.known.Last != 0 && r.Goto > 0 && r.Goto <= v.known.First {
		v.fail(here, "goto", fmt.Sprintf("goto leads to later rules only, and rules without a priority come after %d", v.known.First), "write a priority, or a higher target")
	}
	if v.known.Tables != nil || r.Priority.Set && r.Goto <= r.Priority.Val {
		return
	}
	for _, f := range r.Families() {
		if !targets[f][r.Goto] {
			v.warn(here, "goto", fmt.Sprintf("no %s rule here has the priority %d, so that the kernel passes this rule over", f, r.Goto), "add a rule with this priority (nop does nothing else)")
			return
		}
	}
}
