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

// cniTable is a table with all that viarule-ptp writes.
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
			{Name: "spoof", Hook: netstate.NftHook{Type: "filter", Hook: "prerouting", Priority: netstate.NftFilter}, Rules: []netstate.NftRule{
				{{Op: netstate.NftIIFPrefix, Link: "via"}, {Op: netstate.NftFibUnmarked}, {Op: netstate.NftDrop}},
			}},
		},
	}
}

func TestNftCNI(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	ctx := context.Background()
	if rules, err := c.NftCNIRules(ctx, "spoof"); err != nil || rules != nil {
		t.Errorf("without a table: %v, %v", rules, err)
	}
	if got, err := c.NftCNI(ctx); err != nil || got != nil {
		t.Errorf("without a table: %v, %v", got, err)
	}
	elems := func(link, chain string) *netstate.NftTable {
		return &netstate.NftTable{Maps: []netstate.NftMap{{Name: "masq", Elems: []netstate.NftElem{{Link: link, Chain: chain}}}}}
	}
	want := cniTable()
	for range 2 { // the second time it is all there
		if err := c.AddNftCNI(ctx, want); err != nil {
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
	rules, err := c.NftCNIRules(ctx, "spoof")
	if err != nil || !reflect.DeepEqual(rules, want.Chains[2].Rules) {
		t.Errorf("%v, %v", rules, err)
	}

	// What another process added stays.
	if err := c.AddNftCNI(ctx, elems("via2", "net")); err != nil {
		t.Fatal(err)
	}
	if err := c.AddNftCNI(ctx, elems("via3", "missing")); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without its chain: %v", err)
	}
	if err := c.AddNftCNI(ctx, want); err != nil {
		t.Fatal(err)
	}
	if got, err := c.NftCNI(ctx); err != nil || len(got.Maps) != 1 || len(got.Maps[0].Elems) != 2 {
		t.Errorf("%s, %v", got, err)
	}
	if err := c.DeleteNftCNIChain(ctx, "net"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a chain with elements: %v", err)
	}
	for i, link := range []string{"via1", "via2", "via2"} {
		if err := c.DeleteNftCNIElems(ctx, &elems(link, "net").Maps[0]); (err == nil) != (i < 2) || i == 2 && !errors.Is(err, unix.ENOENT) {
			t.Errorf("delete %s: %v", link, err)
		}
	}
	if err := c.DeleteNftCNIChain(ctx, "net"); err != nil {
		t.Error(err)
	}
	if s, err := c.Snapshot(ctx); err != nil || len(s.Nft) != 0 {
		t.Errorf("a snapshot is of objects: %v, %v", s.Nft, err)
	}
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
