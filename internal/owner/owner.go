// Package owner answers two questions. Is this kernel object viarule's, so that
// it may be changed? And whose else could it be, or which neighbour would a
// priority, table or mark of ours collide with?
//
// The first answer follows from the object alone: the protocol number that it
// carries. No log file, record or memory takes part, so a fresh process comes to
// the same answer as the one that made the object. Only what is classified Ours
// may ever be deleted or replaced.
//
// The second follows from a table of what is known about other programs that
// manage rules on the same hosts, and from the shapes of the rules and routes
// that are there. It is for messages and for refusing collisions, never for
// deciding that something may be deleted.
//
// The package is pure.
package owner

import "github.com/viarule/viarule/internal/netstate"

// Class says whose an object is.
type Class uint8

// The classes. The zero value is the one that forbids most.
const (
	// Foreign objects lack our mark. They are never touched.
	Foreign Class = iota
	// Unsure objects carry our mark, but also something that this version of
	// viarule never writes: an attribute or action that it does not know, or a
	// place that it never uses. A newer viarule may have made them, or somebody
	// who took our number. They are reported and never touched: what they do
	// is not understood, so nobody can say that removing them is safe.
	Unsure
	// Ours is what viarule made and may change.
	Ours
)

// String gives the class in a word.
func (c Class) String() string {
	switch c {
	case Ours:
		return "ours"
	case Unsure:
		return "unsure"
	}
	return "foreign"
}

// Band is an inclusive range of rule priorities or table numbers.
type Band struct{ First, Last uint32 }

// Contains says whether n is in the band.
func (b Band) Contains(n uint32) bool { return b.First <= n && n <= b.Last }

// Size is the count of numbers in the band.
func (b Band) Size() uint32 { return b.Last - b.First + 1 }

// Policy says how viarule's objects are known, and which numbers it takes where
// the user names none.
type Policy struct {
	Protocol   uint8 // the mark on rules, routes and next hop objects
	Priorities Band  // for rules; an explicit priority may lie outside
	Tables     Band  // for tables; an explicit number may lie outside
}

// Objects is the policy of the command line and the agent.
func Objects() Policy {
	return Policy{
		Protocol:   netstate.ProtocolObject,
		Priorities: Band{2200, 2999},
		Tables:     Band{5000, 5999},
	}
}

// ProtectedPriority says whether the kernel's own rules stand at this priority
// (net/ipv4/fib_rules.c, fib_default_rules_init): local, main and default.
// viarule has no rule there, ever: a delete takes absent attributes as
// wildcards and could hit the kernel's.
func ProtectedPriority(prio uint32) bool {
	return prio == 0 || prio == 32766 || prio == 32767
}

// Rule classifies a rule.
func (p Policy) Rule(r *netstate.Rule) Class {
	switch {
	case r.Protocol != p.Protocol:
		return Foreign
	case r.Unknown != "", ProtectedPriority(r.Priority), !knownAction(r.Action):
		return Unsure
	}
	return Ours
}

func knownAction(a netstate.Action) bool {
	switch a {
	case netstate.ToTable, netstate.Goto, netstate.Nop, netstate.Blackhole, netstate.Unreachable, netstate.Prohibit:
		return true
	}
	return false
}

// Route classifies a route.
func (p Policy) Route(r *netstate.Route) Class {
	switch {
	case r.Protocol != p.Protocol:
		return Foreign
	case r.Unknown != "" || r.Hop.Unknown != "", r.Table == netstate.TableLocal:
		return Unsure
	}
	for i := range r.Hops {
		if r.Hops[i].Unknown != "" {
			return Unsure
		}
	}
	return Ours
}

// Nexthop classifies a next hop object. One that is ours may still be in use by
// foreign routes, which go with it: see NexthopInUse.
func (p Policy) Nexthop(h *netstate.Nexthop) Class {
	switch {
	case h.Protocol != p.Protocol:
		return Foreign
	case h.Unknown != "" || h.Hop.Unknown != "" || h.FDB:
		return Unsure
	}
	return Ours
}

// Accept classifies a rule of its shape in a forward chain of somebody else's: the
// comment is the mark.
func Accept(a *netstate.Accept) Class {
	if a.Check() != nil {
		return Foreign
	}
	return Ours
}

// NexthopInUse returns a route or a group that is not ours and names the next
// hop object, or "" where there is none. The kernel deletes the routes together
// with the object, so while there is one the object must stay.
func (p Policy) NexthopInUse(id uint32, s *netstate.State) string {
	for i := range s.Routes {
		if r := &s.Routes[i]; r.NexthopID == id && p.Route(r) != Ours {
			return r.String()
		}
	}
	for i := range s.Nexthops {
		h := &s.Nexthops[i]
		if p.Nexthop(h) == Ours {
			continue
		}
		for _, g := range h.Group {
			if g.ID == id {
				return h.String()
			}
		}
	}
	return ""
}
