package kernelfake

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// sayable is what kernel.Conn refuses before it reaches a kernel, since no
// message can say it. Such a change ends its batch.
func (k *Kernel) sayable(ch *netstate.Change) error {
	set := ch.Objects()
	if set != 1 || ch.Verb < netstate.Add || ch.Verb > netstate.Delete {
		return fmt.Errorf("a change of %d objects with the verb %d: %w", set, ch.Verb, unix.EINVAL)
	}
	switch {
	case ch.Rule != nil:
		return sayableRule(ch.Rule, ch.Verb)
	case ch.Route != nil:
		return k.sayableRoute(ch.Route)
	case ch.Nexthop != nil:
		return k.sayableNexthop(ch.Nexthop, ch.Verb)
	case ch.Link != nil:
		return sayableLink(ch.Link, ch.Verb)
	case ch.Addr != nil:
		return k.sayableAddr(ch.Addr)
	case ch.Nft != nil:
		return sayableNft(ch.Nft, ch.Verb)
	case ch.Accept != nil:
		return sayableAccept(ch.Accept, ch.Verb)
	case ch.Verb != netstate.Replace:
		return fmt.Errorf("sysctl %s: it can only be replaced: %w", ch.Sysctl.Key, unix.EINVAL)
	}
	return nil
}

func sayableRule(r *netstate.Rule, verb netstate.Verb) error {
	switch {
	case verb == netstate.Replace:
		return fmt.Errorf("a rule cannot be replaced: %w", unix.EOPNOTSUPP)
	case r.Family != netstate.IPv4 && r.Family != netstate.IPv6:
		return unix.EAFNOSUPPORT
	case r.Action == netstate.ToTable && r.Table == 0 && !r.L3MDev:
		return fmt.Errorf("a look-up needs a table: %w", unix.EINVAL)
	case !ofFamily(r.Family, r.From.Addr(), r.To.Addr()), len(r.IIF) >= unix.IFNAMSIZ, len(r.OIF) >= unix.IFNAMSIZ:
		return unix.EINVAL
	}
	return wellFormed(r.Unknown)
}

func (k *Kernel) sayableRoute(r *netstate.Route) error {
	switch {
	case r.Family != netstate.IPv4 && r.Family != netstate.IPv6:
		return unix.EAFNOSUPPORT
	case r.Type == 0:
		return fmt.Errorf("a route needs a type: %w", unix.EINVAL)
	case !ofFamily(r.Family, r.To.Addr(), r.From.Addr(), r.Src):
		return unix.EINVAL
	}
	if err := wellFormed(r.Unknown); err != nil || r.NexthopID != 0 {
		return err
	}
	if len(r.Hops) == 0 {
		return k.sayableHop(&r.Hop)
	}
	for i := range r.Hops {
		if r.Hops[i].Weight > 256 {
			return unix.ERANGE
		}
		if err := k.sayableHop(&r.Hops[i]); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernel) sayableNexthop(n *netstate.Nexthop, verb netstate.Verb) error {
	switch {
	case n.ID == 0:
		return fmt.Errorf("a next hop object needs an id: %w", unix.EINVAL)
	case verb == netstate.Delete:
		return nil
	case !ofFamily(n.Family, n.Hop.Via):
		return unix.EINVAL
	}
	if err := wellFormed(n.Unknown); err != nil {
		return err
	}
	return k.sayableHop(&n.Hop)
}

// sayableHop needs the number of the link.
func (k *Kernel) sayableHop(h *netstate.Hop) error {
	if h.Dev != "" && k.link(h.Dev) == nil {
		return fmt.Errorf("no link named %s in this namespace: %w", h.Dev, unix.ENODEV)
	}
	return wellFormed(h.Unknown)
}

func ofFamily(f netstate.Family, addrs ...netip.Addr) bool {
	for _, a := range addrs {
		if a.IsValid() && (netstate.FamilyOf(a) != f || a.Zone() != "") {
			return false
		}
	}
	return true
}

// wellFormed says whether u is a run of netlink attributes.
func wellFormed(u string) error {
	for b := []byte(u); len(b) > 0; {
		if len(b) < 4 || len(b)%4 != 0 {
			return fmt.Errorf("unknown attributes are not well formed: %w", unix.EINVAL)
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return fmt.Errorf("unknown attributes are not well formed: %w", unix.EINVAL)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}
