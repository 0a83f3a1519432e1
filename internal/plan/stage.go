package plan

import (
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// The stages of a plan, in the order in which they are sent. New before old:
// whatever the old way needs goes only when all of the new way stands.
const (
	stageLinksAway        = 1 + iota // links that must make way for the new ones
	stageLinks                       // routes go by them, and they have sysctls
	stageAccepts                     // what the routes bring passes the chains of others
	stageEarlySysctls                // and is forwarded
	stageLinkRoutes                  // a gateway must be on a link when a route by it is added
	stageGatewayRoutes               // and a table is filled before a rule looks it up
	stageEnds                        // the nop that a tree ends in, so that its gate finds it
	stageGates                       // gates before trees that are not complete
	stageHidden                      // rules that no packet meets yet, downward: behind gates and leaf ends
	stageOpen                        // new rules upward, and gates that go: trees begin to count
	stageSysctls                     // the new values
	stageNft                         // packets get new marks when all that these lead to stands, and old ones no more
	stageClose                       // old rules downward, and gates before trees that go: they cease to count
	stageOldTrees                    // upward, behind their gates
	stageOldGates                    // what they jump to still stands
	stageOldEnds                     // the nop that they jumped to
	stageOldGatewayRoutes            // nothing looks the tables up any more
	stageOldLinkRoutes               // and nothing goes by a gateway on these links
	stageOldAccepts                  // nothing gets there any more
	stageRestore                     // sysctls that nobody wants any more: what needed them is gone
	stageOldLinks                    // they would take all that is on them along
	numStages
)

// stages collects the ops of a plan by stage.
type stages [numStages][]Op

func (s *stages) add(stage int, op Op) {
	op.Stage = stage
	if n := len(s[stage]); n == cap(s[stage]) {
		s[stage] = slices.Grow(s[stage], max(n, 64)) // append grows a long list in small steps
	}
	s[stage] = append(s[stage], op)
}

// list gives all ops in order.
func (s *stages) list() []Op {
	n := 0
	for i := range s {
		n += len(s[i])
	}
	if n == 0 {
		return nil
	}
	var ops []Op
	for i := range s {
		if len(s[i]) == n {
			return s[i]
		}
		if ops == nil {
			ops = make([]Op, 0, n)
		}
		ops = append(ops, s[i]...)
	}
	return ops
}

// reserved says whether a priority is one of the kernel's own rules, which
// viarule never changes.
func reserved(priority uint32) bool {
	return priority == 0 || priority == 32766 || priority == 32767
}

// ours says whether a mark is the one that viarule gives to what it makes for
// objects.
func ours(protocol uint8) bool { return protocol == netstate.ProtocolObject }

// adoptable says whether what bears a foreign mark may be taken over. What the kernel
// made it also removes by itself, and what a CNI plugin made is undone by its record.
func adoptable(protocol uint8) bool {
	return protocol != netstate.ProtocolKernel && protocol != netstate.ProtocolCNI
}

// byLength gives ops on routes sorted by family and by the length of the prefix,
// the longest first, those of one length in the order in which they stand. So no
// packet falls from a route that stands to a shorter one that is new while the
// route that is to decide is still missing.
func byLength(ops []Op) []Op {
	rank := func(op *Op) int {
		n := 128 - op.Route.To.Bits()
		if op.Route.Family == netstate.IPv6 {
			n += 130
		}
		return n
	}
	var first [2*130 + 1]int // of each rank, in the sorted list
	sorted, last := true, 0
	for i := range ops {
		r := rank(&ops[i])
		sorted, last = sorted && last <= r, r
		first[r+1]++
	}
	if sorted {
		return ops
	}
	for i := 1; i < len(first); i++ {
		first[i] += first[i-1]
	}
	out := make([]Op, len(ops))
	for i := range ops {
		r := rank(&ops[i])
		out[first[r]] = ops[i]
		first[r]++
	}
	return out
}
