package external

import (
	"fmt"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// Alias is what marks a link as made for an object.
func Alias(ref spec.Ref) string { return "viarule:" + ref.String() }

// findLink sets the network's link, and asks for it where it is to be made.
func (l *lowerer) findLink(n *network) {
	switch i := &n.spec.Interface; {
	case i.VLAN != nil:
		l.makeLink(n)
	case i.Match != nil:
		l.matchLink(n)
	default:
		n.dev = i.Name
		link := l.link(i.Name)
		if link == nil {
			l.fail(n, "interface.name", fmt.Sprintf("no link named %s in this namespace", i.Name),
				"use one that `ip link` shows, or add vlan to have it made", true)
			return
		}
		n.dev = link.Name
	}
}

// link finds a link by its name, or by another name that it has.
func (l *lowerer) link(name string) *netstate.Link {
	var alternative *netstate.Link
	for i := range l.facts.State.Links {
		k := &l.facts.State.Links[i]
		if k.Name == name {
			return k
		}
		for _, a := range k.AltNames {
			if a == name {
				alternative = k
			}
		}
	}
	return alternative
}

func (l *lowerer) makeLink(n *network) {
	i := &n.spec.Interface
	parent := l.link(i.VLAN.Parent)
	switch {
	case parent == nil:
		l.fail(n, "interface.vlan.parent", fmt.Sprintf("no link named %s in this namespace", i.VLAN.Parent), "use one that `ip link` shows", true)
		return
	case !parent.Up:
		l.fail(n, "interface.vlan.parent", fmt.Sprintf("%s is down, and a VLAN on it cannot be set up", parent.Name),
			fmt.Sprintf("set it up first (ip link set %s up)", parent.Name), true)
		return
	}
	n.dev, n.made = i.Name, true
	if there := l.link(i.Name); there != nil && there.Alias != Alias(n.obj.Ref) {
		n.made = false // somebody else's: the plan says whether it fits
	}
	l.out.Links = append(l.out.Links, Link{
		Link:   netstate.Link{Name: i.Name, Kind: "vlan", Parent: parent.Name, VLAN: i.VLAN.ID, Alias: Alias(n.obj.Ref), Up: true},
		Object: n.obj, Pos: n.at("interface.vlan"),
	})
}

// matchLink picks the one link that fits all that is written.
func (l *lowerer) matchLink(n *network) {
	m := n.spec.Interface.Match
	var found []string
	for i := range l.facts.State.Links {
		k := &l.facts.State.Links[i]
		// A VLAN and a bridge have the address of what they are made on: a port of
		// a bridge is not what carries the network.
		if m.MAC != "" && (!strings.EqualFold(k.MAC, m.MAC) || k.Master != "" && l.masterHas(k, m.MAC)) {
			continue
		}
		if m.Subnet.IsValid() && !l.hasAddrIn(k.Name, m) {
			continue
		}
		found = append(found, k.Name)
	}
	switch len(found) {
	case 0:
		l.fail(n, "interface.match", "no link of this namespace fits "+describe(m), "compare with `ip address`", true)
	case 1:
		n.dev = found[0]
	default:
		l.fail(n, "interface.match", fmt.Sprintf("%d links fit %s: %s", len(found), describe(m), strings.Join(found, ", ")), "name the subnet as well, or use name", false)
	}
}

func (l *lowerer) masterHas(k *netstate.Link, mac string) bool {
	m := l.link(k.Master)
	return m != nil && strings.EqualFold(m.MAC, mac)
}

// vrfOf is the VRF that the link is a port of, or "".
func (l *lowerer) vrfOf(dev string) string {
	if k := l.link(dev); k != nil {
		if m := l.link(k.Master); m != nil && m.Kind == "vrf" {
			return m.Name
		}
	}
	return ""
}

func (l *lowerer) hasAddrIn(dev string, m *spec.LinkMatch) bool {
	for i := range l.facts.State.Addrs {
		if a := &l.facts.State.Addrs[i]; a.Dev == dev && m.Subnet.Contains(a.Prefix.Addr()) {
			return true
		}
	}
	return false
}

func describe(m *spec.LinkMatch) string {
	var s []string
	if m.MAC != "" {
		s = append(s, "mac "+m.MAC)
	}
	if m.Subnet.IsValid() {
		s = append(s, "subnet "+m.Subnet.String())
	}
	return strings.Join(s, " and ")
}

// GatewaysOf lists the gateways of all ExternalNetworks that can be asked: those
// on links that are there and up.
func GatewaysOf(objects []spec.Object, s *netstate.State) []netstate.NeighKey {
	l := lowerer{facts: &Facts{State: s}}
	var keys []netstate.NeighKey
	for i := range objects {
		o := &objects[i]
		if o.External == nil || len(o.External.Gateways) == 0 {
			continue
		}
		n := &network{obj: o, spec: o.External}
		l.findLink(n)
		if k := l.link(n.dev); n.bad || k == nil || !k.Up {
			continue
		}
		for _, g := range o.External.Gateways {
			keys = append(keys, netstate.NeighKey{Dev: n.dev, Addr: g.Addr})
		}
	}
	return keys
}
