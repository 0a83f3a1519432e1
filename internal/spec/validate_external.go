package spec

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// spot is a key or an element of an object that notes where its keys stand: an
// ExternalNetwork or a PodNetwork.
type spot struct {
	obj  *Object
	path string // from the object: spec.gateways[1]
	at   Pos
}

// spotOf is a key of spec; one that is not written stands where the one above it
// does.
func spotOf(o *Object, key string) spot {
	s := spot{o, "spec." + key, o.Pos}
	keys := o.keys()
	for {
		if at, ok := keys[key]; ok {
			s.at = at
			return s
		}
		if key == "" {
			return s
		}
		key = key[:max(strings.LastIndexByte(key, '.'), 0)]
	}
}

// keys are the places of the object's keys.
func (o *Object) keys() map[string]Pos {
	if o.Pods != nil {
		return o.Pods.Keys
	}
	return o.External.Keys
}

// element is one of the list that s is.
func (s spot) element(i int, at Pos) spot {
	s.path = fmt.Sprintf("%s[%d]", s.path, i)
	if at != (Pos{}) {
		s.at = at
	}
	return s
}

func addressSpot(o *Object, i int) spot {
	return spotOf(o, "addresses").element(i, o.External.Addresses[i].Pos)
}

func gatewaySpot(o *Object, i int) spot {
	return spotOf(o, "gateways").element(i, o.External.Gateways[i].Pos)
}

func (s spot) seenFrom(obj *Object) string { return seenFrom(obj, s.obj, s.at, s.path) }

func (v *validator) failAt(s spot, what, do string) {
	v.report(Error, place{s.obj, -1, -1}, s.at, s.path, what, do)
}

func (v *validator) warnAt(s spot, what, do string) {
	v.report(Warning, place{s.obj, -1, -1}, s.at, s.path, what, do)
}

func (v *validator) failValueAt(s spot, err error) {
	if e, ok := err.(*ValueError); ok {
		v.failAt(s, e.What, e.Do)
		return
	}
	v.failAt(s, err.Error(), "")
}

// rules is how many rules of the kernel the object stands for, about: the
// classic return paths have one for each prefix, and for each pair of one and a
// network of pods.
func (e *ExternalNetwork) rules() int {
	if e.ReturnPath == ReturnAuto || len(e.Gateways) == 0 {
		return 0
	}
	n := 0
	for _, a := range e.Addresses {
		n += len(a.Prefixes()) * (1 + count(e.ClusterCIDRs, a.Family()))
	}
	return n
}

// checkExternal checks one ExternalNetwork by itself.
func (v *validator) checkExternal(o *Object) {
	v.checkInterface(o)
	v.checkAddresses(o)
	v.checkGateways(o)
	v.checkFamilies(o)
	v.checkNumbers(o)
	v.checkClusterCIDRs(o)
	v.checkNoEffect(o)
}

func (v *validator) checkInterface(o *Object) {
	in := &o.External.Interface
	here := spotOf(o, "interface")
	switch {
	case in.Name == "" && in.VLAN != nil:
		v.failAt(here, "the VLAN that viarule is to make has no name", "write `name: …` beside vlan")
	case in.Name == "" && in.Match == nil:
		v.failAt(here, "it does not say which link", "write `interface: {name: …}`, or match with mac or subnet")
	case in.Name != "" && in.Match != nil:
		v.failAt(here, "name and match are two ways to say one thing", "leave one of them out")
	case in.VLAN != nil && in.Match != nil:
		v.failAt(here, "a link that viarule makes has a name, and needs no match", "leave match or vlan out")
	}
	if in.Name != "" {
		v.checkLink(spotOf(o, "interface.name"), in.Name)
	}
	if vlan := in.VLAN; vlan != nil {
		v.checkVLAN(o, in.Name, vlan)
	}
	if in.Match != nil {
		v.checkMatch(o, in.Match)
	}
}

// checkLink refuses what cannot be the way to a network. The kernel makes no
// links called all and default (sysctl_dev_name_is_allowed), and for viarule the
// sysctls of these names would be those of every link.
func (v *validator) checkLink(here spot, name string) {
	if err := CheckLinkName(name); err != nil {
		v.failValueAt(here, err)
		return
	}
	switch name {
	case "lo":
		v.failAt(here, "lo leads to no network", "write the link by which clients come in")
	case "all", "default":
		v.failAt(here, fmt.Sprintf("no link can be called %s", name), "write the link by which clients come in")
	}
}

