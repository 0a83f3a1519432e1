package spec

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// Families are the families that the rule is for: its own, those of its
// prefixes, or both.
func (r *Rule) Families() []netstate.Family {
	if r.Family != 0 {
		return []netstate.Family{r.Family}
	}
	if len(r.From)+len(r.To) == 0 {
		return netstate.Families[:]
	}
	var fs []netstate.Family
	for _, f := range netstate.Families {
		if has(r.From, f) || has(r.To, f) {
			fs = append(fs, f)
		}
	}
	return fs
}

func has(list []netip.Prefix, f netstate.Family) bool { return count(list, f) > 0 }

func count(list []netip.Prefix, f netstate.Family) int {
	n := 0
	for _, p := range list {
		if netstate.FamilyOf(p.Addr()) == f {
			n++
		}
	}
	return n
}

// forFamily says whether the rule is for f.
func (r *Rule) forFamily(f netstate.Family) bool {
	if r.Family != 0 {
		return r.Family == f
	}
	return len(r.From)+len(r.To) == 0 || has(r.From, f) || has(r.To, f)
}

// selects says whether the rule selects by anything but its family.
func (r *Rule) selects() bool {
	for _, list := range [2][]netip.Prefix{r.From, r.To} {
		for _, p := range list {
			if p.Bits() != 0 {
				return true
			}
		}
	}
	return r.selectsMore()
}

// selectsMore is selects without the prefixes.
func (r *Rule) selectsMore() bool {
	return r.IIF != "" || r.OIF != "" || r.Mark != netstate.Mark{} || r.Proto != 0 || r.SPort != netstate.PortRange{} ||
		r.DPort != netstate.PortRange{} || r.TOS != 0 || r.DSCP.Set || r.UID.Set
}

// checkRules checks each rule of the object by itself.
func (v *validator) checkRules(p *RoutingPolicy) {
	if n := len(p.Rules); n > v.known.Limits.Rules {
		v.fail(place{v.obj, -1, -1}, "spec.rules", fmt.Sprintf("there are %d rules", n), fmt.Sprintf("an object may have %d; make several objects", v.known.Limits.Rules))
	}
	for i := range p.Rules {
		here, r := place{v.obj, -1, index(i)}, &p.Rules[i]
		v.checkPrefixes(here, r)
		v.checkSelectors(here, r)
		v.checkPriority(here, r)
		v.checkAction(here, r)
	}
}

func (v *validator) checkPrefixes(here place, r *Rule) {
	lists := [2][]netip.Prefix{r.From, r.To}
	for i, key := range [2]string{"from", "to"} {
		list := lists[i]
		if n := len(list); n > v.known.Limits.Prefixes {
			v.fail(here, key, fmt.Sprintf("there are %d prefixes", n), fmt.Sprintf("a list may have %d; make several rules", v.known.Limits.Prefixes))
		}
		var seen map[netip.Prefix]bool
		if len(list) > 1 {
			seen = make(map[netip.Prefix]bool, len(list))
		}
		for j, p := range list {
			at := func() string { return fmt.Sprintf("%s[%d]", key, j) }
			switch {
			case !p.IsValid() || p != p.Masked():
				v.fail(here, at(), fmt.Sprintf("%s is not a prefix without bits behind its length", p), "")
			case seen[p]:
				v.fail(here, at(), fmt.Sprintf("%s is in the list already", p), "leave one out")
			case r.Family != 0 && netstate.FamilyOf(p.Addr()) != r.Family:
				v.fail(here, at(), fmt.Sprintf("%s is not %s, as the rule is", p, r.Family), "leave family out, or make two rules")
			}
			if seen != nil {
				seen[p] = true
			}
		}
	}
	if len(r.From) == 0 || len(r.To) == 0 {
		return
	}
	pairs := 0
	for _, f := range netstate.Families {
		from, to := count(r.From, f), count(r.To, f)
		pairs += from * to
		if from > 0 && to == 0 {
			v.fail(here, "from", fmt.Sprintf("the families do not match: there are %s prefixes here and none in to", f), "give both lists the same families, or make two rules")
		}
		if to > 0 && from == 0 {
			v.fail(here, "to", fmt.Sprintf("the families do not match: there are %s prefixes here and none in from", f), "give both lists the same families, or make two rules")
		}
	}
	if pairs > v.known.Limits.Pairs {
		v.fail(here, "to", fmt.Sprintf("the rule stands for %d pairs of from and to", pairs), fmt.Sprintf("a rule may stand for %d; send the packets to a table by one of the lists", v.known.Limits.Pairs))
	}
}

