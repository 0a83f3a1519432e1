package kernelfake

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// addRule is fib_newrule of net/core/fib_rules.c without NLM_F_EXCL.
func (k *Kernel) addRule(r netstate.Rule) error {
	if err := checkRule(&r); err != nil {
		return err
	}
	k.insertRule(netstate.CanonicalRule(r))
	return nil
}

// insertRule puts r behind all of its priority.
func (k *Kernel) insertRule(r netstate.Rule) {
	list := k.rules[r.Family]
	at := len(list)
	for at > 0 && list[at-1].Priority > r.Priority {
		at--
	}
	k.rules[r.Family] = slices.Insert(list, at, r)
}

// checkRule is what fib_nl2rule and the families' configure functions refuse.
func checkRule(r *netstate.Rule) error {
	for _, p := range []netstate.PortRange{r.SPort, r.DPort} {
		if p != (netstate.PortRange{}) && (p.Lo == 0 || p.Lo > p.Hi || p.Hi == 0xffff) {
			return refuse(unix.EINVAL, "Invalid port range")
		}
	}
	switch {
	case r.Action == netstate.Goto && r.Goto <= r.Priority:
		return refuse(unix.EINVAL, "Backward goto not supported")
	case r.L3MDev && r.Table != 0:
		return refuse(unix.EINVAL, "l3mdev and table are mutually exclusive")
	case r.TOS&3 != 0:
		return refuse(unix.EINVAL, "Invalid dsfield (tos): ECN bits must be 0")
	case r.TOS != 0 && r.DSCP.Set:
		return refuse(unix.EINVAL, "Cannot specify both TOS and DSCP")
	case r.DSCP.Set && r.DSCP.Val > 63:
		return unix.ERANGE
	case r.UID.Set && (r.UID.Lo > r.UID.Hi || r.UID.Hi == 0xffffffff):
		return refuse(unix.EINVAL, "Invalid uid range")
	}
	return nil
}

// deleteRule removes the first rule that rule_find would take for r.
func (k *Kernel) deleteRule(r netstate.Rule) error {
	if err := checkRule(&r); err != nil {
		return err
	}
	r = netstate.CanonicalRule(r)
	list := k.rules[r.Family]
	for i := range list {
		if matches(&r, &list[i]) {
			k.rules[r.Family] = slices.Delete(list, i, i+1)
			return nil
		}
	}
	return unix.ENOENT
}

// matches says whether a delete of want would take have: rule_find and
// fib4_rule_compare or fib6_rule_compare. What want leaves out or has as zero
// matches everything; not and the target of a goto are never looked at.
func matches(want, have *netstate.Rule) bool {
	differs := func(given, same bool) bool { return given && !same }
	switch {
	case want.Family != have.Family, want.Priority != have.Priority,
		differs(want.Action != 0, want.Action == have.Action),
		differs(want.Table != 0, want.Table == have.Table),
		differs(want.IIF != "", want.IIF == have.IIF),
		differs(want.OIF != "", want.OIF == have.OIF),
		differs(want.Mark.Value != 0, want.Mark.Value == have.Mark.Value),
		differs(want.Mark.Mask != 0, want.Mark.Mask == have.Mark.Mask),
		differs(want.SuppressIfGroup.Set, want.SuppressIfGroup == have.SuppressIfGroup),
		differs(want.SuppressPrefixLength.Set, want.SuppressPrefixLength == have.SuppressPrefixLength),
		differs(want.TunID != 0, want.TunID == have.TunID),
		differs(want.L3MDev, have.L3MDev),
		differs(want.UID.Set, want.UID == have.UID),
		differs(want.Proto != 0, want.Proto == have.Proto),
		differs(want.Protocol != 0, want.Protocol == have.Protocol),
		differs(want.SPort != netstate.PortRange{}, want.SPort == have.SPort),
		differs(want.DPort != netstate.PortRange{}, want.DPort == have.DPort),
		differs(want.From.IsValid(), want.From == have.From),
		differs(want.To.IsValid(), want.To == have.To),
		differs(want.TOS != 0, want.TOS == have.TOS),
		differs(want.DSCP.Set, want.DSCP == have.DSCP),
		differs(want.Realms != 0, want.Realms == have.Realms),
		differs(want.Unknown != "", want.Unknown == have.Unknown):
		return false
	}
	return true
}