func (v *validator) checkVLAN(o *Object, name string, vlan *VLAN) {
	// dev_alloc_name (net/core/dev.c) puts a number in the place of %d.
	if strings.Contains(name, "%") {
		v.failAt(spotOf(o, "interface.name"), "the kernel makes no link with % in its name", "write another name")
	}
	parent := spotOf(o, "interface.vlan.parent")
	switch {
	case vlan.Parent == "":
		v.failAt(parent, "it does not say on which link the VLAN is", "write `vlan: {parent: eth0, id: 100}`")
	case vlan.Parent == name:
		v.failAt(parent, fmt.Sprintf("%s cannot be on itself", name), "write the link that carries the VLAN, and another name for the VLAN's own")
	default:
		v.checkLink(parent, vlan.Parent)
	}
	if vlan.ID < 1 || vlan.ID > MaxVLAN {
		v.failAt(spotOf(o, "interface.vlan.id"), fmt.Sprintf("%d is not the id of a VLAN", vlan.ID), fmt.Sprintf("write a number from 1 to %d", MaxVLAN))
	}
}

func (v *validator) checkMatch(o *Object, m *LinkMatch) {
	if m.MAC == "" && !m.Subnet.IsValid() {
		v.failAt(spotOf(o, "interface.match"), "it matches every link", "write mac or subnet")
	}
	if m.MAC != "" {
		if mac, err := ParseMAC(m.MAC); err != nil {
			v.failValueAt(spotOf(o, "interface.match.mac"), err)
		} else if mac != m.MAC {
			v.failAt(spotOf(o, "interface.match.mac"), m.MAC+" is not written as the kernel does", "write "+mac)
		}
	}
	if s := m.Subnet; s.IsValid() && (s.Bits() == 0 || s != s.Masked()) {
		v.failAt(spotOf(o, "interface.match.subnet"), fmt.Sprintf("%s is not the subnet of a link", s), "write one as in 192.0.2.0/24 or 2001:db8::/64")
	}
}

type reserved struct {
	Addresses
	what string
}

// notForNetworks are addresses that are not behind a gateway. They are made when they are
// wanted: a CNI program never does, and would make them each time it starts.
func notForNetworks() []reserved {
	return []reserved{
		{addressesOf("0.0.0.0/8"), "are no addresses of hosts"},
		{addressesOf("127.0.0.0/8"), "are loopback addresses"},
		{addressesOf("169.254.0.0/16"), "are link-local addresses"},
		{addressesOf("224.0.0.0/4"), "are multicast addresses"},
		{addressesOf("255.255.255.255/32"), "is the broadcast address"},
		{addressesOf("::/127"), "are no addresses of hosts"},
		{addressesOf("fe80::/10"), "are link-local addresses"},
		{addressesOf("ff00::/8"), "are multicast addresses"},
	}
}

func addressesOf(s string) Addresses { return addressesIn(netip.MustParsePrefix(s)) }

func (v *validator) checkAddresses(o *Object) {
	list := o.External.Addresses
	if len(list) == 0 {
		v.failAt(spotOf(o, "addresses"), "there are no addresses", "write prefixes, addresses or ranges, as in [192.0.2.0/24]")
	}
	if n := len(list); n > v.known.Limits.Addresses {
		v.failAt(spotOf(o, "addresses"), fmt.Sprintf("there are %d prefixes and ranges", n), fmt.Sprintf("an object may have %d; make several objects", v.known.Limits.Addresses))
	}
	for i, a := range list {
		if what, do := a.fault(); what != "" {
			v.failAt(addressSpot(o, i), what, do)
		}
	}
}

// fault says what is wrong with the addresses, and what to do.
func (a Addresses) fault() (what, do string) {
	p := a.Prefix
	switch {
	case !a.First.IsValid() || !a.Last.IsValid() || a.First.Is4() != a.Last.Is4() || a.Last.Less(a.First) ||
		p.IsValid() && (p != p.Masked() || p.Addr() != a.First || netstate.LastOf(p) != a.Last):
		return "this is neither a prefix nor a range of addresses", "write it as in 192.0.2.0/24 or 192.0.2.10-192.0.2.20"
	case p.IsValid() && p.Bits() == 0:
		return fmt.Sprintf("%s is every address, not a network", a), "write the network's prefixes; a default route belongs into a RoutingPolicy"
	}
	if what := a.reserved(); what != "" {
		return what, "write the addresses that clients call"
	}
	return "", ""
}

// reserved says which of the addresses are not those of hosts behind a router.
func (a Addresses) reserved() string {
	for _, n := range notForNetworks() {
		switch {
		case !a.overlaps(n.Addresses):
		case n.Contains(a.First) && n.Contains(a.Last):
			return fmt.Sprintf("%s is of %s, which %s", a, n.Prefix, n.what)
		default:
			return fmt.Sprintf("%s and %s have addresses in common, and the latter %s", a, n.Prefix, n.what)
		}
	}
	return ""
}

