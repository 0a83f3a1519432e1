package fib

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// The scopes of addresses (IPV6_ADDR_SCOPE_*).
const (
	scope6LinkLocal = 0x02
	scope6SiteLocal = 0x05
	scope6Global    = 0x0e
)

// address6 is an address with what RFC 6724 knows about it.
type address6 struct {
	netip.Addr
	scope int
	label label6
}

func newAddress6(a netip.Addr) address6 { return address6{a, scopeOf6(a), labelOf6(a)} }

// candidate6 is an address that may be a source.
type candidate6 struct {
	address6
	dev   string
	bits  int // of its prefix
	flags uint32
}

// candidates6 lists the addresses that may be a source, in the order in which the
// kernel tries them: link by link, and within a link as it lists them. It keeps
// links in the order in which they came to the namespace (for_each_netdev), which
// is taken to be that of the state.
func candidates6(s *netstate.State) []candidate6 {
	var all []candidate6
	for i := range s.Addrs {
		a := &s.Addrs[i]
		addr := a.Prefix.Addr()
		// A tentative address is not one of the host yet, an optimistic one is.
		if !addr.Is6() || a.Checking() || addr.IsUnspecified() || addr.IsMulticast() {
			continue
		}
		all = append(all, candidate6{newAddress6(addr), a.Dev, a.Prefix.Bits(), a.Flags})
	}
	at := make(map[string]int, len(s.Links))
	for i := range s.Links {
		at[s.Links[i].Name] = i - len(s.Links) // links that are not listed are 0, and last
	}
	slices.SortStableFunc(all, func(a, b candidate6) int { return cmp.Compare(at[a.dev], at[b.dev]) })
	return all
}

// merits6 are the results of the rules of RFC 6724, section 5, in the order of
// ipv6_get_saddr_eval: of two addresses that with the greater ones is the source.
type merits6 [10]int

