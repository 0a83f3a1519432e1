package plan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
)

// somePlan goes from two networks of these tests to two others.
func somePlan(t *testing.T) (p Plan, in Input) {
	t.Helper()
	k := newKernel(netstate.State{}, map[string]string{sysctlOf("eth0", "src_valid_mark"): "0"})
	old := want([]network{{name: "blue", dev: "v1", parent: "eth0", vlan: 100, table: 5001, gateway: 1, mark: 1}, {name: "red", dev: "eth0", table: 5002, gateway: 1, mark: 2}})
	first := Diff(input(k, old, union(old), false))
	for i := range first.Ops {
		if err := k.apply(&first.Ops[i].Change); err != nil {
			t.Fatal(err)
		}
	}
	w := want([]network{{name: "green", dev: "v2", parent: "eth0", vlan: 101, table: 5003, gateway: 1, mark: 3}, {name: "red", dev: "eth0", table: 5002, gateway: 1, mark: 2}})
	in = input(k, w, union(old, w), false)
	return Diff(in), in
}

// TestOrder adds a network and removes another in one plan.
func TestOrder(t *testing.T) {
	p, in := somePlan(t)
	short := func(p *Plan) string {
		var b strings.Builder
		for i := range p.Ops {
			switch op := &p.Ops[i]; {
			case op.Link != nil:
				fmt.Fprintln(&b, op.Verb, op.Link.Name)
			case op.Nft != nil:
				fmt.Fprintln(&b, op.Brief())
			default:
				fmt.Fprintln(&b, op.Change)
			}
		}
		return b.String()
	}
	want := lines(`+ v2
		+ route default via 10.3.0.1 dev v2 table 5003 proto 118
		+ rule 2203 from all fwmark 0x3/0x3f table 5003 proto 118
		~ sysctl net/ipv4/conf/v2/src_valid_mark = 1
		~ nftables table inet viarule
		- rule 2201 from all fwmark 0x1/0x3f table 5001 proto 118
		- route default via 10.1.0.1 dev v1 table 5001 proto 118
		- v1`)
	if got := short(&p); got != want {
		t.Errorf("plan:\n%s\nshall be:\n%s", got, want)
	}
	k := newKernel(in.Have, in.Sysctls)
	for i := range p.Ops {
		if err := k.apply(&p.Ops[i].Change); err != nil {
			t.Fatal(err)
		}
	}
	cp := p.Checkpoint(in.Have, in.Sysctls)
	u := Undo(cp, k.state(), present(k, cp))
	want = lines(`+ v1
		+ route default via 10.1.0.1 dev v1 table 5001 proto 118
		+ rule 2201 from all fwmark 0x1/0x3f table 5001 proto 118
		~ sysctl net/ipv4/conf/v1/rp_filter = 0
		~ sysctl net/ipv4/conf/v1/src_valid_mark = 1
		~ nftables table inet viarule
		- rule 2203 from all fwmark 0x3/0x3f table 5003 proto 118
		- route default via 10.3.0.1 dev v2 table 5003 proto 118
		- v2`)
	if got := short(&u); got != want {
		t.Errorf("undo:\n%s\nshall be:\n%s", got, want)
	}
}

