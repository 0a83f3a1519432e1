// Package plan compares what the kernel shall hold with what it holds and gives
// the writes that lead from one to the other, in an order in which packets never
// meet a gap. It is pure, total and deterministic: a plan is data, which the
// command line prints, apply runs and tests compare.
package plan

import (
	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// Op is one write, with its reason and who asked for it.
type Op struct {
	netstate.Change
	// Before is what the write removes or overwrites; for a Delete it equals the
	// object itself.
	BeforeRoute  *netstate.Route
	BeforeSysctl *netstate.Sysctl
	BeforeLink   *netstate.Link
	BeforeNft    *netstate.NftTable // nil: there is none yet
	// Stage orders the plan: the ops of one stage may be sent together, those of
	// the next only when all of this one succeeded.
	Stage  int
	Reason string
	// Origin says whose object it is; Origin.Object is nil where only a record
	// or nobody wants it. A table of nftables belongs to several objects: Origin
	// is the first of Origins.
	Origin  desired.Origin
	Origins []desired.Origin
	// Compiled marks what belongs to a goto tree and its gates.
	Compiled bool
}

// Askers are all that asked for the op.
func (op *Op) Askers() []desired.Origin {
	switch {
	case op.Origins != nil:
		return op.Origins
	case op.Origin.Object != nil:
		return []desired.Origin{op.Origin}
	}
	return nil
}

// shown is what the op does in people's eyes: a table of nftables that was not
// there is written by a Replace too.
func (op *Op) shown() netstate.Verb {
	if op.Nft != nil && op.BeforeNft == nil {
		return netstate.Add
	}
	return op.Verb
}

// Brief is the op in one line, as netstate.Change.String writes it; a table of
// nftables goes by its name.
func (op *Op) Brief() string {
	if op.Nft != nil {
		return op.Verb.String() + " " + NftName(op.Nft)
	}
	return op.Change.String()
}

// LinkText is a link in the words of a change; n may be nil.
func LinkText(l *netstate.Link, n netstate.Names) string {
	return (&netstate.Change{Verb: netstate.Add, Link: l}).Format(n)[2:]
}

// NftName is what a table of nftables is called in messages.
func NftName(t *netstate.NftTable) string { return "nftables table inet " + t.Name }

// Plan is an ordered list of writes, and what it leaves alone.
type Plan struct {
	Ops       []Op
	Satisfied []Finding // wanted, and provided by a foreign object: left as it is
	Conflicts []Finding // wanted, but a foreign object stands in the way
	Blocked   []Finding // wanted, and made where need be, but of no use while a foreign object stands as it does
	Orphans   []Finding // ours by mark, but no record says whose

	trees  []TreeChange // what Trees returns
	edited []*ruleDiff  // what Trees has not looked at yet
}

// TreeChange is what a plan changes in one goto tree, in the users' rules.
type TreeChange struct {
	Family    netstate.Family
	Gate, End uint32 // its priorities
	Rules     int    // how many rules of the user it stands for; 0: it goes
	// Add and Remove are the users' rules that are new and that go. Both may be
	// empty where only the tree's shape changes.
	Add    []desired.Rule
	Remove []netstate.Rule
}

// Finding is an object of the kernel that the plan speaks of but does not change.
type Finding struct {
	Rule   *netstate.Rule
	Route  *netstate.Route
	Link   *netstate.Link
	Nft    *netstate.NftTable
	Accept *netstate.Accept
	Text   string         // of what is none of these, in words
	Origin desired.Origin // of the wanted object; Object is nil for orphans
	What   string         // one sentence for a person
}

// Object is what the finding speaks of, in the words of ip; n may be nil.
func (f *Finding) Object(n netstate.Names) string {
	switch {
	case f.Rule != nil:
		return f.Rule.Format(n)
	case f.Route != nil:
		return f.Route.Format(n)
	case f.Link != nil:
		return LinkText(f.Link, n)
	case f.Nft != nil:
		return NftName(f.Nft)
	case f.Accept != nil:
		return f.Accept.String()
	}
	return f.Text
}

// Empty says whether there is nothing to write.
func (p *Plan) Empty() bool { return len(p.Ops) == 0 }

// Input is all that Diff looks at.
type Input struct {
	// Want is what the union of the recorded and the given objects asks for.
	Want desired.Want
	Have netstate.State
	// Sysctls holds the present values of every sysctl in Want and in Restore, and
	// of those that viarule gave to links which it made: an undo that makes such
	// a link again has to know. What is of a link that is yet to be made is
	// missing.
	Sysctls map[string]string
	// Restore holds the values to put back: sysctls that nobody wants any more
	// and that still have the value that viarule gave them.
	Restore []netstate.Sysctl
	// Recorded says what records claim, those of objects that are going
	// included. What is ours by mark and not in it is an orphan.
	Recorded Recorded
	// Spare is left as it is, whatever else is said: it belongs to objects that
	// are not planned now.
	Spare Recorded
	Adopt bool // take over foreign objects that equal a wanted one but for the mark
	Prune bool // remove orphans
}

// Recorded is the union of what the records of a namespace say stands for
// their objects.
type Recorded struct {
	Rules  map[netstate.Rule]bool
	Routes map[netstate.RouteKey]bool
	Links  map[string]bool // by name
	Nft    bool            // the table of objects
	// Objects are those themselves, as KIND/NAME: an accept names its own.
	Objects map[string]bool
}
