// Package explain turns what package sim works out into an answer for a person or a
// program: which rule, table and route decided, who asked for them, and what would
// have to change.
package explain

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/snapshot"
)

// Explainer answers questions about one snapshot. It is safe for concurrent use.
type Explainer struct {
	snap   *snapshot.Snapshot
	in     sim.Input
	world  *sim.World
	rules  map[*netstate.Rule]*owner
	routes map[netstate.RouteKey]*owner
	pod    Pod
}

// owner is who asked for something, and how an answer names them.
type owner struct {
	*snapshot.Owner
	text string
}

// New makes a snapshot ready for questions. It keeps s, which must not be written to.
func New(s *snapshot.Snapshot) *Explainer {
	e := &Explainer{
		snap: s, pod: podOf(s),
		in: sim.Input{Kernel: s.Kernel, State: s.State, Sysctls: s.Sysctls, Opaque: s.Opaque, Surroundings: s.Surroundings, Tables: s.Tables},
	}
	e.world = sim.New(&e.in)
	e.addOwners()
	return e
}

// addOwners finds whose the snapshot's rules and routes are. A rule is long, and all
// answers are about the snapshot's own: so it is compared here, and found by its place
// later. Routes may be a hundred thousand, of which few are asked for.
func (e *Explainer) addOwners() {
	routes := 0
	for i := range e.snap.Owners {
		routes += len(e.snap.Owners[i].Routes)
	}
	byRule := make(map[netstate.Rule]*owner)
	e.routes = make(map[netstate.RouteKey]*owner, routes)
	for i := range e.snap.Owners {
		o := &owner{&e.snap.Owners[i], e.snap.Owners[i].String()}
		for _, r := range o.Rules {
			byRule[r] = o
		}
		for _, k := range o.Routes {
			e.routes[k] = o
		}
	}
	e.rules = make(map[*netstate.Rule]*owner, len(byRule))
	for i := range e.snap.State.Rules {
		r := &e.snap.State.Rules[i]
		if o := byRule[*r]; o != nil {
			e.rules[r] = o
		}
	}
}

// World is what the answers are worked out with.
func (e *Explainer) World() *sim.World { return e.world }

// Table gives a table's name as `ip` prints it, or its number where it has none.
func (e *Explainer) Table(id uint32) string { return e.world.Table(id) }

// Answer is what becomes of a packet, as `explain -o json` prints it.
type Answer struct {
	Verdict   string   `json:"verdict"`
	Reason    string   `json:"reason,omitempty"`
	Cause     string   `json:"cause,omitempty"`
	Table     string   `json:"table,omitempty"`
	Rule      *uint32  `json:"rule,omitempty"` // the priority
	Route     string   `json:"route,omitempty"`
	OIF       string   `json:"oif,omitempty"`
	Via       string   `json:"via,omitempty"`
	Source    string   `json:"source,omitempty"` // of a packet that is made here, or is masqueraded
	FwMark    uint32   `json:"fwmark"`
	MTU       uint32   `json:"mtu,omitempty"` // in bytes, of the way out
	Ways      []Way    `json:"ways,omitempty"`
	WantedBy  string   `json:"wantedBy,omitempty"` // Kind/name, file:line; or CNI network name, interface link (plugin)
	Check     string   `json:"sourceCheck,omitempty"`
	Otherwise string   `json:"otherwise,omitempty"`
	Cure      string   `json:"cure,omitempty"`
	Filters   []string `json:"filters,omitempty"`
	Notes     []string `json:"notes,omitempty"`
	Summary   string   `json:"summary"`
	Steps     []Step   `json:"steps,omitempty"`
	Reply     *Answer  `json:"reply,omitempty"`

	Packet string `json:"packet,omitempty"` // in words

	trace *trace // what it was made from, where Options asked for steps
}

// Way is one of several next hops that a hash picks from.
type Way struct {
	OIF    string `json:"oif"`
	Via    string `json:"via,omitempty"`
	Source string `json:"source,omitempty"`
}

// Step is something that was looked at on the packet's way.
type Step struct {
	Hook    string `json:"hook"`
	Kind    string `json:"kind"`
	Object  string `json:"object"`
	Result  string `json:"result"`
	Outcome string `json:"outcome,omitempty"` // of a rule, as fib.Outcome has it
	Decides bool   `json:"decides,omitempty"`
}

