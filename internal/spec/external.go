package spec

import (
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// ExternalNetwork is a network whose gateway is not the node's default one: what
// comes in by it is answered through it.
type ExternalNetwork struct {
	Interface Interface
	Addresses []Addresses // at least one
	Gateways  []Gateway   // in the order in which they are tried; none: the addresses are on the link
	Table     TableRef    // zero: allocate one
	Priority  netstate.Opt
	// Mark is the packet mark; zero: choose one. Without a written mask it has
	// the bits of its value as mask, so that it touches no others.
	Mark              netstate.Mark
	ReturnPath        ReturnPath
	ClusterCIDRs      []netip.Prefix
	ReversePathFilter ReversePathFilter
	StrictARP         bool
	Spread            bool // all gateways of a family at once

	// Keys says where the keys of spec that are written stand, for messages:
	// "table", "interface.vlan.id", "clusterCIDRs[0]", and "" for spec itself.
	Keys map[string]Pos
}

// Bounds of the numbers.
const (
	// MaxVLAN: 4095 is reserved (IEEE 802.1Q), 0 is no VLAN.
	MaxVLAN = 4094
	// MaxOwnPriority is the last one before the kernel's rule for main: behind it
	// no packet would come by. All rules of an object share one priority.
	MaxOwnPriority = 32765
)

// Interface says which link an ExternalNetwork is on: by Name, or by Match.
type Interface struct {
	Name  string
	VLAN  *VLAN // make the link Name
	Match *LinkMatch
}

// VLAN is a VLAN link that viarule makes.
type VLAN struct {
	Parent string
	ID     uint16 // 1 to 4094
}

// LinkMatch picks a link by what it is; all that is written must fit.
type LinkMatch struct {
	MAC    string       // as `ip` prints it
	Subnet netip.Prefix // an address of the link is in it
}

// Addresses is a prefix or a range of addresses of one family.
type Addresses struct {
	First, Last netip.Addr
	Prefix      netip.Prefix // not valid where a range was written
	Pos         Pos
}

// Gateway is the address of a router.
type Gateway struct {
	Addr netip.Addr
	Pos  Pos
}

// ReturnPath says how an answer finds the way that the request came.
type ReturnPath uint8

// The return paths.
const (
	ReturnAuto           ReturnPath = iota
	ReturnSourceRule                // rules by source address
	ReturnConnectionMark            // a mark that is saved on the connection
)

// ReversePathFilter says what becomes of the kernel's reverse path filter.
type ReversePathFilter uint8

// What becomes of it.
const (
	FilterKeep     ReversePathFilter = iota // stays as it is
	FilterLoose                             // any way back will do
	FilterDisabled                          // off
	FilterExempt                            // off for the addresses, checked by nftables for all others
)