func (v *validator) checkGateways(o *Object) {
	e := o.External
	if n := len(e.Gateways); n > v.known.Limits.Gateways {
		v.failAt(spotOf(o, "gateways"), fmt.Sprintf("there are %d gateways", n), fmt.Sprintf("an object may have %d", v.known.Limits.Gateways))
	}
	seen := make(map[netip.Addr]int, len(e.Gateways))
	for i, g := range e.Gateways {
		here := gatewaySpot(o, i)
		first, again := seen[g.Addr]
		switch {
		case again:
			v.failAt(here, fmt.Sprintf("the gateway %s is in the list already, in %s", g.Addr, gatewaySpot(o, first).seenFrom(o)), "leave one out")
			continue
		case !g.Addr.IsValid() || g.Addr.IsUnspecified() || g.Addr.IsMulticast() || g.Addr.IsLoopback() || g.Addr.Is4() && g.Addr.As4()[0] == 255:
			v.failAt(here, fmt.Sprintf("%s is not the address of a gateway", g.Addr), "use the router's own address")
		}
		seen[g.Addr] = i
		for j, a := range e.Addresses {
			if !a.Contains(g.Addr) || a.Prefix.IsValid() && !a.Prefix.IsSingleIP() {
				continue
			}
			if a.First == a.Last {
				v.failAt(here, fmt.Sprintf("the gateway %s is an address of this node's too, in %s", g.Addr, addressSpot(o, j).seenFrom(o)), "write the router's own address, or leave it out of addresses")
			} else {
				v.warnAt(here, fmt.Sprintf("the gateway %s is within %s, in %s", g.Addr, a, addressSpot(o, j).seenFrom(o)), "leave it out of the range, unless it is of a network that is all the gateway's")
			}
		}
	}
}

// checkFamilies: where there are gateways, each family of the addresses has one,
// and no other family has.
func (v *validator) checkFamilies(o *Object) {
	e := o.External
	if len(e.Gateways) == 0 {
		return
	}
	for _, f := range netstate.Families {
		address := slices.IndexFunc(e.Addresses, func(a Addresses) bool { return a.Family() == f })
		gateway := slices.IndexFunc(e.Gateways, func(g Gateway) bool { return netstate.FamilyOf(g.Addr) == f })
		switch {
		case gateway >= 0 && address < 0:
			v.failAt(gatewaySpot(o, gateway), fmt.Sprintf("there are no %s addresses for the gateway %s", f, e.Gateways[gateway].Addr), fmt.Sprintf("write the network's %s addresses, or leave the gateway out", f))
		case address >= 0 && gateway < 0:
			v.failAt(addressSpot(o, address), fmt.Sprintf("there is no %s gateway for %s", f, e.Addresses[address]), fmt.Sprintf("write one, or make another object, without gateways, for the %s addresses that are on the link", f))
		}
	}
}

func (v *validator) checkNumbers(o *Object) {
	e := o.External
	if e.Table != (TableRef{}) {
		v.checkOwnTable(spotOf(o, "table"), e.Table)
	}
	if here := spotOf(o, "priority"); e.Priority.Set {
		if e.Priority.Val < 1 || e.Priority.Val > MaxOwnPriority {
			v.failAt(here, fmt.Sprintf("the priority %d is out of range", e.Priority.Val), fmt.Sprintf("write a number from 1 to %d, so that its rules come before the one for main", MaxOwnPriority))
		} else if v.known.Neighbour != nil {
			if name := v.known.Neighbour(e.Priority.Val); name != "" {
				v.warnAt(here, fmt.Sprintf("%s uses the priority %d on hosts that have it", name, e.Priority.Val), "use another one, or leave it out")
			}
		}
	}
	if m := e.Mark; m != (netstate.Mark{}) && (m.Value == 0 || m.Value&^m.Mask != 0) {
		v.failAt(spotOf(o, "mark"), fmt.Sprintf("%#x/%#x is not a mark with a bit of its own", m.Value, m.Mask), "write one as 0x100 or 0x100/0xff00")
	}
}

// checkOwnTable: the table gets a default route, and with it all packets of the
// mark.
func (v *validator) checkOwnTable(here spot, ref TableRef) {
	if ref.Name != "" {
		if err := CheckTableName(ref.Name); err != nil {
			v.failValueAt(here, err)
			return
		}
	}
	if name := v.tableKey(ref); wellKnown(name) != 0 {
		v.failAt(here, fmt.Sprintf("the table %s is not for one network", name), "write a table of its own, or leave it out")
	}
}

