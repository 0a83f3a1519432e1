package sim

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// Input is what is known of a namespace.
type Input struct {
	Kernel       string // its release, as `uname -r` says; empty: not known
	State        netstate.State
	Sysctls      []netstate.Sysctl
	Opaque       []netstate.Opaque
	Surroundings netstate.Surroundings
	Tables       map[uint32]string // names of tables, for what is said about them; may be nil
}

// World is an Input that is ready for packets. It is safe for concurrent use.
type World struct {
	in      *Input
	fib     *fib.FIB
	links   map[string]*netstate.Link
	sysctls map[string]string
	custom  bool            // there is a rule besides the kernel's own
	dissect bool            // IPv4 looks at protocol and ports of packets that came in
	byVRF   map[string]bool // VRFs that rules name as iif or oif, where that is in doubt
	realms  bool            // some rule or route has realms: IPv4 checks all sources
	nft     map[string][]*netstate.NftChain
	chains  map[string]*netstate.NftChain
	maps    map[string]*netstate.NftMap
	forward []*netstate.ForwardChain // of others, by priority
	filters []string
}

// New makes in ready. It keeps in, which must not be written to afterwards.
func New(in *Input) *World {
	w := &World{
		in: in, fib: fib.New(&in.State), links: make(map[string]*netstate.Link, len(in.State.Links)),
		sysctls: make(map[string]string, len(in.Sysctls)), filters: foreignTables(&in.Surroundings),
	}
	for i := range in.State.Links {
		w.links[in.State.Links[i].Name] = &in.State.Links[i]
	}
	for _, s := range in.Sysctls {
		w.sysctls[s.Key] = s.Value
	}
	w.byVRF = map[string]bool{}
	for i := range in.State.Rules {
		r := &in.State.Rules[i]
		for _, name := range []string{r.IIF, r.OIF} {
			if l := w.links[name]; l != nil && l.Kind == "vrf" && !portsCount(in.Kernel) {
				w.byVRF[name] = true
			}
		}
		w.custom = w.custom || !kernelsOwn(r)
		w.realms = w.realms || r.Realms != 0
		// fib_rule_requires_fldissect: rules for packets made here do not count.
		w.dissect = w.dissect || r.Family == netstate.IPv4 && r.IIF != "lo" && (r.Proto != 0 || r.SPort != netstate.PortRange{} || r.DPort != netstate.PortRange{})
	}
	for i := range in.State.Routes {
		r := &in.State.Routes[i]
		w.realms = w.realms || r.Realms != 0 || r.Hop.Realms != 0
	}
	w.addNft()
	w.addForward()
	return w
}

// FIB is the routing decision alone.
func (w *World) FIB() *fib.FIB { return w.fib }

// Input is what the world was made from. It must not be written to.
func (w *World) Input() *Input { return w.in }

// Modes are what all rules and routes together mean for the check of the source of
// every IPv4 packet that comes in.
type Modes struct {
	Custom  bool // there is a rule besides the kernel's own
	Dissect bool // the kernel looks at protocol and ports
	Realms  bool // some rule or route has realms: all sources are checked
}

// Modes gives the modes that the world's rules and routes lead to.
func (w *World) Modes() Modes { return Modes{w.custom, w.dissect, w.realms} }

// Link tells a link by its name; nil where there is none.
func (w *World) Link(name string) *netstate.Link { return w.links[name] }

// kernelsOwn says whether a rule is one of the three that a namespace begins with.
func kernelsOwn(r *netstate.Rule) bool {
	plain := netstate.Rule{Family: r.Family, Priority: r.Priority, Action: netstate.ToTable, Table: r.Table, Protocol: r.Protocol}
	if *r != plain {
		return false
	}
	switch r.Priority {
	case 0:
		return r.Table == netstate.TableLocal
	case 32766:
		return r.Table == netstate.TableMain
	case 32767:
		return r.Table == netstate.TableDefault
	}
	return false
}

