package impact_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/impact"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/snapshot"
)

// routes adds n routes by three gateways to a table.
func routes(s *snapshot.Snapshot, n int, table uint32) {
	for i := range n {
		to := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 0}), 24)
		s.State.Routes = append(s.State.Routes, netstate.CanonicalRoute(netstate.Route{
			Family: netstate.IPv4, Table: table, To: to, Hop: netstate.Hop{Dev: "eth0", Via: netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i%3)})}}))
	}
	netstate.SortRoutes(s.State.Routes)
}

// pods adds n links with a routed address each, as a node of Kubernetes has them.
func pods(s *snapshot.Snapshot, n int) {
	for i := range n {
		name := fmt.Sprintf("veth%d", i)
		s.State.Links = append(s.State.Links, netstate.Link{Index: 100 + i, Name: name, Kind: "veth", Up: true, Carrier: true, MTU: 1500})
		s.State.Routes = append(s.State.Routes, netstate.CanonicalRoute(netstate.Route{
			Family: netstate.IPv4, Table: netstate.TableMain, To: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 112, byte(i >> 8), byte(i)}), 32), Hop: netstate.Hop{Dev: name}}))
		for _, v := range slices.Clone(s.Sysctls) {
			if strings.Contains(v.Key, "/default/") {
				s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: strings.Replace(v.Key, "default", name, 1), Value: v.Value})
			}
		}
	}
	netstate.SortRoutes(s.State.Routes)
}

// network is what an ExternalNetwork adds.
const network = `rule 200 from all fwmark 0x1/0x3f iif eth1 table 254
rule 201 from all fwmark 0x1/0x3f table 100
nft table viarule
nft map networks4 IPv4
nft elem 1.2.3.0-1.2.3.255 goto net
nft chain by-address
nft rule ip daddr vmap @networks4
nft chain clear type filter hook forward priority -150
nft rule meta mark and 0x3f != 0x0 meta mark set meta mark and 0xffffffc0 or 0x0
nft chain net
nft rule iifname "eth1" meta mark set meta mark and 0xffffffc0 or 0x1
nft rule iifname "eth1" ct direction original ct mark set ct mark and 0xffffff7f or 0x80
nft rule ct direction reply ct mark and 0x80 == 0x80 meta mark set meta mark and 0xffffffc0 or 0x1
nft chain output type route hook output priority -149
nft rule ct direction reply ct mark and 0x80 == 0x80 ct original ip daddr vmap @networks4
nft chain reply type filter hook prerouting priority -90
nft rule ct direction reply ct mark and 0x80 == 0x80 ct original ip daddr vmap @networks4
nft chain request type filter hook prerouting priority -149
nft rule iifname "eth1" jump by-address
`

// BenchmarkFind works out what a change does to packets.
func BenchmarkFind(b *testing.B) {
	tree := func(n int, table int) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, "rule %d from 10.7.%d.%d table %d\n", 300+i/32, i>>8, i&255, table)
		}
		return s.String()
	}
	for _, c := range []struct {
		name          string
		both          func(*snapshot.Snapshot)
		before, after string
		then          func(*snapshot.Snapshot)
		classes       int // at least
	}{
		{"a rule", nil, "", "rule 200 from 10.1.0.1 table 100\n", nil, 1},
		{"a rule, 100000 routes stay", func(s *snapshot.Snapshot) { routes(s, 100_000, 254) }, "", "rule 200 from 10.1.0.1 table 100\n", nil, 1},
		{"100000 routes", nil, "", "", func(s *snapshot.Snapshot) { routes(s, 100_000, 254) }, 1},
		{"10000 rules", nil, "", tree(10_000, 100), nil, 1},
		{"one of 10000 rules", nil, tree(10_000, 100), tree(10_001, 100), nil, 1},
		{"a network, 250 pods", func(s *snapshot.Snapshot) { pods(s, 250) }, "", network, nil, 1},
		{"a rule by mark, 250 pods", func(s *snapshot.Snapshot) { pods(s, 250) }, "", "rule 200 from all fwmark 0x5 table 100\n", nil, 1},
		{"a rule by source, 250 pods", func(s *snapshot.Snapshot) { pods(s, 250) }, "", "rule 200 from 10.112.0.7 table 100\n", nil, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			before, after := world(b, node+c.before), world(b, node+c.after)
			for _, s := range []*snapshot.Snapshot{before, after} {
				if c.both != nil {
					c.both(s)
				}
			}
			if c.then != nil {
				c.then(after)
			}
			var w [2]*sim.World
			for i, s := range []*snapshot.Snapshot{before, after} {
				w[i] = sim.New(&sim.Input{State: s.State, Sysctls: s.Sysctls})
			}
			b.ResetTimer()
			var found impact.Found
			for b.Loop() {
				found = impact.Find(w[0], w[1], impact.Effort)
			}
			b.ReportMetric(float64(len(found.Classes)), "classes")
			b.ReportMetric(float64(found.Left), "pairs-left")
			if len(found.Classes) < c.classes {
				b.Errorf("%d classes", len(found.Classes))
			}
		})
	}
}
