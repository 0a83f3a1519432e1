package external

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// tableOf names the network's table: as the user does, else after the object.
// A number that has a name on this host goes by it.
func (l *lowerer) tableOf(n *network) spec.TableRef {
	t := n.spec.Table
	if t.Name == "" && t.ID != 0 {
		t.Name = l.facts.TableName(t.ID)
	}
	if t.Name == "" {
		t.Name = spec.OwnTableName(n.obj.Name)
	}
	return t
}

// lower makes the tables, routes and rules of one network.
func (l *lowerer) lower(n *network) {
	if n.bad {
		return
	}
	out := Network{Object: n.obj, Paths: n.paths}
	if !n.hasGateways() {
		out.Policy = l.onLink(n)
	} else {
		out.Policy = spec.RoutingPolicy{Tables: []spec.Table{l.table(n)}, Rules: l.rules(n)}
	}
	l.out.Networks = append(l.out.Networks, out)
}

// onLink puts routes to the addresses into main, as far as there are none: they
// have no gateway, so they are on the link itself.
func (l *lowerer) onLink(n *network) spec.RoutingPolicy {
	t := spec.Table{Name: "main", Pos: n.at("addresses")}
	for i := range n.parts {
		for _, a := range n.parts[i].addresses {
			if by := l.reached(n.dev, a); by != "" {
				l.say(n, "%s: nothing to do, since it is reached on %s by %s already", a, n.dev, by)
				continue
			}
			for _, p := range a.Prefixes() {
				t.Routes = append(t.Routes, spec.Route{To: p, Dev: n.dev, Type: netstate.RouteUnicast, Pos: a.Pos})
			}
		}
	}
	if len(t.Routes) == 0 {
		return spec.RoutingPolicy{}
	}
	return spec.RoutingPolicy{Tables: []spec.Table{t}}
}

// reached names the route of others by which the addresses are on the link.
func (l *lowerer) reached(dev string, a spec.Addresses) string {
	for i := range l.facts.State.Routes {
		r := &l.facts.State.Routes[i]
		if r.Table == netstate.TableMain && r.Type == netstate.RouteUnicast && r.Protocol != netstate.ProtocolObject &&
			r.Hop.Dev == dev && !r.Hop.Via.IsValid() && within(a, r.To) && r.To.Bits() > 0 {
			return "the route to " + r.To.String()
		}
	}
	return ""
}

// lastMetric is that of the route which only what nothing else takes meets.
const lastMetric = math.MaxUint32

// table makes the network's table. It ends in an unreachable default route: when
// the link goes, its routes go, and packets must not fall to the rules behind.
func (l *lowerer) table(n *network) spec.Table {
	t := spec.Table{Name: n.table.Name, ID: n.table.ID, Pos: n.at("table")}
	for i, f := range netstate.Families {
		p := &n.parts[i]
		if len(p.gateways) == 0 {
			continue
		}
		for _, a := range p.addresses {
			// A subnet that the gateway is in is on the link: its hosts are answered
			// without the detour.
			if a.Prefix.IsValid() && a.Prefix.Contains(p.gateways[0].Addr) {
				t.Routes = append(t.Routes, spec.Route{To: a.Prefix, Dev: n.dev, Type: netstate.RouteUnicast, Pos: a.Pos})
			}
		}
		t.Routes = append(t.Routes, l.defaultRoute(n, f, p.gateways),
			spec.Route{To: f.Default(), Type: netstate.RouteUnreachable, Metric: lastMetric, Pos: p.gateways[0].Pos})
	}
	return t
}

func (l *lowerer) defaultRoute(n *network, f netstate.Family, gateways []spec.Gateway) spec.Route {
	r := spec.Route{To: f.Default(), Type: netstate.RouteUnicast, Pos: gateways[0].Pos}
	if len(gateways) == 1 {
		r.Via, r.Dev, r.OnLink = gateways[0].Addr, n.dev, !l.onSubnet(n.dev, gateways[0].Addr)
		return r
	}
	for _, g := range gateways {
		r.Nexthops = append(r.Nexthops, spec.Nexthop{Via: g.Addr, Dev: n.dev, Weight: 1, OnLink: !l.onSubnet(n.dev, g.Addr), Pos: g.Pos})
	}
	return r
}

// rules makes the network's rules, all at one priority where the user gives one:
// they keep this order.
func (l *lowerer) rules(n *network) []spec.Rule {
	var out []spec.Rule
	add := func(r spec.Rule) {
		r.Action, r.Priority = netstate.ToTable, n.spec.Priority
		r.Pos = n.at("returnPath")
		out = append(out, r)
	}
	main, own := spec.TableRef{Name: "main"}, spec.TableRef{Name: n.table.Name}
	for i, f := range netstate.Families {
		p := &n.parts[i]
		if len(p.gateways) == 0 {
			continue
		}
		from := prefixesOf(p.addresses)
		cluster := ofFamily(n.spec.ClusterCIDRs, f)
		switch n.spec.ReturnPath {
		case spec.ReturnAuto:
			// What comes in with the mark goes on as ever; and the check of an
			// answer's source, which the kernel makes as if it came in by the link that
			// the answer leaves by, finds the server.
			add(spec.Rule{Mark: n.mark, IIF: n.dev, Table: main, Family: f})
			if vrf := l.vrfOf(n.dev); vrf != "" {
				// What comes in by a port of a VRF is, to IPv6's rules, the VRF's.
				add(spec.Rule{Mark: n.mark, IIF: vrf, Table: main, Family: f})
			}
			add(spec.Rule{Mark: n.mark, Table: own, Family: f})
			if l.from[i] != "" {
				add(spec.Rule{Mark: netstate.Mark{Value: l.aside, Mask: l.field}, Table: main, Family: f})
				add(spec.Rule{From: from, Table: main, SuppressPrefixLength: netstate.Some(0)})
				add(spec.Rule{From: from, Table: own})
			}
		case spec.ReturnSourceRule:
			if len(cluster) > 0 {
				add(spec.Rule{From: from, To: cluster, Table: main})
			}
			add(spec.Rule{From: from, Table: own})
		case spec.ReturnConnectionMark:
			if len(cluster) > 0 {
				add(spec.Rule{From: from, To: cluster, Table: main})
			}
			add(spec.Rule{From: from, Mark: n.mark, Table: own})
		}
	}
	return out
}

func ofFamily(list []netip.Prefix, f netstate.Family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		if netstate.FamilyOf(p.Addr()) == f {
			out = append(out, p)
		}
	}
	return out
}

// sourceRulesNeeded says, by family, why Auto needs rules by source as well.
func sourceRulesNeeded(f *Facts) [2]string {
	var why [2]string
	for i, family := range netstate.Families {
		switch {
		case f.Around.IPVS:
			// Measured on 6.1: IPVS routes again after it has put the address back
			// (snat_reroute), and never shows the answer to the hooks with its mark.
			why[i] = "IPVS has services here, and routes answers again by their source"
		case !hasDefault(f.State, family):
			why[i] = fmt.Sprintf("main has no default %s route, without which a socket's answer is refused before it can be marked", family)
		}
	}
	return why
}

func hasDefault(s *netstate.State, f netstate.Family) bool {
	for i := range s.Routes {
		if r := &s.Routes[i]; r.Family == f && r.Table == netstate.TableMain && r.To == f.Default() && r.Type == netstate.RouteUnicast {
			return true
		}
	}
	return false
}