func foreignTables(s *netstate.Surroundings) []string {
	var out []string
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	for _, c := range s.Chains {
		if c.Family != "arp" && c.Family != "bridge" && c.Chain != "" {
			add("table " + c.Family + " " + c.Table)
		}
	}
	for _, t := range s.Legacy {
		add("iptables-legacy " + t)
	}
	if s.IPVS {
		add("IPVS")
	}
	return out
}

// Packet is what is asked about. See fib.Flow; without IIF it is made here.
type Packet struct {
	fib.Flow
	TTL uint8 // that it comes in with; 0: enough
}

// Conn is what connection tracking knows of the packet's connection. The zero Conn
// is that of a connection's first packet.
type Conn struct {
	Reply bool       // the packet goes against the direction of the first one
	Mark  uint32     // of the connection
	To    netip.Addr // where the first packet went; zero: where this one goes
}

// Verdict is what becomes of a packet.
type Verdict uint8

// The verdicts.
const (
	Unknown   Verdict = iota // viarule cannot tell; Reason says what it does not know
	Forwarded                // it came in and goes out
	Delivered                // it is for a socket of this namespace
	Sent                     // it is made here and goes out
	Dropped                  // it gets nowhere
)

var verdicts = [...]string{"unknown", "forwarded", "delivered", "sent", "dropped"}

// String gives the verdict as `explain -o json` does.
func (v Verdict) String() string {
	if int(v) < len(verdicts) {
		return verdicts[v]
	}
	return "verdict?"
}

// Cause is what dropped a packet.
type Cause uint8

// The causes.
const (
	NoCause       Cause = iota
	NoRoute             // no rule leads to a route
	RejectRoute         // a route of the types unreachable, prohibit and blackhole
	RejectRule          // a rule with such an action
	ReverseFilter       // rp_filter
	OwnSource           // an address of this host as the source of a packet that came in
	Martian             // an address that must not be in a packet
	NotForwarding       // the host does not forward, or not from this link
	LinkDown            // the link by which it comes in is down
	TimeExceeded        // its TTL ends here
	NoIPv6              // disable_ipv6
	OwnFilter           // viarule's own nftables table drops it (reversePathFilter: Exempt)
	Refused             // the kernel refuses to send it (fib.Invalid)
	ForeignFilter       // a forward chain of somebody else's drops it
	NoSource            // viarule's own nftables table has no source for it (masquerade)
	NotToAnyone         // no socket may have it: multicast and broadcast by a wrong link
)

// Way is one way that a packet may take.
type Way struct {
	Dev    string
	Via    netip.Addr
	Source netip.Addr // of a packet that is made here, or that viarule masquerades
}

// Answer is what becomes of a packet.
type Answer struct {
	Verdict Verdict
	Cause   Cause
	Reason  string // for Dropped and Unknown: what decides, in a clause
	// Otherwise is, for Unknown, the verdict if what is not known does nothing.
	Otherwise Verdict
	// Decision is the routing decision that counted. Its Steps are left out.
	Decision fib.Decision
	Mark     uint32 // as the packet has it when it leaves or is delivered
	Conn     Conn   // as it is afterwards
	Way             // the first of Ways
	Ways     []Way  // two or more where a hash picks
	// Check is the check of the source address of a packet that came in; nil where
	// there was none.
	Check   *SourceCheck
	Filters []string // what else may decide: tables of others
	Notes   []string // what is worth knowing, and decides nothing
	Steps   []Step   // only from Trace
}

// Hook is where on its way a packet is.
type Hook string

// The hooks, in order.
const (
	Arrival     Hook = "arrival"
	Prerouting  Hook = "prerouting"
	Routing     Hook = "routing"
	SourceHook  Hook = "source check"
	InputHook   Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Rerouting   Hook = "rerouting" // what the output hook marked is routed again
	Postrouting Hook = "postrouting"
)