func (c *candidate6) merits(dev string, to *address6) merits6 {
	// The smallest scope that is enough, else the largest.
	scope := c.scope
	if scope >= to.scope {
		scope = -scope
	} else {
		scope -= 128
	}
	special := c.IsLoopback() || c.label == labelMapped || c.label == labelCompatible // ipv6_saddr_preferred
	return merits6{
		oneIf(c.Addr == to.Addr), // IPV6_SADDR_RULE_LOCAL
		scope,                    // _SCOPE
		oneIf(special || c.flags&(netstate.AddrDeprecated|netstate.AddrOptimistic) == 0), // _PREFERRED
		oneIf(c.flags&netstate.AddrHome != 0),                                            // _HOA
		oneIf(dev == "" || c.dev == dev),                                                 // _OIF
		oneIf(c.label == to.label),                                                       // _LABEL
		oneIf(c.flags&netstate.AddrTemporary == 0),                                       // _PRIVACY
		oneIf((c.label == labelORCHID) == (to.label == labelORCHID)),                     // _ORCHID
		min(commonBits(c.Addr, to.Addr), c.bits),                                         // _PREFIX
		oneIf(c.flags&netstate.AddrOptimistic == 0),                                      // _NOT_OPTIMISTIC
	}
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

// choice6 holds the best of the addresses that were offered, of equals the first.
type choice6 struct {
	best    *candidate6
	merits  merits6
	offered int
}

// offer offers the addresses of the links that fit.
func (c *choice6) offer(all []candidate6, dev string, to *address6, fits func(dev string) bool) {
	for i := range all {
		a := &all[i]
		if !fits(a.dev) {
			continue
		}
		m := a.merits(dev, to)
		if c.best == nil || slices.Compare(m[:], c.merits[:]) > 0 {
			c.best, c.merits = a, m
		}
		c.offered++
	}
}

func (c *choice6) addr() netip.Addr {
	if c.best == nil {
		return netip.Addr{}
	}
	return c.best.Addr
}

// selectAddr6 is ipv6_dev_get_saddr: the source address of a packet without one that
// leaves by dev. It is the zero Addr where no address may be it; a socket gets
// EADDRNOTAVAIL then.
func (f *FIB) selectAddr6(dev string, addr netip.Addr) netip.Addr {
	var c choice6
	to := newAddress6(addr)
	own := func(d string) bool { return d == dev }
	if dev != "" && (to.IsMulticast() || to.scope <= scope6LinkLocal) {
		c.offer(f.candidates, dev, &to, own)
		return c.addr()
	}
	master := f.vrfOf(dev)
	if master != "" {
		// The link's own addresses come first, and then those of its VRF.
		c.offer(f.candidates, dev, &to, own)
		c.offer(f.candidates, dev, &to, func(d string) bool { return d == master }) // once more, where it is the link
		if c.offered == 1 {
			// The kernel goes on to the rest of the VRF, but not where what it found
			// has a scope of 0 or more, which no address has (they count as negative).
			// The scope of a single address was not looked at yet and is 0, where the
			// kernel's stack begins as zeros (CONFIG_INIT_STACK_ALL_ZERO), as in
			// distributions.
			return c.addr()
		}
	}
	c.offer(f.candidates, dev, &to, func(d string) bool { return f.vrfOf(d) == master })
	return c.addr()
}

// Masquerade is the source that nftables' masquerade gives a packet to to that leaves
// by dev and the gateway via (nf_nat_masquerade_ipv4 and _ipv6,
// net/netfilter/nf_nat_masquerade.c). The zero Addr: there is none, and the packet
// is dropped.
func (f *FIB) Masquerade(dev string, via, to netip.Addr) netip.Addr {
	switch {
	case to.Is6():
		return f.selectAddr6(dev, to)
	case via.Is4():
		to = via
	}
	return f.selectAddr(dev, to, netstate.ScopeGlobal)
}

// vrfOf is the VRF that a link is, or is a port of; empty: none.
func (f *FIB) vrfOf(dev string) string {
	if l := f.links[dev]; l != nil && l.vrf != nil {
		return l.vrf.Name
	}
	return ""
}

// source6 is ip6_route_get_saddr: the source address that a packet without one gets
// by a route with the source src, or with none, and the link dev.
func (w *walk) source6(src netip.Addr, dev string) netip.Addr {
	switch {
	case w.flow.From.IsValid():
		return w.flow.From
	case w.flow.IIF != "":
		return netip.Addr{}
	case w.leavesVRF(dev):
		return w.fib.selectAddr6(w.vrf.Name, w.flow.To)
	case src.IsValid():
		return src
	}
	return w.fib.selectAddr6(dev, w.flow.To)
}

// scopeOf6 is the scope of an address (__ipv6_addr_type).
func scopeOf6(a netip.Addr) int {
	switch b := a.As16(); {
	case a.IsMulticast():
		return int(b[1] & 0x0f)
	case a.IsLoopback(), a.IsLinkLocalUnicast():
		return scope6LinkLocal
	case b[0] == 0xfe && b[1]&0xc0 == 0xc0:
		return scope6SiteLocal
	case a.IsUnspecified():
		return -1
	}
	return scope6Global
}

// label6 is a label of the kernel's default table, which differs from RFC 6724's.
type label6 uint8

const (
	labelCompatible label6 = 3
	labelMapped     label6 = 4
	labelORCHID     label6 = 7
)

// labels6 is ip6addrlbl_init_table of net/ipv6/addrlabel.c, the longest prefix first.
var labels6 = []struct {
	prefix netip.Prefix
	label  label6
}{
	{netip.MustParsePrefix("::1/128"), 0},
	{netip.MustParsePrefix("::/96"), labelCompatible},
	{netip.MustParsePrefix("::ffff:0:0/96"), labelMapped},
	{netip.MustParsePrefix("2001::/32"), 6},
	{netip.MustParsePrefix("2001:10::/28"), labelORCHID},
	{netip.MustParsePrefix("3ffe::/16"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("fec0::/10"), 11},
	{netip.MustParsePrefix("fc00::/7"), 5},
}

func labelOf6(a netip.Addr) label6 {
	for i := range labels6 {
		if labels6[i].prefix.Contains(a) {
			return labels6[i].label
		}
	}
	return 1 // ::/0
}

// commonBits is ipv6_addr_diff: how many bits two addresses begin with alike.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	if d := binary.BigEndian.Uint64(x[:]) ^ binary.BigEndian.Uint64(y[:]); d != 0 {
		return bits.LeadingZeros64(d)
	}
	return 64 + bits.LeadingZeros64(binary.BigEndian.Uint64(x[8:])^binary.BigEndian.Uint64(y[8:]))
}
