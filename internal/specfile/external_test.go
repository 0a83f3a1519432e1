package specfile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// bareExternal is e without positions.
func bareExternal(e spec.ExternalNetwork) *spec.ExternalNetwork {
	e.Keys = nil
	e.Addresses, e.Gateways = slices.Clone(e.Addresses), slices.Clone(e.Gateways)
	for i := range e.Addresses {
		e.Addresses[i].Pos = spec.Pos{}
	}
	for i := range e.Gateways {
		e.Gateways[i].Pos = spec.Pos{}
	}
	return &e
}

// external draws a random valid ExternalNetwork.
func (g gen) external() spec.Object {
	e := &spec.ExternalNetwork{}
	switch g.n(0, 2) {
	case 0:
		e.Interface.Name = g.link()
	case 1:
		e.Interface = spec.Interface{Name: "vlan", VLAN: &spec.VLAN{Parent: g.link(), ID: uint16(g.n(1, spec.MaxVLAN))}}
	case 2:
		m := &spec.LinkMatch{}
		if g.chance() {
			m.MAC = fmt.Sprintf("%02x:%02x:00:00:00:01", 2*g.n(0, 127), g.n(0, 99))
		}
		if f := g.family(); m.MAC == "" || g.chance() {
			m.Subnet = netip.PrefixFrom(g.addr(f), g.n(1, f.Bits())).Masked()
		}
		e.Interface.Match = m
	}
	families := netstate.Families[:]
	if g.chance() {
		families = []netstate.Family{g.family()}
	}
	withGateways := g.chance()
	for _, f := range families {
		// One address in a thousand or so: not in another one's way.
		for i := range g.n(1, 10) {
			first := netip.AddrFrom4([4]byte{10, byte(i), byte(g.n(0, 255)), byte(g.n(0, 200))})
			if f == netstate.IPv6 {
				first = netip.AddrFrom16([16]byte{0x20, 1, 2: byte(i), 15: byte(g.n(0, 200))})
			}
			a := spec.Addresses{First: first, Last: first}
			for range g.n(0, 50) {
				a.Last = a.Last.Next()
			}
			if g.chance() {
				p := netip.PrefixFrom(first, g.n(f.Bits()-8, f.Bits())).Masked()
				a, _ = spec.ParseAddresses(p.String())
			}
			e.Addresses = append(e.Addresses, a)
		}
		for i := range g.n(1, 10) {
			a := netip.AddrFrom4([4]byte{11, 0, byte(i), byte(g.n(1, 254))})
			if f == netstate.IPv6 {
				a = netip.AddrFrom16([16]byte{0xfe, 0x80, 14: byte(i), 15: byte(g.n(1, 254))})
			}
			if withGateways {
				e.Gateways = append(e.Gateways, spec.Gateway{Addr: a})
			}
		}
		for i := range g.n(0, 10) {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{12, byte(i)}), g.n(16, 32))
			if f == netstate.IPv6 {
				p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(i)}), g.n(16, 128))
			}
			e.ClusterCIDRs = append(e.ClusterCIDRs, p)
		}
	}
	if g.chance() {
		e.Table = spec.TableRef{Name: rapid.SampledFrom([]string{"custom", "on", "null", "y", "a.b-c_9"}).Draw(g.t, "table")}
	} else if g.chance() {
		e.Table = spec.TableRef{ID: g.u32(256, 1<<32-1)}
	}
	if g.chance() {
		e.Priority = netstate.Some(g.u32(1, spec.MaxOwnPriority))
	}
	if g.chance() {
		v := g.u32(1, 1<<32-1)
		e.Mark = netstate.Mark{Value: v, Mask: v | g.u32(0, 1<<32-1)}
		if g.chance() {
			e.Mark.Mask = v
		}
	}
	e.ReturnPath, e.ReversePathFilter = spec.ReturnPath(g.n(0, 2)), spec.ReversePathFilter(g.n(0, 3))
	e.StrictARP, e.Spread = g.chance(), g.chance()
	return spec.Object{
		Ref:            spec.Ref{Kind: spec.KindExternalNetwork, Name: "a"},
		DeletionPolicy: rapid.SampledFrom([]spec.DeletionPolicy{"", spec.DeletePolicy, spec.OrphanPolicy}).Draw(g.t, "deletion"),
		External:       e,
	}
}

