package spec_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// network reads an ExternalNetwork called name of the given body, in a file of
// that name.
func network(t testing.TB, name, body string) spec.Object {
	t.Helper()
	objs, problems := specfile.Parse(name+".yaml", []byte("apiVersion: viarule.io/v1alpha1\nkind: ExternalNetwork\nmetadata: {name: "+name+"}\nspec:\n"+body))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return objs[0]
}

const plain = "  interface: {name: eth1}\n  addresses: [192.0.2.0/24]\n  gateways: [192.0.2.1]\n"

func TestExternalNetworksOfSeveralFiles(t *testing.T) {
	a, b := network(t, "a", plain), network(t, "b", strings.Replace(plain, "192.0.2.0/24", "192.0.2.0/25", 1))
	const want = "b.yaml:6: spec.addresses[0]: 192.0.2.0/25 and 192.0.2.0/24 have addresses in common, in ExternalNetwork/a (a.yaml:6); an address is of one external network on a node: leave it out of one of them"
	if got := text(spec.Validate([]spec.Object{a, b}, spec.Known{})); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	// Objects that come from no file have no lines.
	for _, o := range []*spec.Object{&a, &b} {
		o.File, o.Pos, o.External.Keys, o.External.Addresses[0].Pos = "", spec.Pos{}, nil, spec.Pos{}
	}
	const nowhere = "spec.addresses[0]: 192.0.2.0/25 and 192.0.2.0/24 have addresses in common, in ExternalNetwork/a (spec.addresses[0]); an address is of one external network on a node: leave it out of one of them"
	if got := text(spec.Validate([]spec.Object{a, b}, spec.Known{})); got != nowhere {
		t.Errorf("got\n%s\nwant\n%s", got, nowhere)
	}
}

func TestExternalNetworksAndTheHost(t *testing.T) {
	host := spec.Known{Tables: map[string]uint32{"isp": 77}, First: 2200, Last: 2999, Neighbour: func(p uint32) string {
		if p == 1000 {
			return "Spiderpool"
		}
		return ""
	}}
	const other = "  interface: {name: eth2}\n  addresses: [\"2001:db8::/64\"]\n  gateways: [\"fe80::1\"]\n"
	for _, c := range []struct {
		name, a, b, policy, want string
	}{
		{"a neighbour's priority", plain + "  priority: 1000\n", other, "  rules: []\n",
			"a.yaml:8: warning: spec.priority: Spiderpool uses the priority 1000 on hosts that have it; use another one, or leave it out"},
		{"a name and a number of one table", plain + "  table: isp\n", other + "  table: 77\n", "  rules: []\n",
			"b.yaml:8: spec.table: the table 77 is that of another external network, in ExternalNetwork/a (a.yaml:8); an external network needs one of its own: leave table out, or write another"},
		{"a policy's table by its number in rt_tables", plain + "  table: 77\n", other, "  tables: [{name: isp}]\n",
			"a.yaml:8: spec.table: the table 77 is that of RoutingPolicy/a (f:5); an external network needs one of its own, which rules of others may name: leave table out, or write another"},
		{"a policy's table by its id", plain + "  table: t\n", other, "  tables: [{name: t, id: 300}]\n",
			"a.yaml:8: spec.table: the table t is that of RoutingPolicy/a (f:5); an external network needs one of its own, which rules of others may name: leave table out, or write another"},
		{"a rule may name the table", plain + "  table: ext\n", other + "  table: 300\n", "  rules: [{from: [10.0.0.1], table: ext}, {from: [10.0.0.2], table: 300}]\n", ""},
		{"a rule may name a table that has its name from the object", plain, other + "  table: 300\n", "  rules: [{from: [10.0.0.1], table: ext-a}, {from: [10.0.0.2], table: ext-b}]\n", ""},
		{"no table without gateways", "  interface: {name: eth1}\n  addresses: [192.0.2.0/24]\n", other, "  rules: [{from: [10.0.0.1], table: ext-a}]\n",
			"f:5: spec.rules[0].table: there is no table ext-a, neither here nor in this host's rt_tables; add it to tables, or write its number"},
		{"the host's name for a number counts", plain + "  table: 77\n", other, "  rules: [{from: [10.0.0.1], table: isp}, {from: [10.0.0.2], table: ext-a}]\n",
			"f:5: spec.rules[1].table: there is no table ext-a, neither here nor in this host's rt_tables; add it to tables, or write its number"},
		{"a policy fills a table that is the network's", plain, other, "  tables: [{name: ext-a}]\n",
			"a.yaml:4: spec.table: the table ext-a is that of RoutingPolicy/a (f:5); an external network needs one of its own, which rules of others may name: write `table: …` with another here, or call the other one otherwise"},
		{"a table that nobody has", plain, other, "  rules: [{from: [10.0.0.1], table: ext}]\n",
			"f:5: spec.rules[0].table: there is no table ext, neither here nor in this host's rt_tables; add it to tables, or write its number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			objs := append(policy(t, c.policy), network(t, "a", c.a), network(t, "b", c.b))
			if got := text(spec.Validate(objs, host)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestBoundsOfExternalNetworks(t *testing.T) {
	small := spec.FileLimits()
	small.Addresses, small.Gateways, small.ClusterCIDRs = 2, 1, 1
	const body = "  interface: {name: eth1}\n  addresses: [10.0.0.1, 10.0.0.2, 10.0.0.3]\n  gateways: [192.0.2.1, 192.0.2.2]\n  returnPath: SourceRule\n  clusterCIDRs: [10.1.0.0/16, 10.2.0.0/16]\n"
	const want = `a.yaml:6: spec.addresses: there are 3 prefixes and ranges; an object may have 2; make several objects
a.yaml:7: spec.gateways: there are 2 gateways; an object may have 1
a.yaml:9: spec.clusterCIDRs: there are 2 prefixes; an object may have 1`
	if got := text(spec.Validate([]spec.Object{network(t, "a", body)}, spec.Known{Limits: small})); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A hostile file multiplies: it must be refused in no time and little memory.
func TestExternalNetworksThatMultiplyAreRefused(t *testing.T) {
	e := &spec.ExternalNetwork{Interface: spec.Interface{Name: "eth1"}, Gateways: []spec.Gateway{{Addr: netip.MustParseAddr("192.0.2.1")}}, ReturnPath: spec.ReturnSourceRule}
	for i := range 10_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		e.Addresses = append(e.Addresses, spec.Addresses{First: a, Last: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 254})})
	}
	for i := range 100 {
		e.ClusterCIDRs = append(e.ClusterCIDRs, netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i)}), 16))
	}
	got := spec.Validate([]spec.Object{{External: e}}, spec.Known{})
	if len(got) != 1 || !strings.Contains(got[0].What, "more than 4194304 rules") {
		t.Error(text(got))
	}
	e.ReturnPath = spec.ReturnAuto
	if got := spec.Validate([]spec.Object{{External: e}}, spec.Known{}); spec.Failed(got) {
		t.Error(text(got))
	}
}

