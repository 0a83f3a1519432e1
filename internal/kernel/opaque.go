package kernel

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// Opaque lists what may decide about packets and cannot be read, sorted by kind,
// link and name:
//   - XDP programs of links;
//   - filters of traffic control at a link's way in or out, those that only choose a
//     class of a shaper included, and tcx programs;
//   - how many policies of IPsec there are, those of single sockets aside, and what
//     becomes of packets without one where that is not to pass;
//   - flowtables of nftables, once a link;
//   - bridges whose packets meet the chains of IP (bridge netfilter).
//
// Where this process may not look there is one with Unread set: for tcx, IPsec and
// nftables that takes root (CAP_NET_ADMIN in the first user namespace), and so do
// the names of the old iptables' tables. A subsystem that the kernel lacks has
// nothing. Not looked for are programs of control groups, of netkit links and of
// netfilter's own hook for BPF.
func (c *Conn) Opaque(ctx context.Context) ([]netstate.Opaque, error) {
	l := opaqueList{ctx: ctx, c: c, programs: map[uint32]string{}}
	for _, part := range []struct {
		what string
		read func() error
	}{
		{"links", l.readLinks}, {"traffic control", l.trafficControl}, {"tcx programs", l.tcx}, {"IPsec", l.ipsec},
		{"flowtables", l.flowtables}, {"bridge netfilter", l.bridgeNetfilter}, {"iptables", l.iptables},
	} {
		if err := part.read(); err != nil {
			return nil, fmt.Errorf("look for what decides about packets: %s: %w", part.what, err)
		}
	}
	slices.SortFunc(l.out, func(a, b netstate.Opaque) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Dev, b.Dev), strings.Compare(a.Name, b.Name))
	})
	return l.out, nil
}

// opaqueList collects what Opaque gives.
type opaqueList struct {
	ctx      context.Context
	c        *Conn
	links    []opaqueLink
	programs map[uint32]string // names of BPF programs
	out      []netstate.Opaque
}

// opaqueLink is what of a link matters here.
type opaqueLink struct {
	index int32
	name  string
	// bridge says that it is one, and nf which of the bridge's own switches of
	// bridge netfilter are on.
	bridge bool
	nf     []string
}

func (l *opaqueList) add(kind netstate.OpaqueKind, dev, format string, args ...any) {
	l.out = append(l.out, netstate.Opaque{Kind: kind, Dev: dev, Name: fmt.Sprintf(format, args...)})
}

// unread takes in an error that says that this process may not look; any other it
// gives back.
func (l *opaqueList) unread(kind netstate.OpaqueKind, what string, err error) error {
	if !errors.Is(err, fs.ErrPermission) { // EPERM and EACCES
		return err
	}
	l.out = append(l.out, netstate.Opaque{Kind: kind, Name: what + ": " + errnoText(unix.EPERM), Unread: true})
	return nil
}

// readLinks lists the links, and with them their XDP programs.
func (l *opaqueList) readLinks() error {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	body := putU32(make([]byte, linkHeader), unix.IFLA_EXT_MASK, skipStats)
	list, _, err := l.c.dump(l.ctx, "links", unix.RTM_GETLINK, unix.RTM_NEWLINK, body)
	if err != nil {
		return err
	}
	return each(list, func(b []byte) error {
		link, xdp, err := decodeOpaqueLink(b)
		if err != nil {
			return err
		}
		l.links = append(l.links, link)
		for _, id := range xdp {
			l.add(netstate.OpaqueXDP, link.name, "%s", l.program(id))
		}
		return nil
	})
}

// bridgeSwitches are the switches of bridge netfilter, by the last part of the
// sysctl for all bridges, and the attribute of a bridge's own.
var bridgeSwitches = []struct {
	sysctl string
	attr   uint16
}{
	{"bridge-nf-call-arptables", unix.IFLA_BR_NF_CALL_ARPTABLES},
	{"bridge-nf-call-ip6tables", unix.IFLA_BR_NF_CALL_IP6TABLES},
	{"bridge-nf-call-iptables", unix.IFLA_BR_NF_CALL_IPTABLES},
}

