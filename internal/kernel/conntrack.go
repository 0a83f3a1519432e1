package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Numbers of ctnetlink (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const (
	ctSubsystem = unix.NFNL_SUBSYS_CTNETLINK << 8
	ctNew       = 0 // IPCTNL_MSG_CT_NEW
	ctGet       = 1 // IPCTNL_MSG_CT_GET
	ctDelete    = 2 // IPCTNL_MSG_CT_DELETE

	ctaTupleOrig   = 1
	ctaTupleReply  = 2
	ctaID          = 12
	ctaZone        = 18
	ctaFilter      = 25
	ctaTupleIP     = 1
	ctaIPv4Src     = 1
	ctaIPv6Src     = 3
	ctaFilterOrig  = 1
	ctaFilterReply = 2
	// ctFilterSrc is CTA_FILTER_F_CTA_IP_SRC of net/netfilter/nf_conntrack_netlink.c: of a tuple
	// only the source is compared.
	ctFilterSrc = 1
)

// fewConnections is up to how many it is cheaper to be shown all than to have the kernel
// choose: it walks its whole table for each question, some 6 ms where that has 262144 buckets.
const fewConnections = 20_000

// ForgetConnections deletes the connections from and to each of the addresses: those of
// which it is the source of the first packet, or of the answers (so also those that were
// translated to it). A new owner of an address would inherit them, with their NAT. A
// namespace without any connection, or whose kernel has no connection tracking loaded, costs
// one look at a sysctl; to ask ctnetlink would load it.
func (c *Conn) ForgetConnections(ctx context.Context, addrs []netip.Addr) error {
	text, err := c.ReadSysctl("net/netfilter/nf_conntrack_count")
	if text == "0" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	count := 0
	if err == nil {
		count, err = strconv.Atoi(text)
	}
	if err == nil {
		err = c.forgetConnections(ctx, addrs, count > fewConnections)
	}
	if err != nil {
		return fmt.Errorf("delete the connections of %v: %w", addrs, err)
	}
	return nil
}

func (c *Conn) forgetConnections(ctx context.Context, addrs []netip.Addr, many bool) error {
	n, err := c.openOther(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer n.drop()
	if !many {
		return n.forget(ctx, unix.AF_UNSPEC, nil, addrs)
	}
	six := false
	for _, a := range addrs {
		if a.Is6() {
			six = true
			continue
		}
		for _, dir := range []struct{ tuple, flags uint16 }{{ctaTupleOrig, ctaFilterOrig}, {ctaTupleReply, ctaFilterReply}} {
			filter := nest(nil, nested(dir.tuple), func(b []byte) []byte {
				return nest(b, nested(ctaTupleIP), func(b []byte) []byte { return putAddr(b, ctaIPv4Src, a) })
			})
			filter = nest(filter, nested(ctaFilter), func(b []byte) []byte { return putU32(b, dir.flags, ctFilterSrc) })
			if err := n.forget(ctx, unix.AF_INET, filter, addrs); err != nil {
				return err
			}
		}
	}
	if !six {
		return nil
	}
	// Without a filter: Linux 6.18 shows all of IPv6 but those that it names
	// (ctnetlink_filter_match_tuple takes ipv6_addr_cmp for a truth value).
	return n.forget(ctx, unix.AF_INET6, nil, addrs)
}

// forget deletes, of what the kernel shows of a family, the connections of which one of the addresses
// is the source in one of the directions.
func (c *Conn) forget(ctx context.Context, family uint8, filter []byte, addrs []netip.Addr) error {
	var found [][]byte
	body := append([]byte{family, unix.NFNETLINK_V0, 0, 0}, filter...)
	_, err := c.stream(ctx, ctSubsystem|ctGet, ctSubsystem|ctNew, body, func(m []byte) error {
		b := m[messageHeader:]
		if len(b) < genHeader {
			return errShort
		}
		attrs := readAttrs(b[genHeader:])
		for _, tuple := range []uint16{ctaTupleOrig, ctaTupleReply} {
			ip := readAttrs(readAttrs(attrs.get(tuple)).get(ctaTupleIP))
			src := ip.get(ctaIPv4Src)
			if src == nil {
				src = ip.get(ctaIPv6Src)
			}
			a, ok := netip.AddrFromSlice(src)
			if ok && slices.Contains(addrs, a) {
				found = append(found, connection(b[:genHeader], attrs))
				break
			}
		}
		return nil
	})
	// An interrupted dump is no matter here: only what is gone or new by now is missing in it.
	if err != nil && !errors.Is(err, errInterrupted) {
		return err
	}
	for _, del := range found {
		if _, err := c.ask(ctx, ctSubsystem|ctDelete, 0, del); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// connection is what names one connection.
func connection(header []byte, attrs attrList) []byte {
	b := append([]byte(nil), header...)
	for _, x := range attrs {
		if x.typ == ctaTupleOrig || x.typ == ctaID || x.typ == ctaZone {
			b = pad(append(b, x.raw...))
		}
	}
	return b
}