// From a cluster come objects that no file reader has looked at.
func TestExternalNetworksOfOtherSources(t *testing.T) {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	for name, c := range map[string]struct {
		change func(*spec.ExternalNetwork)
		want   string
	}{
		"no addresses":             {func(e *spec.ExternalNetwork) { e.Addresses[0] = spec.Addresses{} }, "spec.addresses[0]: this is neither"},
		"half a range":             {func(e *spec.ExternalNetwork) { e.Addresses[0] = spec.Addresses{First: addr("192.0.2.1")} }, "spec.addresses[0]: this is neither"},
		"a reversed range":         {func(e *spec.ExternalNetwork) { e.Addresses[0] = spec.Addresses{First: addr("::9"), Last: addr("::8")} }, "spec.addresses[0]: this is neither"},
		"a prefix with other ends": {func(e *spec.ExternalNetwork) { e.Addresses[0].Prefix = prefix("10.0.0.0/8") }, "spec.addresses[0]: this is neither"},
		"an empty gateway":         {func(e *spec.ExternalNetwork) { e.Gateways = append(e.Gateways, spec.Gateway{}) }, "spec.gateways[1]: invalid IP is not"},
		"an empty network of pods": {func(e *spec.ExternalNetwork) { e.ClusterCIDRs = []netip.Prefix{{}} }, "spec.clusterCIDRs[0]: invalid Prefix is not a prefix"},
		"a priority behind main":   {func(e *spec.ExternalNetwork) { e.Priority = netstate.Some(32766) }, "spec.priority: the priority 32766 is out of range"},
		"a mark without value":     {func(e *spec.ExternalNetwork) { e.Mark.Mask = 1 }, "spec.mark: 0x0/0x1 is not a mark"},
		"a mark out of its mask":   {func(e *spec.ExternalNetwork) { e.Mark = netstate.Mark{Value: 3, Mask: 1} }, "spec.mark: 0x3/0x1 is not a mark"},
		"an impossible name":       {func(e *spec.ExternalNetwork) { e.Interface.Name = "a b" }, `spec.interface.name: "a b" cannot be`},
		"an impossible table":      {func(e *spec.ExternalNetwork) { e.Table.Name = "a b" }, `spec.table: "a b" cannot be`},
		"no VLAN":                  {func(e *spec.ExternalNetwork) { e.Interface.VLAN = &spec.VLAN{Parent: "eth0"} }, "spec.interface.vlan.id: 0 is not the id of a VLAN"},
		"a MAC in capitals": {func(e *spec.ExternalNetwork) {
			e.Interface = spec.Interface{Match: &spec.LinkMatch{MAC: "02:00:00:00:00:AB"}}
		}, "spec.interface.match.mac: 02:00:00:00:00:AB is not written as the kernel does"},
		"no MAC": {func(e *spec.ExternalNetwork) { e.Interface = spec.Interface{Match: &spec.LinkMatch{MAC: "eth1"}} }, `spec.interface.match.mac: "eth1" is not the MAC`},
		"a subnet with host's bits": {func(e *spec.ExternalNetwork) {
			e.Interface = spec.Interface{Match: &spec.LinkMatch{Subnet: prefix("10.0.0.1/8")}}
		}, "spec.interface.match.subnet: 10.0.0.1/8 is not the subnet"},
	} {
		t.Run(name, func(t *testing.T) {
			e := &spec.ExternalNetwork{Interface: spec.Interface{Name: "eth1"}, Gateways: []spec.Gateway{{Addr: addr("192.0.2.1")}}}
			a, err := spec.ParseAddresses("192.0.2.0/24")
			if err != nil {
				t.Fatal(err)
			}
			e.Addresses = []spec.Addresses{a}
			c.change(e)
			got := spec.Validate([]spec.Object{{External: e}}, spec.Known{})
			if len(got) == 0 || got[0].Severity != spec.Error || !strings.HasPrefix(got[0].String(), c.want) {
				t.Errorf("got\n%s\nwant\n%s", text(got), c.want)
			}
		})
	}
}

