package netstate

import (
	"strconv"
	"strings"
)

// String gives the link's text form, which ParseLink reads:
//
//	link 3 eth1 kind veth mac 02:00:00:00:00:01 mtu 1500 up carrier parent if4
//
// One that is yet to be made has no number.
func (l Link) String() string { return string(l.append(nil)) }

// AppendText appends what String returns. The error is always nil.
func (l Link) AppendText(b []byte) ([]byte, error) { return l.append(b), nil }

func (l *Link) append(b []byte) []byte {
	b = append(b, "link "...)
	if l.Index != 0 || allDigits(l.Name) {
		b = append(strconv.AppendInt(b, int64(l.Index), 10), ' ')
	}
	b = appendWord(b, l.Name)
	if l.Kind != "" {
		b = appendKeyWord(b, " kind ", l.Kind)
	}
	if l.MAC != "" {
		b = appendKeyWord(b, " mac ", l.MAC)
	}
	if l.MTU != 0 {
		b = appendKeyUint(b, " mtu ", uint64(l.MTU))
	}
	for _, f := range []struct {
		set  bool
		word string
	}{{l.Up, " up"}, {l.Carrier, " carrier"}, {l.Loopback, " loopback"}, {l.NoARP, " noarp"}} {
		if f.set {
			b = append(b, f.word...)
		}
	}
	if l.Master != "" {
		b = appendKeyWord(b, " master ", l.Master)
	}
	if l.Parent != "" {
		b = appendKeyWord(b, " parent ", l.Parent)
	}
	if l.Alias != "" {
		b = appendKeyWord(b, " alias ", l.Alias)
	}
	if l.Group != 0 {
		b = appendKeyUint(b, " group ", uint64(l.Group))
	}
	if l.VLAN != 0 {
		b = appendKeyUint(b, " vlan ", uint64(l.VLAN))
	}
	if l.VRFTable != 0 {
		b = appendKeyUint(b, " vrftable ", uint64(l.VRFTable))
	}
	for _, n := range l.AltNames {
		b = appendKeyWord(b, " altname ", n)
	}
	return b
}

// ParseLink reads what Link.String writes.
func ParseLink(s string) (Link, error) {
	p := newParser("link", s)
	p.expect("link")
	l := p.link()
	if err := p.end(); err != nil {
		return Link{}, err
	}
	return l, nil
}

// allDigits tells the number of a link from its name.
func allDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func (p *parser) link() Link {
	var l Link
	if allDigits(p.peek()) {
		l.Index = int(p.uint("index", 31))
	}
	l.Name = p.arg("name")
	for {
		k, ok := p.key()
		if !ok {
			return l
		}
		switch k {
		case "kind":
			l.Kind = p.arg(k)
		case "mac":
			l.MAC = p.arg(k)
		case "mtu":
			l.MTU = p.u32(k)
		case "up":
			l.Up = true
		case "carrier":
			l.Carrier = true
		case "loopback":
			l.Loopback = true
		case "noarp":
			l.NoARP = true
		case "master":
			l.Master = p.arg(k)
		case "parent":
			l.Parent = p.arg(k)
		case "alias":
			l.Alias = p.arg(k)
		case "group":
			l.Group = p.u32(k)
		case "vlan":
			l.VLAN = p.u16(k)
		case "vrftable":
			l.VRFTable = p.u32(k)
		case "altname":
			l.AltNames = append(l.AltNames, p.arg(k))
			p.nseen-- // may come again
		default:
			p.failf("no such key: %q", k)
		}
	}
}

// String gives the address's text form, which ParseAddr reads:
//
//	addr 192.0.2.7/24 dev eth1 broadcast 192.0.2.255 label eth1
func (a Addr) String() string { return string(a.append(nil)) }

// AppendText appends what String returns. The error is always nil.
func (a Addr) AppendText(b []byte) ([]byte, error) { return a.append(b), nil }

func (a *Addr) append(b []byte) []byte {
	b = a.Prefix.AppendTo(append(b, "addr "...))
	b = appendKeyWord(b, " dev ", a.Dev)
	if a.Peer.IsValid() {
		b = a.Peer.AppendTo(append(b, " peer "...))
	}
	if a.Broadcast.IsValid() {
		b = a.Broadcast.AppendTo(append(b, " broadcast "...))
	}
	if a.Scope != ScopeGlobal {
		b = scopeNames.append(append(b, " scope "...), uint32(a.Scope))
	}
	if a.Label != "" {
		b = appendKeyWord(b, " label ", a.Label)
	}
	if a.Flags != 0 {
		b = appendKeyHex(b, " flags ", uint64(a.Flags))
	}
	if a.Metric != 0 {
		b = appendKeyUint(b, " metric ", uint64(a.Metric))
	}
	return appendUnknown(appendProtocol(b, a.Protocol, nil), a.Unknown)
}

