package specfile

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// maxInline is how many prefixes a list may have to stand on its rule's line.
const maxInline = 8

// Marshal writes an object as YAML that Parse reads to the same object, one line
// a route and a rule. The comments become lines at the top. Of a nodeSelector
// nothing is known here, so it is not written.
func Marshal(o spec.Object, comments ...string) []byte {
	w := &writer{}
	for _, c := range comments {
		for line := range strings.SplitSeq(c, "\n") {
			w.line("# " + printable(line))
		}
	}
	w.line("apiVersion: " + APIVersion)
	w.line("kind: " + quote(o.Kind))
	w.line("metadata:")
	w.line("  name: " + quote(o.Name))
	head := len(w.buf)
	w.line("spec:")
	empty := len(w.buf)
	if o.DeletionPolicy != "" {
		w.line("  deletionPolicy: " + string(o.DeletionPolicy))
	}
	if o.Policy != nil {
		w.policy(o.Policy)
	}
	if o.External != nil {
		w.external(o.External)
	}
	if o.Pods != nil {
		w.podNetwork(o.Pods)
	}
	w.expectations(o.Expect)
	if len(w.buf) == empty {
		w.buf = w.buf[:head]
		w.line("spec: {}")
	}
	return w.buf
}

func (w *writer) policy(p *spec.RoutingPolicy) {
	if len(p.Tables) > 0 {
		w.line("  tables:")
	}
	for i := range p.Tables {
		w.table(&p.Tables[i])
	}
	if len(p.Rules) > 0 {
		w.line("  rules:")
	}
	for i := range p.Rules {
		w.rule(&p.Rules[i])
	}
}

// writer builds the text; pairs collects the keys of a flow mapping.
type writer struct {
	buf   []byte
	pairs []byte
}

func (w *writer) line(s string) { w.buf = append(append(w.buf, s...), '\n') }

func (w *writer) pair(key, value string) {
	if len(w.pairs) > 0 {
		w.pairs = append(w.pairs, ", "...)
	}
	w.pairs = append(append(append(w.pairs, key...), ": "...), value...)
}

// text and number add a pair where the value is not zero.
func (w *writer) text(key, value string) {
	if value != "" {
		w.pair(key, quote(value))
	}
}

func (w *writer) number(key string, value uint32) {
	if value != 0 {
		w.pair(key, decimal(value))
	}
}

func (w *writer) option(key string, value netstate.Opt) {
	if value.Set {
		w.pair(key, decimal(value.Val))
	}
}

func (w *writer) flag(key string, value bool) {
	if value {
		w.pair(key, "true")
	}
}

func (w *writer) addr(key string, a netip.Addr) {
	if a.IsValid() {
		w.pair(key, quote(a.String()))
	}
}

// flow ends a mapping.
func (w *writer) flow(before string) {
	w.buf = append(append(append(append(w.buf, before...), '{'), w.pairs...), "}\n"...)
	w.pairs = w.pairs[:0]
}

func (w *writer) table(t *spec.Table) {
	w.line("  - name: " + quote(t.Name))
	if t.ID != 0 {
		w.line("    id: " + decimal(t.ID))
	}
	if len(t.Routes) > 0 {
		w.line("    routes:")
	}
	for i := range t.Routes {
		w.route(&t.Routes[i])
		w.flow("    - ")
	}
}

func (w *writer) route(r *spec.Route) {
	w.pair("to", quote(destination(r)))
	if r.Type != netstate.RouteUnicast {
		w.pair("type", spec.FormatWord(r.Type, spec.RouteTypeWords))
	}
	w.addr("via", r.Via)
	w.text("dev", r.Dev)
	w.flag("onlink", r.OnLink)
	if len(r.Nexthops) > 0 {
		w.pair("nexthops", nexthops(r.Nexthops))
	}
	w.addr("src", r.Src)
	w.number("metric", r.Metric)
	w.number("mtu", r.MTU)
	w.number("advmss", r.AdvMSS)
	if r.Scope != nil {
		w.pair("scope", spec.FormatWord(*r.Scope, spec.ScopeWords))
	}
}

// destination is default where the route's addresses say its family.
func destination(r *spec.Route) string {
	if r.To.Bits() == 0 {
		other := *r
		other.To = netip.Prefix{}
		if other.Family() == r.Family() {
			return "default"
		}
	}
	return prefix(r.To)
}

func prefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func nexthops(list []spec.Nexthop) string {
	var parts []string
	for _, h := range list {
		var w writer
		w.addr("via", h.Via)
		w.text("dev", h.Dev)
		if h.Weight != 1 {
			w.number("weight", uint32(h.Weight))
		}
		w.flag("onlink", h.OnLink)
		parts = append(parts, "{"+string(w.pairs)+"}")
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (w *writer) rule(r *spec.Rule) {
	long := len(r.From) > maxInline || len(r.To) > maxInline
	if !long {
		w.inline("from", r.From)
		w.inline("to", r.To)
	}
	w.selectors(r)
	w.action(r)
	if !long {
		w.flow("  - ")
		return
	}
	before := "  - "
	for _, l := range [2]struct {
		key  string
		list []netip.Prefix
	}{{"from", r.From}, {"to", r.To}} {
		if len(l.list) == 0 {
			continue
		}
		w.line(before + l.key + ":")
		before = "    "
		for _, p := range l.list {
			w.line("    - " + quote(prefix(p)))
		}
	}
	// No value of the rest holds a comma, so that its pairs can stand in lines.
	for pair := range strings.SplitSeq(string(w.pairs), ", ") {
		w.line(before + pair)
	}
	w.pairs = w.pairs[:0]
}

func (w *writer) inline(key string, list []netip.Prefix) {
	if len(list) == 0 {
		return
	}
	w.pair(key, flowList(list, prefix))
}

func flowList[T any](list []T, text func(T) string) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = quote(text(v))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (w *writer) selectors(r *spec.Rule) {
	w.flag("not", r.Not)
	if r.Family != 0 {
		w.pair("family", spec.FormatWord(r.Family, spec.FamilyWords))
	}
	w.text("iif", r.IIF)
	w.text("oif", r.OIF)
	if r.Mark != (netstate.Mark{}) {
		w.pair("fwmark", spec.FormatMark(r.Mark))
	}
	if r.Proto != 0 {
		w.pair("ipproto", spec.FormatIPProto(r.Proto))
	}
	if r.SPort != (netstate.PortRange{}) {
		w.pair("sport", span(uint32(r.SPort.Lo), uint32(r.SPort.Hi)))
	}
	if r.DPort != (netstate.PortRange{}) {
		w.pair("dport", span(uint32(r.DPort.Lo), uint32(r.DPort.Hi)))
	}
	if r.TOS != 0 {
		w.pair("tos", fmt.Sprintf("0x%02x", r.TOS))
	}
	if r.DSCP.Set {
		w.pair("dscp", spec.FormatDSCP(r.DSCP.Val))
	}
	if r.UID.Set {
		w.pair("uidrange", span(r.UID.Lo, r.UID.Hi))
	}
}

func (w *writer) action(r *spec.Rule) {
	w.option("priority", r.Priority)
	switch r.Action {
	case netstate.ToTable:
		w.pair("table", quoteTable(r.Table))
	case netstate.Goto:
		w.pair("goto", decimal(r.Goto))
	case netstate.Nop:
		w.flag("nop", true)
	case netstate.Blackhole:
		w.flag("blackhole", true)
	case netstate.Unreachable:
		w.flag("unreachable", true)
	case netstate.Prohibit:
		w.flag("prohibit", true)
	}
	if r.Realms != 0 {
		w.pair("realms", spec.FormatRealms(r.Realms))
	}
	w.option("suppressPrefixLength", r.SuppressPrefixLength)
	w.option("suppressIfGroup", r.SuppressIfGroup)
}

func quoteTable(t spec.TableRef) string {
	if t.Name == "" {
		return decimal(t.ID)
	}
	return quote(t.Name)
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func span(lo, hi uint32) string {
	if lo == hi {
		return decimal(lo)
	}
	return decimal(lo) + "-" + decimal(hi)
}

// quote puts a string in quotes unless every reader of YAML takes it for just
// this string: colons are for some a number to the base of 60.
func quote(s string) string {
	plain := s != "" && scalarKind(&yaml.Node{Value: s}) == stringScalar
	for i := 0; plain && i < len(s); i++ {
		c := s[i]
		plain = c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '.' || c == '/' || c == '-' || c == '_')
	}
	if plain {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(printable(s)) + `"`
}

// printable replaces what may not stand in a YAML file as it is.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' || r == '\ufffd' {
			return '?'
		}
		return r
	}, s)
}