func TestMarksThatCanBeToldApart(t *testing.T) {
	for _, c := range []struct {
		a, b string
		ok   bool
	}{
		{"0x100", "0x200", true}, {"0x100", "0x100", false}, {"0x300", "0x100", false}, {"0x100/0xf00", "0x200/0xf00", true},
		{"0x100/0xf00", "0x100/0xf00", false}, {"0x100/0xf00", "0x1000/0xf000", true}, {"0x100/0xf00", "0x2000/0xff00", false},
		{"0x100/0xf00", "0x200", false},
	} {
		other := strings.Replace(plain, "192.0.2.0/24", "198.51.100.0/24", 1)
		objs := []spec.Object{network(t, "a", plain+"  mark: "+c.a+"\n"), network(t, "b", other+"  mark: "+c.b+"\n")}
		if got := spec.Validate(objs, spec.Known{}); spec.Failed(got) == c.ok {
			t.Errorf("%s and %s: %s", c.a, c.b, text(got))
		}
	}
}

// TestPrefixesOfARange: they hold every address of the range once and no other,
// and none of them could be merged with its neighbour.
func TestPrefixesOfARange(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.0/24": "192.0.2.0/24", "192.0.2.1": "192.0.2.1/32", "192.0.2.0-192.0.2.255": "192.0.2.0/24",
		"192.0.2.1-192.0.2.1": "192.0.2.1/32", "0.0.0.0-255.255.255.255": "0.0.0.0/0", "255.255.255.254-255.255.255.255": "255.255.255.254/31",
		"192.168.1.100-192.168.1.120":                "192.168.1.100/30 192.168.1.104/29 192.168.1.112/29 192.168.1.120/32",
		"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "::/0", "2001:db8::ffff-2001:db8::1:0": "2001:db8::ffff/128 2001:db8::1:0/128",
	} {
		a, err := spec.ParseAddresses(in)
		if got := strings.Trim(fmt.Sprint(a.Prefixes()), "[]"); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	a, _ := spec.ParseAddresses("0.0.0.1-255.255.255.254")
	b, _ := spec.ParseAddresses("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")
	if len(a.Prefixes()) != 62 || len(b.Prefixes()) != 254 {
		t.Errorf("%d and %d prefixes", len(a.Prefixes()), len(b.Prefixes()))
	}
	rapid.Check(t, func(rt *rapid.T) {
		byte16 := func(n int) netip.Addr {
			if rapid.Bool().Draw(rt, "v6") {
				return netip.AddrFrom16([16]byte{0x20, 1, 13: 1, 14: byte(n >> 8), 15: byte(n)})
			}
			return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
		}
		lo := rapid.IntRange(0, 1000).Draw(rt, "lo")
		a := spec.Addresses{First: byte16(lo)}
		a.Last = a.First
		n := 1 + rapid.IntRange(0, 1000).Draw(rt, "n")
		for range n - 1 {
			a.Last = a.Last.Next()
		}
		if again, err := spec.ParseAddresses(a.String()); err != nil || again != a {
			rt.Fatalf("%s reads back as %+v, %v", a, again, err)
		}
		next, last := a.First, netip.Prefix{}
		for _, p := range a.Prefixes() {
			if p.Addr() != next || p != p.Masked() {
				rt.Fatalf("%s: %s does not begin at %s", a, p, next)
			}
			if last.IsValid() && last.Bits() == p.Bits() && netip.PrefixFrom(last.Addr(), p.Bits()-1).Masked() == netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked() {
				rt.Fatalf("%s: %s and %s are one prefix", a, last, p)
			}
			for last = p; p.Contains(next); next = next.Next() {
			}
		}
		if next != a.Last.Next() {
			rt.Fatalf("%s: the prefixes %v end before %s", a, a.Prefixes(), next)
		}
	})
}

