package kernelfake

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// checkHops checks where r goes, and fills in the link of a gateway that was
// given without one.
func (k *Kernel) checkHops(r *netstate.Route) error {
	if r.NexthopID != 0 {
		return k.checkObject(r)
	}
	if !r.Type.Forwards() {
		return nil
	}
	if r.Family == netstate.IPv4 && r.Scope == netstate.ScopeHost {
		switch {
		case len(r.Hops) > 0:
			return refuse(unix.EINVAL, "Route with host scope can not have multiple nexthops")
		case r.Hop.Via.IsValid():
			return refuse(unix.EINVAL, "Route with host scope can not have a gateway")
		case k.link(r.Hop.Dev) == nil:
			return unix.ENODEV
		}
		return nil
	}
	if len(r.Hops) == 0 {
		return k.checkHop(r, &r.Hop)
	}
	for i := range r.Hops {
		h := &r.Hops[i]
		if r.Family == netstate.IPv6 && !h.Via.IsValid() {
			return refuse(unix.EINVAL, "Device only routes can not be added for IPv6 using the multipath API.")
		}
		if err := k.checkHop(r, h); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernel) checkHop(r *netstate.Route, h *netstate.Hop) error {
	link := k.link(h.Dev)
	switch {
	case !h.Via.IsValid() && h.OnLink && r.Family == netstate.IPv4:
		return refuse(unix.EINVAL, "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set")
	case !h.Via.IsValid() && link == nil:
		return unix.ENODEV
	case h.OnLink && link == nil:
		return refuse(unix.ENODEV, "Nexthop device required for onlink")
	case link != nil && !link.Up && (r.Family == netstate.IPv6 || !h.Via.IsValid() || h.OnLink):
		return refuse(unix.ENETDOWN, "Nexthop device is not up")
	case !h.Via.IsValid():
		return nil
	}
	dev, err := k.reach(r, h)
	if err == nil && h.Dev == "" {
		h.Dev = dev
	}
	return err
}

// reach finds the link by which a gateway is reached.
func (k *Kernel) reach(r *netstate.Route, h *netstate.Hop) (string, error) {
	if h.Via.Is6() {
		return k.reach6(r, h)
	}
	invalid := refuse(unix.EINVAL, "Nexthop has invalid gateway")
	unreachable := refuse(unix.ENETUNREACH, "Nexthop has invalid gateway")
	if h.OnLink {
		if r.Scope >= netstate.ScopeLink {
			return "", refuse(unix.EINVAL, "Nexthop has invalid scope")
		}
		if k.own(h.Via) || h.Via.IsMulticast() || h.Via.IsLoopback() {
			return "", invalid
		}
		return h.Dev, nil
	}
	for _, a := range k.addrs {
		if (h.Dev == "" || h.Dev == a.Dev) && a.Prefix.Addr() == h.Via {
			return a.Dev, nil
		}
	}
	if r.Scope >= netstate.ScopeLink {
		// Only this host's own addresses have a narrower scope than a link.
		return "", unreachable
	}
	for _, a := range k.addrs {
		if a.Broadcast == h.Via || a.Prefix.Addr().Is4() && a.Prefix.Bits() < 31 && netstate.LastOf(a.Prefix) == h.Via {
			return "", invalid
		}
	}
	if dev := k.onLink(r.Table, h); dev != "" {
		return dev, nil
	}
	return "", unreachable
}

// onLink finds the link by which a gateway is reached: by the routes of the route's
// own table, or where those say nothing, by main.
func (k *Kernel) onLink(table uint32, h *netstate.Hop) string {
	if table != netstate.TableMain {
		if dev := k.onLinkBy(table, h); dev != "" {
			return dev
		}
	}
	return k.onLinkBy(netstate.TableMain, h)
}

// onLinkBy finds the link to which a table's most specific route for a gateway leads;
// "" where that route says nothing, or has a gateway itself.
func (k *Kernel) onLinkBy(table uint32, h *netstate.Hop) string {
	best, lowest, dev := -1, uint32(0), ""
	consider := func(to netip.Prefix, metric uint32, hop *netstate.Hop, direct bool) {
		l := k.link(hop.Dev)
		if l == nil || !l.Up || h.Dev != "" && h.Dev != hop.Dev || !to.Contains(h.Via) || to.Bits() < best || to.Bits() == best && metric >= lowest {
			return
		}
		if best, lowest, dev = to.Bits(), metric, ""; direct {
			dev = hop.Dev
		}
	}
	if table == netstate.TableMain {
		for _, a := range k.addrs {
			to := a.Prefix.Masked()
			if a.Peer.IsValid() {
				to = a.Peer.Masked()
			}
			consider(to, 0, &netstate.Hop{Dev: a.Dev}, true)
		}
	}
	for g, list := range k.routes {
		if g.table != table || g.from.IsValid() || g.tos != 0 {
			continue // a gateway is asked for without source and tos
		}
		for i := range list {
			r := k.resolved(list[i])
			if r.Family == netstate.IPv4 && r.Scope < netstate.ScopeLink {
				continue // IPv4 passes over routes whose scope is too wide
			}
			for _, hop := range paths(&r) {
				consider(r.To, r.Metric, &hop, r.Type.Forwards() && !hop.Via.IsValid())
			}
		}
	}
	return dev
}

// reach6 is ip6_validate_gw.
func (k *Kernel) reach6(r *netstate.Route, h *netstate.Hop) (string, error) {
	loopback := refuse(unix.EINVAL, "Egress device can not be loopback device for this route")
	switch {
	case k.own(h.Via):
		return "", refuse(unix.EINVAL, "Gateway can not be a local address")
	case h.Via.IsMulticast():
		return "", refuse(unix.EINVAL, "Invalid gateway address")
	case h.Via.IsLinkLocalUnicast() && h.Dev == "":
		return "", refuse(unix.EINVAL, "Egress device not specified")
	case (h.Via.IsLinkLocalUnicast() || h.OnLink) && h.Dev == "lo":
		return "", loopback
	case h.Via.IsLinkLocalUnicast(), h.OnLink:
		return h.Dev, nil
	}
	switch dev := k.onLink(r.Table, h); dev {
	case "":
		return "", unix.EHOSTUNREACH
	case "lo":
		return "", loopback
	default:
		return dev, nil
	}
}

// own says whether a is an address of this host.
func (k *Kernel) own(a netip.Addr) bool {
	return slices.ContainsFunc(k.addrs, func(o netstate.Addr) bool { return o.Prefix.Addr() == a })
}

func (k *Kernel) link(name string) *netstate.Link {
	for i := range k.links {
		if k.links[i].Name == name {
			return &k.links[i]
		}
	}
	return nil
}
