// Package snapshot is all that viarule explain looks at on a host, and the file
// that carries it to another machine: `viarule snapshot > f` here, `viarule explain
// --snapshot f` there.
//
// # What is in a file, and what is not
//
// In are the links with their hardware addresses, addresses, rules, routes, next hop
// objects, viarule's own tables of nftables, of forward chains of others the policy and
// the rules as far as they look at links, the sysctls that decide about a
// packet's way, the names of what others hold (chains of nftables, tables of the old
// iptables, BPF programs, filters, flowtables), how many policies of IPsec there
// are, the names of routing tables, the release of the kernel, of each object of
// viarule its kind and name, the file and line that it came from, and what stands
// for it in the kernel, and of each attachment of a CNI plugin of viarule's the same
// with its network, its interface and the plugin's name.
//
// Not in are the name of the host, the folders of files (of a path only its last
// part), the objects' text, the ids of containers, comments and aliases of links that are not
// viarule's (people write in them what they like), keys of any kind (of IPsec, of
// WireGuard, of IPv6 privacy addresses), sockets, processes, neighbours, counters and
// time. Write sees to that, whatever it is given.
//
// # Form
//
// A file is text: a line an object, in netstate's text form where it has one, under
// headings that are comments.
//
//	viarule snapshot 1
//	kernel 6.1.0-40-cloud-amd64
//	# links, addresses, rules, routes, next hop objects, viarule's nftables
//	link 2 eth0 mac 02:00:00:00:00:01 mtu 1500 up carrier
//	...
//	sysctl net/ipv4/conf/all/rp_filter = 1
//	opaque xdp dev eth0 name "program 7 cil_xdp_entry"
//	foreign nft ip nat PREROUTING
//	forward chain ip filter FORWARD priority 0 policy drop
//	forward rule iifname "via*" accept comment "viarule PodNetwork/pods"
//	foreign iptables nat
//	foreign iptables-forward IPv4 drop in via*
//	foreign ipvs
//	table 5000 uplink2
//	object RoutingPolicy/uplinks file policy.yaml line 2
//	holds rule 2200 from 192.0.2.1 table 5000 proto 118
//	holds route default table 5000
//	attachment sip interface net1 plugin viarule-sbr
//	holds rule 2900 from 10.1.0.5 table 5001 proto 119
//	end
//
// The lines may stand in any order, but for the first, the last, and what an object
// or an attachment holds, which follows it. A kind of line that this version does not know is an
// error: it may be just what decides about a packet. Nothing is lost in a file but
// what is left out above: Read gives what Write was given.
package snapshot

import (
	"fmt"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// Snapshot is all that explain looks at. Its parts were read one after the other:
// each holds in itself, and something that changed meanwhile may be in one and not
// in another.
type Snapshot struct {
	Kernel       string // the release of the kernel, as `uname -r` says
	State        netstate.State
	Sysctls      []netstate.Sysctl // those that decide about a packet's way, each once
	Opaque       []netstate.Opaque
	Surroundings netstate.Surroundings
	Tables       map[uint32]string // names of routing tables; may be nil
	Owners       []Owner
}

// Owner is an object of viarule's, or an attachment that a CNI plugin of viarule's
// made, and what stands for it in the kernel.
type Owner struct {
	Ref     spec.Ref
	File    string      // that it came from; empty: not known
	Line    int         // in File, counted from 1; 0: not known
	CNI     *Attachment // it is no object, and Ref, File and Line say nothing
	Rules   []netstate.Rule
	Routes  []netstate.RouteKey
	Links   []string // that viarule made for it
	Sysctls []string // keys of those that it wants a value of
	Nft     bool     // it has a part in the table of nftables
}

// String names an owner in messages: KIND/NAME and where it was written, or the
// attachment.
func (o *Owner) String() string {
	switch {
	case o.CNI != nil:
		return o.CNI.String()
	case o.File == "":
		return o.Ref.String()
	}
	return fmt.Sprintf("%s, %s:%d", o.Ref, o.File, o.Line)
}

// Attachment is an interface of a pod, for which a CNI plugin did something.
type Attachment struct {
	Network   string // the name of the network configuration
	Interface string
	Plugin    string // by which of its names it was called
}

// String names an attachment in messages.
func (a *Attachment) String() string {
	return fmt.Sprintf("CNI network %s, interface %s (%s)", a.Network, a.Interface, a.Plugin)
}

// Error is what is wrong with a file.
type Error struct {
	Line int // counted from 1
	Err  error
}

// Error gives the line and what is wrong there. The file may be a stranger's: of
// what stands on the line no more is shown than a person reads.
func (e *Error) Error() string {
	return fmt.Sprintf("line %d: %s", e.Line, cut(e.Err.Error()))
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// shown is how much of a line an error shows, in bytes.
const shown = 400

func cut(s string) string {
	if len(s) <= shown {
		return s
	}
	return fmt.Sprintf("%.*s ... %s", shown/2, s, s[len(s)-shown/2:])
}

const (
	magic   = "viarule snapshot "
	version = "1"
)

// nftPrefix and forwardPrefix begin netstate's lines of nftables.
const (
	nftPrefix     = "nft "
	forwardPrefix = "forward "
)

// The first words of lines that are not netstate's.
const (
	kernelLine  = "kernel"
	foreignLine = "foreign"
	tableLine   = "table"
	objectLine  = "object"
	attachLine  = "attachment"
	holdsLine   = "holds"
	endLine     = "end"
)