// TestEveryOverlapIsFound holds the search against a look at every pair.
func TestEveryOverlapIsFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var objs []spec.Object
		type written struct {
			obj int
			spec.Addresses
		}
		var all []written
		for n := range rapid.IntRange(1, 3).Draw(rt, "objects") {
			e := &spec.ExternalNetwork{Interface: spec.Interface{Name: "eth1"}}
			for i := range rapid.IntRange(1, 6).Draw(rt, "addresses") {
				lo := rapid.IntRange(0, 60).Draw(rt, "lo")
				a := spec.Addresses{First: netip.AddrFrom4([4]byte{10, 0, 0, byte(lo)}), Last: netip.AddrFrom4([4]byte{10, 0, 0, byte(lo + rapid.IntRange(0, 9).Draw(rt, "n"))})}
				a.Pos.Line = int32(100*(n+1) + i)
				e.Addresses = append(e.Addresses, a)
				all = append(all, written{n, a})
			}
			objs = append(objs, spec.Object{Ref: spec.Ref{Kind: spec.KindExternalNetwork, Name: fmt.Sprint(n)}, File: "f", External: e})
		}
		overlap := map[int32]bool{} // lines that have addresses of an earlier or later one
		for i, a := range all {
			for _, b := range all[:i] {
				if !a.Last.Less(b.First) && !b.Last.Less(a.First) {
					overlap[a.Pos.Line], overlap[b.Pos.Line] = true, true
				}
			}
		}
		named := map[int32]bool{}
		for _, p := range spec.Validate(objs, spec.Known{}) {
			if !overlap[p.Pos.Line] {
				rt.Fatalf("no overlap: %s", p)
			}
			named[p.Pos.Line] = true
		}
		if (len(overlap) > 0) != (len(named) > 0) {
			rt.Fatalf("overlaps in %v, found in %v", overlap, named)
		}
	})
}

func BenchmarkValidateExternal(b *testing.B) {
	var objs []spec.Object
	for n := range 10 {
		e := &spec.ExternalNetwork{Interface: spec.Interface{Name: "eth1"}, Gateways: []spec.Gateway{{Addr: netip.MustParseAddr("192.0.2.1")}}}
		for i := range 1000 {
			a, err := spec.ParseAddresses(fmt.Sprintf("10.%d.%d.%d/30", n, i>>6, i&63<<2))
			if err != nil {
				b.Fatal(err)
			}
			e.Addresses = append(e.Addresses, a)
		}
		objs = append(objs, spec.Object{Ref: spec.Ref{Kind: spec.KindExternalNetwork, Name: fmt.Sprint(n)}, External: e})
	}
	b.ReportAllocs()
	for b.Loop() {
		if ps := spec.Validate(objs, spec.Known{}); len(ps) > 0 {
			b.Fatal(ps[0])
		}
	}
}
