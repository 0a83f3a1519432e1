package plan

import (
	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
)

// diffAccepts adds to s what leads from the accepts in forward chains of others to the
// wanted ones. New ones come before the routes by which packets get there, and old
// ones go behind them. A wanted one whose chain has gone needs nothing. What has a
// comment of viarule's and does something else is left alone, and told.
//
// mayDrop and spare are asked about the object that a comment names.
func diffAccepts(p *Plan, s *stages, want []desired.Accept, have []netstate.ForwardChain, mayDrop, spare func(object string) bool) {
	for i := range have {
		d := acceptDiff{p: p, s: s, c: &have[i], wanted: map[netstate.Accept]bool{}}
		for j := range want {
			if w := &want[j]; w.NftName == d.c.NftName && !d.wanted[w.Accept] {
				d.wanted[w.Accept] = true
				d.want(w)
			}
		}
		d.drop(mayDrop, spare)
	}
}

// acceptDiff is the diff of one chain.
type acceptDiff struct {
	p      *Plan
	s      *stages
	c      *netstate.ForwardChain
	wanted map[netstate.Accept]bool
}

// want adds an accept that is not there. A rule of somebody else's that does the same
// will do.
func (d *acceptDiff) want(w *desired.Accept) {
	if d.c.Find(&w.Accept) >= 0 {
		return
	}
	for i := range d.c.Rules {
		there, ok := d.c.Accept(i)
		if ok && there.In == w.In && there.Out == w.Out && owner.Accept(&there) != owner.Ours {
			d.p.Satisfied = append(d.p.Satisfied, Finding{Accept: &there, Origin: w.Origin, What: "a rule of somebody else's does the same"})
			return
		}
	}
	d.s.add(stageAccepts, Op{Change: netstate.Change{Verb: netstate.Add, Accept: &w.Accept}, Reason: "new", Origin: w.Origin})
}

// drop removes what is ours and not wanted, and of each that is wanted all copies but
// one.
func (d *acceptDiff) drop(mayDrop, spare func(string) bool) {
	seen := map[netstate.Accept]bool{}
	for i := range d.c.Rules {
		object := d.c.Rules[i].Object()
		a, ok := d.c.Accept(i)
		switch {
		case object == "":
		case !ok || owner.Accept(&a) != owner.Ours:
			if !spare(object) {
				d.p.Orphans = append(d.p.Orphans, Finding{Text: d.c.NftName.String() + " " + d.c.Rules[i].String(), What: "its comment is viarule's, and it is not what viarule writes: left as it is"})
			}
		case d.wanted[a] && !seen[a]:
			seen[a] = true
		case d.wanted[a]:
			d.delete(&a, "another copy stands in its place")
		case spare(object):
		case mayDrop(object):
			d.delete(&a, "not wanted any more")
		default:
			d.p.Orphans = append(d.p.Orphans, Finding{Accept: &a, What: "no record says whose it is"})
		}
	}
}

func (d *acceptDiff) delete(a *netstate.Accept, why string) {
	d.s.add(stageOldAccepts, Op{Change: netstate.Change{Verb: netstate.Delete, Accept: a}, Reason: why})
}

// ownAccepts lists the accepts that are ours by their comments, each copy.
func ownAccepts(chains []netstate.ForwardChain) []netstate.Accept {
	var out []netstate.Accept
	for i := range chains {
		for j := range chains[i].Rules {
			if a, ok := chains[i].Accept(j); ok && owner.Accept(&a) == owner.Ours {
				out = append(out, a)
			}
		}
	}
	return out
}

// undoAccepts leads back to those of a checkpoint, each once.
func undoAccepts(p *Plan, s *stages, was []netstate.Accept, have []netstate.ForwardChain) {
	want := make([]desired.Accept, len(was))
	for i := range was {
		want[i].Accept = was[i]
	}
	diffAccepts(p, s, want, have, func(string) bool { return true }, func(string) bool { return false })
}