// Step is something on the packet's way that was looked at.
type Step struct {
	Hook    Hook
	Kind    string // link, sysctl, address, rule, route, mark, nat, filter, opaque
	Object  string // what was looked at, where Rule and Route do not say it
	Result  string
	Rule    *netstate.Rule
	Route   *netstate.Route
	Outcome fib.Outcome // of Rule
	Decides bool
}

// Run gives a packet's fate.
func (w *World) Run(p Packet, c Conn) Answer {
	r := run{w: w, p: p, c: c}
	return r.run()
}

// Trace is Run with all steps.
func (w *World) Trace(p Packet, c Conn) Answer {
	r := run{w: w, p: p, c: c, trace: true}
	return r.run()
}

// run is one packet under way.
type run struct {
	w      *World
	p      Packet
	c      Conn
	trace  bool
	port   string // IPv6: by which the packet came into its VRF
	in     string // its device as netfilter sees it: iifname. Empty where it is made here
	doubts []string
	a      Answer
	// masqueraded says that the chain under way has translated the source.
	masqueraded bool
}

func (r *run) run() Answer {
	r.p.From, r.p.To = r.p.From.Unmap().WithZone(""), r.p.To.Unmap().WithZone("")
	if r.p.IIF == "" && r.p.From.IsUnspecified() {
		r.p.From = netip.Addr{} // as fib has it: not chosen yet
	}
	if !r.c.To.IsValid() {
		r.c.To = r.p.To
		if r.c.Reply {
			r.c.To = r.p.From
		}
	}
	r.a.Filters = r.w.filters
	if r.p.IIF == "" {
		r.outgoing()
	} else {
		r.incoming()
	}
	r.a.Mark, r.a.Conn = r.p.Mark, r.c
	if len(r.doubts) > 0 && r.a.Verdict != Unknown {
		r.a.Otherwise, r.a.Verdict = r.a.Verdict, Unknown
		if r.a.Reason != "" {
			r.doubts = append(r.doubts, "otherwise "+r.a.Reason)
		}
		r.a.Reason = strings.Join(r.doubts, "; ")
	}
	return r.a
}

func (r *run) v6() bool { return r.p.Family() == netstate.IPv6 }

func (r *run) drop(c Cause, format string, args ...any) {
	r.a.Verdict, r.a.Cause, r.a.Reason = Dropped, c, fmt.Sprintf(format, args...)
}

func (r *run) unknown(format string, args ...any) {
	r.a.Verdict, r.a.Reason = Unknown, fmt.Sprintf(format, args...)
}

// step notes what was looked at; object and result are formatted only when
// somebody will read them.
func (r *run) step(h Hook, kind, object string, result func() string) {
	if r.trace {
		r.a.Steps = append(r.a.Steps, Step{Hook: h, Kind: kind, Object: object, Result: result()})
	}
}

func text(s string) func() string { return func() string { return s } }

// sysctl reads a number; what is missing is a doubt, since the kernel's default may
// not be what the host has.
func (r *run) sysctl(key string) int {
	v, ok := r.w.sysctls[key]
	n, err := strconv.Atoi(strings.TrimSpace(v))
	if !ok || err != nil {
		r.doubt("the sysctl " + key + " is not known")
		return 0
	}
	return n
}

// optional reads a number that old kernels do not have; those behave as with 0.
func (r *run) optional(key string) int {
	n, _ := strconv.Atoi(strings.TrimSpace(r.w.sysctls[key]))
	return n
}

func (r *run) doubt(why string) {
	for _, d := range r.doubts {
		if d == why {
			return
		}
	}
	r.doubts = append(r.doubts, why)
}

// portsCount says whether a rule for a VRF is one for packets of its ports too. That
// is so since Linux 6.14 (fib_rule_iif_match with flowi_l3mdev); some older kernels
// have been mended, and their release does not tell.
func portsCount(release string) bool {
	var major, minor int
	_, err := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return err == nil && (major > 6 || major == 6 && minor >= 14)
}

