package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// network is what one external network looks like in these tests.
type network struct {
	name    string
	dev     string // v...: viarule makes it
	parent  string
	vlan    uint16
	table   uint32
	gateway int
	mark    uint32
}

// want gives what the networks ask for, as package desired would.
func want(nets []network) desired.Want {
	var w desired.Want
	if len(nets) == 0 {
		return w
	}
	nft := desired.Nft{NftTable: netstate.NftTable{Name: netstate.NftTableObjects,
		Maps:   []netstate.NftMap{{Name: "net4", Family: netstate.IPv4}},
		Chains: []netstate.NftChain{{Name: "request", Hook: netstate.NftHook{Type: "filter", Hook: "prerouting", Priority: netstate.NftMangle + 1}, Rules: []netstate.NftRule{{{Op: netstate.NftDAddrMap, Family: netstate.IPv4, Name: "net4"}}}}}}}
	seen := map[string]bool{}
	for _, n := range nets {
		obj := &spec.Object{Ref: spec.Ref{Kind: spec.KindExternalNetwork, Name: n.name}, File: "f.yaml"}
		o := desired.Origin{Object: obj, Pos: spec.Pos{Line: 1}}
		made := strings.HasPrefix(n.dev, "v")
		if made && !seen[n.dev] {
			w.Links = append(w.Links, desired.Link{Origin: o, Link: netstate.Link{Name: n.dev, Kind: "vlan", Parent: n.parent, VLAN: n.vlan, Up: true, Alias: "viarule:" + obj.Ref.String()}})
		}
		if !seen[n.dev] {
			w.Sysctls = append(w.Sysctls, desired.Sysctl{Sysctl: netstate.Sysctl{Key: sysctlOf(n.dev, "src_valid_mark"), Value: "1"}, Made: made, Origin: o})
		}
		seen[n.dev] = true
		w.Routes = append(w.Routes, desired.Route{Origin: o, Route: netstate.Route{Family: netstate.IPv4, To: netstate.IPv4.Default(), Table: n.table, Protocol: netstate.ProtocolObject,
			Type: netstate.RouteUnicast, Hop: netstate.Hop{Dev: n.dev, Via: address(netstate.IPv4, int(n.table-5000), n.gateway)}}})
		w.Rules = append(w.Rules, desired.Rule{Origin: o, Rule: netstate.Rule{Family: netstate.IPv4, Priority: 2200 + n.mark, Protocol: netstate.ProtocolObject,
			Mark: netstate.Mark{Value: n.mark, Mask: 0x3f}, Action: netstate.ToTable, Table: n.table}})
		nft.Origins = append(nft.Origins, o)
		net := int(n.mark)
		nft.Maps[0].Elems = append(nft.Maps[0].Elems, netstate.NftElem{First: address(netstate.IPv4, net, 0), Last: address(netstate.IPv4, net, 255), Chain: n.name})
		nft.Chains = append(nft.Chains, netstate.NftChain{Name: n.name, Rules: []netstate.NftRule{
			{{Op: netstate.NftIIFName, Link: n.dev}, {Op: netstate.NftSetMark, Mark: netstate.Mark{Value: n.mark, Mask: 0x3f}}}}})
	}
	slices.SortFunc(w.Routes, func(a, b desired.Route) int { return netstate.CompareRouteKey(a.Key(), b.Key()) })
	slices.SortFunc(w.Rules, func(a, b desired.Rule) int { return int(a.Priority) - int(b.Priority) })
	slices.SortFunc(nft.Maps[0].Elems, func(a, b netstate.NftElem) int { return a.First.Compare(b.First) })
	slices.SortFunc(nft.Chains, func(a, b netstate.NftChain) int { return strings.Compare(a.Name, b.Name) })
	w.Nft = &nft
	return w
}

