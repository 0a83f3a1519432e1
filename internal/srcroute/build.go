package srcroute

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// builder collects what an attachment wants.
type builder struct {
	*Config
	*Attachment
	facts *Facts
	want  Want
	// tables has the table of each address.
	tables []uint32
	keys   map[netstate.RouteKey]bool // of want.Routes

	vrfTable uint32 // with Config.VRF
}

// Build works out what shall stand for an attachment. The error is an *Error.
func Build(c *Config, a *Attachment, f *Facts) (*Want, error) {
	facts := *f
	facts.Main = apart(f.Main, a.Dev)
	b := &builder{Config: c, Attachment: a, facts: &facts, keys: map[netstate.RouteKey]bool{}}
	if c.VRF != "" {
		if err := b.enterVRF(); err != nil {
			return nil, err
		}
	}
	b.chooseTables()
	if err := b.fill(); err != nil {
		return nil, err
	}
	if err := b.writtenRoutes(); err != nil {
		return nil, err
	}
	b.orderRoutes()
	if err := b.rules(); err != nil {
		return nil, err
	}
	if c.Table == 0 && c.VRF == "" {
		b.editMain()
	}
	if err := b.sysctls(); err != nil {
		return nil, err
	}
	return &b.want, nil
}

func (b *builder) orderRoutes() {
	list := make([]*netstate.Route, len(b.want.Routes))
	for i := range list {
		list[i] = &b.want.Routes[i]
	}
	ordered := make([]netstate.Route, 0, len(list))
	for _, r := range inOrder(list) {
		ordered = append(ordered, *r)
	}
	b.want.Routes = ordered
}

func (b *builder) chooseTables() {
	for i := range b.Addrs {
		switch {
		case b.VRF != "":
			b.tables = append(b.tables, b.vrfTable)
		case b.Table != 0:
			b.tables = append(b.tables, b.Table)
		default:
			b.tables = append(b.tables, b.facts.Free[i])
		}
	}
	if b.Table == 0 || b.VRF != "" {
		b.want.Tables = slices.Compact(slices.Clone(b.tables))
	}
}

// tableOf is the table of the first address of a family.
func (b *builder) tableOf(f netstate.Family) (uint32, *Address) {
	for i := range b.Addrs {
		if b.Addrs[i].family() == f {
			return b.tables[i], &b.Addrs[i]
		}
	}
	return 0, nil
}

// add adds a route that was found, unless there is one of its key.
func (b *builder) add(r netstate.Route) {
	r.Protocol = netstate.ProtocolCNI
	r = netstate.CanonicalRoute(r)
	if b.beside(&r) && !b.keys[r.Key()] {
		b.keys[r.Key()] = true
		b.want.Routes = append(b.want.Routes, r)
	}
}

// fill gives the tables that are the attachment's own what they shall have.
func (b *builder) fill() error {
	switch {
	case b.VRF != "":
		return b.fillVRF()
	case b.Table != 0:
		return nil
	}
	for i := range b.Addrs {
		if err := b.fillTable(&b.Addrs[i], b.tables[i]); err != nil {
			return err
		}
	}
	return nil
}

// fillTable gives an address's table the routes of main and the way to the gateway.
func (b *builder) fillTable(a *Address, table uint32) error {
	first := len(b.want.Routes)
	gateway, static, err := b.Gateway(a)
	if err != nil {
		return err
	}
	if static {
		b.viaGateway(a, gateway, table)
	}
	for i := range b.facts.Main {
		r := b.facts.Main[i]
		if !b.moves(&r, a) {
			continue
		}
		r.Table = table
		if b.Own && r.Type == netstate.RouteUnicast && !r.To.Addr().IsLinkLocalUnicast() {
			b.setSource(&r, a)
		}
		b.add(r)
	}
	if gateway.IsValid() && !static {
		b.viaGateway(a, gateway, table)
	}
	b.reachGateways(first, a)
	return nil
}

func (b *builder) viaGateway(a *Address, gateway netip.Addr, table uint32) {
	r := netstate.Route{Family: a.family(), Table: table, Type: netstate.RouteUnicast, Hop: netstate.Hop{Via: gateway, Dev: b.Dev}}
	r.To = r.Family.Default()
	if b.Own {
		b.setSource(&r, a)
	}
	b.add(r)
}

