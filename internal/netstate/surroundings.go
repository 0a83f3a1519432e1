package netstate

import "net/netip"

// Surroundings is what other programs hold beyond a State, as far as it tells
// who is there: no rules, only names.
type Surroundings struct {
	Chains []NftName // of all nftables tables but viarule's; iptables-nft's too
	Legacy []string  // the tables of the old iptables that are in use: "nat", "mangle"
	IPVS   bool      // IPVS has services in this namespace
	// LegacyForward is the chain FORWARD of the old iptables' table filter, of each
	// family in which that table is in use.
	LegacyForward []LegacyForward
}

// LegacyForward is the chain FORWARD of the old iptables' table filter, which is read
// as far as it matters, and never changed.
type LegacyForward struct {
	Family  Family
	Known   bool     // it could be read
	Drop    bool     // its policy is not ACCEPT
	In, Out []string // "via*": what it accepts by nothing but the name of the link
}

// NftName names a chain of a table, or with an empty Chain a table without any.
type NftName struct {
	Family string // ip, ip6, inet, arp, bridge, netdev
	Table  string
	Chain  string
}

// NeighKey names an entry of the neighbour table (ARP, NDP).
type NeighKey struct {
	Dev  string
	Addr netip.Addr
}

// NeighState is what the kernel knows of a neighbour.
type NeighState uint8

// The states, by what they mean for a gateway.
const (
	NeighUnknown NeighState = iota // nobody has asked, or the answer is still out
	NeighAnswers                   // it has answered, or was set by hand
	NeighSilent                    // it was asked and did not answer
)

// String gives unknown, answers or silent.
func (s NeighState) String() string {
	switch s {
	case NeighAnswers:
		return "answers"
	case NeighSilent:
		return "silent"
	}
	return "unknown"
}
