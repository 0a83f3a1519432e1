package specfile

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// rule is a spec.Rule and the keys that say what it does.
type rule struct {
	spec.Rule
	actions []string
}

var ruleFields = []field[rule]{
	{"from", func(d *decoder, n *yaml.Node, r *rule) { r.From = d.prefixes(n) }},
	{"to", func(d *decoder, n *yaml.Node, r *rule) { r.To = d.prefixes(n) }},
	{"iif", func(d *decoder, n *yaml.Node, r *rule) { r.IIF = d.link(n) }},
	{"oif", func(d *decoder, n *yaml.Node, r *rule) { r.OIF = d.link(n) }},
	{"fwmark", func(d *decoder, n *yaml.Node, r *rule) { r.Mark = value(d, n, spec.ParseMark) }},
	{"ipproto", func(d *decoder, n *yaml.Node, r *rule) { r.Proto = value(d, n, spec.ParseIPProto) }},
	{"sport", func(d *decoder, n *yaml.Node, r *rule) { r.SPort = value(d, n, spec.ParsePorts) }},
	{"dport", func(d *decoder, n *yaml.Node, r *rule) { r.DPort = value(d, n, spec.ParsePorts) }},
	{"tos", func(d *decoder, n *yaml.Node, r *rule) { r.TOS = value(d, n, spec.ParseTOS) }},
	{"dscp", func(d *decoder, n *yaml.Node, r *rule) { r.DSCP = value(d, n, spec.ParseDSCP) }},
	{"uidrange", func(d *decoder, n *yaml.Node, r *rule) { r.UID = value(d, n, spec.ParseUIDs) }},
	{"not", func(d *decoder, n *yaml.Node, r *rule) { r.Not = d.boolean(n) }},
	{"priority", func(d *decoder, n *yaml.Node, r *rule) {
		r.Priority = netstate.Some(uint32(d.integer(n, 1, 1<<32-1)))
	}},
	{"family", func(d *decoder, n *yaml.Node, r *rule) { r.Family = enum(d, n, spec.FamilyWords) }},
	{"table", func(d *decoder, n *yaml.Node, r *rule) {
		r.Table = value(d, n, spec.ParseTableRef)
		r.Table.Name = d.intern(r.Table.Name)
		r.act("table", netstate.ToTable)
	}},
	{"goto", func(d *decoder, n *yaml.Node, r *rule) {
		r.Goto = uint32(d.integer(n, 1, 1<<32-1))
		r.act("goto", netstate.Goto)
	}},
	{"nop", flag("nop", netstate.Nop)},
	{"blackhole", flag("blackhole", netstate.Blackhole)},
	{"unreachable", flag("unreachable", netstate.Unreachable)},
	{"prohibit", flag("prohibit", netstate.Prohibit)},
	{"realms", func(d *decoder, n *yaml.Node, r *rule) { r.Realms = value(d, n, spec.ParseRealms) }},
	{"suppressPrefixLength", func(d *decoder, n *yaml.Node, r *rule) {
		r.SuppressPrefixLength = netstate.Some(uint32(d.integer(n, 0, 128)))
	}},
	{"suppressIfGroup", func(d *decoder, n *yaml.Node, r *rule) { r.SuppressIfGroup = value(d, n, spec.ParseIfGroup) }},
}

func (r *rule) act(key string, a netstate.Action) {
	r.actions, r.Action = append(r.actions, key), a
}

// flag is for the actions that have nothing more to say than `true`.
func flag(key string, a netstate.Action) func(*decoder, *yaml.Node, *rule) {
	return func(d *decoder, n *yaml.Node, r *rule) {
		faults := d.faults
		if !d.boolean(n) && d.faults == faults {
			d.fail(n, "an action can only be true", "leave it out, or write true")
		}
		r.act(key, a)
	}
}

// value reads a number or a string in the way of one of spec's Parse functions.
func value[T any](d *decoder, n *yaml.Node, parse func(string) (T, error)) T {
	var zero T
	s, ok := d.numberOrString(n)
	if !ok {
		return zero
	}
	v, err := parse(s)
	if err != nil {
		d.failValue(n, err)
		return zero
	}
	return v
}

// rule decodes an element of rules.
func (d *decoder) rule(n *yaml.Node, r *rule) {
	faults := d.faults
	if _, ok := mapping(d, n, r, ruleFields); !ok {
		return
	}
	switch len(r.actions) {
	case 0:
		if d.faults > faults {
			return // most likely the action is what could not be read
		}
		d.fail(n, "it does not say what to do", "write one of table, goto, nop, blackhole, unreachable, prohibit")
	case 1:
	default:
		d.fail(n, "it has several actions: "+strings.Join(r.actions, ", "), "leave one; several actions are several rules")
	}
}
