package netstate

import "net/netip"

// Rule is one entry of a namespace's rule list (`ip rule`). It is comparable:
// two rules are the same exactly when they are ==. The zero value is not a
// valid rule: Family and Action must be set.
//
// Flags that the kernel derives (unresolved, detached) are left out: they
// follow from the other rules and the links.
type Rule struct {
	Family   Family
	Priority uint32
	Not      bool

	From   netip.Prefix // the zero Prefix selects all; bits 0 is never stored
	To     netip.Prefix
	IIF    string
	OIF    string
	Mark   Mark
	Proto  uint8 // ipproto; 0: any
	SPort  PortRange
	DPort  PortRange
	TOS    uint8 // the TOS selector; excludes DSCP
	DSCP   Opt   // the DSCP selector, 0 to 63 (Linux 6.12)
	UID    UIDRange
	TunID  uint64
	L3MDev bool // the table of the packet's VRF; Table is 0 then

	Action Action
	Table  uint32 // for ToTable
	Goto   uint32 // priority of the target, for Goto
	Realms uint32 // FRA_FLOW: from realm << 16 | to realm

	SuppressPrefixLength Opt // routes of this length or shorter do not count
	SuppressIfGroup      Opt // routes by a link of this group do not count

	Protocol uint8 // who made the rule: ProtocolObject, ... ; 0: not said

	// Unknown holds, in the kernel's encoding and sorted by type, the
	// attributes that have no field here.
	Unknown string
}

// Action says what a rule does with a packet that it selects. The numbers are
// the kernel's FR_ACT_*.
type Action uint8

// The rule actions.
const (
	ToTable     Action = 1
	Goto        Action = 2
	Nop         Action = 3
	Blackhole   Action = 6 // drop, no answer
	Unreachable Action = 7 // network unreachable
	Prohibit    Action = 8 // communication prohibited
)

// Mark selects packets by their mark: (mark & Mask) == Value. The zero value
// selects by nothing. Canonical form: a Value without a Mask has the mask
// 0xffffffff.
type Mark struct{ Value, Mask uint32 }

// PortRange is an inclusive range of ports; the zero value is no selector.
type PortRange struct{ Lo, Hi uint16 }

// UIDRange is an inclusive range of user ids; the zero value is no selector.
type UIDRange struct {
	Set    bool
	Lo, Hi uint32
}

// Opt is a number that may be absent.
type Opt struct {
	Set bool
	Val uint32
}

// Some returns v as a present Opt.
func Some(v uint32) Opt { return Opt{Set: true, Val: v} }

// Protocol numbers: the kernel's own marks, and those by which viarule knows its own
// rules and routes again.
const (
	ProtocolKernel uint8 = 2   // the kernel, by itself (RTPROT_KERNEL)
	ProtocolRA     uint8 = 9   // the kernel, from router advertisements (RTPROT_RA)
	ProtocolObject uint8 = 118 // made for an object (RoutingPolicy, ...)
	ProtocolCNI    uint8 = 119 // made by a CNI plugin
	ProtocolBGP    uint8 = 120 // learned by BGP
)

// Tables that every namespace has.
const (
	TableDefault uint32 = 253
	TableMain    uint32 = 254
	TableLocal   uint32 = 255
)
