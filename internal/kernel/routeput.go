package kernel

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// appendRoute appends the body of RTM_NEWROUTE or RTM_DELROUTE with every
// attribute of r. A route by a next hop object names just that: the kernel
// refuses a repeated gateway beside it.
func appendRoute(b []byte, r *netstate.Route, links *indexes) ([]byte, error) {
	family := uint8(r.Family)
	if r.Family != netstate.IPv4 && r.Family != netstate.IPv6 {
		return b, fmt.Errorf("route of family %d: %w", family, unix.EAFNOSUPPORT)
	}
	if r.Type == 0 {
		return b, fmt.Errorf("a route needs a type: %w", unix.EINVAL)
	}
	if err := checkFamily("destination", r.To.Addr(), family); err != nil {
		return b, err
	}
	if err := checkFamily("from", r.From.Addr(), family); err != nil {
		return b, err
	}
	if err := checkFamily("source", r.Src, family); err != nil {
		return b, err
	}
	var (
		left   unknown
		header uint32
	)
	if r.Unknown != "" {
		var err error
		if left, header, err = parseUnknown(r.Unknown); err != nil {
			return b, fmt.Errorf("route: %w", err)
		}
	}
	single := r.NexthopID == 0 && len(r.Hops) == 0
	if single && r.Hop.OnLink {
		header |= unix.RTNH_F_ONLINK
	}
	var table uint8 // RT_TABLE_UNSPEC: see RTA_TABLE
	if r.Table <= compatMaximum {
		table = uint8(r.Table)
	}
	b = append(b, family, length(r.To), length(r.From), r.TOS, table, r.Protocol, uint8(r.Scope), uint8(r.Type))
	b = native.AppendUint32(b, header)
	if length(r.To) != 0 {
		b = putAddr(b, unix.RTA_DST, r.To.Addr())
	}
	if length(r.From) != 0 {
		b = putAddr(b, unix.RTA_SRC, r.From.Addr())
	}
	if r.Table > compatMaximum {
		b = putU32(b, unix.RTA_TABLE, r.Table)
	}
	if r.Metric != 0 {
		b = putU32(b, unix.RTA_PRIORITY, r.Metric)
	}
	if r.Src.IsValid() {
		b = putAddr(b, unix.RTA_PREFSRC, r.Src)
	}
	if r.Realms != 0 {
		b = putU32(b, unix.RTA_FLOW, r.Realms)
	}
	if r.Pref != 0 {
		b = putU8(b, unix.RTA_PREF, r.Pref)
	}
	b, left = appendMetrics(b, r, left)
	b = left.append(b)
	switch {
	case r.NexthopID != 0:
		return putU32(b, rtaNHID, r.NexthopID), nil
	case len(r.Hops) != 0:
		return appendHops(b, r.Hops, family, links)
	}
	return appendHop(b, &r.Hop, family, links)
}

// routeRequest turns what appendRoute wrote at b[at:] into a request. A route by
// a next hop object that is a blackhole is listed as one, but is a unicast route
// inside: nobody can make or delete it as what it is listed as.
func routeRequest(b []byte, at int, ch *netstate.Change) {
	if ch.Route.NexthopID == 0 || ch.Route.Type != netstate.RouteBlackhole {
		return
	}
	b[at+7] = unix.RTN_UNICAST
}

// appendHop appends the attributes of a route's only next hop.
func appendHop(b []byte, h *netstate.Hop, family uint8, links *indexes) ([]byte, error) {
	b = putVia(b, h.Via, family)
	if h.Dev != "" {
		index, err := links.of(h.Dev)
		if err != nil {
			return b, err
		}
		b = putU32(b, unix.RTA_OIF, uint32(index))
	}
	return appendHopRest(b, h)
}

func appendHopRest(b []byte, h *netstate.Hop) ([]byte, error) {
	if h.Unknown == "" {
		return b, nil
	}
	left, _, err := parseUnknown(h.Unknown)
	if err != nil {
		return b, fmt.Errorf("next hop: %w", err)
	}
	return left.append(b), nil
}

// appendHops appends RTA_MULTIPATH.
func appendHops(b []byte, hops []netstate.Hop, family uint8, links *indexes) ([]byte, error) {
	at := len(b)
	b = putHeader(b, unix.RTA_MULTIPATH, 0)
	for i := range hops {
		h := &hops[i]
		weight := max(h.Weight, 1)
		if weight > 256 {
			return b, fmt.Errorf("weight %d of a next hop is not between 1 and 256: %w", h.Weight, unix.ERANGE)
		}
		index, err := links.of(h.Dev)
		if err != nil {
			return b, err
		}
		_, header, err := parseUnknown(h.Unknown)
		if err != nil {
			return b, fmt.Errorf("next hop: %w", err)
		}
		if h.OnLink {
			header |= unix.RTNH_F_ONLINK
		}
		start := len(b)
		b = append(b, 0, 0, uint8(header), uint8(weight-1))
		b = native.AppendUint32(b, uint32(index))
		b = putVia(b, h.Via, family)
		if h.Realms != 0 {
			b = putU32(b, unix.RTA_FLOW, h.Realms)
		}
		if b, err = appendHopRest(b, h); err != nil {
			return b, err
		}
		native.PutUint16(b[start:], uint16(len(b)-start))
	}
	// The length of an attribute has 16 bits: about 2,000 next hops.
	if len(b)-at > 0xffff {
		return b, fmt.Errorf("%d next hops do not fit a message: %w", len(hops), unix.E2BIG)
	}
	native.PutUint16(b[at:], uint16(len(b)-at))
	return b, nil
}

// putVia appends a gateway. One of another family than its route is RTA_VIA.
func putVia(b []byte, via netip.Addr, family uint8) []byte {
	switch {
	case !via.IsValid():
		return b
	case via.Is4() == (family == unix.AF_INET):
		return putAddr(b, unix.RTA_GATEWAY, via)
	case via.Is4():
		v := via.As4()
		b = native.AppendUint16(putHeader(b, unix.RTA_VIA, 2+4), unix.AF_INET)
		return pad(append(b, v[:]...))
	}
	v := via.As16()
	b = native.AppendUint16(putHeader(b, unix.RTA_VIA, 2+16), unix.AF_INET6)
	return pad(append(b, v[:]...))
}

// appendMetrics appends RTA_METRICS, put together from the fields and from what
// left holds of it, and returns left without it.
func appendMetrics(b []byte, r *netstate.Route, left unknown) ([]byte, unknown) {
	var (
		metrics, others unknown
		lock            uint32
	)
	for _, a := range left {
		if a.typ != unix.RTA_METRICS {
			others.add(a)
			continue
		}
		all, err := parseAttrs(a.data())
		if err != nil {
			others.add(a) // decodeMetrics did not take it apart either
			continue
		}
		for _, m := range all {
			if m.typ != unix.RTAX_LOCK || !m.u32(&lock) {
				metrics.add(m)
			}
		}
	}
	if r.MTU != 0 {
		metrics.add(attr{unix.RTAX_MTU, putU32(nil, unix.RTAX_MTU, r.MTU)})
		if r.MTULock {
			lock |= 1 << unix.RTAX_MTU
		}
	}
	if r.AdvMSS != 0 {
		metrics.add(attr{unix.RTAX_ADVMSS, putU32(nil, unix.RTAX_ADVMSS, r.AdvMSS)})
	}
	if lock != 0 {
		metrics.add(attr{unix.RTAX_LOCK, putU32(nil, unix.RTAX_LOCK, lock)})
	}
	if len(metrics) != 0 {
		b = putMetrics(b, metrics)
	}
	return b, others
}
