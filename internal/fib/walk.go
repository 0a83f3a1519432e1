package fib

import (
	"cmp"
	"fmt"
	"net/netip"

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
	w.src, w.dst = keyOf(w.from), keyOf(flow.To)
	w.findLinks()
	if w.family == netstate.IPv6 {
		return w.decide6()
	}
	return w.decide4()
}

// walk is one lookup on its way.
type walk struct {
	fib      *FIB
	flow     Flow
	family   netstate.Family
	from     netip.Addr // never the zero Addr
	src, dst key        // from, and the flow's To
	in, out  *link      // by which rules see the packet come and go; nil: none, or one that nobody else names
	vrf      *link      // the VRF that the flow belongs to
	// vrfTable is the VRF's table from the first l3mdev rule on that got to look for
	// it. One with not may be selected before, and then means the table 0.
	vrfTable uint32
	strict   bool   // IPv6: only routes by oif count (RT6_LOOKUP_F_IFACE)
	oif      string // IPv6: the link that is preferred or, with strict, needed
	steps    *[]Step
	unsure   string // why nobody can tell what a table's answer makes of the packet; else empty
}

// findLinks finds the flow's links and its VRF, the latter as l3mdev_update_flow
// does: a VRF given as the output link says which tables to use, and is no output
// link.
func (w *walk) findLinks() {
	f := &w.flow
	w.in = w.fib.lo
	if f.IIF != "" {
		w.in = w.fib.links[f.IIF]
	}
	if f.OIF != "" {
		w.out = w.fib.links[f.OIF]
	}
	switch {
	case f.VRF != "":
		if l := w.fib.links[f.VRF]; l != nil && l.isVRF() {
			w.vrf = l
		}
	case w.out != nil:
		w.vrf = w.out.vrf
	case f.IIF != "" && w.in != nil:
		w.vrf = w.in.vrf
	}
	if w.vrf != nil && w.out == w.vrf {
		f.OIF, w.out = "", nil
	}
}

func (w *walk) step(r *rule, o Outcome, route *netstate.Route, detail string) {
	if w.steps != nil {
		*w.steps = append(*w.steps, Step{Rule: r.Rule, Outcome: o, Route: route, Detail: detail})
	}
}

// match is what a table gives for a packet.
type match struct {
	route *route // nil: nothing
	hops  hops   // that may be used; the first one is the kernel's find
	table uint32 // where it was found
}

// hops are next hops, which stay where they are.
type hops struct {
	one     *netstate.Hop  // the only one
	several []netstate.Hop // else
}

// hopsOf returns the route's hops, always at least one.
func hopsOf(r *route) hops {
	if r.is&several != 0 {
		return hops{several: r.Hops}
	}
	return hops{one: r.hop}
}

func (h *hops) len() int {
	if h.one != nil {
		return 1
	}
	return len(h.several)
}

func (h *hops) at(i int) *netstate.Hop {
	if h.one != nil {
		return h.one
	}
	return &h.several[i]
}

