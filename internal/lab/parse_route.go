package lab

import (
	"net/netip"
	"strconv"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// protocolBoot is RTPROT_BOOT, what `ip` writes: to viarule, the routes and rules
// of a lab are those that a person made by hand.
const protocolBoot uint8 = 3

var tableNames = map[string]uint32{"default": netstate.TableDefault, "main": netstate.TableMain}

// table reads the number of a table, or main or default. There are no other
// names: a lab does not depend on the machine's rt_tables.
func (v value) table(def uint32) uint32 {
	if !v.there() {
		return def
	}
	s := v.text()
	if id, ok := tableNames[s]; ok {
		return id
	}
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil || n == 0 || n == uint64(netstate.TableLocal) {
		v.bad("write a number from 1, or main or default", "%s is no table that a lab can fill", quoted(s))
		return def
	}
	return uint32(n)
}

// The words are those of a RoutingPolicy.
var routeTypes = map[string]netstate.RouteType{
	"Unicast": netstate.RouteUnicast, "Blackhole": netstate.RouteBlackhole, "Unreachable": netstate.RouteUnreachable,
	"Prohibit": netstate.RouteProhibit, "Throw": netstate.RouteThrow,
}

func readRoute(v value) netstate.Route {
	f := v.fields("to", "via", "dev", "src", "metric", "table", "onlink", "type")
	v.need(f, "to")
	via, src, dev := f["via"].addr(), f["src"].addr(), f["dev"].anyLink()
	kind := routeTypes[f["type"].oneOf("Unicast", "Unicast", "Blackhole", "Unreachable", "Prohibit", "Throw")]

	var to netip.Prefix
	fam := netstate.FamilyOf(via)
	if fam == 0 {
		fam = netstate.FamilyOf(src)
	}
	if f["to"].there() && f["to"].text() == "default" {
		if fam == 0 {
			fam = netstate.IPv4
		}
		to = fam.Default()
	} else if to = f["to"].prefix(); to.IsValid() {
		fam = netstate.FamilyOf(to.Addr())
	}

	r := netstate.Route{
		Family: fam, Table: f["table"].table(netstate.TableMain), To: to, Metric: uint32(f["metric"].number(1, 1<<32-1)),
		Type: kind, Protocol: protocolBoot, Src: src, Hop: netstate.Hop{Via: via, Dev: dev, OnLink: f["onlink"].boolean()},
	}
	if r.Metric == 0 && fam == netstate.IPv6 {
		r.Metric = 1024 // the kernel's own default
	}
	if fam == netstate.IPv4 && kind == netstate.RouteUnicast && !via.IsValid() {
		r.Scope = netstate.ScopeLink
	}
	switch forwards := kind.Forwards(); {
	case !to.IsValid():
	case via.IsValid() && netstate.FamilyOf(via) != fam, src.IsValid() && netstate.FamilyOf(src) != fam:
		v.bad("", "the addresses of this route are of two families")
	case forwards && !f["via"].there() && !f["dev"].there():
		v.bad("add via, dev or both", "the route does not say where packets go")
	case !forwards && (via.IsValid() || dev != ""):
		v.bad("leave via and dev out", "a route of type %s forwards nothing", f["type"].text())
	case r.Hop.OnLink && (dev == "" || !via.IsValid()):
		v.bad("", "onlink needs via and dev")
	}
	return r
}

// readRule gives the rules that an entry stands for: one for each pair of from
// and to, and one of each family where nothing says which.
func readRule(v value) []netstate.Rule {
	f := v.fields("from", "to", "iif", "oif", "fwmark", "priority", "table", "blackhole", "unreachable", "prohibit")
	v.need(f, "priority")
	r := netstate.Rule{
		Priority: uint32(f["priority"].number(1, 32765)),
		IIF:      f["iif"].anyLink(), OIF: f["oif"].anyLink(), Mark: parsed(f["fwmark"], spec.ParseMark),
		Table: f["table"].table(0), Protocol: protocolBoot,
	}
	actions := 0
	for key, action := range map[string]netstate.Action{
		"blackhole": netstate.Blackhole, "unreachable": netstate.Unreachable, "prohibit": netstate.Prohibit,
	} {
		if f[key].boolean() {
			r.Action = action
			actions++
		}
	}
	if f["table"].there() {
		r.Action = netstate.ToTable
		actions++
	}
	if actions != 1 {
		v.bad("write one of table, blackhole, unreachable, prohibit", "the rule has %d actions", actions)
		return nil
	}
	var out []netstate.Rule
	for _, from := range f["from"].prefixes() {
		for _, to := range f["to"].prefixes() {
			r.From, r.To = from, to
			rules := eachFamily(r)
			if rules == nil {
				v.bad("", "from and to are of two families")
				return nil
			}
			out = append(out, rules...)
		}
	}
	return out
}

// prefixes reads a list; where there is none, the one prefix that selects all.
func (v value) prefixes() []netip.Prefix {
	if !v.there() {
		return []netip.Prefix{{}}
	}
	var out []netip.Prefix
	for _, p := range v.list(maxAddrs) {
		out = append(out, p.prefix())
	}
	return out
}

// eachFamily gives r for the family that its prefixes have, or for both; none
// where they differ. The kernel stores a prefix of length 0 as none.
func eachFamily(r netstate.Rule) []netstate.Rule {
	from, to := netstate.FamilyOf(r.From.Addr()), netstate.FamilyOf(r.To.Addr())
	if from != 0 && to != 0 && from != to {
		return nil
	}
	if r.From.Bits() == 0 {
		r.From = netip.Prefix{}
	}
	if r.To.Bits() == 0 {
		r.To = netip.Prefix{}
	}
	var out []netstate.Rule
	for _, f := range netstate.Families {
		if f == from || f == to || from == 0 && to == 0 {
			r.Family = f
			out = append(out, r)
		}
	}
	return out
}
