package spec

import (
	"fmt"
	"math"

	"github.com/viarule/viarule/internal/netstate"
)

// Limits bound the lists of an object.
type Limits struct {
	Tables   int // of an object
	Routes   int // of a table, as one object has it
	Nexthops int // of a route
	Rules    int // of an object
	Prefixes int // of a rule's from, and of its to
	Pairs    int // of from and to that one rule stands for

	Addresses    int // prefixes and ranges of an external network
	Gateways     int // of an external network
	ClusterCIDRs int // of an external network

	PodCIDRs      int // of a pod network, and of one of its nodes
	Nodes         int // of a pod network
	NodeAddresses int // of one of its nodes
}

// FileLimits are for objects in files: far above what anybody writes, and low
// enough that a hostile file cannot make viarule run out of memory.
func FileLimits() Limits {
	return Limits{
		Tables: 10_000, Routes: 4_000_000, Nexthops: 256, Rules: 1_000_000, Prefixes: 1_000_000, Pairs: 1 << 20,
		Addresses: 100_000, Gateways: 256, ClusterCIDRs: 4096,
		PodCIDRs: 4096, Nodes: 100_000, NodeAddresses: 64,
	}
}

// ClusterLimits are those of the custom resource definition. etcd takes 1.5 MiB
// for an object, and the API server bounds the cost of CEL rules by the bounds
// of the lists, so they are much lower; several objects may add to one table.
// An object within them gets the same verdict from the API server and from
// Validate.
func ClusterLimits() Limits {
	return Limits{
		Tables: 32, Routes: 1024, Nexthops: 8, Rules: 1024, Prefixes: 128, Pairs: 128 * 128,
		Addresses: 1024, Gateways: 16, ClusterCIDRs: 64,
		PodCIDRs: 16, Nodes: 256, NodeAddresses: 8,
	}
}

// Known is what Validate may know beyond the objects. The zero value is for a
// file that is looked at somewhere else than where it shall work.
type Known struct {
	// Tables are the names in the host's rt_tables files, with their numbers.
	// nil: the host is not known. Where it is known, package desired warns of
	// gotos to nowhere and of empty tables, and Validate does not.
	Tables map[string]uint32
	// Neighbour gives the name of the program that is known to use a priority on
	// many hosts, or "". May be nil.
	Neighbour func(priority uint32) string
	// First and Last are the band of priorities for rules without one; 0: not
	// known.
	First, Last uint32
	// Limits are FileLimits where zero.
	Limits Limits
}

// MaxProblems is how many problems of one severity Validate tells one by one.
const MaxProblems = 50

// Validate judges what can be judged without the host: each object, and whether
// they fit together. The objects must all be there (those of the files and those
// that stay applied), or it warns of what is missing. Errors stand before
// warnings, each in the order of the objects.
//
// Validate takes objects as specfile gives them; from other sources it also
// checks what specfile has checked as it read (host bits, names, ranges).
func Validate(objs []Object, k Known) []Problem {
	if k.Limits == (Limits{}) {
		k.Limits = FileLimits()
	}
	v := &validator{objs: objs, known: k}
	if !v.checkTotal() {
		return v.done()
	}
	v.checkNames()
	v.checkTables()
	for i := range objs {
		if p := objs[i].Policy; p != nil {
			v.obj = &objs[i]
			v.checkRoutes(p)
			v.checkRules(p)
		}
		if objs[i].External != nil {
			v.checkExternal(&objs[i])
		}
		if objs[i].Pods != nil {
			v.checkPodNetwork(&objs[i])
		}
		v.checkExpect(&objs[i])
	}
	v.checkExternals()
	v.checkPodNetworks()
	v.checkSameRoutes()
	v.checkTargets()
	v.checkSameRules()
	v.checkShadows()
	return v.done()
}

// validator is the state of one Validate.
type validator struct {
	objs     []Object
	known    Known
	obj      *Object // that is being looked at
	problems [2][]Problem
	more     [2]int
	tables   map[string]uint32 // names that the objects declare: the number, or 0
	names    map[uint32]string // and the other way round
	same     map[place]bool    // rules that were warned of, since an earlier one is the same
}

// place is an element of an object, by its indices; -1 where it has none.
type place struct {
	obj         *Object
	table, elem int32 // of spec.tables and its routes, or of spec.rules
}

