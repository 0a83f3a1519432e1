package desired

import (
	"cmp"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// slot is what needs a place of its own in the band: a rule, or a tree.
type slot struct {
	rules []rule     // one, or a run
	run   *candidate // nil: a plain rule

	at     span // where it is put; of a rule one priority
	stands span // where it stands now
	order  int  // in the kernel's list, where it stands; -1: it does not
	kept   bool
}

// weight is what it costs to move the slot.
func (s *slot) weight() int { return len(s.rules) }

// band places the rules without a priority. What stands stays where it is, as
// far as the order allows, and what is new goes between.
type band struct {
	span
	slots []slot
	// forRules are priorities that no rule may have, forTrees such that no tree
	// may have.
	forRules, forTrees spans
	// plain are our rules that stand in the band, trees excepted, by what they are
	// but for their priority; standing are the priorities of all of them, sorted.
	plain    map[netstate.Rule]standingRule
	standing []uint32
	lists    [][]rule // runs for whose trees there is no room
}

// findKept marks the slots that stay: of those that stand in the right order the
// most by weight (a heaviest increasing subsequence).
func (b *band) findKept() {
	type best struct{ weight, slot int }
	var standing []int // slots, by the kernel's order
	for i := range b.slots {
		b.slots[i].kept = false
		if b.slots[i].order >= 0 {
			standing = append(standing, i)
		}
	}
	rank := make(map[int]int, len(standing))
	sorted := slices.Clone(standing)
	slices.SortFunc(sorted, func(x, y int) int { return cmp.Compare(b.slots[x].order, b.slots[y].order) })
	for r, i := range sorted {
		rank[i] = r + 1
	}
	// tops is a Fenwick tree over ranks: the heaviest chain that ends at or below.
	tops := make([]best, len(standing)+1)
	before := make([]int, len(b.slots))
	last := best{0, -1}
	for _, i := range standing {
		top := best{0, -1}
		for r := rank[i] - 1; r > 0; r -= r & -r {
			if tops[r].weight > top.weight {
				top = tops[r]
			}
		}
		before[i] = top.slot
		mine := best{top.weight + b.slots[i].weight(), i}
		for r := rank[i]; r < len(tops); r += r & -r {
			if mine.weight > tops[r].weight {
				tops[r] = mine
			}
		}
		if mine.weight > last.weight {
			last = mine
		}
	}
	for i := last.slot; i >= 0; i = before[i] {
		b.slots[i].kept, b.slots[i].at = true, b.slots[i].stands
	}
}

// place gives every slot its priorities. Where the new ones find no room between
// two that stay, the lighter of these moves as well, and so on. Trees that stand
// move only if moveTrees says so.
func (b *band) place(moveTrees bool) bool {
	b.findKept()
	for first := 0; first < len(b.slots); {
		if b.slots[first].kept {
			first++
			continue
		}
		last := first
		for last+1 < len(b.slots) && !b.slots[last+1].kept {
			last++
		}
		for !b.fit(first, last) {
			left, right := first > 0, last+1 < len(b.slots)
			canMove := func(s *slot) bool { return s.run == nil || moveTrees }
			left, right = left && canMove(&b.slots[first-1]), right && canMove(&b.slots[last+1])
			switch {
			case !left && !right:
				return false
			case left && (!right || b.slots[first-1].weight() < b.slots[last+1].weight()):
				b.slots[first-1].kept = false
			default:
				b.slots[last+1].kept = false
			}
			for first > 0 && !b.slots[first-1].kept {
				first--
			}
			for last+1 < len(b.slots) && !b.slots[last+1].kept {
				last++
			}
		}
		first = last + 1
	}
	return true
}

// fit places the slots from first to last between the two that stay around them.
func (b *band) fit(first, last int) bool {
	room := b.span
	var prev, next *slot
	if first > 0 {
		prev = &b.slots[first-1]
		room.first = prev.at.last + 1
	}
	if last+1 < len(b.slots) {
		next = &b.slots[last+1]
		room.last = next.at.first - 1
	}
	slots := b.slots[first : last+1]
	if room.first <= room.last {
		if b.reuse(slots, room) {
			return true
		}
		// The more there is to place, the closer; at last several rules share a
		// priority, which the kernel keeps in the order of their adding.
		for _, step := range [...]uint32{10, 5, 2, 1} {
			if b.spread(slots, room, step, 1) {
				return true
			}
		}
	}
	lead := 0
	for prev != nil && prev.run == nil && lead < len(slots) && slots[lead].run == nil {
		slots[lead].at = prev.at
		lead++
	}
	if lead == len(slots) || room.first <= room.last && b.spread(slots[lead:], room, 1, 1) {
		return true
	}
	if next != nil && next.run == nil && !slices.ContainsFunc(slots, func(s slot) bool { return s.run != nil }) {
		for i := range slots {
			slots[i].at = next.at
		}
		return true
	}
	for share := 2; room.first <= room.last && share < 2*len(slots); share *= 2 {
		if b.spread(slots, room, 1, share) {
			return true
		}
	}
	return false
}

// reuse puts rules to where as many rules of ours go: then a changed rule keeps
// its priority.
func (b *band) reuse(slots []slot, room span) bool {
	lo, _ := slices.BinarySearch(b.standing, room.first)
	hi, _ := slices.BinarySearch(b.standing, room.last+1)
	going := b.standing[lo:hi]
	if len(going) != len(slots) {
		return false
	}
	for i := range slots {
		if slots[i].run != nil {
			return false
		}
		if _, taken := b.forRules.meets(span{going[i], going[i]}); taken {
			return false
		}
	}
	for i := range slots {
		slots[i].at = span{going[i], going[i]}
	}
	return true
}

// spread places the slots in the room, step apart, share rules to a priority.
func (b *band) spread(slots []slot, room span, step uint32, share int) bool {
	next := room.first // the first priority that is not behind us
	shared := 0
	for i := range slots {
		s := &slots[i]
		if s.run != nil {
			size := s.run.new().size()
			at, ok := b.forTrees.free(span{next, room.last}, size)
			if !ok {
				return false
			}
			s.at = span{at, at + size - 1}
			next, shared = s.at.last+1, 0
			continue
		}
		if shared > 0 && shared < share {
			s.at = slots[i-1].at
			shared++
			continue
		}
		from := next
		if from == b.first && step > 1 {
			from++ // room for one in front of the first
		}
		at := (from + step - 1) / step * step
		at, ok := b.forRules.free(span{at, room.last}, 1)
		if !ok {
			return false
		}
		s.at = span{at, at}
		next, shared = at+1, 1
	}
	return true
}
