package fib

import (
	"cmp"
	"fmt"
	"net/netip"
	"sort"

	"github.com/viarule/viarule/internal/netstate"
)

// Outcome is what came of one rule.
type Outcome uint8

// The outcomes.
const (
	NotSelected Outcome = iota // a selector does not fit; Detail names it
	Passed                     // a nop, or a goto to a priority that no rule has
	Jumped                     // a goto
	Missed                     // the table has no route for the packet
	Thrown                     // the table's route is of the type throw
	Suppressed                 // a route was found, and the rule does not take it
	Decided                    // the walk ends here
)

// String gives the outcome in a word or two.
func (o Outcome) String() string {
	names := [...]string{"not selected", "passed", "jumped", "missed", "thrown", "suppressed", "decided"}
	if int(o) < len(names) {
		return names[o]
	}
	return "outcome?"
}

// Step is one rule on the way to a decision.
type Step struct {
	Rule    *netstate.Rule
	Outcome Outcome
	Route   *netstate.Route // for Thrown, Suppressed and Decided by a route
	Detail  string
}

// Lookup decides where a packet goes.
func (f *FIB) Lookup(flow Flow) Decision { return f.decide(flow, nil) }

// Trace is Lookup with all steps.
func (f *FIB) Trace(flow Flow) Decision {
	var steps []Step
	d := f.decide(flow, &steps)
	d.Steps = steps
	return d
}

func invalid(format string, args ...any) Decision {
	return Decision{Verdict: Invalid, Why: fmt.Sprintf(format, args...)}
}

func (f *FIB) decide(flow Flow, steps *[]Step) Decision {
	// Sockets of both families give IPv4 addresses in IPv6 form, and the kernel
	// routes them as IPv4. Zones repeat what IIF and OIF say.
	flow.From, flow.To = flow.From.Unmap().WithZone(""), flow.To.Unmap().WithZone("")
	switch {
	case flow.Family() == 0:
		return invalid("no destination address")
	case flow.From.IsValid() && netstate.FamilyOf(flow.From) != flow.Family():
		return invalid("the source %s and the destination %s are of two families", flow.From, flow.To)
	case flow.IIF != "" && flow.OIF != "":
		return invalid("a packet that came in is not bound to a link")
	}
	if flow.IIF == "" && flow.From.IsUnspecified() {
		flow.From = netip.Addr{}
	}
	w := walk{fib: f, flow: flow, family: flow.Family(), steps: steps}
	w.from = flow.From
	if !w.from.IsValid() {
		w.from = w.family.Default().Addr()
	}
	w.enterVRF()
	if w.family == netstate.IPv6 {
		return w.decide6()
	}
	return w.decide4()
}

// walk is one lookup on its way.
type walk struct {
	fib    *FIB
	flow   Flow
	family netstate.Family
	from   netip.Addr // never the zero Addr
	vrf    string     // the VRF that the flow belongs to
	strict bool       // IPv6: only routes by oif count (RT6_LOOKUP_F_IFACE)
	oif    string     // IPv6: the link that is preferred or, with strict, needed
	steps  *[]Step
}

// enterVRF finds the flow's VRF, as l3mdev_update_flow does: a VRF given as the
// output link says which tables to use, and is no output link.
func (w *walk) enterVRF() {
	switch {
	case w.flow.OIF != "":
		w.vrf = w.fib.master[w.flow.OIF]
	case w.flow.IIF != "":
		w.vrf = w.fib.master[w.flow.IIF]
	}
	if w.vrf != "" && w.flow.OIF == w.vrf {
		w.flow.OIF = ""
	}
}

func (w *walk) step(r *netstate.Rule, o Outcome, route *netstate.Route, detail string) {
	if w.steps != nil {
		*w.steps = append(*w.steps, Step{Rule: r, Outcome: o, Route: route, Detail: detail})
	}
}

// match is what a table gives for a packet.
type match struct {
	route *netstate.Route // nil: nothing
	hops  []netstate.Hop  // that may be used; the first one is the kernel's find
}

// rules walks the rules (fib_rules_lookup) and returns what the last one
// decided, without ways. match.route is nil where no route was chosen.
func (w *walk) rules() (Decision, match) {
	rules := w.fib.rules[familyIndex(w.family)]
	for i := 0; i < len(rules); i++ {
		r := rules[i]
		failed := w.selects(r)
		if r.Unknown != "" && (failed == "" || r.Not) {
			// What it does not know may be one more selector, or an action.
			w.step(r, Decided, nil, "cannot tell")
			return Decision{Verdict: Unknown, Rule: r, Why: fmt.Sprintf("rule %d %s", r.Priority, usesUnknown(r.Unknown))}, match{}
		}
		if (failed == "") == r.Not {
			w.step(r, NotSelected, nil, cmp.Or(failed, "not"))
			continue
		}
		switch r.Action {
		case netstate.Goto:
			// The rule lands on the first rule of the priority and evaluates it
			// next. Without one the kernel goes on as if the goto were not there.
			to, ok := target(rules, i, r.Goto)
			if !ok {
				w.step(r, Passed, nil, "no rule has the priority")
				continue
			}
			w.step(r, Jumped, nil, "")
			i = to - 1
		case netstate.Nop:
			w.step(r, Passed, nil, "")
		case netstate.ToTable:
			if d, m, done := w.table(r); done {
				return d, m
			}
		default:
			w.step(r, Decided, nil, "")
			return Decision{Verdict: actionVerdict(r.Action), Rule: r}, match{}
		}
	}
	return Decision{Verdict: NoRoute}, match{}
}

