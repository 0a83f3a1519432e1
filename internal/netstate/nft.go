package netstate

import (
	"net/netip"
	"slices"
)

// NftTable is one of viarule's own nftables tables, of the family inet or netdev. A State
// holds no other tables: those of others are read in their own notation, if at
// all, and never changed.
//
// Canonical form: maps and chains are sorted by name, the elements of a map by
// First, or by Link, and they do not overlap.
type NftTable struct {
	Name   string
	Netdev bool // of the family netdev: its chains see what comes in by one link, before all else
	Maps   []NftMap
	Chains []NftChain
	// Unknown holds what stands in the table and has no field here (an object, a
	// set of another type, a flowtable), in words. Such a table is never equal to
	// a wanted one.
	Unknown string
}

// The names of viarule's tables. A State holds only that of objects.
const (
	NftTableObjects = "viarule"
	NftTableCNI     = "viarule_cni" // of the CNI plugins
)

// NftMap is a verdict map: it sends packets to chains by an address, of the map's
// family, or, where that is 0, by the name of a link.
type NftMap struct {
	Name   string
	Family Family
	Elems  []NftElem
}

// NftElem is an interval of addresses, both ends included, or a link; and the chain
// that packets go to (goto).
type NftElem struct {
	First, Last netip.Addr
	Link        string
	Chain       string
}

// NftChain is a chain. One without a Hook is reached by a jump or a map only.
type NftChain struct {
	Name  string
	Hook  NftHook
	Rules []NftRule
}

// NftHook is where a base chain sees packets; the zero value is none. The policy
// of all is accept.
type NftHook struct {
	Type     string // filter; route: a changed mark has the packet routed again; nat: a connection's first packet only
	Hook     string // prerouting, input, forward, output, postrouting; ingress of a link
	Device   string // of the hook ingress: the link's name
	Priority int32
}

// The priorities of well-known chains (include/uapi/linux/netfilter_ipv4.h,
// NF_IP_PRI_*), by the names that nft has for them.
const (
	NftMangle int32 = -150
	NftDstNAT int32 = -100
	NftFilter int32 = 0
	NftSrcNAT int32 = 100
)

// NftRule is the statements of one rule, from left to right: the first match
// that fails ends the rule.
type NftRule []NftStmt

// NftStmt is a match, a change or a verdict. It is comparable.
type NftStmt struct {
	Op     NftOp
	Link   string // for the ops about links
	Family Family // for the maps: only packets of this family are looked at
	Name   string // of the map or the chain
	Mark   Mark   // see the ops
	Prefix netip.Prefix
	// Unknown is, for NftUnknown, the name of the expression and its attributes in
	// the kernel's encoding.
	Unknown string
}

// NftOp is what a statement does.
type NftOp uint8

// The statements, with how nft writes them.
const (
	NftUnknown     NftOp = iota // an expression that viarule does not know; never sent
	NftIIFName                  // iifname "Link"
	NftNotIIF                   // iifname != "Link"
	NftDAddrMap                 // ip daddr vmap @Name, or ip6
	NftSAddrMap                 // ip saddr vmap @Name, or ip6
	NftOrigMap                  // ct original ip daddr vmap @Name, or ip6: where the connection's first packet went
	NftOriginal                 // ct direction original
	NftReply                    // ct direction reply
	NftIfCtMark                 // ct mark and Mask == Value
	NftIfNotCtMark              // ct mark and Mask != Value
	NftIfMark                   // meta mark and Mask == Value
	NftIfNotMark                // meta mark and Mask != Value
	NftSetCtMark                // ct mark set ct mark and ^Mask or Value
	NftSetMark                  // meta mark set meta mark and ^Mask or Value
	NftFibMissing               // fib saddr . mark . iif oif missing: no way back by the link
	NftMasquerade               // masquerade: the connection leaves with an address of the link
	NftJump                     // jump Name
	NftReturn                   // return
	NftDrop                     // drop
	NftIIFMap                   // iifname vmap @Name
	NftDAddr                    // ip daddr Prefix, or ip6
	NftSAddr                    // ip saddr ADDRESS, or ip6, in a table of the family netdev; Prefix is of one address
	NftARPSAddr                 // arp saddr ip ADDRESS: whom the sender of ARP says to be; so too
	NftOIFName                  // oifname "Link"
	NftNotOIF                   // oifname != "Link"
	NftIIFPrefix                // iifname "Link*": the name begins so
	NftOIFPrefix                // oifname "Link*"
	NftAccept                   // accept
	NftReject                   // reject, with whatever answer
	NftGoto                     // goto Name
	NftCtState                  // ct state established,related: one of the bits of Mark.Mask
)

// Tracks says whether the table has the kernel track connections: it loads that for
// `ct` and for masquerade (nf_ct_netns_get, net/netfilter/nft_ct.c and nft_masq.c).
func (t *NftTable) Tracks() bool {
	return slices.ContainsFunc(t.Chains, func(c NftChain) bool {
		return slices.ContainsFunc(c.Rules, func(r NftRule) bool {
			return slices.ContainsFunc(r, func(s NftStmt) bool {
				switch s.Op {
				case NftOrigMap, NftOriginal, NftReply, NftIfCtMark, NftIfNotCtMark, NftSetCtMark, NftCtState, NftMasquerade:
					return true
				}
				return false
			})
		})
	})
}

// Equal says whether the two tables are the same to the last statement.
func (t *NftTable) Equal(o *NftTable) bool {
	return t.Name == o.Name && t.Netdev == o.Netdev && t.Unknown == o.Unknown &&
		slices.EqualFunc(t.Maps, o.Maps, func(a, b NftMap) bool {
			return a.Name == b.Name && a.Family == b.Family && slices.Equal(a.Elems, b.Elems)
		}) &&
		slices.EqualFunc(t.Chains, o.Chains, func(a, b NftChain) bool {
			return a.Name == b.Name && a.Hook == b.Hook &&
				slices.EqualFunc(a.Rules, b.Rules, func(x, y NftRule) bool { return slices.Equal(x, y) })
		})
}
