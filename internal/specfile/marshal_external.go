package specfile

import (
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// external writes the keys of an ExternalNetwork, one a line. What has its
// default is left out.
func (w *writer) external(e *spec.ExternalNetwork) {
	w.text("name", e.Interface.Name)
	var inner writer
	if v := e.Interface.VLAN; v != nil {
		inner.text("parent", v.Parent)
		inner.number("id", uint32(v.ID))
		w.pair("vlan", "{"+string(inner.pairs)+"}")
	}
	if m := e.Interface.Match; m != nil {
		inner.pairs = inner.pairs[:0]
		inner.text("mac", m.MAC)
		if m.Subnet.IsValid() {
			inner.pair("subnet", quote(prefix(m.Subnet)))
		}
		w.pair("match", "{"+string(inner.pairs)+"}")
	}
	w.flow("  interface: ")
	list(w, "addresses", e.Addresses, spec.Addresses.String)
	list(w, "gateways", e.Gateways, func(g spec.Gateway) string { return g.Addr.String() })
	if e.Table != (spec.TableRef{}) {
		w.line("  table: " + quoteTable(e.Table))
	}
	if e.Priority.Set {
		w.line("  priority: " + decimal(e.Priority.Val))
	}
	if e.Mark != (netstate.Mark{}) {
		w.line("  mark: " + spec.FormatOwnMark(e.Mark))
	}
	if e.ReturnPath != spec.ReturnAuto {
		w.line("  returnPath: " + spec.FormatWord(e.ReturnPath, spec.ReturnPathWords))
	}
	list(w, "clusterCIDRs", e.ClusterCIDRs, prefix)
	if e.ReversePathFilter != spec.FilterKeep {
		w.line("  reversePathFilter: " + spec.FormatWord(e.ReversePathFilter, spec.FilterWords))
	}
	if e.StrictARP {
		w.line("  strictARP: true")
	}
	if e.Spread {
		w.line("  spread: true")
	}
}

// list writes a list on the line of its key or, where it is long, on its own
// lines.
func list[T any](w *writer, key string, values []T, text func(T) string) {
	switch {
	case len(values) == 0:
	case len(values) <= maxInline:
		w.line("  " + key + ": " + flowList(values, text))
	default:
		w.line("  " + key + ":")
		for _, v := range values {
			w.line("  - " + quote(text(v)))
		}
	}
}