func drawNetworks(t *rapid.T, label string) []network {
	var nets []network
	wires := map[string]network{} // what each link is
	used := map[string]string{}   // who has a VLAN
	for i := range 4 {
		if rapid.IntRange(0, 2).Draw(t, label) == 0 {
			continue
		}
		n := network{name: fmt.Sprint("net", i), mark: uint32(i + 1)}
		n.dev = rapid.SampledFrom([]string{"eth0", "v1", "v2", "v3"}).Draw(t, "dev")
		n.parent = rapid.SampledFrom([]string{"eth0", "eth1", "v2"}).Draw(t, "parent")
		n.vlan = rapid.Uint16Range(100, 101).Draw(t, "vlan")
		n.gateway = rapid.IntRange(1, 2).Draw(t, "gateway")
		n.table = 5000 + n.mark
		if strings.HasPrefix(n.dev, "v") {
			if have, ok := wires[n.dev]; ok {
				n.parent, n.vlan = have.parent, have.vlan
			}
			wire := fmt.Sprint(n.parent, n.vlan)
			if _, ok := wires[n.parent]; n.parent == "v2" && (n.dev == "v2" || !ok) || used[wire] != "" && used[wire] != n.dev {
				n.dev = "eth1"
			} else {
				wires[n.dev], used[wire] = n, n.dev
			}
		}
		nets = append(nets, n)
	}
	return nets
}

// checkMarks wants that every mark which the table of nftables sets is looked up,
// in a table with a way out, and believed: the promise of the order.
func checkMarks(t *rapid.T, k *kernel, when string) {
	for _, table := range k.nft {
		for _, c := range table.Chains {
			for _, r := range c.Rules {
				if len(r) != 2 || r[1].Op != netstate.NftSetMark {
					continue
				}
				if k.sysctls[sysctlOf(r[0].Link, "src_valid_mark")] != "1" {
					t.Fatalf("%s packets from %s are marked, and its src_valid_mark is not set", when, r[0].Link)
				}
				rule := slices.IndexFunc(k.rules, func(o netstate.Rule) bool { return o.Mark == r[1].Mark })
				if rule < 0 || !slices.ContainsFunc(k.routes, func(o netstate.Route) bool { return o.Table == k.rules[rule].Table }) {
					t.Fatalf("%s mark %d leads nowhere:\n%s", when, r[1].Mark.Value, k.state())
				}
			}
		}
	}
}

// removesFirst says whether a plan has to take links away that are in use: then
// there is a gap.
func removesFirst(p *Plan) bool {
	return len(p.Ops) > 0 && p.Ops[0].Stage == stageLinksAway
}

// restores gives what the records would have put back.
func restores(k *kernel, w *desired.Want) []netstate.Sysctl {
	var out []netstate.Sysctl
	for _, dev := range []string{"eth0", "eth1"} {
		key := sysctlOf(dev, "src_valid_mark")
		if k.sysctls[key] == "1" && !slices.ContainsFunc(w.Sysctls, func(s desired.Sysctl) bool { return s.Key == key }) {
			out = append(out, netstate.Sysctl{Key: key, Value: "0"})
		}
	}
	return out
}

// meddle is somebody else, or an accident.
func meddle(t *rapid.T, k *kernel) (gap bool) {
	if rapid.IntRange(0, 3).Draw(t, "meddle") > 0 {
		return false
	}
	if len(k.nft) > 0 && rapid.Bool().Draw(t, "in the table") {
		k.nft[0].Unknown = "a flowtable"
		c := &k.nft[0].Chains[0]
		c.Rules = append(slices.Clone(c.Rules), netstate.NftRule{{Op: netstate.NftUnknown, Unknown: "log"}})
	}
	if len(k.links) > 0 && rapid.Bool().Draw(t, "with a link") {
		l := rapid.SampledFrom(k.links).Draw(t, "link")
		if rapid.Bool().Draw(t, "it goes") {
			k.linkGone(l.Name)
		} else {
			l.Up = false
			_ = k.setLink(netstate.Replace, l)
		}
		return true
	}
	return false
}

