package plan

import (
	"fmt"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// emptyTable is the one table in which the walk finds no route.
const emptyTable = 5009

// packet is what the tests ask a rule list about.
type packet struct{ from, to netip.Addr }

// decide walks a rule list as fib_rules_lookup in net/core/fib_rules.c does and
// says what becomes of the packet.
func decide(rules []netstate.Rule, p packet) string {
	family := netstate.FamilyOf(p.from)
	for i := 0; i < len(rules); i++ {
		r := &rules[i]
		if r.Family != family || !selects(r, p) {
			continue
		}
		switch r.Action {
		case netstate.Nop:
		case netstate.Goto:
			for j := range rules {
				if rules[j].Family == family && rules[j].Priority == r.Goto {
					i = j - 1
					break
				}
			}
		case netstate.ToTable:
			if r.Table == emptyTable {
				continue
			}
			return fmt.Sprint("table ", r.Table)
		default:
			return fmt.Sprint("action ", r.Action)
		}
	}
	return "nothing"
}

func selects(r *netstate.Rule, p packet) bool {
	ok := (!r.From.IsValid() || r.From.Contains(p.from)) && (!r.To.IsValid() || r.To.Contains(p.to))
	return ok != r.Not
}

// decisions asks about all packets at once.
func decisions(rules []netstate.Rule, ps []packet) []string {
	out := make([]string, len(ps))
	for i := range ps {
		out[i] = decide(rules, ps[i])
	}
	return out
}
