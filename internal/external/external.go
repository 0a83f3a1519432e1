package external

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
)

// Facts is what Lower must know of the host.
type Facts struct {
	State *netstate.State
	// Sysctls are the values of what RelevantSysctls names, as they are without
	// viarule: where it changed one, the value that it found.
	Sysctls map[string]string
	// Gateways says which of the gateways answer; what is not in it is unknown.
	Gateways map[netstate.NeighKey]netstate.NeighState
	// Neighbours are the programs found on this host.
	Neighbours owner.Findings
	Around     netstate.Surroundings
	// TableName gives the name that the host has for a table, or "".
	TableName func(id uint32) string
}

// Network is one ExternalNetwork in the words of a RoutingPolicy.
type Network struct {
	Object *spec.Object
	Policy spec.RoutingPolicy
	// Paths tells of the positions in Policy which part of the object they are.
	Paths map[spec.Pos]string
}

// Link is a link that is to be made.
type Link struct {
	netstate.Link
	Object *spec.Object
	Pos    spec.Pos
}

// Sysctl is a wanted sysctl.
type Sysctl struct {
	netstate.Sysctl
	Object *spec.Object
	Pos    spec.Pos
	Made   bool // of a link that is to be made: it comes and goes with the link
}

// Lowered is what Lower makes of all ExternalNetworks.
type Lowered struct {
	Networks []Network
	Links    []Link
	Sysctls  []Sysctl
	Nft      *netstate.NftTable // nil: none is needed
	NftOf    []*spec.Object     // the objects that have a part in it
	Notes    []Note
	Problems []spec.Problem
}

// Note is something that a person should know before they apply.
type Note struct {
	Object *spec.Object
	Text   string
}

// Lower makes of all ExternalNetworks among objs what the kernel needs for them.
// A network with an error among the problems is left out of the rest.
func Lower(objs []*spec.Object, f Facts) Lowered {
	l := lowerer{facts: &f, from: sourceRulesNeeded(&f)}
	for _, o := range objs {
		if o.External != nil {
			l.add(o)
		}
	}
	l.chooseMarks()
	l.lowerSysctls() // the last that may find an error
	for _, n := range l.nets {
		l.lower(n)
	}
	l.lowerNft()
	l.note()
	return l.out
}

// lowerer is the state of one Lower.
type lowerer struct {
	facts *Facts
	from  [2]string // by family: why rules by source are needed, or ""
	nets  []*network
	bit   uint32 // of the connection's mark
	aside uint32 // the mark of answers that do not go by a network, with all bits of field
	field uint32 // the bits of marks that are not the users'
	out   Lowered
}

// network is one object on its way.
type network struct {
	obj   *spec.Object
	spec  *spec.ExternalNetwork
	dev   string
	made  bool // the link is to be made by viarule
	mark  netstate.Mark
	table spec.TableRef
	paths map[spec.Pos]string
	parts [2]part // by family
	bad   bool
}

// part is what a network has of one family.
type part struct {
	addresses []spec.Addresses
	gateways  []spec.Gateway // those to use, best first
}

// marked says whether packets of the network are told by a mark.
func (n *network) marked() bool {
	return n.hasGateways() && (n.spec.ReturnPath != spec.ReturnSourceRule || n.spec.ReversePathFilter == spec.FilterExempt)
}

func (n *network) hasGateways() bool { return len(n.spec.Gateways) > 0 }

func familyIndex(f netstate.Family) int {
	if f == netstate.IPv6 {
		return 1
	}
	return 0
}

// add takes an object in, with its link and its parts by family.
func (l *lowerer) add(o *spec.Object) {
	n := &network{obj: o, spec: o.External, paths: map[spec.Pos]string{}, mark: o.External.Mark}
	l.nets = append(l.nets, n)
	for i, a := range n.spec.Addresses {
		p := &n.parts[familyIndex(netstate.FamilyOf(a.First))]
		p.addresses = append(p.addresses, a)
		n.paths[a.Pos] = fmt.Sprintf("spec.addresses[%d]", i)
	}
	for i, g := range n.spec.Gateways {
		n.paths[g.Pos] = fmt.Sprintf("spec.gateways[%d]", i)
	}
	for key, pos := range n.spec.Keys {
		if _, taken := n.paths[pos]; !taken {
			n.paths[pos] = "spec." + key
		}
	}
	l.findLink(n)
	if n.bad {
		return
	}
	for i, g := range n.spec.Gateways {
		if dev := l.elsewhere(n, g.Addr); dev != "" {
			l.fail(n, "gateways", fmt.Sprintf("the gateway %s is in a subnet of %s, and the kernel takes no IPv6 route by it on %s", g.Addr, dev, n.dev),
				fmt.Sprintf("give %s an address of that subnet, take it from %s, or name the gateway's link-local address", n.dev, dev), false)
			l.out.Problems[len(l.out.Problems)-1].Path = fmt.Sprintf("spec.gateways[%d]", i)
		}
	}
	for i, f := range netstate.Families {
		n.parts[i].gateways = l.chooseGateways(n, f)
	}
	n.table = l.tableOf(n)
}

