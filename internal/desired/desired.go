// Package desired turns what users want (spec) and what the host is like
// (Facts) into what the kernel shall hold, each object with its origin. It
// allocates table numbers and priorities, expands lists, and compiles long runs
// of rules that differ only in prefix and table to goto trees.
//
// The package is pure and deterministic: the same objects and facts give the
// same Want, and facts that already hold the Want give it again unchanged.
package desired

import (
	"github.com/viarule/viarule/internal/netstate"
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
	// Names maps the names of the host's rt_tables files, viarule's own
	// included, to numbers.
	Names map[string]uint32
	// Used are table numbers that records of any namespace of this host hold.
	Used map[uint32]bool
}

// Rule is a wanted rule. Compiled marks the rules of a tree that the user did
// not write (goto, nop and the copies of a leaf).
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

// Sysctl is a wanted sysctl.
type Sysctl struct {
	netstate.Sysctl
	Origin Origin
}

// Table is a table that an object names.
type Table struct {
	Name   string
	ID     uint32
	Origin Origin
}

// Want is what the kernel shall hold.
type Want struct {
	Tables  []Table
	Rules   []Rule  // in the kernel's order: IPv4 first, by priority, then as they must follow each other
	Routes  []Route // sorted by family, table, prefix, metric
	Sysctls []Sysctl
	Trees   []Tree
	// Listed are the users' rules as they wrote them, for plan and status
	// without -v: Rules with each tree's rules replaced by what it stands for.
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
