package specfile

import "github.com/viarule/viarule/internal/spec"

// podNetwork writes the keys of a PodNetwork, one a line, and one node a line.
// What has its default is left out.
func (w *writer) podNetwork(p *spec.PodNetwork) {
	list(w, "podCIDRs", p.PodCIDRs, podPrefix)
	if p.Interconnect != spec.InterconnectStatic {
		w.line("  interconnect: " + spec.FormatWord(p.Interconnect, spec.InterconnectWords))
	}
	if len(p.Nodes) > 0 {
		w.line("  nodes:")
	}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		w.text("name", n.Name)
		w.pair("addresses", flowList(n.Addresses, func(a spec.NodeAddress) string { return a.String() }))
		if len(n.PodCIDRs) > 0 {
			w.pair("podCIDRs", flowList(n.PodCIDRs, podPrefix))
		}
		w.flow("  - ")
	}
	if p.Forwarding != spec.ForwardingAllow {
		w.line("  forwarding: " + spec.FormatWord(p.Forwarding, spec.ForwardingWords))
	}
	if p.Masquerade != spec.MasqueradeNone {
		w.line("  masquerade: " + spec.FormatWord(p.Masquerade, spec.MasqueradeWords))
	}
	if p.InstallCNI {
		w.line("  cni: {install: true}")
	}
}

func podPrefix(p spec.PodPrefix) string { return prefix(p.Prefix) }