func (p place) pos() Pos {
	switch {
	case p.table >= 0 && p.elem >= 0:
		return p.obj.Policy.Tables[p.table].Routes[p.elem].Pos
	case p.table >= 0:
		return p.obj.Policy.Tables[p.table].Pos
	case p.elem >= 0:
		return p.obj.Policy.Rules[p.elem].Pos
	}
	return p.obj.Pos
}

func (p place) path(key string) string {
	s := ""
	switch {
	case p.table >= 0 && p.elem >= 0:
		s = fmt.Sprintf("spec.tables[%d].routes[%d]", p.table, p.elem)
	case p.table >= 0:
		s = fmt.Sprintf("spec.tables[%d]", p.table)
	case p.elem >= 0:
		s = fmt.Sprintf("spec.rules[%d]", p.elem)
	default:
		return key
	}
	if key != "" {
		s += "." + key
	}
	return s
}

// seenFrom says where the place is, for a message about an element of obj.
func (p place) seenFrom(obj *Object) string { return seenFrom(obj, p.obj, p.pos(), p.path("")) }

func seenFrom(obj, other *Object, at Pos, path string) string {
	s := path
	if other.File != "" && at.Line > 0 {
		s = fmt.Sprintf("%s:%d", other.File, at.Line)
		if other.File == obj.File {
			s = fmt.Sprintf("line %d", at.Line)
		}
	}
	if other != obj {
		s = fmt.Sprintf("%s (%s)", other.Ref, s)
	}
	return s
}

func (v *validator) fail(p place, key, what, do string) { v.report(Error, p, p.pos(), key, what, do) }
func (v *validator) warn(p place, key, what, do string) { v.report(Warning, p, p.pos(), key, what, do) }

func (v *validator) report(s Severity, p place, at Pos, key, what, do string) {
	if len(v.problems[s]) >= MaxProblems {
		v.more[s]++
		return
	}
	v.problems[s] = append(v.problems[s], Problem{Severity: s, Object: p.obj.Ref, File: p.obj.File, Pos: at, Path: p.path(key), What: what, Do: do})
}

func (v *validator) done() []Problem {
	var all []Problem
	for s, ps := range v.problems {
		all = append(all, ps...)
		if v.more[s] > 0 {
			all = append(all, Problem{Severity: Severity(s), What: fmt.Sprintf("%d more are not shown", v.more[s]), Do: "look at these first"})
		}
	}
	return all
}

// checkNames finds two objects of one name.
func (v *validator) checkNames() {
	seen := make(map[Ref]*Object, len(v.objs))
	for i := range v.objs {
		o := &v.objs[i]
		here := place{o, -1, -1}
		if first := seen[o.Ref]; first != nil {
			at := fmt.Sprintf("%s:%d", first.File, first.Pos.Line)
			if first.File == o.File {
				at = fmt.Sprintf("line %d", first.Pos.Line)
			}
			v.fail(here, "metadata.name", fmt.Sprintf("there are two objects %s; the other one is at %s", o.Ref, at), "rename one, or make one of both")
			continue
		}
		seen[o.Ref] = o
	}
}

// MaxKernelRules is how many rules of the kernel all objects together may stand
// for; with a thousandth of it a packet takes longer than a disk.
const MaxKernelRules = 4 << 20

// checkTotal refuses objects that multiply to more rules than can be compared.
func (v *validator) checkTotal() bool {
	total := 0
	for i := range v.objs {
		if e := v.objs[i].External; e != nil {
			if total += e.rules(); total > MaxKernelRules {
				v.failAt(spotOf(&v.objs[i], "addresses"), fmt.Sprintf("the objects stand for more than %d rules up to here", MaxKernelRules), "write `returnPath: Auto`, which has no rule an address, or fewer ranges")
				return false
			}
		}
		p := v.objs[i].Policy
		if p == nil {
			continue
		}
		for j := range p.Rules {
			r := &p.Rules[j]
			for _, f := range netstate.Families {
				total += max(count(r.From, f), 1) * max(count(r.To, f), 1)
			}
			if total > MaxKernelRules {
				v.fail(place{&v.objs[i], -1, index(j)}, "", fmt.Sprintf("the objects stand for more than %d rules up to here", MaxKernelRules), "send packets to tables by larger prefixes")
				return false
			}
		}
	}
	return true
}

