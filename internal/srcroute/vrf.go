package srcroute

import (
	"fmt"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// VRFAlias is the ifalias of a VRF that a CNI plugin made, by which it is known as ours.
func VRFAlias(name string) string { return "viarule:CNI/" + name }

// enterVRF says which VRF the interface becomes a port of, and what the kernel takes
// away meanwhile, since it sets the link down and up: the routes of main by it, and its
// addresses of IPv6.
func (b *builder) enterVRF() error {
	port, vrf := b.facts.Link, b.facts.VRF
	table := b.Table
	switch {
	case table >= netstate.TableDefault && table <= netstate.TableLocal:
		return &Error{"table", fmt.Sprintf("table %d is the kernel's, and no VRF's", table), "use another one, or leave it out: one will be chosen"}
	case vrf == nil && table == 0:
		table = b.facts.Free[0]
	case vrf == nil:
	case vrf.Kind != "vrf":
		return &Error{"vrf", fmt.Sprintf("the link %s is there, and is no VRF", b.VRF), "use another name"}
	case table != 0 && table != vrf.VRFTable:
		return &Error{"table", fmt.Sprintf("the VRF %s is there, and its table is %d", b.VRF, vrf.VRFTable), "leave table out, or use another VRF"}
	default:
		table = vrf.VRFTable
	}
	if port.Master != "" && port.Master != b.VRF {
		return &Error{"vrf", fmt.Sprintf("%s is a port of %s already", b.Dev, port.Master), "take it out there, or leave vrf out"}
	}
	b.vrfTable = table
	if vrf == nil || vrf.Alias == VRFAlias(b.VRF) {
		b.want.VRF = &netstate.Link{Name: b.VRF, Kind: "vrf", Up: true, Alias: VRFAlias(b.VRF), VRFTable: table}
	}
	if b.want.Enter = port.Master == ""; !b.want.Enter {
		return nil
	}
	b.remove(func(r *netstate.Route) bool { return !b.comesWithAddress(r) })
	for _, a := range b.facts.Addrs {
		// Those that have a lifetime come from router advertisements or from DHCP,
		// which bring them again.
		if a.Prefix.Addr().Is6() && a.Flags&netstate.AddrPermanent != 0 {
			a.Flags = a.Flags&^(netstate.AddrTentative|netstate.AddrDADFailed) | netstate.AddrNoDAD
			b.want.Addrs = append(b.want.Addrs, a)
		}
	}
	return nil
}

// fillVRF gives the VRF's table the routes that main had by the interface, and the way
// to its gateways. What is connected the kernel puts there itself.
func (b *builder) fillVRF() error {
	for _, configured := range []bool{true, false} {
		for i := range b.Addrs {
			a := &b.Addrs[i]
			gateway, static, err := b.Gateway(a)
			if err != nil {
				return err
			}
			if gateway.IsValid() && static == configured {
				b.viaGateway(a, gateway, b.vrfTable)
			}
		}
		if configured && b.want.Enter {
			b.copyMain()
		}
	}
	b.reachGateways(0, nil)
	return nil
}

func (b *builder) copyMain() {
	for i := range b.facts.Main {
		r := b.facts.Main[i]
		if !b.plain(&r) || b.comesWithAddress(&r) {
			continue
		}
		r.Table, r.NexthopID = b.vrfTable, 0 // such an object does not outlive the link's state
		if a := b.sourceFor(&r); b.Own && a != nil && Hintable(&r) && !r.To.Addr().IsLinkLocalUnicast() {
			b.setSource(&r, a)
		}
		b.add(r)
	}
}

// comesWithAddress says that the kernel makes a route in this place by itself, for an
// address of the interface.
func (b *builder) comesWithAddress(r *netstate.Route) bool {
	return slices.ContainsFunc(b.facts.Addrs, func(a netstate.Addr) bool {
		metric := a.Metric
		if metric == 0 && r.Family == netstate.IPv6 {
			metric = connectedMetric
		}
		if a.Flags&netstate.AddrNoPrefixRoute != 0 || r.Hop.Via.IsValid() || r.Metric != metric || netstate.FamilyOf(a.Prefix.Addr()) != r.Family {
			return false
		}
		return r.To == a.Prefix.Masked() || a.Peer.IsValid() && r.To == a.Peer.Masked()
	})
}

// connectedMetric is IP6_RT_PRIO_ADDRCONF.
const connectedMetric = 256

// connected says that an address of the interface makes the way to a gateway.
func (b *builder) connected(h *netstate.Hop) bool {
	return b.VRF != "" && h.Dev == b.Dev && slices.ContainsFunc(b.facts.Addrs, func(a netstate.Addr) bool {
		return a.Flags&netstate.AddrNoPrefixRoute == 0 && (a.Prefix.Contains(h.Via) || a.Peer.IsValid() && a.Peer.Contains(h.Via))
	})
}

// beside gives a route that was found a metric of its own in the VRF's table, where
// another port's route has its place. False: it stands there already.
func (b *builder) beside(r *netstate.Route) bool {
	for i := range b.facts.InVRF {
		there := &b.facts.InVRF[i]
		if there.Key() != r.Key() {
			continue
		}
		if there.Hop.Dev == r.Hop.Dev && there.Hop.Via == r.Hop.Via {
			return false
		}
		r.Metric++
		return b.beside(r)
	}
	return true
}
