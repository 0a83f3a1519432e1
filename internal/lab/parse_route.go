package lab

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
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

var routeTypes = map[string]netstate.RouteType{
	"unicast": netstate.RouteUnicast, "blackhole": netstate.RouteBlackhole, "unreachable": netstate.RouteUnreachable,
	"prohibit": netstate.RouteProhibit, "throw": netstate.RouteThrow,
}

func readRoute(v value) netstate.Route {
	f := v.fields("to", "via", "dev", "src", "metric", "table", "onlink", "type")
	v.need(f, "to")
	via, src, dev := f["via"].addr(), f["src"].addr(), f["dev"].anyLink()
	kind := routeTypes[f["type"].oneOf("unicast", "unicast", "blackhole", "unreachable", "prohibit", "throw")]

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

// readRule gives one rule, or one of each family where nothing says which.
func readRule(v value) []netstate.Rule {
	f := v.fields("from", "to", "iif", "oif", "fwmark", "table", "priority", "type")
	v.need(f, "priority")
	r := netstate.Rule{
		Priority: uint32(f["priority"].number(1, 32765)),
		From:     f["from"].prefix(), To: f["to"].prefix(),
		IIF: f["iif"].anyLink(), OIF: f["oif"].anyLink(), Mark: f["fwmark"].mark(),
		Action: netstate.ToTable, Table: f["table"].table(0), Protocol: protocolBoot,
	}
	switch f["type"].oneOf("", "blackhole", "unreachable", "prohibit") {
	case "blackhole":
		r.Action = netstate.Blackhole
	case "unreachable":
		r.Action = netstate.Unreachable
	case "prohibit":
		r.Action = netstate.Prohibit
	}
	if (r.Action == netstate.ToTable) != (r.Table != 0) {
		v.bad("", "a rule has either a table or a type")
	}
	families := netstate.Families[:]
	for _, p := range [...]netip.Prefix{r.From, r.To} {
		if !p.IsValid() {
			continue
		}
		fam := netstate.FamilyOf(p.Addr())
		if len(families) == 1 && families[0] != fam {
			v.bad("", "from and to are of two families")
		}
		families = []netstate.Family{fam}
	}
	// The kernel stores a prefix of length 0 as no prefix.
	if r.From.Bits() == 0 {
		r.From = netip.Prefix{}
	}
	if r.To.Bits() == 0 {
		r.To = netip.Prefix{}
	}
	out := make([]netstate.Rule, len(families))
	for i, fam := range families {
		out[i] = r
		out[i].Family = fam
	}
	return out
}

// mark reads value or value/mask.
func (v value) mark() netstate.Mark {
	if !v.there() {
		return netstate.Mark{}
	}
	val, mask, masked := strings.Cut(v.text(), "/")
	m := uint64(0xffffffff)
	n, err := strconv.ParseUint(val, 0, 32)
	if err == nil && masked {
		m, err = strconv.ParseUint(mask, 0, 32)
	}
	if err != nil || m == 0 || n&^m != 0 {
		v.bad("write 0x100/0xff00", "%s is no mark", kindOf(v.n))
		return netstate.Mark{}
	}
	return netstate.Mark{Value: uint32(n), Mask: uint32(m)}
}