// wellKnown are the tables that every namespace has.
func wellKnown(name string) uint32 {
	switch name {
	case "default":
		return netstate.TableDefault
	case "main":
		return netstate.TableMain
	case "local":
		return netstate.TableLocal
	}
	return 0
}

// checkTables checks the tables of all objects, and fills v.tables and v.names.
func (v *validator) checkTables() {
	v.tables, v.names = map[string]uint32{}, map[uint32]string{}
	byName, byID := map[string]place{}, map[uint32]place{}
	for i := range v.objs {
		o := &v.objs[i]
		if o.Policy == nil {
			continue
		}
		if n := len(o.Policy.Tables); n > v.known.Limits.Tables {
			v.fail(place{o, -1, -1}, "spec.tables", fmt.Sprintf("there are %d tables", n), fmt.Sprintf("an object may have %d; make several objects", v.known.Limits.Tables))
		}
		for j := range o.Policy.Tables {
			t, here := &o.Policy.Tables[j], place{o, int32(j), -1}
			if !v.checkTable(here, t) {
				continue
			}
			first, again := byName[t.Name]
			if again && first.obj == o {
				v.fail(here, "name", fmt.Sprintf("the table %s is named twice; first in %s", t.Name, first.seenFrom(o)), "make one table of both")
				continue
			}
			if again && t.ID != 0 && v.tables[t.Name] != 0 && v.tables[t.Name] != t.ID {
				v.fail(here, "id", fmt.Sprintf("the table %s has the id %d in %s", t.Name, v.tables[t.Name], first.seenFrom(o)), "give it one id")
				continue
			}
			if !again {
				byName[t.Name], v.tables[t.Name] = here, 0
			}
			if t.ID == 0 {
				continue
			}
			if name, taken := v.names[t.ID]; taken && name != t.Name {
				v.fail(here, "id", fmt.Sprintf("the id %d is that of the table %s in %s", t.ID, name, byID[t.ID].seenFrom(o)), "give each table its own id")
				continue
			}
			v.tables[t.Name], v.names[t.ID], byID[t.ID] = t.ID, t.Name, here
		}
	}
}

// checkTable checks one table without its routes.
func (v *validator) checkTable(here place, t *Table) bool {
	if err := CheckTableName(t.Name); err != nil {
		v.failValue(here, "name", err)
		return false
	}
	if t.Name == "local" {
		v.fail(here, "name", "the table local is the kernel's", "use main, or a table of your own")
		return false
	}
	own := wellKnown(t.Name)
	switch {
	case t.ID == 0:
	case own != 0 && t.ID != own:
		v.fail(here, "id", fmt.Sprintf("the table %s is %d on every host", t.Name, own), "leave id out")
		return false
	case own == 0 && t.ID >= netstate.TableDefault && t.ID <= netstate.TableLocal:
		v.fail(here, "id", fmt.Sprintf("%d is the table default, main or local", t.ID), "use another id, or the table's own name")
		return false
	}
	if n := v.known.Tables[t.Name]; own == 0 && t.ID != 0 && n != 0 && n != t.ID {
		v.fail(here, "id", fmt.Sprintf("rt_tables of this host says that the table %s is %d", t.Name, n), "leave id out, or choose another name")
		return false
	}
	if n := len(t.Routes); n > v.known.Limits.Routes {
		v.fail(here, "routes", fmt.Sprintf("there are %d routes", n), fmt.Sprintf("a table may have %d in one object; put the others into another object", v.known.Limits.Routes))
	}
	return true
}

func (v *validator) failValue(here place, key string, err error) {
	if e, ok := err.(*ValueError); ok {
		v.fail(here, key, e.What, e.Do)
		return
	}
	v.fail(here, key, err.Error(), "")
}

// tableID gives the number of a reference where the objects or the kernel say
// it; named tables without a number have one of their own per name.
func (v *validator) tableKey(ref TableRef) string {
	if ref.Name != "" {
		return ref.Name
	}
	if name, ok := v.names[ref.ID]; ok {
		return name
	}
	if name := netstate.KernelTable(ref.ID); name != "" {
		return name
	}
	return ref.String()
}

// index is i as places hold it; lists that long do not fit into memory.
func index(i int) int32 { return int32(min(i, math.MaxInt32)) }