// setSource makes an address the source of what has none of its own, where the kernel
// takes it.
func (b *builder) setSource(r *netstate.Route, a *Address) {
	if b.facts.Sources[a.addr()] {
		r.Src = a.addr()
	}
}

// reachGateways sees to the gateways, of the routes from first on, to which no route
// without one leads: an address of 32 bits has none. One of IPv4 is onlink. For one of
// IPv6 that does not help where main knows a way to it by another link, and is no
// default route: the kernel then refuses it, whatever the table has
// (ip6_route_check_nh_onlink). So the table gets a route to it, and by that the
// kernel takes it (ip6_route_check_nh). In a VRF its own table counts, of which other
// ports have a part: there it is onlink, too.
func (b *builder) reachGateways(first int, a *Address) {
	for i := first; i < len(b.want.Routes); i++ {
		r := &b.want.Routes[i]
		h := &r.Hop
		if !h.Via.IsValid() || h.Via.IsLinkLocalUnicast() && h.Via.Is6() {
			continue
		}
		reached := b.connected(h) || slices.ContainsFunc(b.want.Routes[first:], func(o netstate.Route) bool {
			return !o.Hop.Via.IsValid() && o.Hop.Dev == h.Dev && o.Table == r.Table && o.To.Bits() > 0 && o.To.Contains(h.Via)
		})
		switch {
		case h.Via.Is4() || b.VRF != "":
			h.OnLink = h.OnLink || !reached
		case h.OnLink || !reached:
			h.OnLink = false
			way := netstate.Route{Family: r.Family, Table: r.Table, To: netip.PrefixFrom(h.Via, h.Via.BitLen()), Type: netstate.RouteUnicast, Hop: netstate.Hop{Dev: h.Dev}}
			if b.Own {
				b.setSource(&way, a)
			}
			b.add(way)
		}
	}
}

// Gateway is the one of an address; static says that it was configured for all
// addresses, and so comes before routes that other plugins wrote. Without one it is the
// zero Addr. The error is an *Error.
func (c *Config) Gateway(a *Address) (gateway netip.Addr, static bool, err error) {
	for _, g := range c.Gateways {
		if netstate.FamilyOf(g) == a.family() {
			return g, true, nil
		}
	}
	if a.Gateway.IsValid() || !c.InferGateway {
		return a.Gateway, false, nil
	}
	g := a.Prefix.Masked().Addr().Next()
	if !a.Prefix.Contains(g) || g == a.addr() || a.Prefix.Bits() >= g.BitLen()-1 {
		return netip.Addr{}, false, &Error{"inferGateway", fmt.Sprintf("the network of %s has no first address that could be its gateway", a.Prefix), "name it under gateways"}
	}
	return g, false, nil
}

// apart gives the interface's part of a route of main by several links as a route of its
// own. The kernel makes one of those of IPv6 by gateways that have the same key, whatever
// link they are by (rt6_qualify_for_ecmp), and takes and gives each alone: so where the
// interface plugin added a default route beside another link's, half of what is sent to
// main would leave by each. One with weights, or with several parts by the interface, was
// added in one piece, and stays so.
func apart(main []netstate.Route, dev string) (out []netstate.Route) {
	for _, r := range main {
		if r.Family == netstate.IPv6 && len(r.Hops) > 1 && r.NexthopID == 0 && !slices.ContainsFunc(r.Hops, func(h netstate.Hop) bool { return h.Weight > 1 }) {
			at := func(h netstate.Hop) bool { return h.Dev == dev }
			if i := slices.IndexFunc(r.Hops, at); i >= 0 && !slices.ContainsFunc(r.Hops[i+1:], at) {
				r.Hop, r.Hops = r.Hops[i], nil
				r.Hop.Weight = 0
			}
		}
		out = append(out, r)
	}
	return out
}

// plain says that a route leaves by the interface alone.
func (b *builder) plain(r *netstate.Route) bool { return r.Hop.Dev == b.Dev && len(r.Hops) == 0 }

// moves says whether a route of main belongs into the table of an address. One with a
// source, or by a gateway, in another address's network does not.
func (b *builder) moves(r *netstate.Route, a *Address) bool {
	if r.Family != a.family() || !b.plain(r) {
		return false
	}
	switch {
	case r.Src.IsValid():
		return a.Prefix.Contains(r.Src)
	case r.Hop.Via.IsValid() && !a.Prefix.Contains(r.Hop.Via):
		return !slices.ContainsFunc(b.Addrs, func(o Address) bool { return o.Prefix.Contains(r.Hop.Via) })
	}
	return true
}

