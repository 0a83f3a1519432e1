package podnet

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// Facts is what Lower must know of the host.
type Facts struct {
	State *netstate.State
	// Sysctls are the values of what RelevantSysctls names, as they are without
	// viarule: where it changed one, the value that it found.
	Sysctls map[string]string
	// Changed are those of Sysctls that viarule has changed.
	Changed map[string]bool
}

// Network is one PodNetwork in the words of a RoutingPolicy.
type Network struct {
	Object *spec.Object
	Policy spec.RoutingPolicy
	// Paths tells of the positions in Policy which part of the object they are.
	Paths   map[spec.Pos]string
	Forward bool // packets of pods are to be accepted in chains of others
	Pos     spec.Pos
}

// Path tells which part of the object something was made of, by its position.
func (n *Network) Path(at spec.Pos) string {
	if p, ok := n.Paths[at]; ok {
		return p
	}
	return "spec"
}

// Peer is a prefix of pods of another node.
type Peer struct {
	Object *spec.Object
	Node   string
	Prefix netip.Prefix
	Why    string // why there is no route to it; empty: there is
}

// Sysctl is a wanted sysctl.
type Sysctl struct {
	netstate.Sysctl
	Object *spec.Object
	Pos    spec.Pos
}

// Lowered is what Lower makes of all PodNetworks.
type Lowered struct {
	Networks []Network
	Peers    []Peer
	Sysctls  []Sysctl // in the order in which they are to be set
	Maps     []netstate.NftMap
	Chains   []netstate.NftChain
	NftOf    []*spec.Object // the objects that have a part in Maps and Chains
	Notes    []Note
	Problems []spec.Problem
}

// Note is something that a person should know before they apply.
type Note struct {
	Object *spec.Object
	Text   string
}

// Lower makes of all PodNetworks among objs what the kernel needs for them. A
// network with an error among the problems is left out of the rest.
func Lower(objs []*spec.Object, f Facts) Lowered {
	l := lowerer{facts: &f}
	for _, o := range objs {
		if o.Pods != nil {
			l.add(o)
		}
	}
	slices.SortFunc(l.nets, func(a, b *network) int { return cmp.Compare(a.obj.Name, b.obj.Name) })
	for _, n := range l.nets {
		l.lower(n)
	}
	l.lowerSysctls()
	l.lowerNft()
	return l.out
}

// lowerer is the state of one Lower.
type lowerer struct {
	facts   *Facts
	nets    []*network
	subnets []subnet // made at first use
	out     Lowered
}

// network is one object on its way.
type network struct {
	obj   *spec.Object
	spec  *spec.PodNetwork
	own   int // index of this host's node
	paths map[spec.Pos]string
	links []string // by which packets of pods come in from outside, in order
	told  int      // peers without a route that were told of
}

// add takes an object in, where this host is one of its nodes.
func (l *lowerer) add(o *spec.Object) {
	n := &network{obj: o, spec: o.Pods, own: -1, paths: map[spec.Pos]string{}}
	here := make(map[netip.Addr]bool, len(l.facts.State.Addrs))
	for i := range l.facts.State.Addrs {
		here[l.facts.State.Addrs[i].Prefix.Addr()] = true
	}
	for i := range n.spec.Nodes {
		node := &n.spec.Nodes[i]
		at := slices.IndexFunc(node.Addresses, func(a spec.NodeAddress) bool { return here[a.Addr] })
		switch {
		case at < 0:
		case n.own >= 0:
			first := &n.spec.Nodes[n.own]
			l.fail(n, node.Addresses[at].Pos, fmt.Sprintf("spec.nodes[%d].addresses[%d]", i, at),
				fmt.Sprintf("this host is %s already, and has the address %s of %s as well", first.Name, node.Addresses[at].Addr, node.Name),
				"write each node's own addresses, and none that moves between them", false)
			return
		default:
			n.own = i
		}
	}
	if n.own < 0 {
		l.fail(n, n.at("nodes"), "spec.nodes", "none of the nodes has an address of this host"+l.ownAddresses(), "add this host with one of its addresses", true)
		return
	}
	l.nets = append(l.nets, n)
}

