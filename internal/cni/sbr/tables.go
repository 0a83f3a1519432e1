package sbr

import (
	"fmt"
	"slices"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/srcroute"
)

// rulesAround finds the tables that rules, VRFs and records name, and the priority that
// the kernel would give to a rule without one: one less than the second rule has
// (fib_default_rule_pref).
func (s *session) rulesAround(f *srcroute.Facts) (used *tableSet, err error) {
	var (
		seen [2]int
		last uint32
	)
	_, err = s.view.Rules(s.ctx, func() {
		used, seen, last = &tableSet{}, [2]int{}, 0
		f.Priority = [2]uint32{srcroute.LastPriority, srcroute.LastPriority}
	}, func(h *kernel.RuleHead) bool {
		if h.Table != last { // most rules lead where the one before does
			last = h.Table
			used.add(last)
		}
		i := slices.Index(netstate.Families[:], h.Family)
		if seen[i]++; seen[i] == 2 && h.Priority > 0 {
			f.Priority[i] = h.Priority - 1
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	for i := range s.view.Links {
		used.add(s.view.Links[i].VRFTable)
	}
	for i := range s.records.List {
		for _, t := range s.records.List[i].Tables {
			used.add(t)
		}
	}
	return used, nil
}

// tableSet is a set of tables. Those of pods have low numbers, which are a bit each: to
// put ten thousand of them into a map takes a tenth of an ADD's time.
type tableSet struct {
	low  [1024]uint64
	high map[uint32]bool // those that have no bit
}

func (s *tableSet) add(t uint32) {
	switch i := t / 64; {
	case i < uint32(len(s.low)):
		s.low[i] |= 1 << (t % 64)
	case s.high == nil:
		s.high = map[uint32]bool{t: true}
	default:
		s.high[t] = true
	}
}

func (s *tableSet) has(t uint32) bool {
	if i := t / 64; i < uint32(len(s.low)) {
		return s.low[i]&(1<<(t%64)) != 0
	}
	return s.high[t]
}

// freeTables chooses n tables that nothing names and that have no routes.
func (s *session) freeTables(c *config, n int, used *tableSet) ([]uint32, error) {
	first, last := srcroute.FirstTable, srcroute.LastTable
	if c.Own {
		first, last = srcroute.FirstOwnTable, srcroute.LastOwnTable
	}
	var free []uint32
	asked := false
	for t := first; len(free) < n; t++ {
		switch {
		case t > last:
			return nil, fmt.Errorf("every table from %d to %d is in use in this namespace", first, last)
		case used.has(t) || t >= netstate.TableDefault && t <= netstate.TableLocal:
			continue
		}
		some, err := s.hasRoutes(t)
		if err != nil {
			return nil, err
		}
		if !some {
			free = append(free, t)
			continue
		}
		if !asked {
			// Where one table has routes and no rule, many may.
			asked = true
			if err := s.view.RouteTables(s.ctx, used.add); err != nil {
				return nil, err
			}
		}
	}
	return free, nil
}

func (s *session) hasRoutes(table uint32) (bool, error) {
	for _, f := range netstate.Families {
		routes, err := s.view.Routes(s.ctx, f, table, "")
		if err != nil || len(routes) > 0 {
			return true, err
		}
	}
	return false, nil
}