func (b *builder) isAddr(x netip.Addr) bool {
	return slices.ContainsFunc(b.Addrs, func(o Address) bool { return o.addr() == x })
}

// writtenRoutes adds what was written under routes.
func (b *builder) writtenRoutes() error {
	for i := range b.Routes {
		w := &b.Routes[i]
		key := fmt.Sprintf("routes[%d]", i)
		f := w.Family()
		if f == 0 {
			f = netstate.IPv4
			if t, _ := b.tableOf(f); t == 0 {
				f = netstate.IPv6
			}
		}
		table, a := b.tableOf(f)
		if a == nil {
			return &Error{key, fmt.Sprintf("the interface has no %s address", f), "leave it out"}
		}
		r := netstate.Route{
			Family: f, Table: table, To: w.To, Type: w.Type, Src: w.Src, Metric: w.Metric, MTU: w.MTU, AdvMSS: w.AdvMSS,
			Hop: netstate.Hop{Via: w.Via, Dev: w.Dev, OnLink: w.OnLink},
		}
		if !r.To.IsValid() {
			r.To = f.Default()
		}
		switch {
		case !w.Type.Forwards():
			r.Hop = netstate.Hop{}
		case len(w.Nexthops) > 0:
			r.Hop = netstate.Hop{}
			for _, n := range w.Nexthops {
				r.Hops = append(r.Hops, netstate.Hop{Via: n.Via, Dev: b.dev(n.Dev), Weight: max(n.Weight, 1), OnLink: n.OnLink})
			}
			if len(r.Hops) == 1 {
				r.Hop, r.Hops = r.Hops[0], nil
				r.Hop.Weight = 0
			}
		default:
			r.Hop.Dev = b.dev(w.Dev)
		}
		if w.Scope != nil {
			r.Scope = *w.Scope
		} else {
			r.Scope = netstate.DefaultScope(&r)
		}
		if b.Own && r.Type == netstate.RouteUnicast && !r.Src.IsValid() && b.plain(&r) {
			b.setSource(&r, a)
		}
		// What was written stands in the place of what was found.
		r.Protocol = netstate.ProtocolCNI
		r = netstate.CanonicalRoute(r)
		k := r.Key()
		if b.keys[k] {
			b.want.Routes = slices.DeleteFunc(b.want.Routes, func(o netstate.Route) bool { return o.Key() == k })
		}
		b.keys[k] = true
		b.want.Routes = append(b.want.Routes, r)
	}
	return nil
}

func (b *builder) dev(name string) string {
	if name == "" {
		return b.Dev
	}
	return name
}