// ownAddresses lists a few addresses of this host, for a message.
func (l *lowerer) ownAddresses() string {
	const most = 6
	var list []string
	for i := range l.facts.State.Addrs {
		if a := l.facts.State.Addrs[i].Prefix.Addr(); a.IsGlobalUnicast() {
			list = append(list, a.String())
		}
	}
	if len(list) == 0 {
		return ", which has none yet"
	}
	if len(list) > most {
		list = append(list[:most:most], fmt.Sprintf("and %d more", len(list)-most))
	}
	return " (" + strings.Join(list, ", ") + ")"
}

func (l *lowerer) fail(n *network, at spec.Pos, path, what, do string, lacking bool) {
	l.out.Problems = append(l.out.Problems, spec.Problem{Object: n.obj.Ref, File: n.obj.File, Pos: at, Path: path, What: what, Do: do, Lacking: lacking})
}

func (l *lowerer) warn(n *network, at spec.Pos, path, what, do string) {
	l.out.Problems = append(l.out.Problems, spec.Problem{Severity: spec.Warning, Object: n.obj.Ref, File: n.obj.File, Pos: at, Path: path, What: what, Do: do})
}

func (l *lowerer) say(n *network, format string, args ...any) {
	l.out.Notes = append(l.out.Notes, Note{n.obj, fmt.Sprintf(format, args...)})
}

// at is the position of a key, for what is made because of it.
func (n *network) at(key string) spec.Pos {
	if p, ok := n.spec.Keys[key]; ok {
		return p
	}
	return n.spec.Keys[""]
}

// lastMetric is that of a route which only what nothing else takes meets, in both
// families.
const lastMetric = math.MaxUint32

// lower makes the routes of one network.
func (l *lowerer) lower(n *network) {
	t := spec.Table{Name: "main", Pos: n.at("nodes")}
	own := &n.spec.Nodes[n.own]
	for j, p := range own.PodCIDRs {
		n.paths[p.Pos] = fmt.Sprintf("spec.nodes[%d].podCIDRs[%d]", n.own, j)
		t.Routes = append(t.Routes, spec.Route{To: p.Prefix, Type: netstate.RouteUnreachable, Metric: lastMetric, Pos: p.Pos})
	}
	for _, a := range own.Addresses {
		if dev := l.linkOf(a.Addr); dev != "" {
			n.addLink(dev)
		}
	}
	for i := range n.spec.Nodes {
		if i != n.own {
			t.Routes = append(t.Routes, l.peer(n, i)...)
		}
	}
	if more := n.told - spec.MaxProblems; more > 0 {
		l.warn(n, n.at("nodes"), "spec.nodes", fmt.Sprintf("%d more nodes have no route", more), "look at these first, and at `viarule status`")
	}
	out := Network{Object: n.obj, Paths: n.paths, Forward: n.spec.Forwarding == spec.ForwardingAllow, Pos: n.at("forwarding")}
	if len(t.Routes) > 0 {
		out.Policy.Tables = []spec.Table{t}
	}
	l.out.Networks = append(l.out.Networks, out)
}

func (n *network) addLink(dev string) {
	if !slices.Contains(n.links, dev) {
		n.links = append(n.links, dev)
		slices.Sort(n.links)
	}
}

// hop is how a family of a peer's pods is reached.
type hop struct {
	via netip.Addr
	dev string
	why string
}

// peer gives the routes to the pods of another node.
func (l *lowerer) peer(n *network, i int) []spec.Route {
	node := &n.spec.Nodes[i]
	var routes []spec.Route
	var hops [2]*hop
	for j, p := range node.PodCIDRs {
		f := netstate.FamilyOf(p.Addr())
		h := &hops[familyIndex(f)]
		if *h == nil {
			*h = l.reach(n, i, f)
		}
		l.out.Peers = append(l.out.Peers, Peer{Object: n.obj, Node: node.Name, Prefix: p.Prefix, Why: (*h).why})
		if (*h).why != "" {
			continue
		}
		n.paths[p.Pos] = fmt.Sprintf("spec.nodes[%d].podCIDRs[%d]", i, j)
		routes = append(routes, spec.Route{To: p.Prefix, Via: (*h).via, Dev: (*h).dev, Type: netstate.RouteUnicast, Pos: p.Pos})
	}
	return routes
}

