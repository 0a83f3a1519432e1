// Package spec holds what users ask for: the objects of viarule.io/v1alpha1 in
// typed form, each part with the place in the file that says it. It validates
// what can be judged without knowing the host.
//
// specfile and k8s produce these types; desired consumes them. Numbers and
// prefixes are parsed; names of tables are still names.
package spec

import (
	"fmt"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// Pos is a place in a file. Line and Col count from 1; the zero Pos is unknown.
type Pos struct {
	Line int32 `json:"line"`
	Col  int32 `json:"column"`
}

// Ref names an object, for example RoutingPolicy/uplinks.
type Ref struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// String gives Kind/Name.
func (r Ref) String() string { return r.Kind + "/" + r.Name }

// The kinds of objects.
const (
	KindRoutingPolicy   = "RoutingPolicy"
	KindExternalNetwork = "ExternalNetwork"
	KindPodNetwork      = "PodNetwork"
)

// DeletionPolicy says what becomes of the kernel's objects when the object goes.
type DeletionPolicy string

// The deletion policies; the empty string means DeletePolicy.
const (
	DeletePolicy DeletionPolicy = "Delete"
	OrphanPolicy DeletionPolicy = "Orphan"
)

// Object is one object of a file or a cluster.
type Object struct {
	Ref
	File           string // as the user named it; "-" is standard input
	Pos            Pos
	Text           []byte // the YAML document that says it, as written
	DeletionPolicy DeletionPolicy
	Policy         *RoutingPolicy   // for Kind RoutingPolicy
	External       *ExternalNetwork // for Kind ExternalNetwork
	Pods           *PodNetwork      // for Kind PodNetwork
	Expect         []Expectation
}

// RoutingPolicy is tables with routes, and rules, in written order.
type RoutingPolicy struct {
	Tables []Table
	Rules  []Rule
}

// Table is a routing table and the routes that it shall hold.
type Table struct {
	Name   string
	ID     uint32 // 0: allocate one, or use the number that the name has
	Routes []Route
	Pos    Pos
}

// Route is a wanted route. Dev and friends are as written.
type Route struct {
	To       netip.Prefix
	Via      netip.Addr
	Dev      string
	Src      netip.Addr
	Metric   uint32 // 0: the kernel's default
	MTU      uint32
	AdvMSS   uint32
	Scope    *netstate.Scope
	OnLink   bool
	Type     netstate.RouteType // never 0
	Nexthops []Nexthop
	Pos      Pos
}

// Nexthop is a next hop of a multipath route.
type Nexthop struct {
	Via    netip.Addr
	Dev    string
	Weight uint16 // 1 to 256; 1 where not written
	OnLink bool
	Pos    Pos
}

// Rule is a wanted rule; with lists in From or To it stands for several.
type Rule struct {
	From, To []netip.Prefix
	IIF, OIF string
	Mark     netstate.Mark
	Proto    uint8
	SPort    netstate.PortRange
	DPort    netstate.PortRange
	TOS      uint8
	DSCP     netstate.Opt
	UID      netstate.UIDRange
	Not      bool
	Priority netstate.Opt
	Family   netstate.Family // 0: what the prefixes say; without prefixes both

	Action               netstate.Action
	Table                TableRef // for ToTable
	Goto                 uint32
	Realms               uint32
	SuppressPrefixLength netstate.Opt
	SuppressIfGroup      netstate.Opt
	Pos                  Pos
}

// TableRef names a table by name or by number; exactly one is set.
type TableRef struct {
	Name string
	ID   uint32
}

// String gives the name or the number.
func (t TableRef) String() string {
	if t.Name != "" {
		return t.Name
	}
	return fmt.Sprint(t.ID)
}

// Severity tells errors from warnings.
type Severity uint8

// The severities.
const (
	Error Severity = iota
	Warning
)

// MarshalText gives error or warning.
func (s Severity) MarshalText() ([]byte, error) {
	if s == Warning {
		return []byte("warning"), nil
	}
	return []byte("error"), nil
}

// Problem is something wrong with what the user wrote: where, what, and what to
// do about it.
type Problem struct {
	Severity Severity `json:"severity"`
	Object   Ref      `json:"object"`
	File     string   `json:"file"`
	Pos      Pos      `json:"position"`
	Path     string   `json:"path"` // spec.tables[0].routes[1].via
	What     string   `json:"what"` // what is wrong, without the path
	Do       string   `json:"do"`   // what to do; may be empty
	// Lacking says that the host lacks something that the object needs, such as
	// a link: the same object may be right on another host, or later.
	Lacking bool `json:"lacking"`
}

// String is `file:line: path: what; do`.
func (p Problem) String() string {
	s := ""
	if p.File != "" {
		s = p.File + ":"
		if p.Pos.Line > 0 {
			s += fmt.Sprintf("%d:", p.Pos.Line)
		}
		s += " "
	}
	if p.Severity == Warning {
		s += "warning: "
	}
	if p.Path != "" {
		s += p.Path + ": "
	}
	s += p.What
	if p.Do != "" {
		s += "; " + p.Do
	}
	return s
}

// Failed says whether any of the problems is an error.
func Failed(ps []Problem) bool {
	for i := range ps {
		if ps[i].Severity == Error {
			return true
		}
	}
	return false
}
