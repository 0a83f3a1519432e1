package kernel

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

const (
	addrHeader = 8  // struct ifaddrmsg
	ifaProto   = 11 // IFA_PROTO, Linux 5.18
)

// decodeAddr reads the body of RTM_NEWADDR. IFA_CACHEINFO is dropped: the
// lifetimes in it count down.
func (d *decoder) decodeAddr(r *netstate.Addr, b []byte) error {
	if len(b) < addrHeader {
		return fmt.Errorf("address: %w", errShort)
	}
	family, bits := b[0], b[1]
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return fmt.Errorf("address of family %d", family)
	}
	*r = netstate.Addr{
		Dev:   d.link(int32(native.Uint32(b[4:]))),
		Scope: netstate.Scope(b[3]),
		Flags: uint32(b[2]),
	}
	attrs, err := parseAttrs(b[addrHeader:])
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	var (
		left          unknown
		local, remote netip.Addr
		size          = addrSize(family)
	)
	for _, a := range attrs {
		known := true
		switch a.typ {
		case unix.IFA_LOCAL:
			known = a.addr(&local, size)
		case unix.IFA_ADDRESS:
			known = a.addr(&remote, size)
		case unix.IFA_BROADCAST:
			known = a.addr(&r.Broadcast, size)
		case unix.IFA_LABEL:
			r.Label = d.word(a.text())
		case unix.IFA_FLAGS:
			known = a.u32(&r.Flags)
		case unix.IFA_RT_PRIORITY:
			known = a.u32(&r.Metric)
		case ifaProto:
			known = a.u8(&r.Protocol)
		case unix.IFA_CACHEINFO:
		default:
			known = false
		}
		if !known {
			left.add(a)
		}
	}
	// Without a peer, IPv4 repeats the address in IFA_ADDRESS, and IPv6 has only that.
	if !local.IsValid() {
		local, remote = remote, netip.Addr{}
	}
	if r.Prefix, err = prefix(local, bits, family); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if remote.IsValid() && remote != local {
		r.Peer = netip.PrefixFrom(remote, int(bits))
	}
	r.Unknown = left.String()
	return nil
}

// appendAddr appends the body of RTM_NEWADDR.
func appendAddr(b []byte, r *netstate.Addr, links *indexes) ([]byte, error) {
	if !r.Prefix.IsValid() {
		return b, fmt.Errorf("address: none given: %w", unix.EINVAL)
	}
	family := uint8(netstate.FamilyOf(r.Prefix.Addr()))
	for _, a := range []netip.Addr{r.Peer.Addr(), r.Broadcast} {
		if err := checkFamily("address", a, family); err != nil {
			return b, err
		}
	}
	left, _, err := parseUnknown(r.Unknown)
	if err != nil {
		return b, fmt.Errorf("address: %w", err)
	}
	index, err := links.of(r.Dev)
	if err != nil {
		return b, err
	}
	b = append(b, family, length(r.Prefix), uint8(r.Flags), uint8(r.Scope))
	b = native.AppendUint32(b, uint32(index))
	b = putAddr(b, unix.IFA_LOCAL, r.Prefix.Addr())
	remote := r.Prefix.Addr()
	if r.Peer.IsValid() {
		remote = r.Peer.Addr()
	}
	b = putAddr(b, unix.IFA_ADDRESS, remote)
	if r.Broadcast.IsValid() {
		b = putAddr(b, unix.IFA_BROADCAST, r.Broadcast)
	}
	if r.Label != "" {
		b = putString(b, unix.IFA_LABEL, r.Label)
	}
	if r.Flags > 0xff {
		b = putU32(b, unix.IFA_FLAGS, r.Flags)
	}
	if r.Metric != 0 {
		b = putU32(b, unix.IFA_RT_PRIORITY, r.Metric)
	}
	if r.Protocol != 0 {
		b = putU8(b, ifaProto, r.Protocol)
	}
	if family == unix.AF_INET6 && r.Flags&unix.IFA_F_DEPRECATED != 0 {
		// There is no flag to ask for that, only a lifetime as the preferred one.
		b = put(b, unix.IFA_CACHEINFO, deprecated[:])
	}
	return left.append(b), nil
}

// deprecated is a struct ifa_cacheinfo: preferred for no time, valid for ever.
var deprecated = [...]byte{4: 0xff, 5: 0xff, 6: 0xff, 7: 0xff, 15: 0}