// TestRandomNetworks goes from some external networks to others. Each plan ends
// where it shall, from every point of it Undo leads back to the last byte and
// Diff leads on, and no packet ever gets a mark that leads nowhere.
func TestRandomNetworks(t *testing.T) {
	away, ops := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		k := newKernel(netstate.State{}, map[string]string{sysctlOf("eth0", "src_valid_mark"): "0", sysctlOf("eth1", "src_valid_mark"): "0"})
		var wants []desired.Want
		for range 3 {
			w := want(drawNetworks(t, "there is"))
			wants = append(wants, w)
			gap := meddle(t, k)
			p := checkNetworks(t, k, w, union(wants...), gap)
			ops += len(p.Ops)
			if removesFirst(&p) {
				away++
			}
		}
		checkNetworks(t, k, desired.Want{}, union(wants...), false)
		if s := k.state(); len(s.Links)+len(s.Nft)+len(s.Rules)+len(s.Routes) > 0 {
			t.Fatalf("nothing is wanted, and there is\n%s%s", s, k.text())
		}
	})
	t.Logf("%d ops; %d plans took links away first", ops, away)
}

func checkNetworks(t *rapid.T, k *kernel, w desired.Want, rec Recorded, gap bool) Plan {
	planned := func(k *kernel) (Plan, Input) {
		in := input(k, w, rec, false)
		in.Restore = restores(k, &w)
		p := Diff(in)
		if again := Diff(in); show(&again) != show(&p) || !reflect.DeepEqual(again.Ops, p.Ops) {
			t.Fatalf("two plans from one state:\n%s\n%s", show(&p), show(&again))
		}
		if len(p.Conflicts)+len(p.Orphans)+len(p.Satisfied) > 0 {
			t.Fatalf("nobody else is here, and yet:\n%s\nstate\n%s%s", show(&p), k.state(), k.text())
		}
		return p, in
	}
	run := func(k *kernel, p *Plan, when string, gap bool, after func()) {
		carryOut(t, k, p, func(done int) {
			if !gap {
				checkMarks(t, k, fmt.Sprintf("%s, after %s,", when, p.Ops[done-1].Change))
			}
			if after != nil {
				after()
			}
		})
	}
	before := k.clone()
	p, in := planned(k)
	cp := p.Checkpoint(in.Have, in.Sysctls)
	gap = gap || removesFirst(&p)
	end := k.clone()
	run(end, &p, "plan", gap, nil)
	known := before.clone()
	if len(known.nft) > 0 {
		known.nft[0] = knownNft(&known.nft[0])
	}
	run(k, &p, "plan", gap, func() {
		back := k.clone()
		u := Undo(cp, back.state(), present(back, cp))
		run(back, &u, "undo", gap || removesFirst(&u), nil)
		if again := Undo(cp, back.state(), present(back, cp)); !again.Empty() {
			t.Fatalf("after the undo there is still to do:\n%s", show(&again))
		}
		if got := back.state().String() + back.text(); got != before.state().String()+before.text() && got != known.state().String()+known.text() {
			t.Fatalf("undo of\n%s%s\ngives\n%s\nbefore was\n%s%s\nundo:\n%s\nplan:\n%s", k.state(), k.text(), got, before.state(), before.text(), show(&u), show(&p))
		}
		on := k.clone()
		q, _ := planned(on)
		run(on, &q, "second run", gap || removesFirst(&q), nil)
		if got, want := on.state().String()+on.text(), end.state().String()+end.text(); got != want {
			t.Fatalf("a second run ends in\n%s\nnot in\n%s\nplan:\n%s\nsecond:\n%s", got, want, show(&p), show(&q))
		}
	})
	if rest, _ := planned(k); !rest.Empty() {
		t.Fatalf("still to do:\n%s\nplan:\n%s", show(&rest), show(&p))
	}
	checkEnd(t, k, &w)
	if len(k.links) != len(w.Links) || (w.Nft == nil) != (len(k.nft) == 0) || w.Nft != nil && !w.Nft.Equal(&k.nft[0]) {
		t.Fatalf("the end has %s", k.text())
	}
	return p
}

// present is what an undo reads: the sysctls of the checkpoint that are there.
func present(k *kernel, cp Checkpoint) map[string]string {
	out := map[string]string{}
	for _, s := range slices.Concat(cp.Sysctls, cp.Restored) {
		if v, ok := k.sysctls[s.Key]; ok {
			out[s.Key] = v
		}
	}
	return out
}
