// Package importer reads a namespace that somebody set up by hand and says it
// as a RoutingPolicy: the way in for users of `ip rule` scripts. Applied with
// --adopt, the object changes nothing but the mark of ownership.
//
// What the kernel made itself, what a routing daemon, a DHCP client or another
// agent marks as its own, and what a RoutingPolicy cannot say is left out, and
// listed, so that nothing is lost without a word.
package importer

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
)

// Result is what was found.
type Result struct {
	Policy  spec.RoutingPolicy
	LeftOut []string // what is not in the policy, and why; a sentence each
}

// Names gives the names of tables.
type Names interface {
	// Table returns the name of a table, or "".
	Table(id uint32) string
}

// Import says the rules, tables and routes of st, which was observed in one
// namespace, as a RoutingPolicy.
func Import(st netstate.State, names Names) Result {
	im := importer{names: names, tables: map[uint32]*spec.Table{}}
	for i := range st.Rules {
		im.rule(&st.Rules[i])
	}
	for i := range st.Routes {
		im.route(&st.Routes[i])
	}
	for _, id := range slices.Sorted(maps.Keys(im.tables)) {
		im.Policy.Tables = append(im.Policy.Tables, *im.tables[id])
	}
	slices.Sort(im.LeftOut)
	return im.Result
}

type importer struct {
	Result
	names  Names
	tables map[uint32]*spec.Table
}

// madeBy says whose a protocol number is that is neither a person's nor an object's.
func madeBy(protocol uint8) string {
	if protocol == netstate.ProtocolCNI {
		return "made by viarule's CNI plugin (protocol 119)"
	}
	return fmt.Sprintf("made by another program (protocol %d)", protocol)
}

// byHand says whether a protocol number is one that `ip` gives to what a person
// adds: none, boot or static (include/uapi/linux/rtnetlink.h).
func byHand(protocol uint8) bool {
	const boot, static = 3, 4
	return protocol == 0 || protocol == boot || protocol == static
}

func (im *importer) leaveOut(object fmt.Stringer, why string) {
	im.LeftOut = append(im.LeftOut, fmt.Sprintf("%s: %s", object, why))
}

func (im *importer) rule(r *netstate.Rule) {
	switch {
	case owner.ProtectedPriority(r.Priority), r.Protocol == netstate.ProtocolObject:
		return
	case !byHand(r.Protocol):
		im.leaveOut(r, madeBy(r.Protocol))
		return
	case r.Unknown != "", r.TunID != 0, r.L3MDev:
		im.leaveOut(r, "has an attribute that a RoutingPolicy cannot say")
		return
	}
	out := spec.Rule{
		IIF: r.IIF, OIF: r.OIF, Mark: r.Mark, Proto: r.Proto, SPort: r.SPort, DPort: r.DPort,
		TOS: r.TOS, DSCP: r.DSCP, UID: r.UID, Not: r.Not, Priority: netstate.Some(r.Priority),
		Action: r.Action, Goto: r.Goto, Realms: r.Realms,
		SuppressPrefixLength: r.SuppressPrefixLength, SuppressIfGroup: r.SuppressIfGroup,
	}
	if r.From.IsValid() {
		out.From = append(out.From, r.From)
	}
	if r.To.IsValid() {
		out.To = append(out.To, r.To)
	}
	if !r.From.IsValid() && !r.To.IsValid() {
		out.Family = r.Family
	}
	if r.Action == netstate.ToTable {
		out.Table = im.tableRef(r.Table)
	}
	if why := refused(spec.RoutingPolicy{Rules: []spec.Rule{out}}); why != "" {
		im.leaveOut(r, why)
		return
	}
	im.Policy.Rules = append(im.Policy.Rules, out)
}

// refused says why a RoutingPolicy takes no such rule or route; empty: it does.
// The kernel takes some that nobody means: a prefix with bits behind its length,
// ports without a protocol.
func refused(p spec.RoutingPolicy) string {
	problems := spec.Validate([]spec.Object{{Ref: spec.Ref{Kind: spec.KindRoutingPolicy, Name: "import"}, Policy: &p}}, spec.Known{})
	for i := range problems {
		if problems[i].Severity == spec.Error {
			return problems[i].What
		}
	}
	return ""
}

func (im *importer) tableRef(id uint32) spec.TableRef {
	switch id {
	case netstate.TableLocal, netstate.TableMain, netstate.TableDefault:
		return spec.TableRef{Name: im.tableName(id)}
	}
	return spec.TableRef{ID: id}
}

func (im *importer) tableName(id uint32) string {
	if name := netstate.KernelTable(id); name != "" {
		return name
	}
	if name := im.names.Table(id); name != "" {
		return name
	}
	return fmt.Sprintf("table-%d", id)
}

func (im *importer) route(r *netstate.Route) {
	switch {
	case r.Table == netstate.TableLocal, r.Protocol == netstate.ProtocolObject, r.Protocol == netstate.ProtocolKernel:
		return
	case !byHand(r.Protocol):
		im.leaveOut(r, madeBy(r.Protocol))
		return
	case r.Unknown != "", r.Hop.Unknown != "", r.Hop.Realms != 0, r.From.IsValid(), r.TOS != 0, r.Realms != 0, r.MTULock, r.Pref != 0,
		slices.ContainsFunc(r.Hops, func(h netstate.Hop) bool { return h.Unknown != "" || h.Realms != 0 }):
		im.leaveOut(r, "has an attribute that a RoutingPolicy cannot say")
		return
	case r.NexthopID != 0:
		im.leaveOut(r, fmt.Sprintf("goes by next hop object %d", r.NexthopID))
		return
	case !sayable(r.Type):
		im.leaveOut(r, "is of a type that a RoutingPolicy cannot say")
		return
	}
	out := spec.Route{
		To: r.To, Via: r.Hop.Via, Dev: r.Hop.Dev, OnLink: r.Hop.OnLink, Src: r.Src, Metric: r.Metric,
		MTU: r.MTU, AdvMSS: r.AdvMSS, Type: r.Type,
	}
	for _, h := range r.Hops {
		out.Nexthops = append(out.Nexthops, spec.Nexthop{Via: h.Via, Dev: h.Dev, OnLink: h.OnLink, Weight: cmp.Or(h.Weight, 1)})
	}
	if r.Family == netstate.IPv6 && r.Metric == 1024 {
		out.Metric = 0 // what the kernel gives to a route without one
	}
	if netstate.DefaultScope(r) != r.Scope {
		scope := r.Scope
		out.Scope = &scope
	}
	if why := refused(spec.RoutingPolicy{Tables: []spec.Table{{Name: im.tableName(r.Table), Routes: []spec.Route{out}}}}); why != "" {
		im.leaveOut(r, why)
		return
	}
	t := im.tables[r.Table]
	if t == nil {
		t = &spec.Table{Name: im.tableName(r.Table)}
		if r.Table != netstate.TableMain && r.Table != netstate.TableDefault {
			t.ID = r.Table
		}
		im.tables[r.Table] = t
	}
	t.Routes = append(t.Routes, out)
}

func sayable(t netstate.RouteType) bool {
	switch t {
	case netstate.RouteUnicast, netstate.RouteBlackhole, netstate.RouteUnreachable, netstate.RouteProhibit, netstate.RouteLocal, netstate.RouteThrow:
		return true
	}
	return false
}