// ParseAddr reads what Addr.String writes. Its family is that of the address.
func ParseAddr(s string) (Addr, error) {
	p := newParser("addr", s)
	p.expect("addr")
	a := p.address()
	if err := p.end(); err != nil {
		return Addr{}, err
	}
	return a, nil
}

func (p *parser) address() Addr {
	a := Addr{Prefix: p.prefix("address", 0)}
	f := FamilyOf(a.Prefix.Addr())
	for {
		k, ok := p.key()
		if !ok {
			break
		}
		switch k {
		case "dev":
			a.Dev = p.arg(k)
		case "peer":
			a.Peer = p.prefix(k, f)
		case "broadcast":
			a.Broadcast = p.addr(k, f)
		case "scope":
			a.Scope = p.scope()
		case "label":
			a.Label = p.arg(k)
		case "flags":
			a.Flags = p.u32(k)
		case "metric":
			a.Metric = p.u32(k)
		case "proto":
			a.Protocol = p.protocol()
		case "unknown":
			a.Unknown = p.unknown()
		default:
			p.failf("no such key: %q", k)
		}
	}
	if p.err == nil && a.Dev == "" {
		p.failf("no dev")
	}
	return a
}

// String gives the next hop object's text form, which ParseNexthop reads:
//
//	nexthop 7 via 192.0.2.1 dev eth1 proto 118
//	nexthop 9 group 7/8,2
//
// A group has the family 0, and nothing else has it.
func (h Nexthop) String() string { return string(h.append(nil, nil)) }

// AppendText appends what String returns. The error is always nil.
func (h Nexthop) AppendText(b []byte) ([]byte, error) { return h.append(b, nil), nil }

func (h *Nexthop) append(b []byte, n Names) []byte {
	b = append(b, "nexthop "...)
	if h.Family == IPv6 {
		b = append(b, "-6 "...)
	}
	b = strconv.AppendUint(b, uint64(h.ID), 10)
	if len(h.Group) > 0 {
		b = append(b, " group "...)
		for i, g := range h.Group {
			if i > 0 {
				b = append(b, '/')
			}
			b = strconv.AppendUint(b, uint64(g.ID), 10)
			if g.Weight != 1 {
				b = appendKeyUint(b, ",", uint64(g.Weight))
			}
		}
	}
	// The object's own unknown attributes are one lot with the hop's in the
	// kernel, so the hop's are written apart only where there are any.
	hop := h.Hop
	hop.Unknown = ""
	b = hop.append(b, h.Family, false)
	if h.Blackhole {
		b = append(b, " blackhole"...)
	}
	if h.FDB {
		b = append(b, " fdb"...)
	}
	if h.Scope != ScopeGlobal {
		b = scopeNames.append(append(b, " scope "...), uint32(h.Scope))
	}
	b = appendProtocol(b, h.Protocol, n)
	if h.Hop.Unknown != "" {
		b = appendUnknown(append(b, " hop"...), h.Hop.Unknown)
	}
	return appendUnknown(b, h.Unknown)
}

// ParseNexthop reads what Nexthop.String writes.
func ParseNexthop(s string) (Nexthop, error) {
	p := newParser("nexthop", s)
	p.expect("nexthop")
	h := p.nexthop()
	if err := p.end(); err != nil {
		return Nexthop{}, err
	}
	return h, nil
}

func (p *parser) nexthop() Nexthop {
	h := Nexthop{Family: p.family(), ID: p.u32("id")}
	for {
		k, ok := p.key()
		if !ok {
			break
		}
		switch k {
		case "group":
			h.Group = p.group()
		case "via":
			h.Hop.Via = p.via(h.Family)
		case "dev":
			h.Hop.Dev = p.arg(k)
		case "weight":
			h.Hop.Weight = p.u16(k)
		case "onlink":
			h.Hop.OnLink = true
		case "realms":
			h.Hop.Realms = p.realms()
		case "blackhole":
			h.Blackhole = true
		case "fdb":
			h.FDB = true
		case "scope":
			h.Scope = p.scope()
		case "proto":
			h.Protocol = p.protocol()
		case "hop":
			p.expect("unknown")
			h.Hop.Unknown = p.unknown()
		case "unknown":
			h.Unknown = p.unknown()
		default:
			p.failf("no such key: %q", k)
		}
	}
	if len(h.Group) > 0 {
		if h.Family == IPv6 {
			p.failf("a group has no family")
		}
		h.Family = 0
	}
	return h
}

func (p *parser) group() []GroupHop {
	s := p.arg("group")
	if p.err != nil {
		return nil
	}
	var g []GroupHop
	for m := range strings.SplitSeq(s, "/") {
		id, weight, weighted := strings.Cut(m, ",")
		if !weighted {
			weight = "1"
		}
		i, err1 := parseUint(id, 32)
		w, err2 := parseUint(weight, 16)
		if err1 != nil || err2 != nil {
			p.failf("group: %q is not ID or ID,WEIGHT", m)
			return nil
		}
		g = append(g, GroupHop{uint32(i), uint16(w)})
	}
	return g
}
