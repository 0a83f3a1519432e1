// Package desired turns what users want (spec) and what the host is like
// (Facts) into what the kernel shall hold, each object with its origin. It
// allocates table numbers and priorities, expands lists, and compiles long runs
// of rules that differ only in prefix and table to goto trees.
//
// The package is pure and deterministic: the same objects and facts give the
// same Want, and facts that already hold the Want give it again unchanged. A
// small change to the objects makes a small change to the Want: what stands in
// the kernel already keeps its table number, its priority and its place in a
// tree wherever the order of the rules allows.
package desired

import (
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
)

// Origin says who wants a kernel object, and where they wrote so.
type Origin struct {
	Object *spec.Object // never nil in a Want
	Pos    spec.Pos
}

// Facts is what Build must know of the host.
type Facts struct {
	State netstate.State
	// Names maps the names of tables to numbers: those of the host's rt_tables
	// files, viarule's own included, and those that records of this namespace
	// hold.
	Names map[string]uint32
	// OwnNames are those of Names that only objects of this namespace gave
	// (viarule's own file and the records, and no other file or namespace says
	// so): an object may give such a name another number.
	OwnNames map[string]bool
	// Used are table numbers that records of any namespace of this host hold.
	Used map[uint32]bool
	// Attached are tables of this namespace that a CNI plugin fills, by its records,
	// each with whose it is in words. They are nobody else's even while they are empty.
	Attached map[uint32]string
	// Neighbours are the programs found on this host (owner.Match) whose tables,
	// priorities and marks the objects must keep clear of.
	Neighbours owner.Findings
	// The rest is for ExternalNetworks and PodNetworks (see external.Facts and
	// podnet.Facts), and Around for whatever asks for Forward.
	Sysctls  map[string]string
	Changed  map[string]bool // those of Sysctls that viarule has changed
	Gateways map[netstate.NeighKey]netstate.NeighState
	Around   netstate.Surroundings
}

// Rule is a wanted rule. Compiled marks the rules of a tree: the gotos and the
// nop, and the copies of the users' rules in its leaves. None of them stands in
// Listed; the copies have the origin of the rule that they are copies of, the
// others that of the tree.
type Rule struct {
	netstate.Rule
	Origin   Origin
	Compiled bool
}

// Route is a wanted route.
type Route struct {
	netstate.Route
	Origin Origin
}

// Sysctl is a wanted sysctl. Made marks one of a link that viarule makes: it goes
// with the link, so nothing is recorded or put back. Early marks one that is set before
// the routes, so that what they bring by another link than before is forwarded at once.
type Sysctl struct {
	netstate.Sysctl
	Made, Early bool
	Origin      Origin
}

// Note is something to know before an apply that is no problem.
type Note struct {
	Object spec.Ref
	Text   string
}

// Link is a link that viarule makes: a VLAN, with the alias that says whose it is
// (viarule:ExternalNetwork/NAME), set up.
type Link struct {
	netstate.Link
	Origin Origin
}

// Nft is the one table of nftables that all objects share. Origins are those that
// have a part in it.
type Nft struct {
	netstate.NftTable
	Origins []Origin
}

// Table is a table that an object names. Each object that names it has its own.
type Table struct {
	Name   string
	ID     uint32
	Origin Origin
}

// Peer is a prefix of pods of another node of a PodNetwork.
type Peer struct {
	Object spec.Ref
	Node   string
	Prefix netip.Prefix
	Why    string // why there is no route to it; empty: Routes has one
}

// Want is what the kernel shall hold.
type Want struct {
	Tables  []Table
	Rules   []Rule  // in the kernel's order: IPv4 first, by priority, then as they must follow each other
	Routes  []Route // sorted as netstate.SortRoutes does
	Sysctls []Sysctl
	Links   []Link
	Nft     *Nft // nil: no table
	Forward []Forward
	Accepts []Accept  // what Forward comes to in the chains that there are
	Blocked []Blocked // what is wanted, and of no use
	Trees   []Tree
	Notes   []Note
	Peers   []Peer // of PodNetworks, in written order
	// Listed are the users' rules as they wrote them, for plan and status
	// without -v: Rules with each tree's rules replaced by what it stands for.
	// A rule without a priority of its own that is in a tree has the tree's
	// first.
	Listed []Rule
}

// Tree is the span of priorities that a compiled run of rules occupies.
type Tree struct {
	Family netstate.Family
	Gate   uint32 // the priority where a gate may stand: the first of the span
	End    uint32 // the priority of the nop that ends the span
	Rules  int    // how many rules of the user it stands for
	Origin Origin // of its first rule
}