// checkClusterCIDRs: the classic return paths look at addresses, so that what
// goes from a pod to a pod has to be told apart.
func (v *validator) checkClusterCIDRs(o *Object) {
	e := o.External
	list := spotOf(o, "clusterCIDRs")
	if n := len(e.ClusterCIDRs); n > v.known.Limits.ClusterCIDRs {
		v.failAt(list, fmt.Sprintf("there are %d prefixes", n), fmt.Sprintf("an object may have %d", v.known.Limits.ClusterCIDRs))
	}
	seen := make(map[netip.Prefix]bool, len(e.ClusterCIDRs))
	for i, p := range e.ClusterCIDRs {
		here := list.element(i, e.Keys[fmt.Sprintf("clusterCIDRs[%d]", i)])
		switch {
		case !p.IsValid() || p != p.Masked():
			v.failAt(here, fmt.Sprintf("%s is not a prefix without bits behind its length", p), "write it as in 10.0.0.0/8 or 2001:db8::/32")
		case p.Bits() == 0:
			v.failAt(here, fmt.Sprintf("%s is every address, so that nothing would be answered by the gateway", p), "write the networks of pods and services")
		case seen[p]:
			v.failAt(here, fmt.Sprintf("%s is in the list already", p), "leave one out")
		}
		seen[p] = true
	}
	if len(e.Gateways) == 0 {
		return
	}
	if e.ReturnPath == ReturnAuto {
		if len(e.ClusterCIDRs) > 0 {
			v.warnAt(list, "Auto needs no pod networks", "leave clusterCIDRs out")
		}
		return
	}
	for _, f := range netstate.Families {
		if !slices.ContainsFunc(e.Addresses, func(a Addresses) bool { return a.Family() == f }) || has(e.ClusterCIDRs, f) {
			continue
		}
		what, here := fmt.Sprintf("no %s networks of pods and services are in it, so that answers of an external address to pods go out by the gateway", f), list
		if len(e.ClusterCIDRs) == 0 {
			what, here = "without clusterCIDRs, answers of an external address to pods go out by the gateway", spotOf(o, "returnPath")
		}
		v.warnAt(here, what, "write the networks of pods and services to clusterCIDRs, or `returnPath: Auto`, which needs none")
		if len(e.ClusterCIDRs) == 0 {
			return
		}
	}
}

// checkNoEffect warns of keys that change nothing.
func (v *validator) checkNoEffect(o *Object) {
	e := o.External
	if len(e.Gateways) == 0 {
		for _, k := range []struct {
			key string
			set bool
		}{
			{"table", e.Table != TableRef{}}, {"priority", e.Priority.Set}, {"mark", e.Mark != netstate.Mark{}}, {"returnPath", e.ReturnPath != ReturnAuto},
			{"clusterCIDRs", len(e.ClusterCIDRs) > 0}, {"reversePathFilter", e.ReversePathFilter != FilterKeep}, {"spread", e.Spread},
		} {
			if k.set {
				v.warnAt(spotOf(o, k.key), "it has no effect: without gateways the addresses are on the link, and a route in main is all", "leave it out, or write the network's gateways")
			}
		}
	}
	gateways := map[netstate.Family]int{}
	for _, g := range e.Gateways {
		gateways[netstate.FamilyOf(g.Addr)]++
	}
	if e.Spread && len(e.Gateways) > 0 && gateways[netstate.IPv4] < 2 && gateways[netstate.IPv6] < 2 {
		v.warnAt(spotOf(o, "spread"), "it has no effect with one gateway of a family", "leave it out, or write more gateways")
	}
	if e.Mark != (netstate.Mark{}) && e.ReturnPath == ReturnSourceRule && len(e.Gateways) > 0 {
		v.warnAt(spotOf(o, "mark"), "it has no effect: SourceRule marks no packets", "leave it out")
	}
	if slices.ContainsFunc(e.Addresses, func(a Addresses) bool { return a.First.Is4() }) {
		return
	}
	if e.StrictARP {
		v.warnAt(spotOf(o, "strictARP"), "it has no effect: only IPv4 has ARP, and there are no IPv4 addresses", "leave it out")
	}
	if f := e.ReversePathFilter; len(e.Gateways) > 0 && (f == FilterLoose || f == FilterDisabled) {
		v.warnAt(spotOf(o, "reversePathFilter"), "it has no effect: the kernel has such a filter for IPv4 only, and there are no IPv4 addresses", "leave it out")
	}
}
