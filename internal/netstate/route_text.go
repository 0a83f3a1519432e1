package netstate

import "net/netip"

// String gives the route's text form, which ParseRoute reads:
//
//	route 10.2.0.0/16 via 192.0.2.1 dev eth1 table 5007 metric 10 proto 118
//	route -6 unreachable default table 5007 metric 4278198272 proto 118
//	route default nexthop via 192.0.2.1 dev eth0 weight 1 nexthop via 198.51.100.1 dev eth1 weight 2 table 254
//
// Only canonical routes have one: a single next hop stands in Hop, not in Hops.
func (r Route) String() string { return string(r.append(nil, nil)) }

// AppendText appends what String returns. The error is always nil.
func (r Route) AppendText(b []byte) ([]byte, error) { return r.append(b, nil), nil }

// Format is String with the names of tables and protocols; n may be nil.
func (r *Route) Format(n Names) string {
	return string(r.append(make([]byte, 0, 160), orKernelNames(n)))
}

// String gives the key's text form, which ParseRouteKey reads:
//
//	10.2.0.0/16 table 5007 metric 10
//	-6 default from 2001:db8::/32 table 254 metric 1024
func (k RouteKey) String() string { return string(k.append(nil, nil)) }

// AppendText appends what String returns. The error is always nil.
func (k RouteKey) AppendText(b []byte) ([]byte, error) { return k.append(b, nil), nil }

// Format is String with the names of tables; n may be nil.
func (k *RouteKey) Format(n Names) string { return string(k.append(nil, orKernelNames(n))) }

func (k *RouteKey) append(b []byte, n Names) []byte {
	if k.Family == IPv6 {
		b = append(b, "-6 "...)
	}
	b = appendDestination(b, k.Family, k.To)
	b = appendRouteSelectors(b, k.From, k.TOS)
	b = appendTable(b, k.Table, n)
	if k.Metric != 0 {
		b = appendKeyUint(b, " metric ", uint64(k.Metric))
	}
	return b
}

func appendDestination(b []byte, f Family, to netip.Prefix) []byte {
	if to.Bits() == 0 && to == f.Default() {
		return append(b, "default"...)
	}
	return appendPrefix(b, to)
}

func appendRouteSelectors(b []byte, from netip.Prefix, tos uint8) []byte {
	if from.IsValid() {
		b = appendPrefix(append(b, " from "...), from)
	}
	if tos != 0 {
		b = appendKeyHex(b, " tos ", uint64(tos))
	}
	return b
}

func (r *Route) append(b []byte, n Names) []byte {
	b = append(b, "route "...)
	if r.Family == IPv6 {
		b = append(b, "-6 "...)
	}
	if r.Type != RouteUnicast {
		if w := routeTypeNames.word(uint32(r.Type)); w != "" {
			b = append(append(b, w...), ' ')
		} else {
			b = append(appendKeyUint(b, "type ", uint64(r.Type)), ' ')
		}
	}
	b = appendDestination(b, r.Family, r.To)
	b = appendRouteSelectors(b, r.From, r.TOS)
	switch {
	case len(r.Hops) > 0:
		for i := range r.Hops {
			b = r.Hops[i].append(append(b, " nexthop"...), r.Family, true)
		}
	case r.Hop.Weight != 0 || r.Hop.Realms != 0 || r.Hop.Unknown != "":
		// Only the form with the word nexthop has keys for these.
		b = r.Hop.append(append(b, " nexthop"...), r.Family, false)
	default:
		b = r.Hop.append(b, r.Family, false)
	}
	if r.NexthopID != 0 {
		b = appendKeyUint(b, " nhid ", uint64(r.NexthopID))
	}
	b = appendTable(b, r.Table, n)
	if r.Metric != 0 {
		b = appendKeyUint(b, " metric ", uint64(r.Metric))
	}
	b = appendProtocol(b, r.Protocol, n)
	if r.Scope != ScopeGlobal {
		b = scopeNames.append(append(b, " scope "...), uint32(r.Scope))
	}
	return r.appendAttributes(b)
}

func (r *Route) appendAttributes(b []byte) []byte {
	if r.Src.IsValid() {
		b = r.Src.AppendTo(append(b, " src "...))
	}
	switch {
	case r.MTULock:
		b = appendKeyUint(b, " mtu lock ", uint64(r.MTU))
	case r.MTU != 0:
		b = appendKeyUint(b, " mtu ", uint64(r.MTU))
	}
	if r.AdvMSS != 0 {
		b = appendKeyUint(b, " advmss ", uint64(r.AdvMSS))
	}
	if r.Realms != 0 {
		b = appendRealms(b, r.Realms)
	}
	if r.Pref != 0 {
		b = prefNames.append(append(b, " pref "...), uint32(r.Pref))
	}
	return appendUnknown(b, r.Unknown)
}

// append writes the hop's pairs, each with a space before it. A hop of several
// always has its weight written, 0 too.
func (h *Hop) append(b []byte, f Family, weight bool) []byte {
	if h.Via.IsValid() {
		b = append(b, " via "...)
		if f == IPv4 && h.Via.Is6() {
			b = append(b, "inet6 "...)
		}
		b = h.Via.AppendTo(b)
	}
	if h.Dev != "" {
		b = appendKeyWord(b, " dev ", h.Dev)
	}
	if weight || h.Weight != 0 {
		b = appendKeyUint(b, " weight ", uint64(h.Weight))
	}
	if h.OnLink {
		b = append(b, " onlink"...)
	}
	if h.Realms != 0 {
		b = appendRealms(b, h.Realms)
	}
	return appendUnknown(b, h.Unknown)
}

