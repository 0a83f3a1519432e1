package lab

import (
	"net/netip"
	"slices"
	"time"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// Lab is one parsed and validated lab file.
type Lab struct {
	// Name tells labs apart that are up at the same time. A caller may change it
	// to a name that ValidName accepts before it calls Up, to have one file twice.
	Name   string
	File   string // as the user named it
	Hosts  []Host
	Links  []Link
	Checks []Check
}

// Host is a namespace.
type Host struct {
	Name       string
	Forwarding bool // forwards packets, IPv4 and IPv6
	Sysctls    []netstate.Sysctl
	Addresses  []netip.Prefix // of its loopback link
	Routes     []netstate.Route
	Rules      []netstate.Rule
	Firewall   Firewall
	Objects    []Objects
	Made       []Link // that the objects make: nothing for the lab to build, but checks may name them
	Pos        spec.Pos
}

// Objects is one text of viarule objects for a host.
type Objects struct {
	// File is what errors shall name: the lab file for objects that stand in it,
	// else the file itself.
	File string
	// Text is YAML. For objects that stand in the lab file it begins with as many
	// empty lines as stand before them there, so that the line numbers are right.
	Text []byte
}

// Firewall is what a host filters and translates. The zero value is nothing.
type Firewall struct {
	Forward    *Forward
	Masquerade []string // links by which packets leave with the link's address
	DNAT       []DNAT
}

// Forward is a stateful filter of what a host forwards: a connection may begin
// only by the links in NewFrom, packets of a known connection pass, everything
// else is dropped without an answer.
type Forward struct {
	NewFrom []string
}

// DNAT sends what comes in for an address and port to another one.
type DNAT struct {
	In     string // link; empty: any
	To     netip.Addr
	Proto  Proto // TCP or UDP; empty: everything
	Port   uint16
	ToAddr netip.Addr
	ToPort uint16 // 0: the same port
	Output bool   // what the host itself sends as well
	// Masquerade has the server see an address of this host instead of the
	// client's, by way of kube-proxy's mark.
	Masquerade bool
	Pos        spec.Pos
}

// LinkKind is a kind of link.
type LinkKind string

// The kinds of links.
const (
	Veth   LinkKind = "veth"
	Bridge LinkKind = "bridge"
	VLAN   LinkKind = "vlan"
	VRF    LinkKind = "vrf"
)

// Link is a veth pair with two ends, or a bridge, VLAN or VRF with one.
type Link struct {
	Kind   LinkKind
	Ends   []End
	Ports  []string // of a bridge or VRF
	Parent string   // of a VLAN
	ID     uint16   // of a VLAN
	Table  uint32   // of a VRF
	Pos    spec.Pos
}

// End is a link as its host sees it.
type End struct {
	Host      string
	Name      string
	Addresses []netip.Prefix
	MAC       string // empty: the kernel chooses
	MTU       uint32 // 0: the kernel's default
	Pos       spec.Pos
}

// Proto is what a check sends.
type Proto string

// The protocols. ICMP is an echo request, of ICMPv6 where the addresses are IPv6.
const (
	TCP  Proto = "tcp"
	UDP  Proto = "udp"
	ICMP Proto = "icmp"
)

// Outcome is what the client of a check sees.
type Outcome string

// The outcomes.
const (
	Answer  Outcome = "answer"
	Silence Outcome = "silence" // nothing until the check's time is over
	Refused Outcome = "refused" // an error instead of an answer: reset, unreachable, prohibited
)

// When says at which state of the lab a check holds.
type When string

// The states.
const (
	Always        When = "Always"
	BeforeObjects When = "BeforeObjects"
	AfterObjects  When = "AfterObjects"
)

// Check is one request and what shall come of it.
type Check struct {
	Name    string
	From    string     // host
	Source  netip.Addr // the zero Addr: what the host chooses
	To      netip.Addr
	Proto   Proto
	Port    uint16
	Server  Server
	Expect  Outcome
	SeenAs  netip.Addr // source of the request at the server; zero: not asked
	Enters  Place      // where the request has to come in; zero: not asked
	Leaves  Place      // where the answer has to go out; zero: not asked
	When    When
	Timeout time.Duration // until silence is silence; an answer ends it earlier
	Pos     spec.Pos

	vrf string // of Source
}

// Server is where the request of a check ends. It differs from the check's To
// where something on the way translates addresses.
type Server struct {
	Host string // empty: nobody in the lab has the address
	Addr netip.Addr
	Port uint16

	vrf string // of Addr
}

// Place is a link of a host.
type Place struct{ Host, Link string }

// String gives host/link.
func (p Place) String() string { return p.Host + "/" + p.Link }

func (l *Lab) host(name string) *Host {
	for i := range l.Hosts {
		if l.Hosts[i].Name == name {
			return &l.Hosts[i]
		}
	}
	return nil
}

// willHaveLink says whether the host has a link of that name, or will have it with
// the objects.
func (l *Lab) willHaveLink(host, name string) bool {
	h := l.host(host)
	return l.hasLink(host, name) || h != nil && slices.ContainsFunc(h.Made, func(k Link) bool { return k.Ends[0].Name == name })
}

// hasLink says whether the host has a link of that name.
func (l *Lab) hasLink(host, name string) bool {
	if name == loopback {
		return l.host(host) != nil
	}
	for i := range l.Links {
		for _, e := range l.Links[i].Ends {
			if e.Host == host && e.Name == name {
				return true
			}
		}
	}
	return false
}

// hasAddr says whether the host has the address.
func (l *Lab) hasAddr(host string, a netip.Addr) bool {
	for _, p := range l.host(host).Addresses {
		if p.Addr() == a {
			return true
		}
	}
	for i := range l.Links {
		for _, e := range l.Links[i].Ends {
			for _, p := range e.Addresses {
				if e.Host == host && p.Addr() == a {
					return true
				}
			}
		}
	}
	return false
}

// vrfOf gives the VRF of a host that the address belongs to: a socket with that
// address has to be bound to it. Empty: none.
func (l *Lab) vrfOf(host string, a netip.Addr) string {
	ports := map[string]string{}
	for i := range l.Links {
		if k := &l.Links[i]; k.Kind == VRF && k.Ends[0].Host == host {
			ports[k.Ends[0].Name] = k.Ends[0].Name
			for _, p := range k.Ports {
				ports[p] = k.Ends[0].Name
			}
		}
	}
	for i := range l.Links {
		for _, e := range l.Links[i].Ends {
			for _, p := range e.Addresses {
				if e.Host == host && p.Addr() == a && ports[e.Name] != "" {
					return ports[e.Name]
				}
			}
		}
	}
	return ""
}

// hostsWith gives the hosts that have the address.
func (l *Lab) hostsWith(a netip.Addr) []string {
	var out []string
	for i := range l.Hosts {
		if l.hasAddr(l.Hosts[i].Name, a) {
			out = append(out, l.Hosts[i].Name)
		}
	}
	return out
}

// Namespace is the name of a host's network namespace, below /run/netns.
func (l *Lab) Namespace(host string) string { return "vlab-" + l.Name + "-" + host }

const loopback = "lo"
