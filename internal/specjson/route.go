package specjson

import (
	"github.com/viarule/viarule/internal/jsontext"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// route is a spec.Route and what of it needs the other keys to be understood.
type route struct {
	spec.Route
	toDefault bool
}

var routeFields = []field[route]{
	{"to", func(r *reader, v jsontext.Value, to *route) {
		switch s, ok := r.str(v); {
		case !ok:
		case s == "default":
			to.toDefault = true
		default:
			to.To = parsed(r, v, spec.ParsePrefix)
		}
	}},
	{"via", func(r *reader, v jsontext.Value, to *route) { to.Via = parsed(r, v, spec.ParseAddr) }},
	{"dev", func(r *reader, v jsontext.Value, to *route) { to.Dev = r.link(v) }},
	{"src", func(r *reader, v jsontext.Value, to *route) { to.Src = parsed(r, v, spec.ParseAddr) }},
	{"metric", func(r *reader, v jsontext.Value, to *route) { to.Metric = uint32(r.integer(v, 0, 1<<32-1)) }},
	{"mtu", func(r *reader, v jsontext.Value, to *route) {
		to.MTU = uint32(r.integer(v, spec.MinMTU4, spec.MaxMTU))
	}},
	{"advmss", func(r *reader, v jsontext.Value, to *route) {
		to.AdvMSS = uint32(r.integer(v, spec.MinAdvMSS, spec.MaxAdvMSS))
	}},
	{"scope", func(r *reader, v jsontext.Value, to *route) {
		s := enum(r, v, spec.ScopeWords)
		to.Scope = &s
	}},
	{"onlink", func(r *reader, v jsontext.Value, to *route) { to.OnLink, _ = r.boolean(v) }},
	{"type", func(r *reader, v jsontext.Value, to *route) { to.Type = enum(r, v, spec.RouteTypeWords) }},
	{"nexthops", func(r *reader, v jsontext.Value, to *route) {
		r.fullList(v, func(e jsontext.Value) {
			h := spec.Nexthop{Weight: 1}
			fieldsOf(r, e, &h, nexthopFields)
			to.Nexthops = append(to.Nexthops, h)
		})
	}},
}

var nexthopFields = []field[spec.Nexthop]{
	{"via", func(r *reader, v jsontext.Value, to *spec.Nexthop) { to.Via = parsed(r, v, spec.ParseAddr) }},
	{"dev", func(r *reader, v jsontext.Value, to *spec.Nexthop) { to.Dev = r.link(v) }},
	{"weight", func(r *reader, v jsontext.Value, to *spec.Nexthop) { to.Weight = uint16(r.integer(v, 1, 256)) }},
	{"onlink", func(r *reader, v jsontext.Value, to *spec.Nexthop) { to.OnLink, _ = r.boolean(v) }},
}

// route reads an element of a table's routes.
func (r *reader) route(v jsontext.Value) spec.Route {
	to := route{Route: spec.Route{Type: netstate.RouteUnicast}}
	faults := r.faults
	seen, ok := fieldsOf(r, v, &to, routeFields)
	// Where something is wrong, what seems to be missing may be what is wrong.
	if !ok || r.faults > faults {
		return to.Route
	}
	if seen&1 == 0 {
		r.fail("it does not say where to", `write "to", a prefix or default`)
	}
	if to.toDefault {
		f := to.Family()
		if f == 0 {
			r.at(".to", func() { r.fail("default is of no family here", "write 0.0.0.0/0 or ::/0") })
			return to.Route
		}
		to.To = f.Default()
	}
	return to.Route
}
