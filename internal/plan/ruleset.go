package plan

import "github.com/viarule/viarule/internal/netstate"

// ruleSet is a set of the rules of one priority. There are seldom many, and then
// looking at each is faster than hashing 200 bytes.
type ruleSet struct {
	list []*netstate.Rule
	m    map[netstate.Rule]bool
}

// fewRules is up to how many rules are looked at one by one.
const fewRules = 64

func newRuleSet(size int) ruleSet {
	if size > fewRules {
		return ruleSet{m: make(map[netstate.Rule]bool, size)}
	}
	return ruleSet{list: make([]*netstate.Rule, 0, size)}
}

func (s *ruleSet) has(r *netstate.Rule) bool {
	if s.m != nil {
		return s.m[*r]
	}
	for _, o := range s.list {
		if o.From == r.From && *o == *r {
			return true
		}
	}
	return false
}

// add puts r into the set and says whether it was not there. The set holds no
// more than the size it was made for.
func (s *ruleSet) add(r *netstate.Rule) bool {
	if s.has(r) {
		return false
	}
	if s.m != nil {
		s.m[*r] = true
	} else {
		s.list = append(s.list, r)
	}
	return true
}
