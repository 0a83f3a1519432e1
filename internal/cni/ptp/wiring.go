package ptp

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
)

// gateway is that of every pod: 169.254.1.1 or fe80::1. They are nobody's addresses: the pod
// has a permanent neighbour for each, and the host takes what comes by the veth as a router
// does.
func gateway(f netstate.Family) netip.Addr {
	if f == netstate.IPv4 {
		return netip.AddrFrom4([4]byte{169, 254, 1, 1})
	}
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1})
}

// protocolBoot is RTPROT_BOOT, which routes in pods have, as those of the reference plugin:
// the namespace is the pod's, and they go with the link. Those on the host are of the
// plugins' protocol.
const protocolBoot = 3

// wiring is what an attachment is made of, as far as it follows from its names, its
// configuration and its addresses.
type wiring struct {
	Attachment
	host, hostMAC, podMAC string
	mtu                   uint32
	addrs                 []netip.Addr
	networks              []netip.Prefix // of the addresses
	// nexts are the gateways that the pod knows: its own, and those that the IPAM plugin names,
	// which results repeat and plugins behind this one use. All lead to the host.
	nexts  []netip.Addr
	routes []netstate.Route // in the pod
	// lax are routes in the pod that nobody asked for by name. Another interface of the pod may
	// have them already.
	lax []netstate.Route
}

// wire works out an attachment's wiring from what the IPAM plugin gave, whose key is for
// messages.
func wire(a Attachment, c *config, key string, ips []cni.IP, routes []cni.Route) (*wiring, error) {
	w := &wiring{Attachment: a, host: a.HostName(), mtu: c.mtu}
	w.hostMAC, w.podMAC = a.macs()
	if len(ips) == 0 {
		return nil, cni.Wrong(key+"ips", "there is no address", "have the IPAM plugin give one")
	}
	has := map[netstate.Family]bool{}
	for i, ip := range ips {
		addr := ip.Address.Addr()
		at := fmt.Sprintf("%sips[%d].address", key, i)
		for _, o := range w.addrs {
			if o == addr {
				return nil, cni.Wrong(at, addr.String()+" is there twice", "")
			}
		}
		switch f := netstate.FamilyOf(addr); {
		case addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.Is4In6():
			return nil, cni.Wrong(at, addr.String()+" cannot be a pod's address", "use one that can be routed")
		case f == netstate.IPv6 && c.mtu != 0 && c.mtu < leastMTU6:
			return nil, cni.Wrong("mtu", fmt.Sprintf("%d is too small for the address %s of IPv6", c.mtu, addr), fmt.Sprintf("use at least %d", leastMTU6))
		default:
			has[f] = true
		}
		w.addrs = append(w.addrs, addr)
		w.networks = append(w.networks, ip.Address.Masked())
	}
	for _, f := range netstate.Families {
		if has[f] {
			w.nexts = append(w.nexts, gateway(f))
		}
	}
	for _, ip := range ips {
		if g := ip.Gateway; g.IsValid() && !slices.Contains(w.nexts, g) && !slices.Contains(w.addrs, g) && has[netstate.FamilyOf(g)] {
			w.nexts = append(w.nexts, g)
		}
	}
	if err := w.route(key, routes, has); err != nil {
		return nil, err
	}
	return w, nil
}

// route works out the pod's routes: to the gateways; those that the IPAM plugin gave, or
// the default ones; and to the addresses' networks, where none of them leads there.
func (w *wiring) route(key string, given []cni.Route, has map[netstate.Family]bool) error {
	var list []netstate.Route
	covers, any := map[netstate.Family]bool{}, map[netstate.Family]bool{}
	for i := range given {
		r, err := podRoute(fmt.Sprintf("%sroutes[%d].", key, i), &given[i])
		if err != nil {
			return err
		}
		if !has[r.Family] {
			return cni.Wrong(fmt.Sprintf("%sroutes[%d].dst", key, i), fmt.Sprintf("%s is of a family of which the pod has no address", given[i].Dst), "have the IPAM plugin give one, or leave the route out")
		}
		any[r.Family] = true
		covers[r.Family] = covers[r.Family] || r.To.Bits() == 0 && r.Table == netstate.TableMain
		list = append(list, r)
	}
	for _, g := range w.nexts {
		// What comes behind in the chain may know of no onlink: the gateway is reachable.
		if !g.IsLinkLocalUnicast() || g.Is4() {
			w.lax = append(w.lax, w.direct(g, protocolBoot, w.Interface))
		}
	}
	for _, f := range netstate.Families {
		switch {
		case !has[f]:
		case !any[f]:
			w.lax = append(w.lax, via(f, f.Default()))
		case !covers[f]:
			w.routes = append(w.routes, w.toNetworks(f, list)...)
		}
	}
	w.routes = append(w.routes, list...)
	for _, routes := range [][]netstate.Route{w.routes, w.lax} {
		for i := range routes {
			routes[i].Hop.Dev = w.Interface
		}
	}
	return nil
}

// toNetworks are the routes to the addresses' own networks that are not in the list.
func (w *wiring) toNetworks(f netstate.Family, list []netstate.Route) (routes []netstate.Route) {
	known := map[netip.Prefix]bool{}
	for i := range list {
		if list[i].Table == netstate.TableMain {
			known[list[i].To] = true
		}
	}
	for _, n := range w.networks {
		if netstate.FamilyOf(n.Addr()) == f && !n.IsSingleIP() && !known[n] {
			known[n] = true
			routes = append(routes, via(f, n))
		}
	}
	return routes
}

