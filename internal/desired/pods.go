package desired

import (
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/podnet"
	"github.com/viarule/viarule/internal/spec"
)

// podLinks are the links of pods on the host: the plugin viarule-ptp names them so.
const podLinks = "via*"

// lowerPods turns the PodNetworks into objects with a Policy, as lowerExternal does
// with ExternalNetworks.
func (b *builder) lowerPods(objs []spec.Object) {
	var nets []*spec.Object
	for i := range objs {
		if objs[i].Pods != nil {
			nets = append(nets, &objs[i])
		}
	}
	if len(nets) == 0 {
		return
	}
	f := b.facts
	low := podnet.Lower(nets, podnet.Facts{State: &f.State, Sysctls: f.Sysctls, Changed: f.Changed})
	b.problems = append(b.problems, low.Problems...)
	for i := range low.Networks {
		n := &low.Networks[i]
		b.stand(n.Object, &n.Policy, n.Path)
		if n.Forward {
			b.want.Forward = append(b.want.Forward, Forward{Links: podLinks, Origin: Origin{n.Object, n.Pos}})
		}
	}
	for _, p := range low.Peers {
		b.want.Peers = append(b.want.Peers, Peer{Object: p.Object.Ref, Node: p.Node, Prefix: p.Prefix, Why: p.Why})
	}
	for _, s := range low.Sysctls {
		b.want.Sysctls = append(b.want.Sysctls, Sysctl{Sysctl: s.Sysctl, Early: true, Origin: Origin{s.Object, s.Pos}})
	}
	for _, n := range low.Notes {
		b.want.Notes = append(b.want.Notes, Note{n.Object.Ref, n.Text})
	}
	if len(low.NftOf) == 0 {
		return
	}
	if b.want.Nft == nil {
		b.want.Nft = &Nft{NftTable: netstate.NftTable{Name: netstate.NftTableObjects}}
	}
	t := &b.want.Nft.NftTable
	t.Maps, t.Chains = slices.Concat(t.Maps, low.Maps), slices.Concat(t.Chains, low.Chains)
	*t = netstate.CanonicalNft(*t)
	for _, o := range low.NftOf {
		b.want.Nft.Origins = append(b.want.Nft.Origins, Origin{o, o.Pos})
	}
}