// everyKey has each key of an ExternalNetwork, two of them without a line of
// their own.
const everyKey = `apiVersion: viarule.io/v1alpha1
kind: ExternalNetwork
metadata:
  name: external
spec:
  deletionPolicy: Orphan
  interface: {name: eth0.100, vlan: {parent: eth0, id: 100}}
  addresses: [1.2.3.0/24, "2001:db8:1::/64", 1.2.4.10-1.2.4.30, 192.0.2.1]
  gateways: [1.2.3.1, "2001:db8:1::1"]
  table: 100
  priority: 300
  mark: 0x100
  returnPath: ConnectionMark
  clusterCIDRs:
  - 10.0.0.0/16
  - 10.1.0.0/16
  - 10.2.0.0/16
  - 10.3.0.0/16
  - 10.4.0.0/16
  - 10.5.0.0/16
  - 10.6.0.0/16
  - 10.7.0.0/16
  - "fd00::/8"
  reversePathFilter: Exempt
  strictARP: true
  spread: true
---
apiVersion: viarule.io/v1alpha1
kind: ExternalNetwork
metadata:
  name: by-match
spec:
  interface: {match: {mac: "52:54:00:12:34:56", subnet: 192.0.2.0/24}}
  addresses: [192.0.2.10-192.0.2.20]
  mark: 0x100/0xff00
`

func TestEveryKeyOfAnExternalNetwork(t *testing.T) {
	objs, problems := Parse("f", []byte(everyKey))
	if len(problems) > 0 || len(objs) != 2 {
		t.Fatal(problems)
	}
	if got := string(Marshal(objs[0])) + "---\n" + string(Marshal(objs[1])); got != everyKey {
		t.Errorf("got\n%s\nwant\n%s", got, everyKey)
	}
	e := objs[0].External
	if a := e.Addresses[1]; a.First.String() != "2001:db8:1::" || a.Last.String() != "2001:db8:1:0:ffff:ffff:ffff:ffff" || a.Pos != (spec.Pos{Line: 8, Col: 27}) {
		t.Errorf("addresses[1]: %+v", a)
	}
	if a := e.Addresses[2]; a.Prefix.IsValid() || a.Last.String() != "1.2.4.30" {
		t.Errorf("addresses[2]: %+v", a)
	}
	if a := e.Addresses[3]; a.Prefix.String() != "192.0.2.1/32" || a.Last != a.First {
		t.Errorf("addresses[3]: %+v", a)
	}
	if e.Mark != (netstate.Mark{Value: 0x100, Mask: 0x100}) || objs[1].External.Mark != (netstate.Mark{Value: 0x100, Mask: 0xff00}) {
		t.Errorf("marks: %+v, %+v", e.Mark, objs[1].External.Mark)
	}
	var keys []string
	for key, at := range e.Keys {
		keys = append(keys, fmt.Sprintf("%02d:%02d %s", at.Line, at.Col, key))
	}
	slices.Sort(keys)
	want := "05:01 , 06:03 deletionPolicy, 07:03 interface, 07:15 interface.name, 07:31 interface.vlan, 07:38 interface.vlan.parent, 07:52 interface.vlan.id, " +
		"08:03 addresses, 09:03 gateways, 10:03 table, 11:03 priority, 12:03 mark, 13:03 returnPath, 14:03 clusterCIDRs, " +
		"15:05 clusterCIDRs[0], 16:05 clusterCIDRs[1], 17:05 clusterCIDRs[2], 18:05 clusterCIDRs[3], 19:05 clusterCIDRs[4], 20:05 clusterCIDRs[5], " +
		"21:05 clusterCIDRs[6], 22:05 clusterCIDRs[7], 23:05 clusterCIDRs[8], 24:03 reversePathFilter, 25:03 strictARP, 26:03 spread"
	if got := strings.Join(keys, ", "); got != want {
		t.Errorf("keys\n%s\nwant\n%s", got, want)
	}
}

func TestMACsBecomeTheKernels(t *testing.T) {
	objs, problems := Parse("f", []byte(strings.Replace(everyKey, "52:54:00:12:34:56", "52:54:00:AB:cD:Ef", 1)))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if m := objs[1].External.Interface.Match; m.MAC != "52:54:00:ab:cd:ef" {
		t.Error(m.MAC)
	}
}