// via is a route by the pod's gateway.
func via(f netstate.Family, to netip.Prefix) netstate.Route {
	r := netstate.Route{Family: f, Table: netstate.TableMain, To: to, Type: netstate.RouteUnicast, Protocol: protocolBoot, Hop: netstate.Hop{Via: gateway(f)}}
	if f == netstate.IPv6 {
		r.Metric = metric6
	} else {
		r.Hop.OnLink = true
	}
	return r
}

// metric6 is what the kernel gives to a route of IPv6 without one.
const metric6 = 1024

// podRoute is a route that the IPAM plugin gave. Its gateway does not count: the pod has
// but one.
func podRoute(key string, given *cni.Route) (r netstate.Route, err error) {
	dst := given.Dst.Masked()
	r = via(netstate.FamilyOf(dst.Addr()), dst)
	for _, n := range []struct {
		name  string
		value int
		into  *uint32
	}{{"mtu", given.MTU, &r.MTU}, {"advmss", given.AdvMSS, &r.AdvMSS}, {"priority", given.Priority, &r.Metric}} {
		switch {
		case n.value < 0 || int64(n.value) > math.MaxUint32:
			return r, cni.Wrong(key+n.name, fmt.Sprintf("%d is no number from 0 to %d", n.value, uint32(math.MaxUint32)), "")
		case n.value != 0:
			*n.into = uint32(n.value)
		}
	}
	if t := given.Table; t != nil {
		if *t < 0 || int64(*t) > math.MaxUint32 || uint32(*t) == netstate.TableLocal {
			return r, cni.Wrong(key+"table", fmt.Sprintf("%d cannot be a table of routes", *t), "leave it out for main")
		}
		if *t != 0 {
			r.Table = uint32(*t)
		}
	}
	if s := given.Scope; s != nil {
		// A route whose gateway is on the link is of a wider scope than the link
		// (fib_check_nh); and without a gateway nobody would answer on this link.
		if *s < 0 || *s >= int(netstate.ScopeLink) {
			return r, cni.Wrong(key+"scope", fmt.Sprintf("%d (link, host or nowhere) cannot be: all goes by the gateway", *s), "leave it out")
		}
		if r.Family == netstate.IPv4 {
			r.Scope = netstate.Scope(*s)
		}
	}
	return r, nil
}

// hostRoute is the host's way to an address of the pod.
func (w *wiring) hostRoute(a netip.Addr) netstate.Route {
	return w.direct(a, netstate.ProtocolCNI, w.host)
}

// direct is a route to an address on a link.
func (w *wiring) direct(a netip.Addr, protocol uint8, dev string) netstate.Route {
	r := netstate.Route{Family: netstate.FamilyOf(a), Table: netstate.TableMain, To: netip.PrefixFrom(a, a.BitLen()), Type: netstate.RouteUnicast,
		Protocol: protocol, Hop: netstate.Hop{Dev: dev}}
	if a.Is4() {
		r.Scope = netstate.ScopeLink
	} else {
		r.Metric = metric6
	}
	return r
}

// has says that the pod has an address of a family.
func (w *wiring) has(f netstate.Family) bool {
	return slices.ContainsFunc(w.addrs, func(a netip.Addr) bool { return netstate.FamilyOf(a) == f })
}

// onHost is what is written about the host's end.
func (w *wiring) onHost(e *kernel.Ends) *kernel.Setup {
	s := &kernel.Setup{Dev: w.host, Index: e.Index}
	s.LinkConf(kernel.LinkConf{NoLinkLocal: true, HasIPv6: e.IPv6 != nil, Router: true})
	s.LinkUp()
	for _, a := range w.addrs {
		s.Neigh(a, w.podMAC)
	}
	for _, a := range w.addrs {
		s.Route(w.hostRoute(a))
	}
	return s
}

// inPod is what is written about the pod's end, which comes second: with it the link has
// its carrier. lax has the routes that may be another interface's, by their place in it.
func (w *wiring) inPod(e *kernel.Ends) (s *kernel.Setup, lax map[int]*netstate.Route) {
	s = &kernel.Setup{Dev: w.Interface, Index: e.PeerIndex}
	s.LoopbackUp()
	s.LinkConf(kernel.LinkConf{NoLinkLocal: true, HasIPv6: e.IPv6 != nil})
	s.LinkUp()
	for _, a := range w.addrs {
		s.Addr(netip.PrefixFrom(a, a.BitLen()))
		if a.Is6() {
			// The kernel makes an address of IPv6 local when it finds the time for it
			// (addrconf_dad_work); until then it would drop what comes for the pod.
			s.Route(netstate.Route{Family: netstate.IPv6, Table: netstate.TableLocal, To: netip.PrefixFrom(a, a.BitLen()), Type: netstate.RouteLocal,
				Metric: metric6, Protocol: protocolBoot, Hop: netstate.Hop{Dev: w.Interface}})
		}
	}
	for _, g := range w.nexts {
		s.Neigh(g, w.hostMAC)
	}
	lax = map[int]*netstate.Route{}
	for i := range w.lax {
		lax[len(s.Writes())] = &w.lax[i]
		s.Route(w.lax[i])
	}
	for i := range w.routes {
		s.Route(w.routes[i])
	}
	return s, lax
}