// target finds the first rule of a priority behind rule i.
func target(rules []*netstate.Rule, i int, prio uint32) (int, bool) {
	n := sort.Search(len(rules), func(j int) bool { return rules[j].Priority >= prio })
	return n, n > i && n < len(rules) && rules[n].Priority == prio
}

// actionVerdict is the verdict of an action that ends the walk. What the kernel
// does not know it treats as blackhole (fib4_rule_action, __fib6_rule_action).
func actionVerdict(a netstate.Action) Verdict {
	switch a {
	case netstate.Unreachable:
		return Unreachable
	case netstate.Prohibit:
		return Prohibit
	}
	return Blackhole
}

// table looks into the rule's table; done is false where the walk goes on.
func (w *walk) table(r *netstate.Rule) (d Decision, m match, done bool) {
	id := r.Table
	if r.L3MDev {
		id = 0 // no table: a rule with not is selected without a VRF
		if l := w.fib.links[w.vrf]; l != nil {
			id = l.VRFTable
		}
	}
	if t := w.fib.tables[tableID{w.family, id}]; t != nil {
		if w.family == netstate.IPv6 {
			m = w.find6(t)
		} else {
			m = w.find4(t)
		}
	}
	v := w.verdict(m.route)
	switch v {
	case NoRoute:
		w.step(r, Missed, nil, "")
		return d, m, false
	case thrown:
		w.step(r, Thrown, m.route, "")
		return d, m, false
	}
	if v.Goes() {
		all, some := w.suppresses(r, m)
		if all {
			w.step(r, Suppressed, m.route, "")
			return d, m, false
		}
		if some {
			w.step(r, Decided, m.route, "cannot tell")
			why := fmt.Sprintf("rule %d takes only some next hops of route %s, and a hash picks one", r.Priority, m.route.To)
			return Decision{Verdict: Unknown, Rule: r, Table: id, Route: m.route, Why: why}, m, true
		}
	}
	w.step(r, Decided, m.route, "")
	return Decision{Verdict: v, Rule: r, Table: id, Route: m.route}, m, true
}

// thrown stands for a route of the type throw, which is no verdict.
const thrown Verdict = 0xff

func (w *walk) verdict(r *netstate.Route) Verdict {
	if r == nil {
		return NoRoute
	}
	if w.fib.dropNH[r.NexthopID] {
		return Blackhole
	}
	switch r.Type {
	case netstate.RouteUnicast:
		return Unicast
	case netstate.RouteLocal:
		return Local
	case netstate.RouteBroadcast:
		return Broadcast
	case netstate.RouteAnycast:
		return Anycast
	case netstate.RouteMulticast:
		return Multicast
	case netstate.RouteUnreachable:
		return Unreachable
	case netstate.RouteProhibit:
		return Prohibit
	case netstate.RouteThrow:
		return thrown
	}
	return Blackhole // fib_props: -EINVAL for what is not implemented
}

// suppresses is fib4_rule_suppress and fib6_rule_suppress. IPv4 looks at the
// first hop of a multipath route, whatever hop is used in the end; IPv6 at the one
// that its hash picked, so that a rule may take some packets and not others:
// then some is true.
func (w *walk) suppresses(r *netstate.Rule, m match) (all, some bool) {
	if r.SuppressPrefixLength.Set && m.route.To.Bits() <= int(r.SuppressPrefixLength.Val) {
		return true, false
	}
	if !r.SuppressIfGroup.Set {
		return false, false
	}
	hops := m.hops
	if w.family == netstate.IPv4 {
		hops = hopsOf(m.route)[:1]
	}
	n := 0
	for _, h := range hops {
		if l := w.fib.links[h.Dev]; l != nil && l.Group == r.SuppressIfGroup.Val {
			n++
		}
	}
	return n == len(hops), n > 0
}

// hopsOf returns the route's hops, always at least one.
func hopsOf(r *netstate.Route) []netstate.Hop {
	if len(r.Hops) > 0 {
		return r.Hops
	}
	return []netstate.Hop{r.Hop}
}

// dead says whether a hop by the link cannot be used: RTNH_F_DEAD. A link that
// the state does not list is taken as up.
func (f *FIB) dead(dev string) bool {
	l := f.links[dev]
	return l != nil && !l.Up
}
