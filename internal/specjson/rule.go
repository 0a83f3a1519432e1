package specjson

import (
	"net/netip"
	"strings"

	"github.com/viarule/viarule/internal/jsontext"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// rule is a spec.Rule and the keys that say what it does.
type rule struct {
	spec.Rule
	actions []string
}

var ruleFields = []field[rule]{
	{"from", func(r *reader, v jsontext.Value, to *rule) { to.From = r.prefixes(v) }},
	{"to", func(r *reader, v jsontext.Value, to *rule) { to.To = r.prefixes(v) }},
	{"iif", func(r *reader, v jsontext.Value, to *rule) { to.IIF = r.link(v) }},
	{"oif", func(r *reader, v jsontext.Value, to *rule) { to.OIF = r.link(v) }},
	{"fwmark", func(r *reader, v jsontext.Value, to *rule) { to.Mark = value(r, v, spec.ParseMark) }},
	{"ipproto", func(r *reader, v jsontext.Value, to *rule) { to.Proto = value(r, v, spec.ParseIPProto) }},
	{"sport", func(r *reader, v jsontext.Value, to *rule) { to.SPort = value(r, v, spec.ParsePorts) }},
	{"dport", func(r *reader, v jsontext.Value, to *rule) { to.DPort = value(r, v, spec.ParsePorts) }},
	{"tos", func(r *reader, v jsontext.Value, to *rule) { to.TOS = value(r, v, spec.ParseTOS) }},
	{"dscp", func(r *reader, v jsontext.Value, to *rule) { to.DSCP = value(r, v, spec.ParseDSCP) }},
	{"uidrange", func(r *reader, v jsontext.Value, to *rule) { to.UID = value(r, v, spec.ParseUIDs) }},
	{"not", func(r *reader, v jsontext.Value, to *rule) { to.Not, _ = r.boolean(v) }},
	{"priority", func(r *reader, v jsontext.Value, to *rule) {
		to.Priority = netstate.Some(uint32(r.integer(v, 1, 1<<32-1)))
	}},
	{"family", func(r *reader, v jsontext.Value, to *rule) { to.Family = enum(r, v, spec.FamilyWords) }},
	{"table", func(r *reader, v jsontext.Value, to *rule) {
		to.Table = value(r, v, spec.ParseTableRef)
		to.act("table", netstate.ToTable)
	}},
	{"goto", func(r *reader, v jsontext.Value, to *rule) {
		to.Goto = uint32(r.integer(v, 1, 1<<32-1))
		to.act("goto", netstate.Goto)
	}},
	{"nop", func(r *reader, v jsontext.Value, to *rule) { r.flag(v, to, "nop", netstate.Nop) }},
	{"blackhole", func(r *reader, v jsontext.Value, to *rule) { r.flag(v, to, "blackhole", netstate.Blackhole) }},
	{"unreachable", func(r *reader, v jsontext.Value, to *rule) { r.flag(v, to, "unreachable", netstate.Unreachable) }},
	{"prohibit", func(r *reader, v jsontext.Value, to *rule) { r.flag(v, to, "prohibit", netstate.Prohibit) }},
	{"realms", func(r *reader, v jsontext.Value, to *rule) { to.Realms = value(r, v, spec.ParseRealms) }},
	{"suppressPrefixLength", func(r *reader, v jsontext.Value, to *rule) {
		to.SuppressPrefixLength = netstate.Some(uint32(r.integer(v, 0, 128)))
	}},
	{"suppressIfGroup", func(r *reader, v jsontext.Value, to *rule) { to.SuppressIfGroup = value(r, v, spec.ParseIfGroup) }},
}

func (to *rule) act(key string, a netstate.Action) {
	to.actions, to.Action = append(to.actions, key), a
}

// flag is for the actions that have nothing more to say than true.
func (r *reader) flag(v jsontext.Value, to *rule, key string, a netstate.Action) {
	if b, ok := r.boolean(v); ok && !b {
		r.fail("an action can only be true", "leave it out, or write true")
	}
	to.act(key, a)
}

// prefixes reads a rule's from or to.
func (r *reader) prefixes(v jsontext.Value) []netip.Prefix {
	var ps []netip.Prefix
	r.fullList(v, func(e jsontext.Value) { ps = append(ps, parsed(r, e, spec.ParsePrefix)) })
	return ps
}

// rule reads an element of rules.
func (r *reader) rule(v jsontext.Value) spec.Rule {
	var to rule
	if _, ok := fieldsOf(r, v, &to, ruleFields); ok && len(to.actions) > 1 {
		r.fail("it has several actions: "+strings.Join(to.actions, ", "), "leave one; several actions are several rules")
	}
	return to.Rule
}
