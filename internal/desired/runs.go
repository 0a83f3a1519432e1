package desired

import (
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// selector is the prefix in which the rules of the run differ.
func (r *run) selector(x *netstate.Rule) *netip.Prefix { return selector(x, r.byTo) }

func selector(x *netstate.Rule, byTo bool) *netip.Prefix {
	if byTo {
		return &x.To
	}
	return &x.From
}

// template is what the rules of a run have in common.
func template(r *netstate.Rule, byTo bool) netstate.Rule {
	t := *r
	*selector(&t, byTo) = netip.Prefix{}
	t.Table, t.Priority = 0, 0
	return t
}

// compilable says whether the rule can be part of a run. A rule with `not`, or
// one that selects all addresses, would be in every group. Where a goto may lead
// depends on its own place; a nop can be the target of one.
func compilable(r *netstate.Rule, byTo bool) bool {
	return !r.Not && selector(r, byTo).IsValid() && r.Action != netstate.Goto && r.Action != netstate.Nop
}

// runLength counts the rules from the first on that are one run.
func runLength(rules []rule, byTo bool) int {
	if !compilable(&rules[0].Rule, byTo) {
		return 0
	}
	t := template(&rules[0].Rule, byTo)
	n := 1
	for n < len(rules) && compilable(&rules[n].Rule, byTo) && template(&rules[n].Rule, byTo) == t {
		n++
	}
	return n
}

// nextRun cuts rules: plain ones, and then a run that is long enough to be
// compiled, which is empty at the end.
func nextRun(rules []rule) (plain []rule, compiled []rule, byTo bool) {
	for i := range rules {
		from, to := runLength(rules[i:], false), runLength(rules[i:], true)
		if n := max(from, to); n >= minRun {
			return rules[:i], rules[i : i+n], to > from
		}
	}
	return rules, nil, false
}