func (v *validator) checkSelectors(here place, r *Rule) {
	for _, l := range [2]struct{ key, name string }{{"iif", r.IIF}, {"oif", r.OIF}} {
		if l.name != "" {
			if err := CheckLinkName(l.name); err != nil {
				v.failValue(here, l.key, err)
			}
		}
	}
	if r.Mark.Value&^r.Mark.Mask != 0 {
		v.fail(here, "fwmark", fmt.Sprintf("the value %#x has bits outside its mask %#x", r.Mark.Value, r.Mark.Mask), "use a larger mask")
	}
	for _, p := range [2]struct {
		key   string
		ports netstate.PortRange
	}{{"sport", r.SPort}, {"dport", r.DPort}} {
		if p.ports == (netstate.PortRange{}) {
			continue
		}
		if p.ports.Lo == 0 || p.ports.Lo > p.ports.Hi || p.ports.Hi > MaxPort {
			v.fail(here, p.key, fmt.Sprintf("%d-%d is not a range of ports", p.ports.Lo, p.ports.Hi), fmt.Sprintf("write ports from 1 to %d, the lower one first", MaxPort))
		}
		if !HasPorts(r.Proto) {
			v.fail(here, p.key, "only some protocols have ports", "write `ipproto: tcp`, or udp, sctp, dccp or udplite")
		}
	}
	if r.UID.Set && (r.UID.Lo > r.UID.Hi || r.UID.Hi > MaxUID) {
		v.fail(here, "uidrange", fmt.Sprintf("%d-%d is not a range of user ids", r.UID.Lo, r.UID.Hi), "write the lower one first")
	}
	v.checkTOS(here, r)
	if r.Not && !r.selects() {
		v.fail(here, "not", "there is no selector that it could turn around: the rule would never match", "leave not out, or add a selector")
	}
}

// checkTOS: fib4_rule_configure (net/ipv4/fib_rules.c) takes the old four TOS
// bits only, less the one that is now for congestion notification;
// fib6_rule_configure takes the whole DSCP field. Both refuse TOS beside DSCP.
func (v *validator) checkTOS(here place, r *Rule) {
	switch {
	case r.TOS == 0:
	case r.DSCP.Set:
		v.fail(here, "tos", "tos and dscp are two words for one field", "leave one of them out")
	case r.TOS&3 != 0:
		v.fail(here, "tos", "rules cannot select by the two lowest bits", fmt.Sprintf("write 0x%02x", r.TOS&^3))
	case r.TOS&^0x1c != 0 && r.forFamily(netstate.IPv4):
		v.fail(here, "tos", fmt.Sprintf("IPv4 rules select by the TOS bits 0x1c only, not by 0x%02x", r.TOS), fmt.Sprintf("write `dscp: %d`, or `family: IPv6`", r.TOS>>2))
	}
	if r.DSCP.Set && r.DSCP.Val > 63 {
		v.fail(here, "dscp", fmt.Sprintf("%d is out of range", r.DSCP.Val), "write a number from 0 to 63")
	}
}

func (v *validator) checkPriority(here place, r *Rule) {
	if !r.Priority.Set {
		return
	}
	switch p := r.Priority.Val; p {
	case 0, 32766, 32767:
		v.fail(here, "priority", fmt.Sprintf("the priority %d is the kernel's own", p), "use one from 1 to 32765, or leave it out")
	default:
		if v.known.Neighbour == nil {
			return
		}
		if name := v.known.Neighbour(p); name != "" {
			v.warn(here, "priority", fmt.Sprintf("%s uses the priority %d on hosts that have it", name, p), "use another one, or leave it out")
		}
	}
}

func (v *validator) checkAction(here place, r *Rule) {
	switch r.Action {
	case netstate.ToTable:
		if r.Table.Name == "" && r.Table.ID == 0 {
			v.fail(here, "table", "it names no table", "write a name or a number")
		} else if r.Table.Name != "" {
			if err := CheckTableName(r.Table.Name); err != nil {
				v.failValue(here, "table", err)
			}
		}
	case netstate.Goto:
		switch {
		case r.Goto == 0:
			v.fail(here, "goto", "no rule comes before the one of priority 0", "use a higher target")
		case r.Priority.Set && r.Goto == r.Priority.Val:
			v.fail(here, "goto", "the rule leads to itself", "use a higher target")
		case r.Priority.Set && r.Goto < r.Priority.Val:
			v.fail(here, "goto", fmt.Sprintf("goto leads to later rules only, and %d comes before %d", r.Goto, r.Priority.Val), "use a higher target, or a lower priority")
		}
	case netstate.Nop, netstate.Blackhole, netstate.Unreachable, netstate.Prohibit:
	default:
		v.fail(here, "", "it does not say what to do", "write one of table, goto, nop, blackhole, unreachable, prohibit")
	}
	if r.Action != netstate.ToTable {
		// The kernel drops these without a word.
		var keys []string
		if r.SuppressPrefixLength.Set {
			keys = append(keys, "suppressPrefixLength")
		}
		if r.SuppressIfGroup.Set {
			keys = append(keys, "suppressIfGroup")
		}
		if len(keys) > 0 {
			v.fail(here, keys[0], strings.Join(keys, " and ")+" is about the routes that a table gives, and the rule names no table", "write `table: …`, or leave it out")
		}
	}
	if r.Realms != 0 && r.forFamily(netstate.IPv6) {
		v.fail(here, "realms", "only IPv4 has realms", "write `family: IPv4`, and no IPv6 prefixes")
	}
}