func TestTextOfNft(t *testing.T) {
	p, _ := somePlan(t)
	got := written(t, &p, Style{})
	want := `nftables
  ~ table inet viarule  # f.yaml:1 ExternalNetwork/green, f.yaml:1 ExternalNetwork/red: changed
  ~   map net4
  -     10.1.0.0-10.1.0.255 : goto blue
  +     10.3.0.0-10.3.0.255 : goto green
  -   chain blue
  -     iifname "v1" meta mark set meta mark and 0xffffffc0 or 0x1
  +   chain green
  +     iifname "v2" meta mark set meta mark and 0xffffffc0 or 0x3
old rules
`
	if !strings.Contains(got, want) {
		t.Errorf("text:\n%s\nlacks\n%s", got, want)
	}
	if want := "\n3 to add, 2 to change, 3 to remove; 0 satisfied, 0 conflicts\n"; !strings.HasSuffix(got, want) {
		t.Errorf("text:\n%s\nends not in %s", got, want)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"kind":"link"`, `"verb":"replace","kind":"nft","object":"table inet viarule"`, `{"verb":"delete","where":"map net4","text":"10.1.0.0-10.1.0.255 : goto blue"}`, `"origins":[{"kind":"ExternalNetwork","name":"green"`} {
		if !strings.Contains(string(b), part) {
			t.Errorf("JSON lacks %s:\n%s", part, b)
		}
	}
}

func TestNftLines(t *testing.T) {
	op := func(before, after *netstate.NftTable) *Op {
		o := &Op{Change: netstate.Change{Verb: netstate.Replace, Nft: after}, BeforeNft: before}
		if after == nil {
			o.Verb, o.Nft = netstate.Delete, before
		}
		return o
	}
	text := func(o *Op) string {
		var b strings.Builder
		for _, l := range o.NftLines() {
			fmt.Fprintf(&b, "%s %s: %s\n", l.Verb, l.Where, l.Text)
		}
		return b.String()
	}
	table := func(rules ...string) *netstate.NftTable {
		c := netstate.NftChain{Name: "c", Hook: netstate.NftHook{Type: "route", Hook: "output", Priority: netstate.NftMangle + 1}}
		for _, r := range rules {
			c.Rules = append(c.Rules, netstate.NftRule{{Op: netstate.NftJump, Name: r}})
		}
		return &netstate.NftTable{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{c}}
	}
	hooked := table("a")
	hooked.Chains[0].Hook.Priority = netstate.NftDstNAT + 10
	hooked.Unknown = "set x"
	for _, tt := range []struct {
		name string
		op   *Op
		want string
	}{
		{"what is common is left out", op(table("a", "b", "c", "d"), table("a", "x", "c", "b", "d")), "~ chain c: \n- chain c: jump b\n+ chain c: jump x\n+ chain c: jump b\n"},
		{"a new table", op(nil, table("a")), "+ chain c: \n+ chain c: type route hook output priority mangle + 1; policy accept;\n+ chain c: jump a\n"},
		{"one that goes", op(table("a"), nil), "- chain c: \n- chain c: type route hook output priority mangle + 1; policy accept;\n- chain c: jump a\n"},
		{"somebody changed it", op(hooked, table("a")), "~ what viarule does not know: \n- what viarule does not know: set x\n~ chain c: \n- chain c: type route hook output priority -90; policy accept;\n+ chain c: type route hook output priority mangle + 1; policy accept;\n"},
	} {
		if got := text(tt.op); got != tt.want {
			t.Errorf("%s:\n%s\nshall be\n%s", tt.name, got, tt.want)
		}
	}
	var long netstate.NftMap
	long.Name, long.Family = "m", netstate.IPv4
	for i := range 50 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i), 0})
		long.Elems = append(long.Elems, netstate.NftElem{First: a, Last: a.Next(), Chain: "c"})
	}
	got := text(op(nil, &netstate.NftTable{Maps: []netstate.NftMap{long}}))
	if n := strings.Count(got, "\n"); n != 23 || !strings.HasSuffix(got, "+ map m: ... and 30 more elements\n") {
		t.Errorf("%d lines:\n%s", n, got)
	}
}

// TestCheckpointOfNetworks: an undo after a restart reads the same.
func TestCheckpointOfNetworks(t *testing.T) {
	p, in := somePlan(t)
	cp := p.Checkpoint(in.Have, in.Sysctls)
	text, err := cp.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var got Checkpoint
	if err := got.UnmarshalText(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	again, _ := got.MarshalText()
	if string(again) != string(text) || len(got.Links) != 1 || got.Links[0].String() != cp.Links[0].String() || len(got.Restored) != 2 || got.Nft == nil || !got.Nft.Equal(cp.Nft) {
		t.Errorf("read back as\n%s\nof\n%s", again, text)
	}
	var old Checkpoint
	if err := old.UnmarshalText([]byte("checkpoint 1\nsysctl net/ipv4/ip_forward = 0\nend\n")); err != nil || len(old.Sysctls) != 1 {
		t.Errorf("version 1: %+v, %v", old, err)
	}
}
