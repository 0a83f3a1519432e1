package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// struct nhmsg and the attributes of linux/nexthop.h.
const (
	objectHeader = 8

	nhaID        = 1
	nhaGroup     = 2
	nhaGroupType = 3
	nhaBlackhole = 4
	nhaOIF       = 5
	nhaGateway   = 6
	nhaEncapType = 7
	nhaEncap     = 8
	nhaFDB       = 11
	nhaResGroup  = 12
	nhaOpFlags   = 14

	nhaResGroupUnbalancedTime = 4
)

// decodeNexthop reads the body of RTM_NEWNEXTHOP. Of a resilient group,
// NHA_RES_GROUP_UNBALANCED_TIME is dropped: it is a clock. So is NHA_OP_FLAGS,
// which tells how the answer is to be read, nothing of the object.
func (d *decoder) decodeNexthop(n *netstate.Nexthop, b []byte) error {
	if len(b) < objectHeader {
		return fmt.Errorf("next hop object: %w", errShort)
	}
	family, flags := b[0], native.Uint32(b[4:])
	*n = netstate.Nexthop{Scope: netstate.Scope(b[1]), Protocol: b[2]}
	if family == unix.AF_INET || family == unix.AF_INET6 {
		n.Family = netstate.Family(family)
	} else if family != unix.AF_UNSPEC {
		return fmt.Errorf("next hop object of family %d", family)
	}
	n.Hop.OnLink = flags&unix.RTNH_F_ONLINK != 0
	var left, hopLeft unknown
	left.header(flags &^ (unix.RTNH_F_ONLINK | ignoredHopFlags))
	attrs, err := parseAttrs(b[objectHeader:])
	if err != nil {
		return fmt.Errorf("next hop object: %w", err)
	}
	for _, a := range attrs {
		known := true
		switch a.typ {
		case nhaID:
			known = a.u32(&n.ID)
		case nhaGroup:
			known = decodeGroup(a, &n.Group)
		case nhaGroupType:
			// 0 is the hash threshold group, the default.
			var v uint16
			known = a.u16(&v) && v == 0
		case nhaBlackhole:
			if known = len(a.data()) == 0; known {
				n.Blackhole = true
			}
		case nhaOIF:
			var index uint32
			if known = a.u32(&index); known {
				n.Hop.Dev = d.link(int32(index))
			}
		case nhaGateway:
			known = n.Family != 0 && a.addr(&n.Hop.Via, addrSize(family))
		case nhaEncapType, nhaEncap:
			hopLeft.add(a)
		case nhaFDB:
			if known = len(a.data()) == 0; known {
				n.FDB = true
			}
		case nhaOpFlags:
		case nhaResGroup:
			known = false
			a = withoutClock(a)
		default:
			known = false
		}
		if !known {
			left.add(a)
		}
	}
	n.Hop.Unknown, n.Unknown = hopLeft.String(), left.String()
	return nil
}

// withoutClock takes the unbalanced time out of NHA_RES_GROUP.
func withoutClock(a attr) attr {
	all, err := parseAttrs(a.data())
	if err != nil {
		return a
	}
	var kept unknown
	for _, m := range all {
		if m.typ != nhaResGroupUnbalancedTime && m.typ != 0 { // 0 is padding
			kept.add(m)
		}
	}
	return attr{typ: a.typ, raw: put(nil, native.Uint16(a.raw[2:]), []byte(kept.String()))}
}

// decodeGroup reads an array of struct nexthop_grp. The high byte of the weight
// is there since Linux 6.12 and was zero before.
func decodeGroup(a attr, g *[]netstate.GroupHop) bool {
	b := a.data()
	if len(b)%8 != 0 || len(b) == 0 {
		return false
	}
	*g = nil
	for ; len(b) >= 8; b = b[8:] {
		weight := uint16(b[4]) + uint16(b[5])<<8 + 1
		if weight == 0 { // 65,536, which the kernel refuses
			return false
		}
		*g = append(*g, netstate.GroupHop{ID: native.Uint32(b), Weight: weight})
	}
	return true
}

// errNoID is EINVAL.
var errNoID error = noID{}

type noID struct{}

func (noID) Error() string { return "a next hop object needs an id: " + unix.EINVAL.Error() }
func (noID) Unwrap() error { return unix.EINVAL }

// appendNexthop appends the body of RTM_NEWNEXTHOP as the kernel dumps it. A
// request must have no scope: see nexthopRequest.
func appendNexthop(b []byte, n *netstate.Nexthop, links *indexes) ([]byte, error) {
	family := uint8(n.Family)
	left, header, err := parseUnknown(n.Unknown)
	if err != nil {
		return b, fmt.Errorf("next hop object: %w", err)
	}
	if n.Hop.Via.IsValid() {
		if err := checkFamily("gateway", n.Hop.Via, family); err != nil {
			return b, err
		}
	}
	if n.Hop.OnLink {
		header |= unix.RTNH_F_ONLINK
	}
	b = append(b, family, uint8(n.Scope), n.Protocol, 0)
	b = native.AppendUint32(b, header)
	if n.ID != 0 {
		b = putU32(b, nhaID, n.ID)
	}
	if len(n.Group) != 0 {
		if len(n.Group) > 0xffff/8-1 {
			return b, fmt.Errorf("a group of %d next hops: %w", len(n.Group), unix.E2BIG)
		}
		b = putHeader(b, nhaGroup, 8*len(n.Group))
		for _, g := range n.Group {
			w := max(g.Weight, 1) - 1
			b = native.AppendUint32(b, g.ID)
			b = append(b, uint8(w), uint8(w>>8), 0, 0)
		}
	}
	if n.Blackhole {
		b = put(b, nhaBlackhole, nil)
	}
	if n.FDB {
		b = put(b, nhaFDB, nil)
	}
	if n.Hop.Via.IsValid() {
		b = putAddr(b, nhaGateway, n.Hop.Via)
	}
	// A blackhole is on lo in a dump, and takes no device in a request.
	if n.Hop.Dev != "" && !n.Blackhole {
		index, err := links.of(n.Hop.Dev)
		if err != nil {
			return b, err
		}
		b = putU32(b, nhaOIF, uint32(index))
	}
	if b, err = appendHopRest(b, &n.Hop); err != nil {
		return b, err
	}
	return left.append(b), nil
}

// nexthopRequest turns what appendNexthop wrote at b[at:] into a request.
func nexthopRequest(b []byte, at int) { b[at+1] = 0 }
