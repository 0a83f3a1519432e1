package plan

import (
	"slices"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// group is what stands, and what shall stand, at one priority of one family.
type group struct {
	priority uint32
	cur      []entry  // the kernel's list
	want     []target // the wanted rules in order
	span     *span    // the tree that it belongs to; nil: none
	hidden   bool     // of a tree in use: no packet comes to the group as it stands
	exact    bool     // an undo: what was is put back even where its order cannot be

	// The edit, by solve: adds are appended in order, then dels go in order.
	adds []*target
	dels []int // indexes of cur
	// safe: after the adds, and after each of the dels, every packet that comes
	// to the group meets its old or its new decision.
	safe bool
}

// entry is a rule that stands.
type entry struct {
	rule *netstate.Rule
	kind entryKind
	// first is, of what is deletable, the index of the first entry with an equal rule.
	first int
}

type entryKind uint8

const (
	foreign entryKind = iota // never touched
	kept                     // ours by mark, but it stays whatever is wanted
	mine                     // ours; what is not wanted goes
	taken                    // foreign, goes in favour of a rule of ours
)

func (k entryKind) deletable() bool { return k == mine || k == taken }

// target is a wanted rule.
type target struct {
	*desired.Rule
	pin     int  // index of the foreign entry that provides it, or -1
	blocked bool // a foreign rule is in the way
}

// wanted says whether viarule is to see to it that the rule stands.
func (t *target) wanted() bool { return t.pin < 0 && !t.blocked }

// problem is something that solve could not do.
type problem struct {
	want *target // cannot be had,
	with *entry  // because of this one; where want is nil, this one cannot be removed
	what string
}

// solve works out the edit of a group. The kernel can only append to a priority,
// and delete the first rule that agrees with a message. So
//
//   - the longest head of what is wanted that stands in this order is kept;
//   - the rest is appended: packets that what stands decides do not come to it,
//     for the others it is the new way;
//   - what is not kept is deleted from the back: what is left of the old rules
//     decides as it did, and what they do not decide meets the new ones.
//
// Of equal rules the kernel takes the first, so the copies that are kept are the
// last. A rule that would be taken in place of the one meant goes before it, and
// where it shall stay it is appended once more, so that it can.
func (g *group) solve(report func(problem)) {
	if len(g.cur) == 0 {
		g.safe = true
		g.adds = make([]*target, len(g.want))
		for i := range g.want {
			g.adds[i] = &g.want[i]
		}
		return
	}
	where := g.positions()
	for {
		limit := len(g.want)
		for {
			keep, n := g.keepHead(limit, where)
			cut, stuck := g.orderDeletes(keep)
			switch {
			case stuck != nil:
				report(*stuck)
				where = g.positions()
			case cut >= 0:
				limit = cut
				continue
			default:
				g.adds = g.adds[:0]
				for i := n; i < len(g.want); i++ {
					if g.want[i].wanted() {
						g.adds = append(g.adds, &g.want[i])
					}
				}
				bad := g.misplaced(keep, n)
				if bad == nil {
					return
				}
				report(*bad)
				where = g.positions()
			}
			break
		}
	}
}

// positions gives the indexes of our entries by rule, and sets entry.first.
func (g *group) positions() map[netstate.Rule][]int {
	where := make(map[netstate.Rule][]int, len(g.cur))
	for i := range g.cur {
		e := &g.cur[i]
		e.first = i
		if e.kind.deletable() {
			at := append(where[*e.rule], i)
			where[*e.rule], e.first = at, at[0]
		}
	}
	return where
}

// keepHead returns how many of the first limit wanted rules can stay where they
// are, and for each entry the index of the wanted rule that it stays for, or -1.
func (g *group) keepHead(limit int, where map[netstate.Rule][]int) (keep []int, n int) {
	keep = make([]int, len(g.cur))
	for {
		for i := range keep {
			keep[i] = -1
		}
		n = g.tryKeep(limit, where, keep)
		if n == limit {
			return keep, n
		}
		limit = n
	}
}

func (g *group) tryKeep(limit int, where map[netstate.Rule][]int, keep []int) int {
	copies := make(map[netstate.Rule]int) // how many are still to be kept
	for i := range g.want[:limit] {
		if g.want[i].wanted() {
			copies[g.want[i].Rule.Rule]++
		}
	}
	last := -1
	for i := range g.want[:limit] {
		t := &g.want[i]
		if !t.wanted() {
			continue
		}
		at := where[t.Rule.Rule]
		c := copies[t.Rule.Rule]
		if c > len(at) {
			return i
		}
		pos := at[len(at)-c]
		if pos <= last || g.beforePin(i, pos) {
			return i
		}
		copies[t.Rule.Rule]--
		keep[pos], last = i, pos
	}
	return limit
}

// beforePin says whether the entry at pos stands before a foreign one that
// provides a wanted rule which must come before want[i].
func (g *group) beforePin(i, pos int) bool {
	for j := range g.want[:i] {
		if p := g.want[j].pin; p > pos && !commute(g.cur[p].rule, g.cur[pos].rule) {
			return true
		}
	}
	return false
}

// orderDeletes orders the deletion of all that is not kept. A cut that is not
// negative says that want[cut:] must be appended anew; stuck, that an entry cannot
// be deleted and has been made one that stays.
func (g *group) orderDeletes(keep []int) (cut int, stuck *problem) {
	g.dels, g.safe = g.dels[:0], true
	var pending []int
	gone := make([]bool, len(g.cur))
	for i := range g.cur {
		if g.cur[i].kind.deletable() && keep[i] < 0 {
			pending = append(pending, i)
		}
	}
	// From the back; copies of one rule count as one, where the first stands.
	slices.SortStableFunc(pending, func(a, b int) int { return g.cur[b].first - g.cur[a].first })
	for len(pending) > 0 {
		next := -1
		for _, x := range pending {
			hit := g.firstHit(x, gone)
			switch {
			case keep[hit] >= 0:
				return keep[hit], nil
			case !g.cur[hit].kind.deletable():
				return -1, g.setStuck(x, hit)
			case *g.cur[hit].rule == *g.cur[x].rule:
				next = hit
			}
			if next >= 0 {
				break
			}
			// What is hit goes too, so it goes first.
		}
		// The first that is pending is hit by its own message, so there is a next.
		gone[next] = true
		pending = slices.DeleteFunc(pending, func(x int) bool { return x == next })
		g.dels = append(g.dels, next)
		g.safe = g.safe && !slices.ContainsFunc(pending, func(x int) bool {
			return g.cur[x].first > next && !commute(g.cur[x].rule, g.cur[next].rule)
		})
	}
	return -1, nil
}

// firstHit returns the entry that the kernel would delete if it was told to
// delete x. What is appended stands behind x and cannot be it.
func (g *group) firstHit(x int, gone []bool) int {
	for i := range g.cur[:x] {
		if !gone[i] && hits(g.cur[x].rule, g.cur[i].rule) {
			return i
		}
	}
	return x
}

// setStuck makes x stay, because a delete of it would take hit, which stays.
func (g *group) setStuck(x, hit int) *problem {
	e := &g.cur[x]
	if e.kind == mine {
		e.kind = kept
		return &problem{with: e, what: "it cannot be removed: the kernel would remove `" + g.cur[hit].rule.String() + "` in its place"}
	}
	e.kind = foreign
	for i := range g.want {
		if t := &g.want[i]; sameRuleButMark(&t.Rule.Rule, e.rule) {
			t.pin = x
			return &problem{want: t, with: e, what: "it cannot be taken over: the kernel would remove `" + g.cur[hit].rule.String() + "` in its place"}
		}
	}
	return &problem{with: e, what: "it cannot be taken over"}
}

// misplaced finds a wanted rule that would end up behind a foreign one that
// provides a later one, where their order counts, and blocks it.
func (g *group) misplaced(keep []int, n int) *problem {
	if g.exact {
		return nil
	}
	for j := range g.want {
		p := g.want[j].pin
		if p < 0 {
			continue
		}
		for i := range g.want[:j] {
			t := &g.want[i]
			if !t.wanted() || commute(&t.Rule.Rule, g.cur[p].rule) {
				continue
			}
			if i < n && slices.Index(keep[:p], i) >= 0 {
				continue
			}
			t.blocked = true
			for x := range g.cur {
				if g.cur[x].kind == mine && *g.cur[x].rule == t.Rule.Rule {
					g.cur[x].kind = kept
				}
			}
			return &problem{want: t, with: &g.cur[p], what: "a foreign rule of the same priority stands before it, and their order counts"}
		}
	}
	return nil
}