// fail notes an error at a key of the object, which is then left out.
func (l *lowerer) fail(n *network, key, what, do string, lacking bool) {
	n.bad = true
	l.problem(n, spec.Problem{What: what, Do: do, Lacking: lacking}, key)
}

func (l *lowerer) warn(n *network, key, what, do string) {
	l.problem(n, spec.Problem{Severity: spec.Warning, What: what, Do: do}, key)
}

func (l *lowerer) problem(n *network, p spec.Problem, key string) {
	p.Object, p.File, p.Path, p.Pos = n.obj.Ref, n.obj.File, "spec."+key, n.obj.Pos
	if at, ok := n.spec.Keys[key]; ok {
		p.Pos = at
	}
	l.out.Problems = append(l.out.Problems, p)
}

func (l *lowerer) say(n *network, format string, args ...any) {
	l.out.Notes = append(l.out.Notes, Note{n.obj, fmt.Sprintf(format, args...)})
}

// at is the position of a key, for what is made because of it.
func (n *network) at(key string) spec.Pos {
	for _, k := range [...]string{key, "interface"} { // what is not written follows from the rest
		if p, ok := n.spec.Keys[k]; ok {
			return p
		}
	}
	return n.obj.Pos
}

// chooseGateways gives the gateways of a family that are to be used: all of them
// with spread, else the first that answers. Where none is known to, it is the
// first that is not known to be silent.
func (l *lowerer) chooseGateways(n *network, f netstate.Family) []spec.Gateway {
	var all []spec.Gateway
	for _, g := range n.spec.Gateways {
		if netstate.FamilyOf(g.Addr) == f {
			all = append(all, g)
		}
	}
	if n.spec.Spread || len(all) < 2 {
		return all
	}
	rank := func(g spec.Gateway) int {
		switch l.facts.Gateways[netstate.NeighKey{Dev: n.dev, Addr: g.Addr}] {
		case netstate.NeighAnswers:
			return 0
		case netstate.NeighUnknown:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(all, func(a, b spec.Gateway) int { return cmp.Compare(rank(a), rank(b)) })
	return all[:1]
}

// elsewhere is the link on which the kernel finds an IPv6 gateway that is not on
// the network's own: it refuses such a next hop, onlink or not
// (ip6_route_check_nh_onlink, net/ipv6/route.c).
func (l *lowerer) elsewhere(n *network, gw netip.Addr) string {
	if gw.Is4() || l.onSubnet(n.dev, gw) {
		return ""
	}
	dev, bits := "", 0
	for i := range l.facts.State.Routes {
		r := &l.facts.State.Routes[i]
		if r.Family == netstate.IPv6 && r.Table == netstate.TableMain && r.Type == netstate.RouteUnicast && r.To.Contains(gw) && r.To.Bits() > bits {
			dev, bits = r.Hop.Dev, r.To.Bits()
		}
	}
	if dev == n.dev {
		return ""
	}
	return dev
}

// onSubnet says whether an address of the link makes a gateway reachable.
func (l *lowerer) onSubnet(dev string, gw netip.Addr) bool {
	if gw.Is6() && gw.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(l.facts.State.Addrs, func(a netstate.Addr) bool {
		net := a.Prefix.Masked()
		if a.Peer.IsValid() {
			net = a.Peer.Masked()
		}
		return a.Dev == dev && net.Contains(gw)
	})
}

// Path tells which part of the object something was made of, by its position.
func (n *Network) Path(at spec.Pos) string {
	if p, ok := n.Paths[at]; ok {
		return p
	}
	return "spec"
}
