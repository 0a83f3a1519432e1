package kernel_test

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

// cniTable is a table with all that viarule-ptp writes of the family inet.
func cniTable() *netstate.NftTable {
	return &netstate.NftTable{
		Name: netstate.NftTableCNI,
		Maps: []netstate.NftMap{{Name: "masq", Elems: []netstate.NftElem{{Link: "via1", Chain: "net"}}}},
		Chains: []netstate.NftChain{
			{Name: "net", Rules: []netstate.NftRule{
				{{Op: netstate.NftDAddr, Prefix: netip.MustParsePrefix("10.1.0.0/19")}, {Op: netstate.NftReturn}},
				{{Op: netstate.NftDAddr, Prefix: netip.MustParsePrefix("2001:db8::/49")}, {Op: netstate.NftReturn}},
				{{Op: netstate.NftMasquerade}},
			}},
			{Name: "out", Hook: netstate.NftHook{Type: "nat", Hook: "postrouting", Priority: netstate.NftSrcNAT}, Rules: []netstate.NftRule{{{Op: netstate.NftIIFMap, Name: "masq"}}}},
		},
	}
}

func TestNftCNI(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	ctx := context.Background()
	if rules, err := c.NftCNIRules(ctx, "net"); err != nil || rules != nil {
		t.Errorf("without a table: %v, %v", rules, err)
	}
	if got, err := c.NftCNI(ctx); err != nil || got != nil {
		t.Errorf("without a table: %v, %v", got, err)
	}
	elems := func(link, chain string) netstate.NftTable {
		return netstate.NftTable{Maps: []netstate.NftMap{{Name: "masq", Elems: []netstate.NftElem{{Link: link, Chain: chain}}}}}
	}
	want := cniTable()
	for range 2 { // the second time it is all there
		if err := c.AddNftCNI(ctx, *want); err != nil {
			t.Fatal(err)
		}
		got, err := c.NftCNI(ctx)
		if err != nil || got == nil || !got.Equal(want) {
			t.Fatalf("%v\n%s\nwant\n%s", err, got, want)
		}
	}
	if text := nft(t, "", "list", "table", "inet", netstate.NftTableCNI); squeeze(text) != squeeze(want.String()) {
		t.Errorf("nft lists\n%s\nwant\n%s", text, want)
	}
	rules, err := c.NftCNIRules(ctx, "net")
	if err != nil || !reflect.DeepEqual(rules, want.Chains[0].Rules) {
		t.Errorf("%v, %v", rules, err)
	}

	// What another process added stays.
	if err := c.AddNftCNI(ctx, elems("via2", "net")); err != nil {
		t.Fatal(err)
	}
	if err := c.AddNftCNI(ctx, elems("via3", "missing")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without its chain: %v", err)
	}
	if err := c.AddNftCNI(ctx, *want); err != nil {
		t.Fatal(err)
	}
	if got, err := c.NftCNI(ctx); err != nil || len(got.Maps) != 1 || len(got.Maps[0].Elems) != 2 {
		t.Errorf("%s, %v", got, err)
	}
	if err := c.DeleteNftCNIChain(ctx, "net"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a chain with elements: %v", err)
	}
	for i, link := range []string{"via1", "via2", "via2"} {
		m := elems(link, "net").Maps[0]
		if err := c.DeleteNftCNI(ctx, nil, &m); err != nil {
			t.Errorf("delete %s: %v", link, err)
		}
		if got, err := c.NftCNI(ctx); err != nil || len(got.Maps) != 1 || len(got.Maps[0].Elems) != max(0, 1-i) {
			t.Errorf("after %s: %s, %v", link, got, err)
		}
	}
	if err := c.DeleteNftCNIChain(ctx, "net"); err != nil {
		t.Error(err)
	}
	if s, err := c.Snapshot(ctx); err != nil || len(s.Nft) != 0 {
		t.Errorf("a snapshot is of objects: %v, %v", s.Nft, err)
	}
}