// rules adds the rules for the addresses, and behind them those that were written.
func (b *builder) rules() error {
	next := b.facts.Priority // where no priority was said
	place := func(f netstate.Family) uint32 {
		switch {
		case b.Priority != 0:
			return b.Priority
		case b.Own:
			return OwnPriority
		}
		p := &next[slices.Index(netstate.Families[:], f)]
		at := max(*p, 1)
		*p = at - 1
		return at
	}
	behind := map[netstate.Family]uint32{}
	if b.VRF == "" {
		for i := range b.Addrs {
			a := &b.Addrs[i]
			f := a.family()
			r := netstate.Rule{Family: f, Priority: place(f), From: netip.PrefixFrom(a.addr(), a.addr().BitLen()),
				Action: netstate.ToTable, Table: b.tables[i], Protocol: netstate.ProtocolCNI}
			b.want.Rules = append(b.want.Rules, netstate.CanonicalRule(r))
			behind[f] = max(behind[f], r.Priority)
		}
	}
	for i := range b.Rules {
		if err := b.writtenRule(i, behind, place); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) writtenRule(i int, behind map[netstate.Family]uint32, place func(netstate.Family) uint32) error {
	w := &b.Rules[i]
	key := fmt.Sprintf("rules[%d]", i)
	n := len(b.want.Rules)
	for _, f := range netstate.Families {
		table, _ := b.tableOf(f)
		from, okFrom := ofFamily(w.From, f)
		to, okTo := ofFamily(w.To, f)
		switch {
		case w.Family != 0 && w.Family != f, !okFrom || !okTo:
			continue
		case w.Family == 0 && len(w.From) == 0 && len(w.To) == 0 && table == 0:
			continue // of two families the one that the interface does not have
		}
		r := netstate.Rule{
			Family: f, Priority: w.Priority.Val, Not: w.Not, IIF: w.IIF, OIF: w.OIF, Mark: w.Mark, Proto: w.Proto, SPort: w.SPort, DPort: w.DPort,
			TOS: w.TOS, DSCP: w.DSCP, UID: w.UID, Action: w.Action, Goto: w.Goto, Realms: w.Realms,
			SuppressPrefixLength: w.SuppressPrefixLength, SuppressIfGroup: w.SuppressIfGroup, Protocol: netstate.ProtocolCNI,
		}
		switch {
		case w.Action == 0:
			if table == 0 {
				return &Error{key, fmt.Sprintf("it is for %s, of which the interface has no address", f), "say which table it looks into"}
			}
			r.Action, r.Table = netstate.ToTable, table
		case w.Action == netstate.ToTable:
			id, ok := tableNumber(w.Table)
			if !ok {
				return &Error{key + ".table", fmt.Sprintf("names of tables are the host's, and a pod has none: %q", w.Table.Name), "write its number, or main, default or local"}
			}
			r.Table = id
		}
		if !w.Priority.Set {
			r.Priority = b.after(behind, f, place)
		}
		for _, r.From = range from {
			for _, r.To = range to {
				if len(b.want.Rules) == MaxRules {
					// Each packet walks them, and a pod may have written them.
					return &Error{key, fmt.Sprintf("it brings the attachment to more than %d rules in the kernel", MaxRules), "use shorter lists in from and to"}
				}
				b.want.Rules = append(b.want.Rules, netstate.CanonicalRule(r))
			}
		}
	}
	if len(b.want.Rules) == n {
		return &Error{key, "its prefixes and its family leave nothing that it could select", "give from, to and family the same family"}
	}
	return nil
}

// after is the priority of a written rule that says none: behind what stands so far.
func (b *builder) after(behind map[netstate.Family]uint32, f netstate.Family, place func(netstate.Family) uint32) uint32 {
	at, some := behind[f]
	switch {
	case !some:
		at = place(f)
	case b.Own:
		last := LastPriority
		if at <= lastOwnPriority {
			last = lastOwnPriority
		}
		at = min(at+1, last)
	}
	behind[f] = at
	return at
}

// ofFamily gives the prefixes of a family, the zero Prefix where the list is empty.
func ofFamily(list []netip.Prefix, f netstate.Family) (of []netip.Prefix, ok bool) {
	if len(list) == 0 {
		return []netip.Prefix{{}}, true
	}
	for _, p := range list {
		if netstate.FamilyOf(p.Addr()) == f {
			of = append(of, p)
		}
	}
	return of, len(of) > 0
}

func tableNumber(t spec.TableRef) (uint32, bool) {
	switch t.Name {
	case "":
		return t.ID, true
	case "main":
		return netstate.TableMain, true
	case "default":
		return netstate.TableDefault, true
	case "local":
		return netstate.TableLocal, true
	}
	return 0, false
}

// sysctls asks for what a strict reverse path filter needs. IPv6 has none.
func (b *builder) sysctls() error {
	if !b.StrictRP {
		return nil
	}
	if b.facts.LooseForAll {
		return &Error{"strictReversePath", "net/ipv4/conf/all/rp_filter is 2 in the pod, and the larger value counts: the filter would stay loose",
			"set it to 0 or 1 in the pod, or leave strictReversePath out"}
	}
	conf := "net/ipv4/conf/" + b.Dev + "/" // of a port, too, its own values count
	if slices.ContainsFunc(b.want.Rules, func(r netstate.Rule) bool { return r.Mark.Mask != 0 }) {
		// The source of a packet is looked up as its answer would be: with its mark.
		b.want.Sysctls = append(b.want.Sysctls, netstate.Sysctl{Key: conf + "src_valid_mark", Value: "1"})
	}
	b.want.Sysctls = append(b.want.Sysctls, netstate.Sysctl{Key: conf + "rp_filter", Value: "1"})
	return nil
}
