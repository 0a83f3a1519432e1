package kernel

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

const (
	routeHeader   = 12 // struct rtmsg
	nexthopHeader = 8  // struct rtnexthop
	rtaNHID       = 30 // RTA_NH_ID, Linux 5.3
)

// ignoredHopFlags are RTNH_F_DEAD, _OFFLOAD, _LINKDOWN, _UNRESOLVED and _TRAP,
// and ignoredRouteFlags RTM_F_OFFLOAD, _TRAP and _OFFLOAD_FAILED besides: what
// links and hardware do at the moment, not what was asked for.
const (
	ignoredHopFlags   = unix.RTNH_F_DEAD | unix.RTNH_F_OFFLOAD | unix.RTNH_F_LINKDOWN | unix.RTNH_F_UNRESOLVED | 0x40
	ignoredRouteFlags = ignoredHopFlags | 0x4000 | 0x8000 | 0x20000000
)

// decodeRoute reads the body of RTM_NEWROUTE; ok is false for what is no route of
// a table but a cache entry (RTM_F_CLONED). RTA_CACHEINFO is dropped: its
// counters and the time to live of a route change by themselves.
func (d *decoder) decodeRoute(r *netstate.Route, b []byte) (ok bool, err error) {
	if len(b) < routeHeader {
		return false, fmt.Errorf("route: %w", errShort)
	}
	family, dstLen, srcLen := b[0], b[1], b[2]
	flags := native.Uint32(b[8:])
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return false, fmt.Errorf("route of family %d", family)
	}
	if flags&unix.RTM_F_CLONED != 0 {
		return false, nil
	}
	*r = netstate.Route{
		Family:   netstate.Family(family),
		TOS:      b[3],
		Table:    uint32(b[4]),
		Protocol: b[5],
		Scope:    netstate.Scope(b[6]),
		Type:     netstate.RouteType(b[7]),
	}
	var (
		left, hopLeft unknown
		metrics       unknown
		from, to      netip.Addr
		hops          attr
		size          = addrSize(family)
	)
	r.Hop.OnLink = flags&unix.RTNH_F_ONLINK != 0
	left.header(flags &^ (unix.RTNH_F_ONLINK | ignoredRouteFlags))
	for rest := b[routeHeader:]; ; {
		a, r2, ok, err := next(rest)
		if err != nil {
			return false, fmt.Errorf("route: %w", err)
		}
		if !ok {
			break
		}
		rest = r2
		known := true
		switch a.typ {
		case unix.RTA_DST:
			known = a.addr(&to, size)
		case unix.RTA_SRC:
			known = a.addr(&from, size)
		case unix.RTA_OIF:
			var index uint32
			if known = a.u32(&index); known {
				r.Hop.Dev = d.link(int32(index))
			}
		case unix.RTA_GATEWAY:
			known = a.addr(&r.Hop.Via, size)
		case unix.RTA_VIA:
			known = decodeVia(a, &r.Hop.Via)
		case unix.RTA_PRIORITY:
			known = a.u32(&r.Metric)
		case unix.RTA_PREFSRC:
			known = a.addr(&r.Src, size)
		case unix.RTA_METRICS:
			known = decodeMetrics(a, r, &metrics)
		case unix.RTA_MULTIPATH:
			hops = a
		case unix.RTA_FLOW:
			known = a.u32(&r.Realms)
		case unix.RTA_TABLE:
			known = a.u32(&r.Table)
		case unix.RTA_PREF:
			known = a.u8(&r.Pref)
		case rtaNHID:
			known = a.u32(&r.NexthopID)
		case unix.RTA_CACHEINFO, unix.RTA_PAD:
		case unix.RTA_ENCAP, unix.RTA_ENCAP_TYPE:
			hopLeft.add(a)
		default:
			known = false
		}
		if !known {
			left.add(a)
		}
	}
	if dstLen == 0 {
		to = netip.Addr{}
	}
	if r.To, err = prefix(to, dstLen, family); err != nil {
		return false, fmt.Errorf("route: %w", err)
	}
	if srcLen != 0 {
		if r.From, err = prefix(from, srcLen, family); err != nil {
			return false, fmt.Errorf("route: %w", err)
		}
	}
	if hops.raw != nil {
		if r.Hops, err = d.decodeHops(hops.data(), size); err != nil {
			return false, fmt.Errorf("route: %w", err)
		}
		left, hopLeft = append(left, hopLeft...), nil
	}
	r.Hop.Unknown = hopLeft.String()
	settleHops(r)
	if len(metrics) != 0 {
		left.add(attr{typ: unix.RTA_METRICS, raw: putMetrics(nil, metrics)})
	}
	r.Unknown = left.String()
	return true, nil
}

