package specfile

import (
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/spec"
)

// podNetwork is a spec.PodNetwork and what every object's spec has.
type podNetwork struct {
	*spec.PodNetwork
	deletion spec.DeletionPolicy
	expect   []spec.Expectation
}

func (p *podNetwork) keys() map[string]spec.Pos { return p.Keys }

func readPodNetwork(d *decoder, n *yaml.Node, o *spec.Object) {
	p := podNetwork{PodNetwork: &spec.PodNetwork{Keys: map[string]spec.Pos{"": d.key}}}
	mapping(d, n, &p, podNetworkFields)
	o.Pods, o.DeletionPolicy, o.Expect = p.PodNetwork, p.deletion, p.expect
}

var podNetworkFields = noted([]field[podNetwork]{
	{"nodeSelector", nodeSelector[podNetwork]},
	{"deletionPolicy", func(d *decoder, n *yaml.Node, p *podNetwork) { p.deletion = deletionPolicy(d, n) }},
	{"expect", func(d *decoder, n *yaml.Node, p *podNetwork) { expectations(d, n, &p.expect) }},
	{"podCIDRs", func(d *decoder, n *yaml.Node, p *podNetwork) {
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			d.fail(n, "the list is empty", "write the networks of pods, as in [10.0.0.0/16]")
			return
		}
		p.PodCIDRs = d.podPrefixes(n)
	}},
	{"interconnect", func(d *decoder, n *yaml.Node, p *podNetwork) {
		p.Interconnect = enum(d, n, spec.InterconnectWords)
	}},
	{"bgp", func(d *decoder, n *yaml.Node, _ *podNetwork) {
		d.fail(n, "BGP is not there yet", "leave bgp out, and write `interconnect: Static` with the nodes and their prefixes")
	}},
	{"nodes", func(d *decoder, n *yaml.Node, p *podNetwork) {
		d.list(n, func(size int) { p.Nodes = slices.Grow(p.Nodes, size) }, func(e *yaml.Node) {
			node := spec.PodNode{Pos: d.place(e)}
			if seen, ok := mapping(d, e, &node, nodeFields); ok {
				for i, f := range nodeFields[:2] {
					if seen&(1<<i) == 0 {
						d.fail(e, "the node has no "+f.key, "write `"+f.key+": …`")
					}
				}
			}
			p.Nodes = append(p.Nodes, node)
		})
	}},
	{"forwarding", func(d *decoder, n *yaml.Node, p *podNetwork) { p.Forwarding = enum(d, n, spec.ForwardingWords) }},
	{"masquerade", func(d *decoder, n *yaml.Node, p *podNetwork) { p.Masquerade = enum(d, n, spec.MasqueradeWords) }},
	{"cni", func(d *decoder, n *yaml.Node, p *podNetwork) { mapping(d, n, p, podCNIFields) }},
})

var podCNIFields = noted([]field[podNetwork]{
	{"install", func(d *decoder, n *yaml.Node, p *podNetwork) { p.InstallCNI = d.boolean(n) }},
})

// nodeFields begin with those that a node must have.
var nodeFields = []field[spec.PodNode]{
	{"name", func(d *decoder, n *yaml.Node, p *spec.PodNode) {
		if s, ok := d.str(n); ok {
			if err := spec.CheckNodeName(s); err != nil {
				d.failValue(n, err)
				return
			}
			p.Name = d.intern(s)
		}
	}},
	{"addresses", func(d *decoder, n *yaml.Node, p *spec.PodNode) {
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			d.fail(n, "the list is empty", "write the addresses by which the node's neighbours reach it")
			return
		}
		d.strings(n, func(size int) { p.Addresses = slices.Grow(p.Addresses, size) }, func(n *yaml.Node, s string) {
			a, err := spec.ParseAddr(s)
			if err != nil {
				d.failValue(n, err)
				return
			}
			p.Addresses = append(p.Addresses, spec.NodeAddress{Addr: a, Pos: d.place(n)})
		})
	}},
	{"podCIDRs", func(d *decoder, n *yaml.Node, p *spec.PodNode) { p.PodCIDRs = d.podPrefixes(n) }},
}

func (d *decoder) podPrefixes(n *yaml.Node) []spec.PodPrefix {
	var list []spec.PodPrefix
	d.strings(n, func(size int) { list = make([]spec.PodPrefix, 0, size) }, func(n *yaml.Node, s string) {
		p, err := spec.ParsePrefix(s)
		if err != nil {
			d.failValue(n, err)
			return
		}
		list = append(list, spec.PodPrefix{Prefix: p, Pos: d.place(n)})
	})
	return list
}
