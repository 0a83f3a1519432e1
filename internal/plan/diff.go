package plan

import (
	"slices"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// Diff works out what leads from in.Have to in.Want. It never fails: what cannot
// or must not be done is among the plan's findings. The plan points into in,
// which must not be changed while it is in use.
//
// Whatever op of the plan is the last one that is carried out, Diff of the state
// then leads on to in.Want, and Undo leads back.
func Diff(in Input) Plan {
	p := Plan{}
	var s stages
	away := diffLinks(&p, &s, in.Want.Links, &in.Have, in.Spare.Links, func(l *netstate.Link) bool {
		return !in.Spare.Links[l.Name] && (in.Prune || in.Recorded.Links[l.Name])
	})
	diffRoutes(&p, &s, in.Want.Routes, withoutLinks(&in.Have, away), in.Adopt, func(r *netstate.Route) bool {
		return !in.Spare.Routes[r.Key()] && (in.Prune || in.Recorded.Routes[r.Key()])
	})
	rules := ruleDiff{p: &p, s: &s, listed: in.Want.Listed, adopt: in.Adopt, mayDrop: func(r *netstate.Rule) bool {
		return !in.Spare.Rules[*r] && (in.Prune || in.Recorded.Rules[*r])
	}}
	rules.families(in.Have.Rules, in.Want.Rules, func(f netstate.Family) []span { return wantedSpans(in.Want.Trees, f) })
	diffSysctls(&s, &in, away)
	if in.Want.Nft != nil || !in.Spare.Nft {
		diffNft(&p, &s, in.Want.Nft, in.Have.Nft, in.Prune || in.Recorded.Nft)
	}
	diffAccepts(&p, &s, in.Want.Accepts, in.Have.Forward,
		func(object string) bool { return in.Prune || in.Recorded.Objects[object] },
		func(object string) bool { return in.Spare.Objects[object] })
	for i := range in.Want.Blocked {
		b := &in.Want.Blocked[i]
		p.Blocked = append(p.Blocked, Finding{Text: b.Object, What: b.What, Origin: b.Origin})
	}
	p.Ops = s.list()
	// What is spared has an owner: to call it an orphan would invite to remove it.
	p.Orphans = slices.DeleteFunc(p.Orphans, func(f Finding) bool {
		return f.Rule != nil && in.Spare.Rules[*f.Rule] || f.Route != nil && in.Spare.Routes[f.Route.Key()]
	})
	return p
}

// families runs the diff once for each family.
func (d *ruleDiff) families(have []netstate.Rule, want []desired.Rule, spans func(netstate.Family) []span) {
	have4, have6 := sortRules(have, func(r *netstate.Rule) *netstate.Rule { return r })
	want4, want6 := sortRules(want, func(r *desired.Rule) *netstate.Rule { return &r.Rule })
	for _, f := range netstate.Families {
		one := *d
		one.have, one.want, one.spans = have4, want4, spans(f)
		if f == netstate.IPv6 {
			one.have, one.want = have6, want6
		}
		one.run()
	}
}

// wantedSpans gives the spans of a family's trees by priority.
func wantedSpans(trees []desired.Tree, f netstate.Family) []span {
	var spans []span
	for i := range trees {
		if t := &trees[i]; t.Family == f && t.Gate < t.End {
			spans = append(spans, span{family: f, gate: t.Gate, end: t.End, origin: t.Origin, rules: t.Rules})
		}
	}
	return apartSpans(spans)
}

// apartSpans sorts spans and leaves out those that overlap an earlier one.
func apartSpans(spans []span) []span {
	slices.SortStableFunc(spans, func(a, b span) int { return int(int64(a.gate) - int64(b.gate)) })
	out := spans[:0]
	for _, sp := range spans {
		if len(out) == 0 || out[len(out)-1].end < sp.gate {
			out = append(out, sp)
		}
	}
	return out
}

// diffSysctls sets what is wanted and puts back what nobody wants any more. away
// are links that go first: those that are made again begin with values that
// nobody knows, and the others have none.
func diffSysctls(s *stages, in *Input, away map[string]string) {
	wanted := make(map[string]bool)
	for i := range in.Want.Sysctls {
		if v := &in.Want.Sysctls[i]; !wanted[v.Key] {
			wanted[v.Key] = true
			stage := stageSysctls
			if v.Early {
				stage = stageEarlySysctls
			}
			setSysctl(s, stage, &v.Sysctl, in.Sysctls, away, Op{Reason: "value changed", Origin: v.Origin})
		}
	}
	for i := range in.Restore {
		if v := &in.Restore[i]; !wanted[v.Key] && away[sysctlLink(v.Key)] == "" {
			wanted[v.Key] = true
			setSysctl(s, stageRestore, v, in.Sysctls, away, Op{Reason: "put back: nobody wants it any more"})
		}
	}
}

// setSysctl adds op, which sets v, to a stage unless v has its value.
func setSysctl(s *stages, stage int, v *netstate.Sysctl, present map[string]string, away map[string]string, op Op) {
	old, known := present[v.Key]
	known = known && away[sysctlLink(v.Key)] == ""
	if known && old == v.Value {
		return
	}
	op.Change = netstate.Change{Verb: netstate.Replace, Sysctl: v}
	if known {
		op.BeforeSysctl = &netstate.Sysctl{Key: v.Key, Value: old}
	}
	s.add(stage, op)
}
