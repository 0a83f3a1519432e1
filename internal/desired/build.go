package desired

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
)

// Build says what the kernel shall hold for objs, on a host that is as f says.
//
// The problems are what can only be judged with the host in view: a gateway on
// no subnet, a link that is not there, numbers that clash. What has an error is
// left out of the Want, so a Want without errors is complete, and with errors
// only good to look at. Objects that spec finds wrong must not come here; Build
// gives no promise for them but that it does not panic.
//
// The order of objs does not matter. Rules without a priority follow each other
// object by object in the order of the objects' names, and as written within
// one.
//
// Build keeps references to objs and to strings of f, and changes neither.
func Build(objs []spec.Object, f Facts) (Want, []spec.Problem) {
	b := &builder{facts: &f, own: owner.Objects()}
	b.lowerExternal(objs)
	b.lowerPods(objs)
	for i := range objs {
		if objs[i].Policy != nil {
			b.objs = append(b.objs, &objs[i])
		}
	}
	slices.SortStableFunc(b.objs, func(x, y *spec.Object) int {
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Name, y.Name))
	})
	b.resolveTables()
	b.buildRoutes()
	b.buildRules()
	b.buildAccepts()
	b.restoreOrigins()
	b.sortProblems()
	return b.want, b.problems
}

// builder is the state of one Build.
type builder struct {
	facts    *Facts
	own      owner.Policy
	objs     []*spec.Object // by kind and name
	tables   map[string]*table
	byID     map[uint32]*table // those of tables that have their number
	nameByID map[uint32]string // see hostNames
	nameList string            // see tableNames
	hasRoute map[tableKey]bool // tables that foreign or wanted routes are in
	host     *hostView
	sources  map[netip.Addr]bool // whether the kernel takes an address as a source
	// routeTables are the tables of objects that have routes, as written.
	routeTables []writtenTable
	// lowered are the objects that stand in for ExternalNetworks and PodNetworks.
	lowered  map[*spec.Object]standIn
	want     Want
	problems []spec.Problem
	reported map[*spec.Object]*[2]int // how many problems, by severity
}

type tableKey struct {
	family netstate.Family
	table  uint32
}

// part is a place in an object that a problem can be about.
type part struct {
	obj  *spec.Object
	pos  spec.Pos
	path string
}

// String says where the part is, for messages about another one.
func (p part) String() string {
	switch {
	case p.obj.File == "":
		return p.obj.Ref.String()
	case p.pos.Line == 0:
		return fmt.Sprintf("%s, %s", p.obj.Ref, p.obj.File)
	}
	return fmt.Sprintf("%s, %s:%d", p.obj.Ref, p.obj.File, p.pos.Line)
}

func (b *builder) fail(p part, what, do string) { b.report(p, spec.Problem{What: what, Do: do}) }
func (b *builder) warn(p part, what, do string) {
	b.report(p, spec.Problem{Severity: spec.Warning, What: what, Do: do})
}

// report adds a problem of a part, up to spec.MaxProblems of a severity for each
// object.
func (b *builder) report(p part, problem spec.Problem) {
	if b.reported == nil {
		b.reported = make(map[*spec.Object]*[2]int)
	}
	n := b.reported[p.obj]
	if n == nil {
		n = new([2]int)
		b.reported[p.obj] = n
	}
	if n[problem.Severity]++; n[problem.Severity] > spec.MaxProblems {
		return
	}
	problem.Object, problem.File, problem.Pos, problem.Path = p.obj.Ref, p.obj.File, p.pos, p.path
	if n, ok := b.lowered[p.obj]; ok {
		problem.Path = n.path(p.pos)
	}
	b.problems = append(b.problems, problem)
}

// sortProblems puts them in the order in which a person reads the files, and
// says of each object how many were too many to tell.
func (b *builder) sortProblems() {
	slices.SortStableFunc(b.problems, func(x, y spec.Problem) int {
		return cmp.Or(
			cmp.Compare(x.Object.Kind, y.Object.Kind), cmp.Compare(x.Object.Name, y.Object.Name),
			cmp.Compare(x.Pos.Line, y.Pos.Line), cmp.Compare(x.Pos.Col, y.Pos.Col))
	})
	for _, o := range b.objs {
		n := b.reported[o]
		if n == nil {
			continue
		}
		for s := range n {
			if more := n[s] - spec.MaxProblems; more > 0 {
				b.problems = append(b.problems, spec.Problem{
					Severity: spec.Severity(s), Object: o.Ref, File: o.File, Pos: o.Pos,
					What: fmt.Sprintf("%d more are not shown", more), Do: "look at these first",
				})
			}
		}
	}
}

// some joins the first few of list, and counts the rest.
func some(list []string) string {
	const most = 6
	if len(list) <= most+1 {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}