// TestNftCNILinks: chains of links beside the table of the family inet, in one transaction.
func TestNftCNILinks(t *testing.T) {
	netnstest.New(t)
	netnstest.IP(t, "link add via1 type veth peer name p1", "link add via2 type veth peer name p2", "link add via3 type veth peer name p3")
	c := openHere(t)
	ctx := context.Background()
	if got, err := c.NftCNILink(ctx, "via1"); got != nil || err != nil {
		t.Errorf("without a table: %v, %v", got, err)
	}
	if got, err := c.NftCNILinks(ctx); got != nil || err != nil {
		t.Errorf("without a table: %v, %v", got, err)
	}
	one := func(a string) netip.Prefix { p := netip.MustParseAddr(a); return netip.PrefixFrom(p, p.BitLen()) }
	table := func(link, four, six string) netstate.NftTable {
		return netstate.NftTable{Name: netstate.NftTableCNI, Netdev: true, Chains: []netstate.NftChain{{
			Name: link, Hook: netstate.NftHook{Type: "filter", Hook: "ingress", Device: link, Priority: netstate.NftFilter},
			Rules: []netstate.NftRule{
				{{Op: netstate.NftSAddr, Prefix: one(four)}, {Op: netstate.NftAccept}},
				{{Op: netstate.NftSAddr, Prefix: one(six)}, {Op: netstate.NftAccept}},
				{{Op: netstate.NftARPSAddr, Prefix: one(four)}, {Op: netstate.NftAccept}},
				{{Op: netstate.NftDrop}},
			},
		}}}
	}
	for i, want := range []netstate.NftTable{table("via1", "10.1.0.2", "2001:db8::2"), table("via2", "10.1.0.3", "2001:db8::3"), table("via1", "10.1.0.9", "2001:db8::9")} {
		add := c.AddNftCNI
		if i == 0 {
			if err := add(ctx, want); !errors.Is(err, unix.ENOENT) {
				t.Errorf("before the table: %v", err)
			}
			add = c.StartNftCNI
		} else if err := c.StartNftCNI(ctx, want); !errors.Is(err, unix.EEXIST) {
			t.Errorf("started twice: %v", err)
		}
		if err := add(ctx, want, *cniTable()); err != nil {
			t.Fatal(err)
		}
		link := want.Chains[0].Name
		got, err := c.NftCNILink(ctx, link)
		if err != nil || got == nil || !reflect.DeepEqual(*got, want.Chains[0]) {
			t.Errorf("%v\n%+v\nwant\n%+v", err, got, want.Chains[0])
		}
		whole := "table netdev " + netstate.NftTableCNI
		if text := nft(t, "", "list", "chain", "netdev", netstate.NftTableCNI, link); squeeze(text) != squeeze(want.String()) || !strings.Contains(text, whole) {
			t.Errorf("nft lists\n%s\nwant\n%s", text, want.String())
		}
		if got, err := c.NftCNI(ctx); err != nil || got == nil || !got.Equal(cniTable()) {
			t.Errorf("inet: %v, %v", got, err)
		}
	}
	if got, err := c.NftCNILinks(ctx); err != nil || !reflect.DeepEqual(got, []string{"via1", "via2"}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []netstate.NftHook{{Type: "filter", Hook: "ingress"}, {Type: "filter", Hook: "prerouting", Device: "via1"}} {
		t1 := table("via1", "10.1.0.2", "2001:db8::2")
		t1.Chains[0].Hook = bad
		if err := c.AddNftCNI(ctx, t1); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if err := c.AddNftCNI(ctx, table("nowhere/", "10.1.0.2", "2001:db8::2")); !errors.Is(err, unix.EINVAL) {
		t.Errorf("no link's name: %v", err)
	}
	if err := c.AddNftCNI(ctx, table("via3", "10.1.0.4", "2001:db8::4")); err != nil {
		t.Fatal(err)
	}
	masq := &cniTable().Maps[0]
	for _, tt := range []struct {
		links []string
		m     *netstate.NftMap
		left  []string
		elems int
	}{
		{nil, &netstate.NftMap{}, []string{"via1", "via2", "via3"}, 1},
		{[]string{"nowhere", "via1"}, &netstate.NftMap{Name: "masq", Elems: []netstate.NftElem{{Link: "via7"}}}, []string{"via2", "via3"}, 1},
		{[]string{"via2"}, masq, []string{"via3"}, 0},
		{[]string{"via2", "via3"}, masq, nil, 0},
	} {
		if err := c.DeleteNftCNI(ctx, tt.links, tt.m); err != nil {
			t.Errorf("delete %v and %v: %v", tt.links, tt.m.Elems, err)
		}
		if left, err := c.NftCNILinks(ctx); err != nil || !reflect.DeepEqual(left, tt.left) {
			t.Errorf("after %v: %v, %v", tt.links, left, err)
		}
		if got, err := c.NftCNI(ctx); err != nil || len(got.Maps[0].Elems) != tt.elems {
			t.Errorf("after %v: %s, %v", tt.links, got, err)
		}
	}
	if err := c.DeleteNftCNI(ctx, nil, &netstate.NftMap{Name: "other", Elems: []netstate.NftElem{{}}}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("an element of no kind: %v", err)
	}
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
