package specfile

import (
	"fmt"
	"net/netip"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// route is a spec.Route and what of it needs the other keys to be understood.
type route struct {
	spec.Route
	toDefault *yaml.Node
}

var routeFields = []field[route]{
	{"to", func(d *decoder, n *yaml.Node, r *route) {
		switch s, ok := d.str(n); {
		case !ok:
		case s == "default":
			r.toDefault = n
		default:
			r.To = d.prefix(n, s)
		}
	}},
	{"via", func(d *decoder, n *yaml.Node, r *route) { r.Via = d.addr(n) }},
	{"dev", func(d *decoder, n *yaml.Node, r *route) { r.Dev = d.link(n) }},
	{"src", func(d *decoder, n *yaml.Node, r *route) { r.Src = d.addr(n) }},
	{"metric", func(d *decoder, n *yaml.Node, r *route) { r.Metric = uint32(d.integer(n, 0, 1<<32-1)) }},
	{"mtu", func(d *decoder, n *yaml.Node, r *route) { r.MTU = uint32(d.integer(n, spec.MinMTU4, spec.MaxMTU)) }},
	{"advmss", func(d *decoder, n *yaml.Node, r *route) {
		r.AdvMSS = uint32(d.integer(n, spec.MinAdvMSS, spec.MaxAdvMSS))
	}},
	{"scope", func(d *decoder, n *yaml.Node, r *route) {
		s := enum(d, n, spec.ScopeWords)
		r.Scope = &s
	}},
	{"onlink", func(d *decoder, n *yaml.Node, r *route) { r.OnLink = d.boolean(n) }},
	{"type", func(d *decoder, n *yaml.Node, r *route) { r.Type = enum(d, n, spec.RouteTypeWords) }},
	{"nexthops", func(d *decoder, n *yaml.Node, r *route) {
		d.fullList(n, func(int) {}, func(e *yaml.Node) {
			h := spec.Nexthop{Weight: 1, Pos: d.place(e)}
			mapping(d, e, &h, nexthopFields)
			r.Nexthops = append(r.Nexthops, h)
		})
	}},
}

var nexthopFields = []field[spec.Nexthop]{
	{"via", func(d *decoder, n *yaml.Node, h *spec.Nexthop) { h.Via = d.addr(n) }},
	{"dev", func(d *decoder, n *yaml.Node, h *spec.Nexthop) { h.Dev = d.link(n) }},
	{"weight", func(d *decoder, n *yaml.Node, h *spec.Nexthop) { h.Weight = uint16(d.integer(n, 1, 256)) }},
	{"onlink", func(d *decoder, n *yaml.Node, h *spec.Nexthop) { h.OnLink = d.boolean(n) }},
}

// route decodes an element of a table's routes.
func (d *decoder) route(n *yaml.Node) spec.Route {
	r := route{Route: spec.Route{Type: netstate.RouteUnicast, Pos: d.place(n)}}
	faults := d.faults
	seen, ok := mapping(d, n, &r, routeFields)
	if !ok {
		return r.Route
	}
	if seen&1 == 0 && d.faults == faults {
		d.fail(n, "it does not say where to", "write `to: …`, a prefix or default")
	}
	if r.toDefault != nil && d.faults == faults {
		f := r.Family()
		if f == 0 {
			d.enter("to")
			d.fail(r.toDefault, "default is of no family here", "write 0.0.0.0/0 or ::/0")
			d.leave()
			return r.Route
		}
		r.To = f.Default()
	}
	return r.Route
}

func (d *decoder) prefix(n *yaml.Node, s string) netip.Prefix {
	p, err := spec.ParsePrefix(s)
	if err != nil {
		d.failValue(n, err)
	}
	return p
}

func (d *decoder) addr(n *yaml.Node) netip.Addr {
	s, ok := d.str(n)
	if !ok {
		return netip.Addr{}
	}
	a, err := spec.ParseAddr(s)
	if err != nil {
		d.failValue(n, err)
	}
	return a
}

func (d *decoder) link(n *yaml.Node) string {
	s, ok := d.str(n)
	if !ok {
		return ""
	}
	if err := spec.CheckLinkName(s); err != nil {
		d.failValue(n, err)
		return ""
	}
	return d.intern(s)
}

// prefixes reads a rule's from or to.
func (d *decoder) prefixes(n *yaml.Node) []netip.Prefix {
	if n.Kind == yaml.ScalarNode && scalarKind(n) == stringScalar {
		d.fail(n, "this is a string, not a list", fmt.Sprintf("write [%s]", clip(n.Value)))
		return nil
	}
	var list []netip.Prefix
	d.fullList(n, func(size int) { list = make([]netip.Prefix, 0, size) }, func(e *yaml.Node) {
		if s, ok := d.str(e); ok {
			list = append(list, d.prefix(e, s))
		}
	})
	return list
}