// trace is a packet and its way, for what draws it.
type trace struct {
	packet sim.Packet
	answer sim.Answer
}

// Options say how much an answer tells.
type Options struct {
	Steps bool // every rule that was tried
	Reply bool // the answer's way too
}

// Explain answers for one packet. The error is that of a question that makes no
// sense here: a link that there is not, addresses of two families.
func (e *Explainer) Explain(p sim.Packet, o Options) (*Answer, error) {
	if err := e.check(&p); err != nil {
		return nil, err
	}
	a := e.ask(p, sim.Conn{}, o)
	out := e.describe(&p, &a)
	if o.Steps {
		out.trace = &trace{p, a}
	}
	if o.Reply {
		back, c, why := e.world.Reply(p, &a)
		if why != "" {
			out.Reply = &Answer{Verdict: sim.Unknown.String(), Reason: "there is no answer: " + why, Summary: "there is no answer: " + why}
			return out, nil
		}
		ra := e.ask(back, c, o)
		out.Reply = e.describe(&back, &ra)
		e.astray(&p, &back, &ra, out.Reply)
		if o.Steps {
			out.Reply.trace = &trace{back, ra}
		}
	}
	return out, nil
}

func (e *Explainer) ask(p sim.Packet, c sim.Conn, o Options) sim.Answer {
	if o.Steps {
		return e.world.Trace(p, c)
	}
	return e.world.Run(p, c)
}

// check refuses questions that make no sense.
func (e *Explainer) check(p *sim.Packet) error {
	to, from := p.To.Unmap(), p.From.Unmap()
	switch {
	case !to.IsValid():
		return fmt.Errorf("no destination: say --to ADDRESS")
	case from.IsValid() && from.Is4() != to.Is4():
		return fmt.Errorf("the source %s and the destination %s are of two families", p.From, p.To)
	case p.IIF != "" && p.OIF != "":
		return fmt.Errorf("a packet that came in by %s is not bound to a link: leave out --iif or --oif", p.IIF)
	case p.IIF == "lo":
		return fmt.Errorf("what comes in by lo was made here: leave out --iif")
	case p.IIF != "" && !from.IsValid():
		return fmt.Errorf("a packet that came in by %s has a source: say --from ADDRESS", p.IIF)
	}
	for _, name := range []string{p.IIF, p.OIF} {
		if name != "" && e.world.Link(name) == nil {
			return fmt.Errorf("there is no link %s here%s", name, e.similar(name))
		}
	}
	return nil
}

// similar lists the links, for a mistyped one.
func (e *Explainer) similar(string) string {
	s := ""
	for i := range e.in.State.Links {
		if i == 12 {
			return s + ", …"
		}
		if i == 0 {
			s = ": there are "
		} else {
			s += ", "
		}
		s += e.in.State.Links[i].Name
	}
	return s
}

// describe says what the simulation found in the field's words.
func (e *Explainer) describe(p *sim.Packet, a *sim.Answer) *Answer {
	out := &Answer{
		Verdict: a.Verdict.String(), Reason: a.Reason, Cause: causes[a.Cause], FwMark: a.Mark, Filters: a.Filters, Notes: a.Notes, Packet: packetText(p),
	}
	if a.Verdict == sim.Unknown && a.Otherwise != sim.Unknown {
		out.Otherwise = a.Otherwise.String()
	}
	d := &a.Decision
	if a.Cause == sim.ReverseFilter {
		d = &a.Check.Back // what decided is where an answer would go
	}
	if d.Rule != nil {
		prio := d.Rule.Priority // the caller may do with it what it likes
		out.Rule = &prio
	}
	if d.Route != nil {
		out.Table, out.Route = e.Table(d.Table), d.Route.Format(e)
	}
	if o := e.owner(d.Rule, d.Route); o != nil {
		out.WantedBy = o.text
	}
	if goes(a) {
		out.OIF, out.Via = a.Dev, addrText(a.Via)
		out.Source = leavesAs(p, a.Way.Source)
		for _, w := range a.Ways {
			way := Way{OIF: w.Dev, Via: addrText(w.Via), Source: leavesAs(p, w.Source)}
			out.Ways = append(out.Ways, way)
		}
		out.MTU = e.mtu(a)
	}
	if a.Check != nil {
		out.Check = "rp_filter on " + a.Check.In + ": " + a.Check.String()
	}
	for i := range a.Steps {
		out.Steps = append(out.Steps, e.stepText(&a.Steps[i]))
	}
	if a.Verdict == sim.Dropped {
		out.Cure = e.cure(p, a)
	}
	out.Summary = summary(out)
	return out
}