// decide asks fib, and notes the steps of its walk.
func (r *run) decide(h Hook, f fib.Flow) fib.Decision {
	if len(r.w.byVRF) > 0 {
		for _, dev := range []string{f.IIF, f.OIF} {
			if v := r.w.vrf(dev); v != dev && r.w.byVRF[v] {
				r.doubt("whether a rule for the VRF " + v + " is one for packets of its port " + dev + " depends on the kernel (6.14 and newer: yes)")
			}
		}
	}
	if !r.trace {
		return r.w.fib.Lookup(f)
	}
	d := r.w.fib.Trace(f)
	for _, s := range d.Steps {
		r.a.Steps = append(r.a.Steps, Step{
			Hook: h, Kind: "rule", Rule: s.Rule, Route: s.Route, Outcome: s.Outcome, Result: r.w.ruleResult(&s, &d, &f), Decides: s.Outcome == fib.Decided,
		})
	}
	d.Steps = nil
	return d
}

func (w *World) ruleResult(s *fib.Step, d *fib.Decision, f *fib.Flow) string {
	switch s.Outcome {
	case fib.NotSelected:
		if s.Detail == "not" {
			return "does not match: the packet is what `not` leaves out"
		}
		return "does not match: " + mismatch(s.Rule, f, s.Detail)
	case fib.Passed:
		if s.Detail != "" {
			return "passed: " + s.Detail
		}
		return "passed"
	case fib.Jumped:
		return fmt.Sprintf("goes on at %d", s.Rule.Goto)
	case fib.Missed:
		if s.Rule.L3MDev {
			return "no route in the VRF's table"
		}
		return "no route in table " + w.Table(s.Rule.Table)
	case fib.Thrown:
		return "the route says throw: the next rule"
	case fib.Suppressed:
		return "found a route that the rule does not take (suppressor)"
	}
	if s.Detail != "" {
		return s.Detail
	}
	if s.Route == nil {
		return "decides: " + d.Verdict.String()
	}
	return "decides"
}

// Table gives a table's name, or its number where it has none.
func (w *World) Table(id uint32) string {
	if name := netstate.KernelTable(id); name != "" {
		return name
	}
	if n := w.in.Tables[id]; n != "" {
		return n
	}
	return strconv.FormatUint(uint64(id), 10)
}

// routeFailed turns a decision that goes nowhere into the packet's fate; false where
// it goes somewhere.
func (r *run) routeFailed(d *fib.Decision) bool {
	switch d.Verdict {
	case fib.Unknown:
		r.unknown("%s", d.Why)
	case fib.NoRoute:
		r.drop(NoRoute, "no route to %s", r.p.To)
		if d.Why != "" {
			r.a.Reason += ": " + d.Why
		}
	case fib.Invalid:
		r.drop(Refused, "the kernel refuses it: %s", d.Why)
	case fib.Unreachable, fib.Prohibit, fib.Blackhole:
		if d.Route == nil {
			r.drop(RejectRule, "rule %d says %s", d.Rule.Priority, d.Verdict)
		} else {
			r.drop(RejectRoute, "the route %s in table %s says %s", prefixText(d.Route), r.w.Table(d.Table), d.Verdict)
		}
	default:
		return false
	}
	return true
}

func prefixText(r *netstate.Route) string {
	if r.To.Bits() == 0 {
		return "default"
	}
	return r.To.String()
}

// waysOf gives the ways of a decision.
func waysOf(d *fib.Decision) []Way {
	if len(d.Multipath) == 0 {
		return []Way{{Dev: d.Hop.Dev, Via: d.Hop.Via, Source: d.Src}}
	}
	out := make([]Way, len(d.Multipath))
	for i, m := range d.Multipath {
		out[i] = Way{Dev: m.Hop.Dev, Via: m.Hop.Via, Source: m.Src}
	}
	return out
}

func (r *run) take(ways []Way) {
	r.a.Way = ways[0]
	if len(ways) > 1 {
		r.a.Ways = ways
	}
}
