package desired

import (
	"slices"

	"github.com/viarule/viarule/internal/external"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// standIn says for which object of a user another one stands in, with a Policy that
// it was lowered to, and which part of it a position in that Policy is.
type standIn struct {
	object *spec.Object
	path   func(spec.Pos) string
}

// stand has an object with this Policy stand in for the user's.
func (b *builder) stand(o *spec.Object, p *spec.RoutingPolicy, path func(spec.Pos) string) {
	if b.lowered == nil {
		b.lowered = map[*spec.Object]standIn{}
	}
	in := *o
	in.Policy = p
	b.lowered[&in] = standIn{o, path}
	b.objs = append(b.objs, &in)
}

// lowerExternal turns the ExternalNetworks into objects with a Policy, which take
// the way of all others from here on. restoreOrigins ends it.
func (b *builder) lowerExternal(objs []spec.Object) {
	var nets []*spec.Object
	for i := range objs {
		if objs[i].External != nil {
			nets = append(nets, &objs[i])
		}
	}
	if len(nets) == 0 {
		return
	}
	f := b.facts
	low := external.Lower(nets, external.Facts{
		State: &f.State, Sysctls: f.Sysctls, Gateways: f.Gateways, Neighbours: f.Neighbours, Around: f.Around,
		TableName: func(id uint32) string { return b.hostNames()[id] },
	})
	b.problems = append(b.problems, low.Problems...)
	for i := range low.Networks {
		n := &low.Networks[i]
		b.stand(n.Object, &n.Policy, n.Path)
	}
	for _, l := range low.Links {
		b.want.Links = append(b.want.Links, Link{l.Link, Origin{l.Object, l.Pos}})
	}
	for _, s := range low.Sysctls {
		b.want.Sysctls = append(b.want.Sysctls, Sysctl{Sysctl: s.Sysctl, Made: s.Made, Origin: Origin{s.Object, s.Pos}})
	}
	if low.Nft != nil {
		b.want.Nft = &Nft{NftTable: *low.Nft}
		for _, o := range low.NftOf {
			b.want.Nft.Origins = append(b.want.Nft.Origins, Origin{o, o.Pos})
		}
	}
	for _, n := range low.Notes {
		b.want.Notes = append(b.want.Notes, Note{n.Object.Ref, n.Text})
	}
	b.foresee()
}

// foresee adds the links that are to be made to the facts: routes by them are
// judged as if they stood.
func (b *builder) foresee() {
	f := *b.facts
	for i := range b.want.Links {
		l := b.want.Links[i].Link
		if !slices.ContainsFunc(f.State.Links, func(k netstate.Link) bool { return k.Name == l.Name }) {
			f.State.Links = append(slices.Clip(f.State.Links), l)
		}
	}
	b.facts = &f
}

// restoreOrigins names the users' objects again in place of those that stood in
// for them.
func (b *builder) restoreOrigins() {
	if len(b.lowered) == 0 {
		return
	}
	restore := func(o *Origin) {
		if n, ok := b.lowered[o.Object]; ok {
			o.Object = n.object
		}
	}
	w := &b.want
	for i := range w.Tables {
		restore(&w.Tables[i].Origin)
	}
	for i := range w.Rules {
		restore(&w.Rules[i].Origin)
	}
	for i := range w.Listed {
		restore(&w.Listed[i].Origin)
	}
	for i := range w.Routes {
		restore(&w.Routes[i].Origin)
	}
	for i := range w.Trees {
		restore(&w.Trees[i].Origin)
	}
	for i := range w.Forward {
		restore(&w.Forward[i].Origin)
	}
	for i := range w.Accepts {
		restore(&w.Accepts[i].Origin)
	}
}
