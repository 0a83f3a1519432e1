package kernel

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

const (
	linkHeader = 16 // struct ifinfomsg

	ifNOARP     = unix.IFF_NOARP
	vethPeer    = 1 // VETH_INFO_PEER
	vlanID      = 1 // IFLA_VLAN_ID
	vrfTable    = 1 // IFLA_VRF_TABLE
	macvlanMode = 1 // IFLA_MACVLAN_MODE

	macvlanBridge = 4 // MACVLAN_MODE_BRIDGE
)

// rawLink is a link whose master and parent are still numbers: a dump names a
// port before its bridge.
type rawLink struct {
	netstate.Link
	master, parent int32
	// elsewhere: the parent's number is one of another namespace.
	elsewhere bool
}

// decodeLink reads the body of RTM_NEWLINK. Links are read and not compared
// whole, so what has no field is left out.
func decodeLink(l *rawLink, b []byte) error {
	if len(b) < linkHeader {
		return fmt.Errorf("link: %w", errShort)
	}
	hardware, flags := native.Uint16(b[2:]), native.Uint32(b[8:])
	*l = rawLink{Link: netstate.Link{
		Index:    int(int32(native.Uint32(b[4:]))),
		Up:       flags&unix.IFF_UP != 0,
		Carrier:  flags&unix.IFF_LOWER_UP != 0,
		Loopback: flags&unix.IFF_LOOPBACK != 0,
		NoARP:    flags&ifNOARP != 0,
	}}
	// Some sixty attributes, of which few are wanted: a list of them would be the largest
	// thing that a CNI program allocates.
	for rest := b[linkHeader:]; ; {
		a, r, ok, err := next(rest)
		if err != nil {
			return fmt.Errorf("link: %w", err)
		}
		if !ok {
			return nil
		}
		rest = r
		var v uint32
		switch a.typ {
		case unix.IFLA_IFNAME:
			l.Name = string(a.text())
		case unix.IFLA_ADDRESS:
			l.MAC = linkAddress(hardware, a.data())
		case unix.IFLA_MTU:
			a.u32(&l.MTU)
		case unix.IFLA_MASTER:
			if a.u32(&v) {
				l.master = int32(v)
			}
		case unix.IFLA_LINK:
			if a.u32(&v) {
				l.parent = int32(v)
			}
		case unix.IFLA_LINK_NETNSID:
			l.elsewhere = true
		case unix.IFLA_IFALIAS:
			l.Alias = string(a.text())
		case unix.IFLA_GROUP:
			a.u32(&l.Group)
		case unix.IFLA_LINKINFO:
			decodeLinkInfo(l, a)
		case unix.IFLA_PROP_LIST:
			names, _ := parseAttrs(a.data()) // a malformed rest names nothing
			for _, n := range names {
				if n.typ == unix.IFLA_ALT_IFNAME {
					l.AltNames = append(l.AltNames, string(n.text()))
				}
			}
		}
	}
}

func decodeLinkInfo(l *rawLink, info attr) {
	attrs, _ := parseAttrs(info.data())
	var data attr
	for _, a := range attrs {
		switch a.typ {
		case unix.IFLA_INFO_KIND:
			l.Kind = string(a.text())
		case unix.IFLA_INFO_DATA:
			data = a
		}
	}
	if data.raw == nil || l.Kind != "vlan" && l.Kind != "vrf" {
		return
	}
	attrs, _ = parseAttrs(data.data())
	for _, a := range attrs {
		switch {
		case l.Kind == "vlan" && a.typ == vlanID:
			a.u16(&l.VLAN)
		case l.Kind == "vrf" && a.typ == vrfTable:
			a.u32(&l.VRFTable)
		}
	}
}

// linkAddress prints a hardware address as `ip` does: those of IP tunnels are IP
// addresses (ARPHRD_TUNNEL, _SIT, _IPGRE, _TUNNEL6, _IP6GRE).
func linkAddress(hardware uint16, b []byte) string {
	switch hardware {
	case unix.ARPHRD_TUNNEL, unix.ARPHRD_SIT, unix.ARPHRD_IPGRE, unix.ARPHRD_TUNNEL6, unix.ARPHRD_IP6GRE:
		if len(b) == 4 || len(b) == 16 {
			return addrOf(b).String()
		}
	}
	text := make([]byte, 0, 3*len(b))
	for i := range b {
		if i > 0 {
			text = append(text, ':')
		}
		text = hex.AppendEncode(text, b[i:i+1])
	}
	return string(text)
}

// settleLinks names masters and parents, and teaches the decoder the names.
func (d *decoder) settleLinks(raw []rawLink) []netstate.Link {
	links := make([]netstate.Link, 0, len(raw))
	for i := range raw {
		d.names[int32(raw[i].Index)] = raw[i].Name
	}
	for i := range raw {
		l := raw[i].Link
		l.Master = d.link(raw[i].master)
		switch {
		case raw[i].elsewhere:
			l.Parent = fmt.Sprintf("if%d", uint32(raw[i].parent))
		case raw[i].parent != int32(l.Index): // some tunnels name themselves
			l.Parent = d.link(raw[i].parent)
		}
		links = append(links, l)
	}
	return links
}

// appendLink appends the body of RTM_NEWLINK: the fields of l that a request can
// set. Its kind's own data comes from data, when that is not nil.
func appendLink(b []byte, l *netstate.Link, links *indexes, data func([]byte) []byte) ([]byte, error) {
	var flags uint32
	if l.Up {
		flags |= unix.IFF_UP
	}
	if l.NoARP {
		flags |= ifNOARP
	}
	b = append(b, unix.AF_UNSPEC, 0)
	b = native.AppendUint16(b, 0)
	b = native.AppendUint32(b, uint32(int32(l.Index)))
	b = native.AppendUint32(b, flags)
	b = native.AppendUint32(b, flags) // ifi_change: only what is to be set
	if err := linkName(l.Name); err != nil {
		return b, err
	}
	b = putString(b, unix.IFLA_IFNAME, l.Name)
	if l.MAC != "" {
		mac, err := hardwareAddress(l.MAC)
		if err != nil {
			return b, err
		}
		b = put(b, unix.IFLA_ADDRESS, mac)
	}
	if l.MTU != 0 {
		b = putU32(b, unix.IFLA_MTU, l.MTU)
	}
	if l.Group != 0 {
		b = putU32(b, unix.IFLA_GROUP, l.Group)
	}
	for _, x := range []struct {
		typ  uint16
		name string
	}{{unix.IFLA_MASTER, l.Master}, {unix.IFLA_LINK, l.Parent}} {
		if x.name == "" {
			continue
		}
		index, err := links.of(x.name)
		if err != nil {
			return b, err
		}
		b = putU32(b, x.typ, uint32(index))
	}
	if l.Kind == "" {
		return b, nil
	}
	return nest(b, unix.IFLA_LINKINFO, func(b []byte) []byte {
		b = putString(b, unix.IFLA_INFO_KIND, l.Kind)
		if data == nil {
			return b
		}
		return nest(b, unix.IFLA_INFO_DATA, data)
	}), nil
}

// linkName refuses a name that the kernel would cut or misread.
func linkName(name string) error {
	if name == "" || len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, "/\x00 \t\n:") || name == "." || name == ".." {
		return fmt.Errorf("%q is no name for a link: %w", name, unix.EINVAL)
	}
	return nil
}

// hardwareAddress reads what linkAddress printed.
func hardwareAddress(s string) ([]byte, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return ip.AsSlice(), nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%q is no hardware address: %w", s, unix.EINVAL)
	}
	return b, nil
}
