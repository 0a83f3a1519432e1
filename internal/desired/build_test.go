package desired_test

import (
	"cmp"
	"slices"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
)

func sortRules(rules []netstate.Rule) {
	slices.SortStableFunc(rules, func(a, b netstate.Rule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
	})
}

func TestBuildExample(t *testing.T) {
	runBuildCases(t, []buildCase{{
		name: "the example of the design",
		objs: `p:
  tables:
  - {name: custom, id: 200, routes: [{to: 192.168.10.0/24, dev: eth1}, {to: 192.168.20.0/24, via: 198.51.100.23, dev: eth0}, {to: default, via: 198.51.100.23}]}
  rules:
  - {from: [10.10.10.10], table: custom}
  - {to: [12.12.12.12], priority: 300, table: main}`,
		want: `
			rule 300 from all to 12.12.12.12 table 254 proto 118
			rule 2210 from 10.10.10.10 table 200 proto 118
			route default via 198.51.100.23 dev eth0 table 200 proto 118
			route 192.168.10.0/24 dev eth1 table 200 proto 118 scope link
			route 192.168.20.0/24 via 198.51.100.23 dev eth0 table 200 proto 118`,
	}})
}