// decodeOpaqueLink reads the body of RTM_NEWLINK. The numbers of its XDP programs
// are 0 where the kernel says only that there is one.
func decodeOpaqueLink(b []byte) (l opaqueLink, xdp []uint32, err error) {
	var raw rawLink
	if err := decodeLink(&raw, b); err != nil {
		return l, nil, err
	}
	l = opaqueLink{index: int32(raw.Index), name: raw.Name, bridge: raw.Kind == "bridge"}
	attrs := readAttrs(b[linkHeader:])
	if l.bridge {
		data := readAttrs(readAttrs(attrs.get(unix.IFLA_LINKINFO)).get(unix.IFLA_INFO_DATA))
		for _, s := range bridgeSwitches {
			if v := data.get(s.attr); len(v) == 1 && v[0] != 0 {
				l.nf = append(l.nf, s.sysctl)
			}
		}
	}
	x := readAttrs(attrs.get(unix.IFLA_XDP))
	if mode := x.get(unix.IFLA_XDP_ATTACHED); len(mode) == 0 || mode[0] == 0 {
		return l, nil, nil
	}
	for _, a := range x {
		switch a.typ {
		case unix.IFLA_XDP_PROG_ID, unix.IFLA_XDP_DRV_PROG_ID, unix.IFLA_XDP_SKB_PROG_ID, unix.IFLA_XDP_HW_PROG_ID:
			if id := native32(a.data()); id != 0 && !slices.Contains(xdp, id) {
				xdp = append(xdp, id)
			}
		}
	}
	if len(xdp) == 0 {
		xdp = []uint32{0}
	}
	return l, xdp, nil
}

// bridgeNetfilter looks which bridges give their packets to the chains of IP: all,
// where the sysctl says so, and those with a switch of their own. Without the
// module br_netfilter there are no such sysctls, and the switches do nothing.
func (l *opaqueList) bridgeNetfilter() error {
	var all []string
	there := false
	for _, s := range bridgeSwitches {
		v, err := l.c.ReadSysctl("net/bridge/" + s.sysctl)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return l.unread(netstate.OpaqueBridgeNF, "bridge netfilter", err)
		}
		there = true
		if v != "0" {
			all = append(all, s.sysctl)
		}
	}
	for _, link := range l.links {
		if on := slices.Compact(slices.Sorted(slices.Values(slices.Concat(all, link.nf)))); there && link.bridge && len(on) > 0 {
			l.add(netstate.OpaqueBridgeNF, link.name, "%s", strings.Join(on, " "))
		}
	}
	return nil
}

// iptables looks whether the tables of the old iptables can be read; Surroundings
// has their names.
func (l *opaqueList) iptables() error {
	return inNamespace(l.c.ns, func() error {
		for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
			f, err := os.Open(netFiles + name)
			if err == nil {
				f.Close()
				continue
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return l.unread(netstate.OpaqueIptables, "its tables", err)
			}
		}
		return nil
	})
}

// flowtables lists those of all tables, and says whether nftables can be read.
func (l *opaqueList) flowtables() error {
	n, err := l.c.openNft()
	if err == nil {
		defer n.drop()
		err = n.nftListAll(l.ctx, "flowtables", unix.NFT_MSG_GETFLOWTABLE, unix.NFT_MSG_NEWFLOWTABLE, func(family uint8, a attrList) error {
			name := fmt.Sprintf("%s %s %s", nftFamily(family), a.text(nftaFlowtableTable), a.text(nftaFlowtableName))
			for _, dev := range flowtableLinks(a, l.links) {
				l.add(netstate.OpaqueFlowtable, dev, "%s", name)
			}
			return nil
		})
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return l.unread(netstate.OpaqueNft, "its tables", err)
	case nftAbsent(err):
		return nil
	}
	return err
}

// NFTA_FLOWTABLE_*, NFTA_FLOWTABLE_HOOK_DEVS and NFTA_DEVICE_*.
const (
	nftaFlowtableTable    = 1
	nftaFlowtableName     = 2
	nftaFlowtableHook     = 3
	nftaFlowtableHookDevs = 3
	nftaDeviceName        = 1
	nftaDevicePrefix      = 2 // "eth*", Linux 6.17; in 6.16 a name without its NUL
)

// flowtableLinks gives the links that a flowtable is bound to; one without any sees
// no packets. A link that is named in a way that is not known here may be any.
func flowtableLinks(a attrList, links []opaqueLink) (out []string) {
	for _, d := range readAttrs(readAttrs(a.get(nftaFlowtableHook)).get(nftaFlowtableHookDevs)) {
		switch {
		case d.typ == nftaDeviceName && bytes.HasSuffix(d.data(), []byte{0}):
			out = append(out, string(d.text()))
		case d.typ == nftaDevicePrefix || d.typ == nftaDeviceName:
			for _, l := range links {
				if strings.HasPrefix(l.name, string(d.text())) {
					out = append(out, l.name)
				}
			}
		default:
			out = append(out, "")
		}
	}
	return out
}
