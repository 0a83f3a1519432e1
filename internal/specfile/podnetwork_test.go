package specfile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// barePods is p without positions.
func barePods(p spec.PodNetwork) *spec.PodNetwork {
	p.Keys = nil
	prefixes := func(list []spec.PodPrefix) []spec.PodPrefix {
		list = slices.Clone(list)
		for i := range list {
			list[i].Pos = spec.Pos{}
		}
		return list
	}
	p.PodCIDRs, p.Nodes = prefixes(p.PodCIDRs), slices.Clone(p.Nodes)
	for i := range p.Nodes {
		n := &p.Nodes[i]
		n.Pos, n.PodCIDRs, n.Addresses = spec.Pos{}, prefixes(n.PodCIDRs), slices.Clone(n.Addresses)
		for j := range n.Addresses {
			n.Addresses[j].Pos = spec.Pos{}
		}
	}
	return &p
}

// podNetwork draws a random valid PodNetwork.
func (g gen) podNetwork() spec.Object {
	p := &spec.PodNetwork{Forwarding: spec.Forwarding(g.n(0, 1)), Masquerade: spec.Masquerade(g.n(0, 1))}
	families := netstate.Families[:]
	if g.chance() {
		families = []netstate.Family{g.family()}
	}
	networks := g.n(1, 10)
	network := func(f netstate.Family, i, node, length int) netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, byte(i), byte(node)})
		if f == netstate.IPv6 {
			a = netip.AddrFrom16([16]byte{0xfd, byte(i), byte(node)})
		}
		return netip.PrefixFrom(a, length)
	}
	for _, f := range families {
		for i := range networks {
			p.PodCIDRs = append(p.PodCIDRs, spec.PodPrefix{Prefix: network(f, i, 0, 16)})
		}
	}
	for n := range g.n(0, 20) {
		node := spec.PodNode{Name: rapid.SampledFrom([]string{"node", "on", "1", "a.b-c"}).Draw(g.t, "name") + fmt.Sprint(n)}
		for _, f := range families {
			for i := range g.n(1, 3) {
				a := netip.AddrFrom4([4]byte{192, 0, byte(n), byte(i + 1)})
				if f == netstate.IPv6 {
					a = netip.AddrFrom16([16]byte{0x20, 1, 14: byte(n), 15: byte(i + 1)})
				}
				node.Addresses = append(node.Addresses, spec.NodeAddress{Addr: a})
			}
			for i := range g.n(0, networks) {
				node.PodCIDRs = append(node.PodCIDRs, spec.PodPrefix{Prefix: network(f, i, n, g.n(24, f.Bits()))})
			}
		}
		p.Nodes = append(p.Nodes, node)
	}
	return spec.Object{
		Ref:            spec.Ref{Kind: spec.KindPodNetwork, Name: "a"},
		DeletionPolicy: rapid.SampledFrom([]spec.DeletionPolicy{"", spec.DeletePolicy, spec.OrphanPolicy}).Draw(g.t, "deletion"),
		Pods:           p,
	}
}

func TestEveryKeyOfAPodNetwork(t *testing.T) {
	const text = `apiVersion: viarule.io/v1alpha1
kind: PodNetwork
metadata:
  name: pods
spec:
  deletionPolicy: Orphan
  podCIDRs: [10.0.0.0/16, "fd00::/48"]
  nodes:
  - {name: node01, addresses: [192.0.2.1, "2001:db8::1"], podCIDRs: [10.0.1.0/24, "fd00:0:0:1::/64"]}
  - {name: "2", addresses: [192.0.2.2]}
  forwarding: Keep
  masquerade: Outside
`
	objs, problems := Parse("f", []byte(text))
	if len(problems) > 0 || len(objs) != 1 {
		t.Fatal(problems)
	}
	if got := string(Marshal(objs[0])); got != text {
		t.Errorf("got\n%s\nwant\n%s", got, text)
	}
	p := objs[0].Pods
	n := &p.Nodes[0]
	if n.Pos != (spec.Pos{Line: 9, Col: 5}) || n.Addresses[1].Pos != (spec.Pos{Line: 9, Col: 43}) || n.PodCIDRs[1].Prefix.String() != "fd00:0:0:1::/64" || n.PodCIDRs[1].Pos != (spec.Pos{Line: 9, Col: 83}) {
		t.Errorf("nodes[0]: %+v", n)
	}
	if p.PodCIDRs[1].Pos != (spec.Pos{Line: 7, Col: 27}) {
		t.Errorf("podCIDRs[1]: %+v", p.PodCIDRs[1])
	}
	plain := strings.NewReplacer("  forwarding: Keep\n", "", "  masquerade: Outside\n", "").Replace(text)
	said, problems := Parse("f", []byte(plain+"  interconnect: Static\n  forwarding: Allow\n  masquerade: None\n  cni: {install: false}\n  nodeSelector: {matchLabels: {a: b}}\n"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if got := string(Marshal(said[0])); got != plain {
		t.Errorf("what says the defaults gives\n%s", got)
	}
	if at := said[0].Pods.Keys["cni.install"]; at.Line != 14 {
		t.Errorf("cni.install: %+v", at)
	}
}