// settleHops brings what came in into the canonical form.
func settleHops(r *netstate.Route) {
	switch {
	case len(r.Hops) == 1 && r.NexthopID != 0:
		// IPv6 lists a group of one as several paths, IPv4 does not.
		r.Hop, r.Hops = r.Hops[0], nil
		r.Hop.Weight = 0
	case len(r.Hops) != 0:
		r.Hop = netstate.Hop{}
	case !r.Type.Forwards() && !r.Hop.Via.IsValid() && r.Hop.Unknown == "":
		// IPv6 hangs such routes on lo, whatever was asked for
		// (ip6_route_info_create); it says nothing.
		r.Hop = netstate.Hop{}
	}
}

// decodeVia reads struct rtvia: the gateway's family and its address.
func decodeVia(a attr, v *netip.Addr) bool {
	b := a.data()
	if len(b) < 2 {
		return false
	}
	family := native.Uint16(b)
	if family != unix.AF_INET && family != unix.AF_INET6 || len(b) != 2+addrSize(uint8(family)) {
		return false
	}
	*v = addrOf(b[2:])
	return true
}

func (d *decoder) decodeHops(b []byte, size int) ([]netstate.Hop, error) {
	var hops []netstate.Hop
	for len(b) >= nexthopHeader {
		n := int(native.Uint16(b))
		if n < nexthopHeader || n > len(b) {
			return nil, fmt.Errorf("next hops: %w", errShort)
		}
		h := netstate.Hop{
			Weight: uint16(b[3]) + 1,
			OnLink: b[2]&unix.RTNH_F_ONLINK != 0,
			Dev:    d.link(int32(native.Uint32(b[4:]))),
		}
		var left unknown
		left.header(uint32(b[2]) &^ (unix.RTNH_F_ONLINK | ignoredHopFlags))
		for rest := b[nexthopHeader:n]; ; {
			a, r2, ok, err := next(rest)
			if err != nil {
				return nil, fmt.Errorf("next hop: %w", err)
			}
			if !ok {
				break
			}
			rest = r2
			known := false
			switch a.typ {
			case unix.RTA_GATEWAY:
				known = a.addr(&h.Via, size)
			case unix.RTA_VIA:
				known = decodeVia(a, &h.Via)
			case unix.RTA_FLOW:
				known = a.u32(&h.Realms)
			case unix.RTA_PAD:
				known = true
			}
			if !known {
				left.add(a)
			}
		}
		h.Unknown = left.String()
		hops = append(hops, h)
		b = b[min(align(n), len(b)):]
	}
	return hops, nil
}

// decodeMetrics takes the metrics that have fields; the others go to left. RTAX_LOCK
// is a set of bits, one a metric.
func decodeMetrics(a attr, r *netstate.Route, left *unknown) bool {
	all, err := parseAttrs(a.data())
	if err != nil {
		return false
	}
	var (
		lock, mtu, mss uint32
		others         unknown
	)
	for _, m := range all {
		known := false
		switch m.typ {
		case unix.RTAX_LOCK:
			known = m.u32(&lock)
		case unix.RTAX_MTU:
			known = m.u32(&mtu)
		case unix.RTAX_ADVMSS:
			known = m.u32(&mss)
		}
		if !known {
			others.add(m)
		}
	}
	if mtu != 0 && lock&(1<<unix.RTAX_MTU) != 0 {
		r.MTULock = true
		lock &^= 1 << unix.RTAX_MTU
	}
	if lock != 0 {
		others.add(attr{typ: unix.RTAX_LOCK, raw: putU32(nil, unix.RTAX_LOCK, lock)})
	}
	r.MTU, r.AdvMSS = mtu, mss
	*left = others
	return true
}

// putMetrics makes an RTA_METRICS attribute of the given ones, sorted by type.
func putMetrics(b []byte, m unknown) []byte {
	return put(b, unix.RTA_METRICS, []byte(m.String()))
}
