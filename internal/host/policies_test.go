package host_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/netnstest"
)

// TestOnePolicyMore counts the rule operations that one change costs among ten
// thousand policies: what is counted does not depend on the machine.
func TestOnePolicyMore(t *testing.T) {
	const most = 40
	for _, family := range []struct{ name, source string }{{"IPv4", "10.%d.%d.1"}, {"IPv6", "\"2001:db8:%x:%x::1\""}} {
		t.Run(family.name, func(t *testing.T) {
			netnstest.New(t, netnstest.Mounts())
			gateways(t)
			h := openHost(t)
			var list []string
			for i := range 10_000 {
				list = append(list, fmt.Sprintf("  - {from: ["+family.source+"], table: up%d}\n", i/200, i%200, i%4))
			}
			say := func() string {
				var tables strings.Builder
				for i := range 4 {
					fmt.Fprintf(&tables, "  - {name: up%d, routes: [{to: 0.0.0.0/0, via: 10.0.1.2}, {to: \"::/0\", via: \"2001:db8:1::2\"}]}\n", i)
				}
				return "apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: many}\nspec:\n  tables:\n" + tables.String() + "  rules:\n" + strings.Join(list, "")
			}
			applyText(t, h, say())
			extra := func(at int) string { return fmt.Sprintf("  - {from: ["+family.source+"], table: up1}\n", at, 250) }
			for _, change := range []struct {
				what string
				do   func()
			}{
				{"one more in the middle", func() { list = slices.Insert(list, 5_000, extra(20)) }},
				{"one more at the end", func() { list = append(list, extra(33)) }},
				{"one more at the start", func() { list = slices.Insert(list, 0, extra(7)) }},
				{"one less", func() { list = slices.Delete(list, 7_777, 7_778) }},
				{"another table", func() {
					list[123] = strings.NewReplacer("up0", "up1", "up1", "up2", "up2", "up3", "up3", "up0").Replace(list[123])
				}},
			} {
				change.do()
				p, err := h.Plan(t.Context(), parse(t, say()), host.PlanOptions{})
				if err != nil {
					t.Fatal(err)
				}
				if n := len(p.Plan.Ops); n == 0 || n > most {
					t.Errorf("%s: %d operations, want 1 to %d", change.what, n, most)
				}
				applyText(t, h, say())
				if p, err = h.Plan(t.Context(), parse(t, say()), host.PlanOptions{}); err != nil || !p.Plan.Empty() {
					t.Errorf("%s: not all was done (%v): %s", change.what, err, p.Plan.Summary())
				}
			}
			text := netnstest.Exec(t, "ip", map[string]string{"IPv4": "-4", "IPv6": "-6"}[family.name], "rule")
			if !strings.Contains(text, "goto") {
				t.Error("ten thousand policies did not become a tree")
			}
		})
	}
}
