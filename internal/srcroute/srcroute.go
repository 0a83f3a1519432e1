// Package srcroute works out how a pod's interface is routed by source: what a pod
// sends from an address of the interface leaves by it and its gateway. From an
// attachment, what was configured for it, and what its namespace holds it gives the
// rules and routes to stand, and what is to change in table main (Build).
//
// It is pure; docs/design/sbr.md says why it does what it does.
package srcroute

import (
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// The tables and priorities of the two ways.
const (
	FirstTable    uint32 = 100 // as the reference plugin has it, up to LastTable
	LastTable     uint32 = 1<<31 - 1
	FirstOwnTable uint32 = 5000 // viarule's pool, up to LastOwnTable
	LastOwnTable  uint32 = 5999
	OwnPriority   uint32 = 2900 // in viarule's band, up to lastOwnPriority

	LastPriority    uint32 = 32765 // before the kernel's rule for main
	lastOwnPriority uint32 = 2999
)

// MaxRules is how many rules in the kernel an attachment may have.
const MaxRules = 4096

// Attachment is an interface of a pod with what it was given.
type Attachment struct {
	Dev   string
	Addrs []Address
}

// Address is an address of the interface and the gateway that goes with it.
type Address struct {
	Prefix  netip.Prefix // the address with the length of its network
	Gateway netip.Addr   // zero: none was said
}

func (a *Address) addr() netip.Addr        { return a.Prefix.Addr() }
func (a *Address) family() netstate.Family { return netstate.FamilyOf(a.Prefix.Addr()) }

// Config is what was configured.
type Config struct {
	// Own is viarule-sbr's way; without it all is as the reference plugin does it.
	Own          bool
	Table        uint32       // that the rules look into; 0: one is filled for each address
	Gateways     []netip.Addr // at most one of each family; in place of the addresses' own
	SourceHints  bool         // without Own: connected routes stay in main, with a source
	InferGateway bool         // an address without a gateway gets its network's first address
	Rules        []spec.Rule  // Action 0: look into the attachment's table
	Routes       []spec.Route // without Dev and Nexthops: by the interface
	Priority     uint32       // of the rules for the addresses; 0: see Facts.Priority and OwnPriority
	VRF          string       // the interface is a port of this VRF, and no rule selects a source
	StrictRP     bool         // strict reverse path filter
}

// Fills says how many free tables the attachment needs; vrf is Facts.VRF.
func (c *Config) Fills(a *Attachment, vrf *netstate.Link) int {
	switch {
	case c.Table != 0 || vrf != nil:
		return 0
	case c.VRF != "":
		return 1
	}
	return len(a.Addrs)
}

// Facts are what Build has to know of the namespace.
type Facts struct {
	Free []uint32 // as many free tables as Fills says
	// Main are the routes of table main by the interface.
	Main []netstate.Route
	// Shared are the keys that other routes of main have too, by whatever link. Only
	// source hints need them.
	Shared map[netstate.RouteKey]bool
	// Sources are the addresses that a route may have as its source now. Only source hints
	// and a VRF need them.
	Sources map[netip.Addr]bool
	// Priority is what the kernel gives to a rule without one, by family as in
	// netstate.Families.
	Priority [2]uint32
	// LooseForAll says that net/ipv4/conf/all/rp_filter is 2. Only StrictRP needs it.
	LooseForAll bool

	// Only a VRF needs these.
	Link  *netstate.Link   // the interface
	VRF   *netstate.Link   // the link that has the VRF's name; nil: there is none
	Addrs []netstate.Addr  // of the interface
	InVRF []netstate.Route // in the table that the VRF has or shall have
}

// Want is what shall stand for an attachment.
type Want struct {
	Tables []uint32 // that it fills; nobody else uses them, but other ports of the VRF
	Rules  []netstate.Rule
	Routes []netstate.Route // in the order in which the kernel takes them
	Main   []Edit           // in the order in which they are to be done
	// VRF is the one to make, or to set up once more, since it is ours; nil: none, or
	// somebody else's.
	VRF *netstate.Link
	// Enter says that the interface is to become a port. Main is done before that, and
	// Addrs are to be taken away before and put back after it.
	Enter bool
	Addrs []netstate.Addr
	// Sysctls are values that the interface needs.
	Sysctls []netstate.Sysctl
}

// Edit is a change in table main: a route becomes another of the same key, comes (Old
// is nil), or goes (New is nil).
type Edit struct{ Old, New *netstate.Route }

// Error is something wrong with what was configured.
type Error struct {
	Key  string // "gateways[0]"
	What string
	Do   string // may be empty
}

// Error is `key: what; do`.
func (e *Error) Error() string {
	s := e.Key + ": " + e.What
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s
}