func familyIndex(f netstate.Family) int {
	if f == netstate.IPv6 {
		return 1
	}
	return 0
}

// reach picks the address of a node that its routes go by: the first one that is on
// a link of this host.
func (l *lowerer) reach(n *network, i int, f netstate.Family) *hop {
	node := &n.spec.Nodes[i]
	var tried []string
	at := node.Pos
	path := fmt.Sprintf("spec.nodes[%d].addresses", i)
	for _, a := range node.Addresses {
		if netstate.FamilyOf(a.Addr) != f {
			continue
		}
		if dev := l.linkOf(a.Addr); dev != "" {
			n.addLink(dev)
			return &hop{via: a.Addr, dev: dev}
		}
		if len(tried) == 0 {
			at = a.Pos
		}
		tried = append(tried, a.String())
	}
	h := &hop{why: fmt.Sprintf("%s is in no subnet of a link that is up", strings.Join(tried, " and "))}
	if len(tried) > 1 {
		h.why = fmt.Sprintf("%s are in no subnet of a link that is up", strings.Join(tried, " and "))
	}
	if n.told++; n.told <= spec.MaxProblems {
		l.warn(n, at, path, fmt.Sprintf("%s, so that %s gets no %s route%s", h.why, node.Name, f, l.near(f)),
			"add an address of the node that is on a link of this host; by a router between them, the router must know the way to the pods")
	}
	return h
}

// subnet is a prefix that is on a link.
type subnet struct {
	netip.Prefix
	dev string
}

// linkOf is the link on which an address is: that with the narrowest subnet around
// it, as the kernel looks a gateway up. Links that are down have no subnets.
func (l *lowerer) linkOf(a netip.Addr) string {
	dev, bits := "", -1
	for _, s := range l.connected() {
		if s.Contains(a) && s.Bits() > bits {
			dev, bits = s.dev, s.Bits()
		}
	}
	return dev
}

// connected lists the subnets of the links that are up, in the order of the links'
// addresses. A single address is no subnet, nor is anything on lo.
func (l *lowerer) connected() []subnet {
	if l.subnets != nil {
		return l.subnets
	}
	up := map[string]bool{}
	for i := range l.facts.State.Links {
		k := &l.facts.State.Links[i]
		// The routes of a VRF's ports are in its table, and gateways of main on none of
		// them.
		port := slices.ContainsFunc(l.facts.State.Links, func(m netstate.Link) bool { return m.Name == k.Master && m.Kind == "vrf" })
		up[k.Name] = k.Up && !k.Loopback && !port
	}
	l.subnets = []subnet{}
	for i := range l.facts.State.Addrs {
		a := &l.facts.State.Addrs[i]
		p := a.Prefix.Masked()
		if a.Peer.IsValid() {
			p = a.Peer.Masked()
		}
		if up[a.Dev] && !p.Addr().IsLinkLocalUnicast() && (!p.IsSingleIP() || a.Peer.IsValid()) {
			l.subnets = append(l.subnets, subnet{p, a.Dev})
		}
	}
	return l.subnets
}

// near lists the subnets of a family in which an address would be on a link.
func (l *lowerer) near(f netstate.Family) string {
	const most = 4
	var list []string
	for _, s := range l.connected() {
		if netstate.FamilyOf(s.Addr()) == f {
			list = append(list, fmt.Sprintf("%s %s", s.dev, s.Prefix))
		}
	}
	if len(list) == 0 {
		return fmt.Sprintf(" (there are no %s subnets)", f)
	}
	if len(list) > most {
		list = append(list[:most:most], fmt.Sprintf("and %d more", len(list)-most))
	}
	return " (there are " + strings.Join(list, ", ") + ")"
}
