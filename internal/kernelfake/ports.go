package kernelfake

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// setMaster makes a link a port. Where it enters or leaves a VRF the kernel takes it
// down and up: the routes by it go, and its addresses of IPv6.
func (k *Kernel) setMaster(l *netstate.Link, master string) error {
	var to *netstate.Link
	if master != "" {
		if to = k.link(master); to == nil {
			return fmt.Errorf("no link named %s in this namespace: %w", master, unix.ENODEV)
		}
		switch {
		case to.Kind != "vrf" && to.Kind != "bridge":
			return unix.EOPNOTSUPP
		case to == l, to.Kind == "vrf" && l.Kind == "vrf", l.Loopback:
			return unix.EINVAL
		}
	}
	from := k.link(l.Master)
	if from == to {
		return nil
	}
	l.Master = master
	if from != nil && from.Kind == "vrf" || to != nil && to.Kind == "vrf" {
		k.dropRoutes(l.Name)
		k.addrs = slices.DeleteFunc(k.addrs, func(a netstate.Addr) bool { return a.Dev == l.Name && a.Prefix.Addr().Is6() })
	}
	return nil
}

func (k *Kernel) sayableAddr(a *netstate.Addr) error {
	switch {
	case !a.Prefix.IsValid():
		return unix.EINVAL
	case !a.Prefix.Addr().Is6():
		return fmt.Errorf("a change of an address that is not IPv6: %w", unix.EAFNOSUPPORT)
	case a.Dev == "" || k.link(a.Dev) == nil:
		return fmt.Errorf("no link named %s in this namespace: %w", a.Dev, unix.ENODEV)
	case !ofFamily(netstate.IPv6, a.Peer.Addr(), a.Broadcast):
		return unix.EINVAL
	}
	return wellFormed(a.Unknown)
}

// changeAddr tells the addresses of a link apart without the length of their networks,
// as the kernel does (ipv6_add_addr); it deletes with the length.
func (k *Kernel) changeAddr(verb netstate.Verb, a netstate.Addr) error {
	at := slices.IndexFunc(k.addrs, func(o netstate.Addr) bool { return o.Dev == a.Dev && o.Prefix.Addr() == a.Prefix.Addr() })
	a.Flags |= unix.IFA_F_PERMANENT
	switch {
	case verb == netstate.Delete && (at < 0 || k.addrs[at].Prefix != a.Prefix):
		return unix.EADDRNOTAVAIL
	case verb == netstate.Delete:
		k.addrs = slices.Delete(k.addrs, at, at+1)
	case at < 0:
		k.addrs = append(k.addrs, a)
	case verb == netstate.Add:
		return unix.EEXIST
	default:
		a.Prefix = k.addrs[at].Prefix
		k.addrs[at] = a
	}
	return nil
}