// ParseRoute reads what Route.String writes. Beyond that it takes the names of
// the kernel's tables and of protocols, unicast as a type, next hops without a
// weight (1), and comments after a #. An IPv6 route must say -6.
//
// A metric that is not written is 0, also for IPv6: there the kernel's default
// has to be written out, as metric 1024.
func ParseRoute(s string) (Route, error) {
	p := newParser("route", s)
	p.expect("route")
	r := p.route()
	if err := p.end(); err != nil {
		return Route{}, err
	}
	return r, nil
}

// ParseRouteKey reads what RouteKey.String writes.
func ParseRouteKey(s string) (RouteKey, error) {
	p := newParser("route key", s)
	k := RouteKey{Family: p.family()}
	k.To = p.destination(k.Family)
	table := false
	for {
		w, ok := p.key()
		if !ok {
			break
		}
		switch w {
		case "from":
			k.From = p.selector(w, k.Family)
		case "tos":
			k.TOS = p.u8(w)
		case "table":
			k.Table, table = p.table(), true
		case "metric":
			k.Metric = p.u32(w)
		default:
			p.failf("no such key: %q", w)
		}
	}
	if p.err == nil && !table {
		p.failf("no table")
	}
	if err := p.end(); err != nil {
		return RouteKey{}, err
	}
	return k, nil
}

func (p *parser) destination(f Family) netip.Prefix {
	if p.accept("default") {
		return f.Default()
	}
	return p.prefix("destination", f)
}

// route reads what follows the word route.
func (p *parser) route() Route {
	r := Route{Family: p.family(), Type: RouteUnicast}
	if t, ok := routeTypeNames.num(p.peek()); ok {
		r.Type = RouteType(t)
		p.next()
	} else if p.accept("type") {
		r.Type = RouteType(p.u8("type"))
	}
	r.To = p.destination(r.Family)
	var hops []Hop
	table := false
	for {
		k, ok := p.key()
		if !ok {
			break
		}
		switch k {
		case "nexthop":
			hops = append(hops, p.hop(r.Family))
			p.nseen-- // the one key that may come again
		case "table":
			r.Table, table = p.table(), true
		default:
			p.routePair(&r, k)
		}
	}
	switch {
	case p.err != nil:
	case !table:
		p.failf("no table")
	case len(hops) > 0 && r.Hop != (Hop{}):
		p.failf("next hops of both forms")
	case len(hops) == 1:
		r.Hop = hops[0]
	case len(hops) > 1:
		for i := range hops {
			if hops[i].Weight == noWeight {
				hops[i].Weight = 1
			}
		}
		r.Hops = hops
	}
	if r.Hop.Weight == noWeight {
		r.Hop.Weight = 0
	}
	return r
}

func (p *parser) routePair(r *Route, k string) {
	switch k {
	case "from":
		r.From = p.selector(k, r.Family)
	case "tos":
		r.TOS = p.u8(k)
	case "via":
		r.Hop.Via = p.via(r.Family)
	case "dev":
		r.Hop.Dev = p.arg(k)
	case "onlink":
		r.Hop.OnLink = true
	case "nhid":
		r.NexthopID = p.u32(k)
	case "metric":
		r.Metric = p.u32(k)
	case "proto":
		r.Protocol = p.protocol()
	case "scope":
		r.Scope = p.scope()
	case "src":
		r.Src = p.addr(k, r.Family)
	case "mtu":
		r.MTULock = p.accept("lock")
		r.MTU = p.u32(k)
	case "advmss":
		r.AdvMSS = p.u32(k)
	case "realms":
		r.Realms = p.realms()
	case "pref":
		r.Pref = uint8(p.named(k, prefNames, 8))
	case "unknown":
		r.Unknown = p.unknown()
	default:
		p.failf("no such key: %q", k)
	}
}

func (p *parser) via(f Family) netip.Addr {
	if f == IPv4 && p.accept("inet6") {
		f = IPv6
	}
	return p.addr("via", f)
}

// noWeight stands, while a route is read, for a weight that was not written. It
// is out of the kernel's range (1 to 256).
const noWeight = 0xffff

// hop reads the pairs after the word nexthop, up to the first key that is not
// a hop's.
func (p *parser) hop(f Family) Hop {
	h := Hop{Weight: noWeight}
	for p.err == nil {
		switch {
		case p.accept("via"):
			h.Via = p.via(f)
		case p.accept("dev"):
			h.Dev = p.arg("dev")
		case p.accept("weight"):
			if h.Weight = p.u16("weight"); h.Weight > 256 {
				p.failf("weight: more than 256")
			}
		case p.accept("onlink"):
			h.OnLink = true
		case p.accept("realms"):
			h.Realms = p.realms()
		case p.accept("unknown"):
			h.Unknown = p.unknown()
		default:
			return h
		}
	}
	return h
}
