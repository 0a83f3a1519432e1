// Package rttables reads and writes the files by which iproute2 names routing
// tables (rt_tables) and protocols (rt_protos).
//
// Reading gives the names that `ip` itself would use, down to its oddities:
// which of two numbers a name means, what a line that cannot be read does to
// the rest of its file. Writing touches exactly two files, viarule.conf below
// rt_tables.d and rt_protos.d; it is atomic, happens only when something
// changes, and never follows a symbolic link. The other files belong to the
// administrator.
//
//	d := rttables.System()
//	names, err := d.Tables()        // names.ByName["uplink2"] == 5000
//	_, err = d.WriteTables(map[string]uint32{"uplink2": 5000})
//
// Names are the host's: one file serves every network namespace.
package rttables

import (
	"fmt"
	"maps"
)

// Dir says where iproute2's files are. Nothing is read outside of the two
// folders except through links that the administrator put there, and nothing is
// written outside of Etc.
type Dir struct {
	Etc string // the administrator's folder, normally /etc/iproute2
	Usr string // the distribution's folder, normally /usr/share/iproute2; empty: none
}

// System is where iproute2 looks on every usual distribution.
func System() Dir {
	return Dir{Etc: "/etc/iproute2", Usr: "/usr/share/iproute2"}
}

// Names is what the files of one kind say.
type Names struct {
	// ByName gives the number that `ip` takes a name for. Where files give one
	// name to several numbers it is the one that `ip` finds first.
	ByName map[string]uint32
	// ByID gives the name that `ip` prints for a number: the one read last.
	ByID map[uint32]string
	// Problems says, a sentence each, what could not be read: `ip` goes on
	// without it, and so does viarule.
	Problems []string
}

// The two kinds of files. mask is what `ip` hashes a number by, which decides
// what a name with two numbers means; builtin are the names it has without any
// file (lib/rt_names.c of iproute2).
type kind struct {
	base    string // of the file, and of its folder with .d
	max     uint32 // the largest number
	builtin map[uint32]string
}

func tables() kind {
	return kind{base: "rt_tables", max: 1<<32 - 1, builtin: map[uint32]string{
		253: "default", 254: "main", 255: "local",
	}}
}

func protos() kind {
	return kind{base: "rt_protos", max: 255, builtin: map[uint32]string{
		0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated",
		9: "ra", 10: "mrt", 11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk",
		16: "dhcp", 18: "keepalived", 42: "babel", 186: "bgp", 187: "isis", 188: "ospf",
		189: "rip", 192: "eigrp",
	}}
}

// Tables reads the names of routing tables. The error is for a folder or file
// that is there and cannot be read; missing files are none.
func (d Dir) Tables() (Names, error) { return d.read(tables(), "") }

// TablesOfOthers is Tables without what viarule itself wrote.
func (d Dir) TablesOfOthers() (Names, error) { return d.read(tables(), ownFile) }

// Protocols reads the names of the protocols that rules and routes carry.
func (d Dir) Protocols() (Names, error) { return d.read(protos(), "") }

// maxName keeps a name within the 511 bytes of a line that `ip` reads, and what
// it prints within a line of a terminal.
const maxName = 64

// ValidName says whether viarule may write name into the files: 1 to 64 of the
// characters A-Z a-z 0-9 . _ -, not starting with - (`ip` would take it for an
// option) and no number (`ip` looks names up first, so that a table named 100
// would hide the table with that number).
func ValidName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the name of a table is empty")
	case len(name) > maxName:
		return fmt.Errorf("table name %.20q... is longer than %d characters", name, maxName)
	case name[0] == '-':
		return fmt.Errorf("table name %q starts with -", name)
	case isNumber(name):
		return fmt.Errorf("table name %q is a number", name)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("table name %q has a character other than A-Z a-z 0-9 . _ -", name)
		}
	}
	return nil
}

// isNumber says whether strtoul(name, 0) would take the whole of it: decimal,
// octal or, behind 0x, hexadecimal.
func isNumber(name string) bool {
	digits := "0123456789"
	if len(name) > 2 && name[0] == '0' && (name[1] == 'x' || name[1] == 'X') {
		name, digits = name[2:], "0123456789abcdefABCDEF"
	}
	for i := range len(name) {
		found := false
		for j := range len(digits) {
			found = found || name[i] == digits[j]
		}
		if !found {
			return false
		}
	}
	return true
}

// table is iproute2's hash of names: 256 buckets by the low byte of the number,
// the newest entry of a bucket first.
type table struct {
	buckets [256][]entry
	byID    map[uint32]string
}

type entry struct {
	id   uint32
	name string
}

func newTable(builtin map[uint32]string) *table {
	t := &table{byID: maps.Clone(builtin)}
	for id, name := range builtin {
		t.buckets[id&0xff] = []entry{{id, name}}
	}
	return t
}

func (t *table) add(id uint32, name string) {
	t.buckets[id&0xff] = append(t.buckets[id&0xff], entry{id, name})
	t.byID[id] = name
}

// names resolves what a name means as rtnl_rttable_a2n does: the first bucket
// that has it, and the newest entry there.
func (t *table) names() Names {
	n := Names{ByName: make(map[string]uint32), ByID: t.byID}
	for i := range t.buckets {
		b := t.buckets[i]
		for j := len(b) - 1; j >= 0; j-- {
			if _, ok := n.ByName[b[j].name]; !ok {
				n.ByName[b[j].name] = b[j].id
			}
		}
	}
	return n
}
