package host

import (
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/spec"
)

// Validate judges objects by what is known without a look at the kernel: what
// they say, and which priorities programs that are
// found on many hosts use. (A plan looks for those programs themselves.)
func Validate(objects []spec.Object) []spec.Problem {
	k := known(nil) // no names: the objects may be for another host
	k.Neighbour = func(priority uint32) string {
		for _, n := range owner.PriorityHolders(priority) {
			return n.Name
		}
		return ""
	}
	return spec.Validate(objects, k)
}

// known is what spec.Validate may know of the host.
func known(tables map[string]uint32) spec.Known {
	band := owner.Objects().Priorities
	return spec.Known{Tables: tables, First: band.First, Last: band.Last}
}
