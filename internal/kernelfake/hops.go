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

// onLink finds the link whose subnet has the gateway, or to which a route without
// a gateway leads: in the route's own table or in main.
func (k *Kernel) onLink(table uint32, h *netstate.Hop) string {
	best, dev := -1, ""
	consider := func(p netip.Prefix, name string) {
		l := k.link(name)
		if l != nil && l.Up && (h.Dev == "" || h.Dev == name) && p.Contains(h.Via) && p.Bits() > best {
			best, dev = p.Bits(), name
		}
	}
	for _, a := range k.addrs {
		if a.Peer.IsValid() {
			consider(a.Peer.Masked(), a.Dev)
		} else {
			consider(a.Prefix.Masked(), a.Dev)
		}
	}
	for g, list := range k.routes {
		if g.table != table && g.table != netstate.TableMain {
			continue
		}
		for i := range list {
			r := &list[i]
			direct := !r.Hop.Via.IsValid() && r.Hop.Dev != "" && r.Type == netstate.RouteUnicast
			if direct && (r.Family == netstate.IPv6 || r.Scope == netstate.ScopeLink) {
				consider(r.To, r.Hop.Dev)
			}
		}
	}
	return dev
}

// reach6 is ip6_validate_gw.
func (k *Kernel) reach6(r *netstate.Route, h *netstate.Hop) (string, error) {
	switch {
	case k.own(h.Via):
		return "", refuse(unix.EINVAL, "Gateway can not be a local address")
	case h.Via.IsMulticast():
		return "", refuse(unix.EINVAL, "Invalid gateway address")
	case h.Via.IsLinkLocalUnicast() && h.Dev == "":
		return "", refuse(unix.EINVAL, "Egress device not specified")
	case h.Via.IsLinkLocalUnicast(), h.OnLink:
		return h.Dev, nil
	}
	if dev := k.onLink(r.Table, h); dev != "" {
		return dev, nil
	}
	return "", unix.EHOSTUNREACH
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
