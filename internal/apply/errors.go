package apply

import (
	"fmt"
	"strings"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/plan"
)

// Error is a Run that failed: why, and what became of the way back.
type Error struct {
	Cause error // *OpError, *DiffError, or one that wraps the context's or a snapshot's
	Undo  error // nil: everything is as before; else an *UndoError
}

// Error gives both.
func (e *Error) Error() string {
	if e.Undo == nil {
		return e.Cause.Error() + "; everything is as before"
	}
	return e.Cause.Error() + "; " + e.Undo.Error()
}

// Unwrap gives both to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Undo == nil {
		return []error{e.Cause}
	}
	return []error{e.Cause, e.Undo}
}

// OpError is a write that the kernel refused.
type OpError struct {
	Op        string // add, replace, delete, set
	Object    string // in netstate's text form; a table of nftables by its name
	Err       error  // the errno, or what stood before it
	KernelMsg string // the kernel's own words; may be empty
	Origin    desired.Origin
	Others    int    // how many more writes were refused at the same time
	Skipped   string // what was not tried because of it: "2 dependent rules"; may be empty
}

// Error is, for example,
//
//	add route 10.0.0.0/8 via 192.0.2.1 dev eth1 table 5007 proto 118: invalid argument
//	(kernel: "Nexthop has invalid gateway"); asked for by RoutingPolicy/uplinks
//	(uplinks.yaml:14); 2 dependent rules skipped
//
// in one line.
func (e *OpError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %v", e.Op, e.Object, e.Err)
	if e.KernelMsg != "" {
		fmt.Fprintf(&b, " (kernel: %q)", e.KernelMsg)
	}
	if o := e.Origin.Object; o != nil {
		fmt.Fprintf(&b, "; asked for by %s", o.Ref)
		switch {
		case o.File != "" && e.Origin.Pos.Line > 0:
			fmt.Fprintf(&b, " (%s:%d)", o.File, e.Origin.Pos.Line)
		case o.File != "":
			fmt.Fprintf(&b, " (%s)", o.File)
		}
	}
	if e.Others > 0 {
		fmt.Fprintf(&b, "; %d more refused", e.Others)
	}
	if e.Skipped != "" {
		fmt.Fprintf(&b, "; %s skipped", e.Skipped)
	}
	return b.String()
}

// Unwrap gives the errno to errors.Is.
func (e *OpError) Unwrap() error { return e.Err }

// opErrors makes the error for the failures of one call that sent ops from
// offset on, of which attempted were tried.
func opErrors(ops []plan.Op, offset, attempted int, failed []*netstate.ChangeError) error {
	first := failed[0]
	for _, f := range failed {
		if f.Index < first.Index {
			first = f
		}
	}
	at := offset + first.Index
	if first.Index < 0 || at >= len(ops) {
		return fmt.Errorf("the kernel refused operation %d of %d: %w", at+1, len(ops), first.Err)
	}
	op := &ops[at]
	verb, object := name(&op.Change)
	return &OpError{Op: verb, Object: object, Err: first.Err, KernelMsg: first.Msg, Origin: op.Origin,
		Others: len(failed) - 1, Skipped: counted(ops[offset+attempted:])}
}

// name gives a change in words: the verb, and the object in text form.
func name(c *netstate.Change) (verb, object string) {
	switch c.Verb {
	case netstate.Replace:
		verb = "replace"
	case netstate.Delete:
		verb = "delete"
	default:
		verb = "add"
	}
	switch {
	case c.Rule != nil:
		object = c.Rule.String()
	case c.Route != nil:
		object = c.Route.String()
	case c.Nexthop != nil:
		object = c.Nexthop.String()
	case c.Sysctl != nil:
		verb, object = "set", c.Sysctl.String()
	case c.Link != nil:
		object = plan.LinkText(c.Link, nil)
		if c.Verb == netstate.Replace {
			verb = "set"
		}
	case c.Nft != nil:
		object = plan.NftName(c.Nft)
	}
	return verb, object
}

// counted says how many dependent ops there are, by their kind where they have
// one in common.
func counted(ops []plan.Op) string {
	if len(ops) == 0 {
		return ""
	}
	kind := kindOf(&ops[0].Change)
	for i := range ops {
		if kindOf(&ops[i].Change) != kind {
			kind = "operation"
		}
	}
	if len(ops) > 1 {
		kind += "s"
	}
	return fmt.Sprintf("%d dependent %s", len(ops), kind)
}

func kindOf(c *netstate.Change) string {
	switch {
	case c.Rule != nil:
		return "rule"
	case c.Route != nil:
		return "route"
	case c.Nexthop != nil:
		return "next hop"
	case c.Link != nil:
		return "link"
	case c.Nft != nil:
		return "nftables table"
	}
	return "sysctl"
}

// maxListed is how many differences a message names.
const maxListed = 8

// DiffError says that everything was written, and that the kernel still does not
// hold what is wanted: somebody else changes the same objects, or the kernel
// reads a value otherwise than viarule.
type DiffError struct {
	Rest plan.Plan // what is left to do
}

// Error lists what is missing or too much.
func (e *DiffError) Error() string {
	return "the kernel took every change and then held something else; still to do: " + listed(&e.Rest)
}

// UndoError says that the way back did not work to the end.
type UndoError struct {
	Rest plan.Plan // what is left to do; empty where that could not be found out
	Err  error     // the first refusal; may be nil
}

// Error says what is left.
func (e *UndoError) Error() string {
	s := "the undo failed too"
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if len(e.Rest.Ops)+len(e.Rest.Conflicts) > 0 {
		s += "; still to undo: " + listed(&e.Rest)
	}
	return s
}

// Unwrap gives the cause.
func (e *UndoError) Unwrap() error { return e.Err }

// listed names the first operations and conflicts of a plan.
func listed(p *plan.Plan) string {
	var parts []string
	for i := 0; i < len(p.Ops) && len(parts) < maxListed; i++ {
		parts = append(parts, p.Ops[i].Brief())
	}
	for i := 0; i < len(p.Conflicts) && len(parts) < maxListed; i++ {
		parts = append(parts, found(&p.Conflicts[i]))
	}
	s := strings.Join(parts, ", ")
	if more := len(p.Ops) + len(p.Conflicts) - len(parts); more > 0 {
		s += fmt.Sprintf(", and %d more", more)
	}
	return s
}

// found gives a finding in words: the object and what is with it.
func found(f *plan.Finding) string {
	switch {
	case f.Rule != nil:
		return f.Rule.String() + ": " + f.What
	case f.Route != nil:
		return f.Route.String() + ": " + f.What
	case f.Link != nil:
		return plan.LinkText(f.Link, nil) + ": " + f.What
	case f.Nft != nil:
		return plan.NftName(f.Nft) + ": " + f.What
	}
	return f.What
}
