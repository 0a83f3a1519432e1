package plan

import (
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// hits says whether the kernel, asked to delete del, takes r for it: rule_find
// in net/core/fib_rules.c with fib4_rule_compare and fib6_rule_compare. It goes
// down the list and takes the first rule that agrees in what the message names;
// what is absent or zero there is a wildcard, and `not` and the target of a goto
// are never compared. Attributes that viarule does not know may be compared or
// not; here they are not, so that a rule which may be hit counts as hit.
func hits(del, r *netstate.Rule) bool {
	return del.Family == r.Family &&
		del.Priority == r.Priority &&
		agree(del.Action, r.Action) &&
		agree(del.Table, r.Table) &&
		agree(del.IIF, r.IIF) &&
		agree(del.OIF, r.OIF) &&
		agree(del.Mark.Value, r.Mark.Value) &&
		agree(del.Mark.Mask, r.Mark.Mask) &&
		agree(del.SuppressIfGroup, r.SuppressIfGroup) &&
		agree(del.SuppressPrefixLength, r.SuppressPrefixLength) &&
		agree(del.TunID, r.TunID) &&
		agree(del.L3MDev, r.L3MDev) &&
		agree(del.UID, r.UID) &&
		agree(del.Proto, r.Proto) &&
		agree(del.Protocol, r.Protocol) &&
		agree(del.SPort, r.SPort) &&
		agree(del.DPort, r.DPort) &&
		agree(del.From, r.From) &&
		agree(del.To, r.To) &&
		agree(del.TOS, dsField(r)) &&
		agree(del.DSCP, r.DSCP) &&
		(del.Family == netstate.IPv6 || agree(del.Realms, r.Realms))
}

// agree is how the kernel compares most attributes: what the message leaves out
// agrees with everything.
func agree[T comparable](del, r T) bool {
	var absent T
	return del == absent || del == r
}

// dsField is the rule's TOS as the kernel holds it, in whichever form it was
// given.
func dsField(r *netstate.Rule) uint8 {
	if r.DSCP.Set {
		return uint8(r.DSCP.Val << 2)
	}
	return r.TOS
}

// commute says whether two rules of one list decide the same for every packet
// whichever stands first.
func commute(a, b *netstate.Rule) bool {
	return a.Action == netstate.Nop || b.Action == netstate.Nop || sameOutcome(a, b) || disjoint(a, b)
}

// sameOutcome says whether the two rules do the same with what they select.
func sameOutcome(a, b *netstate.Rule) bool {
	return a.Action == b.Action && a.Table == b.Table && a.Goto == b.Goto && a.L3MDev == b.L3MDev && a.Realms == b.Realms &&
		a.SuppressPrefixLength == b.SuppressPrefixLength && a.SuppressIfGroup == b.SuppressIfGroup &&
		a.Unknown == "" && b.Unknown == ""
}

// disjoint says whether certainly no packet is selected by both rules.
func disjoint(a, b *netstate.Rule) bool {
	if a.Not || b.Not {
		return false
	}
	return apart(a.From, b.From) || apart(a.To, b.To) ||
		differ(a.IIF, b.IIF) || differ(a.OIF, b.OIF) || differ(a.Proto, b.Proto) || differ(a.TunID, b.TunID) ||
		(a.Mark.Value^b.Mark.Value)&a.Mark.Mask&b.Mark.Mask != 0 ||
		portsApart(a.SPort, b.SPort) || portsApart(a.DPort, b.DPort) ||
		a.UID.Set && b.UID.Set && (a.UID.Hi < b.UID.Lo || b.UID.Hi < a.UID.Lo) ||
		a.DSCP.Set && b.DSCP.Set && a.DSCP != b.DSCP
}

func apart(a, b netip.Prefix) bool { return a.IsValid() && b.IsValid() && !a.Overlaps(b) }

func differ[T comparable](a, b T) bool {
	var absent T
	return a != absent && b != absent && a != b
}

func portsApart(a, b netstate.PortRange) bool {
	return a != netstate.PortRange{} && b != netstate.PortRange{} && (a.Hi < b.Lo || b.Hi < a.Lo)
}

// bareGoto says whether r sends every packet on to a later rule: a gate, or the
// end of a tree's leaf.
func bareGoto(r *netstate.Rule) bool {
	return *r == netstate.Rule{Family: r.Family, Priority: r.Priority, Action: netstate.Goto, Goto: r.Goto, Protocol: r.Protocol}
}

// bareNop says whether r does nothing with every packet: the end of a tree.
func bareNop(r *netstate.Rule) bool {
	return *r == netstate.Rule{Family: r.Family, Priority: r.Priority, Action: netstate.Nop, Protocol: r.Protocol}
}

// sameRuleButMark says whether the rules differ in nothing but their protocol.
// The table of a rule that looks none up does not count: ip sets it to main.
func sameRuleButMark(a, b *netstate.Rule) bool {
	c, d := *a, *b
	c.Protocol = d.Protocol
	if c.Action != netstate.ToTable {
		c.Table, d.Table = 0, 0
	}
	return c == d && a.Unknown == "" && b.Unknown == ""
}