// goes says whether the packet leaves or is delivered, at least if what is not
// known does nothing.
func goes(a *sim.Answer) bool {
	v := a.Verdict
	if v == sim.Unknown {
		v = a.Otherwise
	}
	return v == sim.Forwarded || v == sim.Sent || v == sim.Delivered || v == sim.Unknown && a.Dev != ""
}

func (e *Explainer) stepText(s *sim.Step) Step {
	out := Step{Hook: string(s.Hook), Kind: s.Kind, Object: s.Object, Result: s.Result, Decides: s.Decides}
	if s.Rule != nil {
		out.Object, out.Outcome = s.Rule.Format(e), s.Outcome.String()
	}
	if s.Route != nil {
		out.Result += ": " + s.Route.Format(e)
	}
	if o := e.owner(s.Rule, s.Route); o != nil {
		out.Result += " (wanted by " + o.text + ")"
	}
	return out
}

// owner tells whose a rule is, or where it is nobody's, whose the route is.
func (e *Explainer) owner(rule *netstate.Rule, route *netstate.Route) *owner {
	if o := e.rules[rule]; o != nil {
		return o
	}
	if route == nil {
		return nil
	}
	o := e.routes[route.Key()]
	if o != nil && o.CNI != nil && route.Protocol != netstate.ProtocolCNI {
		return nil // somebody else's has come into its place
	}
	return o
}

// mtu is the smallest packet size on the way out, where route or link name one.
func (e *Explainer) mtu(a *sim.Answer) uint32 {
	var mtu uint32
	if l := e.world.Link(a.Dev); l != nil {
		mtu = l.MTU
	}
	if r := a.Decision.Route; r != nil && r.MTU > 0 && (mtu == 0 || r.MTU < mtu) {
		mtu = r.MTU
	}
	return mtu
}

// leavesAs is the source with which a packet leaves, where it did not come in with
// that.
func leavesAs(p *sim.Packet, source netip.Addr) string {
	if p.IIF != "" && source == p.From {
		return ""
	}
	return addrText(source)
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

var causes = map[sim.Cause]string{
	sim.NoRoute: "no-route", sim.RejectRoute: "route", sim.RejectRule: "rule", sim.ReverseFilter: "rp_filter", sim.OwnSource: "own-source",
	sim.Martian: "martian", sim.NotForwarding: "not-forwarding", sim.LinkDown: "link-down", sim.TimeExceeded: "ttl", sim.NoIPv6: "disable_ipv6",
	sim.OwnFilter: "filter", sim.ForeignFilter: "forward-chain", sim.NoSource: "masquerade", sim.Refused: "refused",
}

// packetText says in words which packet is meant.
func packetText(p *sim.Packet) string {
	b := make([]byte, 0, 160)
	if p.From.IsValid() {
		b = append(p.From.AppendTo(b), ' ')
	}
	b = p.To.AppendTo(append(b, "→ "...))
	number := func(word string, n uint32, base int) {
		if n != 0 {
			b = strconv.AppendUint(append(b, word...), uint64(n), base)
		}
	}
	if name := protoNames[p.Proto]; name != "" {
		b = append(append(b, ' '), name...)
	} else {
		number(" ipproto ", uint32(p.Proto), 10)
	}
	number(" sport ", uint32(p.SPort), 10)
	number(" dport ", uint32(p.DPort), 10)
	number(" fwmark 0x", p.Mark, 16)
	number(" tos 0x", uint32(p.TOS), 16)
	switch {
	case p.IIF != "":
		b = append(append(b, ", in by "...), p.IIF...)
	case p.OIF != "":
		b = append(append(b, ", made here, bound to "...), p.OIF...)
	default:
		b = append(b, ", made here"...)
	}
	number(", uid ", p.UID, 10)
	return string(b)
}

var protoNames = map[uint8]string{1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}
