package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

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

// ForgetConnections deletes the connections from and to each of the addresses: those of
// which it is the source of the first packet, or of the answers (so also those that were
// translated to it). A new owner of an address would inherit them, with their NAT. The
// kernel does the choosing (CTA_FILTER, Linux 5.8). A namespace without any connection,
// or whose kernel has no connection tracking loaded, costs one look at a sysctl; to ask
// ctnetlink would load it.
func (c *Conn) ForgetConnections(ctx context.Context, addrs []netip.Addr) error {
	n, err := c.ReadSysctl("net/netfilter/nf_conntrack_count")
	if n == "0" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = c.forgetConnections(ctx, addrs)
	}
	if err != nil {
		return fmt.Errorf("delete the connections of %v: %w", addrs, err)
	}
	return nil
}

func (c *Conn) forgetConnections(ctx context.Context, addrs []netip.Addr) error {
	n, err := c.openOther(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer n.drop()
	for _, a := range addrs {
		for _, dir := range []struct{ tuple, flags uint16 }{{ctaTupleOrig, ctaFilterOrig}, {ctaTupleReply, ctaFilterReply}} {
			if err := n.forget(ctx, a, dir.tuple, dir.flags); err != nil {
				return err
			}
		}
	}
	return nil
}

// forget deletes those of which an address is the source in one direction.
func (c *Conn) forget(ctx context.Context, a netip.Addr, tuple, flags uint16) error {
	header := []byte{unix.AF_INET6, unix.NFNETLINK_V0, 0, 0}
	src := uint16(ctaIPv6Src)
	if a.Is4() {
		header[0], src = unix.AF_INET, ctaIPv4Src
	}
	body := nest(header, nested(tuple), func(b []byte) []byte {
		return nest(b, nested(ctaTupleIP), func(b []byte) []byte { return put(b, src, a.AsSlice()) })
	})
	body = nest(body, nested(ctaFilter), func(b []byte) []byte { return putU32(b, flags, ctFilterSrc) })
	// An interrupted dump is no matter here: only what is gone or new by now is missing in it.
	list, _, err := c.dumpOnce(ctx, ctSubsystem|ctGet, ctSubsystem|ctNew, body, nil)
	if err != nil && !errors.Is(err, errInterrupted) {
		return err
	}
	return each(list, func(b []byte) error {
		if len(b) < genHeader {
			return errShort
		}
		attrs, err := parseAttrs(b[genHeader:])
		if err != nil {
			return err
		}
		// A kernel that does not know the filter shows all.
		of := readAttrs(readAttrs(attrList(attrs).get(tuple)).get(ctaTupleIP))
		if !bytes.Equal(of.get(src), a.AsSlice()) {
			return nil
		}
		del := append([]byte(nil), b[:genHeader]...)
		for _, x := range attrs {
			if x.typ == ctaTupleOrig || x.typ == ctaID || x.typ == ctaZone {
				del = pad(append(del, x.raw...))
			}
		}
		if _, err := c.ask(ctx, ctSubsystem|ctDelete, 0, del); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		return nil
	})
}
