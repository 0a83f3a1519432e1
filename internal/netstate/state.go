package netstate

import "net/netip"

// Link is a network device.
type Link struct {
	Index    int
	Name     string
	Kind     string // veth, bridge, vlan, vrf, dummy, ...; empty: a hardware device or lo
	MAC      string // as `ip` prints it; empty: none
	MTU      uint32
	Up       bool   // administratively (IFF_UP)
	Carrier  bool   // IFF_LOWER_UP
	Loopback bool   // IFF_LOOPBACK
	NoARP    bool   // IFF_NOARP
	Master   string // bridge or VRF that it is a port of
	Parent   string // link under a VLAN, macvlan, ...; "if7" where it is in another namespace
	Alias    string
	Group    uint32
	VLAN     uint16 // id, for Kind vlan
	VRFTable uint32 // for Kind vrf
	AltNames []string
}

// Addr is an address of a link.
type Addr struct {
	Dev       string
	Prefix    netip.Prefix // the address with the length of its subnet, not masked
	Peer      netip.Prefix // of a point-to-point address; zero: none
	Broadcast netip.Addr
	Scope     Scope
	Label     string
	Flags     uint32 // Addr*; tentative and deprecated change by themselves
	Protocol  uint8
	Metric    uint32 // of the subnet's route; 0: the kernel's default
	Unknown   string
}

// Flags of addresses (include/uapi/linux/if_addr.h, IFA_F_*). IPv4 has AddrSecondary
// where IPv6 has AddrTemporary.
const (
	AddrSecondary     uint32 = 0x01
	AddrTemporary     uint32 = 0x01
	AddrNoDAD         uint32 = 0x02
	AddrOptimistic    uint32 = 0x04
	AddrDADFailed     uint32 = 0x08
	AddrHome          uint32 = 0x10
	AddrDeprecated    uint32 = 0x20
	AddrTentative     uint32 = 0x40
	AddrPermanent     uint32 = 0x80
	AddrNoPrefixRoute uint32 = 0x200
)

// Checking says that duplicate address detection has not ended and the address is not
// to be used before: nothing may have it as its source (ipv6_chk_addr).
func (a *Addr) Checking() bool {
	return a.Flags&(AddrTentative|AddrOptimistic) == AddrTentative
}

// Nexthop is a next hop object (`ip nexthop`).
type Nexthop struct {
	ID        uint32
	Family    Family // 0 for a group
	Hop       Hop
	Blackhole bool
	Scope     Scope
	Protocol  uint8
	Group     []GroupHop
	FDB       bool
	Unknown   string
}

// GroupHop is a member of a next hop group.
type GroupHop struct {
	ID     uint32
	Weight uint16
}

// Sysctl is one value below /proc/sys, for example
// {"net/ipv4/conf/eth0.100/rp_filter", "2"}. Keys have slashes, since names of
// links have dots.
type Sysctl struct{ Key, Value string }

// State is what a namespace held at one instant. Rules stand in the kernel's
// order within a family, IPv4 first.
type State struct {
	Links    []Link
	Addrs    []Addr
	Rules    []Rule
	Routes   []Route
	Nexthops []Nexthop
	Nft      []NftTable     // viarule's own, sorted by name
	Forward  []ForwardChain // of others, sorted by name
}
