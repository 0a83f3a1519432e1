package fib_test

import (
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// coverage counts what the questions were about, so that a generator that has
// become blind fails the test.
type coverage map[seen]int

type seen struct {
	family netstate.Family
	what   string // a selector, an action, a part of a route or a verdict
	how    string
}

// What becomes of a selector.
const (
	fits    = "fits"
	misfits = "does not fit"
)

func (c coverage) verdict(v fib.Verdict) int {
	return c[seen{netstate.IPv4, "verdict", v.String()}] + c[seen{netstate.IPv6, "verdict", v.String()}]
}

// count counts a decision that agrees with the kernel.
func (c coverage) count(v *view, flow *fib.Flow, d *fib.Decision) {
	f := flow.Family()
	add := func(what, how string) { c[seen{f, what, how}]++ }
	add("verdict", d.Verdict.String())
	for i := range d.Steps {
		s := &d.Steps[i]
		c.rule(f, s)
		if s.Outcome == fib.NotSelected || s.Outcome == fib.Passed || s.Outcome == fib.Jumped {
			continue
		}
		r := s.Rule
		switch {
		case s.Outcome == fib.Suppressed && r.SuppressPrefixLength.Set && s.Route.To.Bits() <= int(r.SuppressPrefixLength.Val):
			add("suppress_prefixlength", "suppresses")
		case s.Outcome == fib.Suppressed:
			add("suppress_ifgroup", "suppresses")
		case s.Outcome == fib.Decided && s.Route != nil && r.SuppressPrefixLength.Set:
			add("suppress_prefixlength", "lets pass")
		case s.Outcome == fib.Decided && s.Route != nil && r.SuppressIfGroup.Set:
			add("suppress_ifgroup", "lets pass")
		}
		if r.L3MDev {
			add("l3mdev", s.Outcome.String())
		}
	}
	switch r := d.Route; {
	case d.OnLink:
		add("on link", "decides")
	case r == nil && d.Rule == nil:
		add("no rule", "decides")
	case r == nil:
		add(actionName[d.Rule.Action], "decides")
	default:
		c.route(v, f, r, d)
	}
	if d.Verdict == fib.Unknown && strings.Contains(d.Why, "next hop object") {
		add("next hop object", "in doubt")
	}
}

var actionName = map[netstate.Action]string{
	netstate.ToTable: "table", netstate.Goto: "goto", netstate.Nop: "nop",
	netstate.Blackhole: "blackhole", netstate.Unreachable: "unreachable", netstate.Prohibit: "prohibit",
}

// rule counts what a rule's selectors did, and its action.
func (c coverage) rule(f netstate.Family, s *fib.Step) {
	add := func(what, how string) { c[seen{f, what, how}]++ }
	r := s.Rule
	if s.Outcome == fib.NotSelected && s.Detail != "not" {
		add(s.Detail, misfits)
		return
	}
	if r.Not {
		add("not", s.Outcome.String())
	}
	if !r.Not || s.Outcome == fib.NotSelected {
		for _, s := range []struct {
			name string
			set  bool
		}{
			{"from", r.From.IsValid()}, {"to", r.To.IsValid()}, {"iif", r.IIF != ""}, {"oif", r.OIF != ""}, {"fwmark", r.Mark != netstate.Mark{}},
			{"ipproto", r.Proto != 0}, {"sport", r.SPort != netstate.PortRange{}}, {"dport", r.DPort != netstate.PortRange{}},
			{"tos", r.TOS != 0}, {"dscp", r.DSCP.Set}, {"uidrange", r.UID.Set}, {"l3mdev", r.L3MDev},
		} {
			if s.set {
				add(s.name, fits)
			}
		}
	}
	if s.Outcome == fib.Decided && r.Realms != 0 {
		add("realms", "decided")
	}
	if s.Outcome == fib.Decided && r.Table == netstate.TableLocal && r.Priority > 0 {
		add("local moved", "decided")
	}
	if s.Outcome != fib.NotSelected {
		add(actionName[r.Action], s.Outcome.String())
	}
}

// route counts what is special about a route that decided.
func (c coverage) route(v *view, f netstate.Family, r *netstate.Route, d *fib.Decision) {
	c[seen{f, "route", r.Type.String()}]++
	for _, s := range []struct {
		what string
		is   bool
	}{
		{"tos", r.TOS != 0}, {"from", r.From.IsValid()}, {"pref", r.Pref != 0}, {"src", r.Src.IsValid()}, {"onlink", r.Hop.OnLink},
		{"via inet6", d.Hop.Via.Is6() && f == netstate.IPv4}, {"multipath", len(d.Multipath) > 0},
		{"next hop object", r.NexthopID != 0}, {"reject type, next hop object", r.NexthopID != 0 && !r.Type.Forwards()}, {"group", len(v.members(r.NexthopID)) > 1}, {"shared next hop object", len(v.alike(r)) > 1},
	} {
		if s.is {
			c[seen{f, "route with", s.what}]++
		}
	}
}

// requireAll fails where something did not occur that the kernel has.
func (c coverage) requireAll(t *testing.T, kernelHas func(selector string) bool) {
	t.Helper()
	require := func(f netstate.Family, what string, hows ...string) {
		for _, how := range hows {
			if c[seen{f, what, how}] == 0 {
				t.Errorf("IPv%d: %s %s: it did not occur", map[netstate.Family]int{netstate.IPv4: 4, netstate.IPv6: 6}[f], what, how)
			}
		}
	}
	for _, f := range netstate.Families {
		for _, selector := range []string{"from", "to", "iif", "oif", "fwmark", "ipproto", "sport", "dport", "tos", "dscp", "uidrange", "l3mdev"} {
			if kernelHas(selector) {
				require(f, selector, fits, misfits)
			}
		}
		require(f, "tun_id", misfits) // RTM_GETROUTE has no tunnel
		require(f, "not", "not selected", "decided", "missed")
		require(f, "goto", "jumped", "passed")
		require(f, "nop", "passed")
		require(f, "local moved", "decided")
		require(f, "table", "missed", "thrown", "suppressed", "decided")
		require(f, "suppress_prefixlength", "suppresses", "lets pass")
		require(f, "suppress_ifgroup", "suppresses", "lets pass")
		for _, action := range []string{"blackhole", "unreachable", "prohibit", "no rule"} {
			require(f, action, "decides")
		}
		require(f, "route", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit")
		require(f, "route with", "src", "onlink", "multipath", "next hop object", "group", "shared next hop object")
		require(f, "next hop object", "in doubt")
		for v := fib.Unicast; v <= fib.Invalid; v++ {
			if v == fib.Invalid && f == netstate.IPv6 {
				continue // it refuses nothing
			}
			require(f, "verdict", v.String())
		}
	}
	require(netstate.IPv4, "on link", "decides")
	require(netstate.IPv4, "realms", "decided")
	require(netstate.IPv4, "route with", "tos", "via inet6")
	require(netstate.IPv6, "route with", "from", "pref")
}