// rules walks the rules (fib_rules_lookup) and returns what the last one
// decided, without ways. match.route is nil where no route was chosen.
func (w *walk) rules() (Decision, match) {
	rules := w.fib.rules[familyIndex(w.family)]
	for i := 0; i < len(rules); i++ {
		r := &rules[i]
		failed := w.selects(r)
		if r.has&isUnknown != 0 && (failed == "" || r.has&isNot != 0) {
			// What it does not know may be one more selector, or an action.
			w.step(r, Decided, nil, "cannot tell")
			return Decision{Verdict: Unknown, Rule: r.Rule, Why: fmt.Sprintf("rule %d %s", r.Priority, usesUnknown(r.Unknown))}, match{}
		}
		if (failed == "") == (r.has&isNot != 0) {
			if w.steps != nil {
				w.step(r, NotSelected, nil, cmp.Or(failed, "not"))
			}
			continue
		}
		switch r.action {
		case netstate.Goto:
			// The rule lands on the first rule of the priority and evaluates it
			// next. Without one the kernel goes on as if the goto were not there.
			if r.target < 0 {
				w.step(r, Passed, nil, "no rule has the priority")
				continue
			}
			w.step(r, Jumped, nil, "")
			i = int(r.target) - 1
		case netstate.Nop:
			w.step(r, Passed, nil, "")
		case netstate.ToTable:
			if m, done := w.table(r); done {
				return w.decision(r, &m), m
			}
		default:
			w.step(r, Decided, nil, "")
			return Decision{Verdict: actionVerdict(r.action), Rule: r.Rule}, match{}
		}
	}
	return Decision{Verdict: NoRoute}, match{}
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
func (w *walk) table(r *rule) (m match, done bool) {
	id, t := r.Table, r.table
	if r.has&hasL3MDev != 0 {
		id = cmp.Or(w.vrfTable, netstate.TableMain) // fib_get_table, fib6_get_table
		t = w.fib.tables[tableID{w.family, id}]
	}
	if t != nil {
		if w.family == netstate.IPv6 {
			m = w.find6(t)
		} else {
			m = w.find4(t)
		}
	}
	if m.route == nil {
		w.step(r, Missed, nil, "")
		return m, false
	}
	m.table = id
	if m.route.is&byObject != 0 && w.family == netstate.IPv6 {
		// The answer that it gets may be an error, by which the walk goes on or ends.
		if w.unsure = w.otherFate(&m); w.unsure != "" {
			w.step(r, Decided, m.route.Route, "cannot tell")
			return m, true
		}
	}
	if m.route.verdict == thrown {
		w.step(r, Thrown, m.route.Route, "")
		return m, false
	}
	if r.has&suppresses != 0 && m.route.verdict.Goes() {
		all, why := w.suppresses(r, &m)
		if all {
			w.step(r, Suppressed, m.route.Route, "")
			return m, false
		}
		if why != "" {
			w.step(r, Decided, m.route.Route, "cannot tell")
			w.unsure = why
			return m, true
		}
	}
	w.step(r, Decided, m.route.Route, "")
	return m, true
}

// decision is what a match decides, by a rule, without ways.
func (w *walk) decision(r *rule, m *match) Decision {
	d := Decision{Verdict: m.route.verdict, Rule: r.Rule, Table: m.table, Route: m.route.Route}
	if w.unsure != "" {
		d.Verdict, d.Why = Unknown, w.unsure
	}
	return d
}

// thrown stands for a route of the type throw, which is no verdict.
const thrown Verdict = 0xff

func typeVerdict(t netstate.RouteType) Verdict {
	switch t {
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
// then why says so.
func (w *walk) suppresses(r *rule, m *match) (all bool, why string) {
	all, some := w.suppressesGroup(r, m)
	if all {
		return true, ""
	}
	if why := w.otherLength(r, m); why != "" {
		return false, why
	}
	if r.SuppressPrefixLength.Set && m.route.To.Bits() <= int(r.SuppressPrefixLength.Val) {
		return true, ""
	}
	if some {
		return false, fmt.Sprintf("rule %d takes only some next hops of route %s, and a hash picks one", r.Priority, m.route.To)
	}
	return false, ""
}

// suppressesGroup looks at suppress_ifgroup only.
func (w *walk) suppressesGroup(r *rule, m *match) (all, some bool) {
	if !r.SuppressIfGroup.Set {
		return false, false
	}
	hops := m.hops
	if w.family == netstate.IPv4 {
		all := hopsOf(m.route)
		hops.one = all.at(0)
	}
	n := 0
	for i := range hops.len() {
		if l := w.fib.links[hops.at(i).Dev]; l.there() && l.Group == r.SuppressIfGroup.Val {
			n++
		}
	}
	return n == hops.len(), n > 0
}

// dead says whether a hop of a route cannot be used.
func (w *walk) dead(r *route, h *netstate.Hop) bool { return r.is&down != 0 && w.fib.dead(h.Dev) }

// dead says whether a hop by the link cannot be used: RTNH_F_DEAD. A link that
// the state does not list is taken as up.
func (f *FIB) dead(dev string) bool {
	l := f.links[dev]
	return l.there() && !l.Up
}
