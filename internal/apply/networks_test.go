package apply

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
)

// network is what one object of these tests asks for beside its policy: a link
// that viarule makes, what goes by it, and a part in the table of nftables. The
// links are macvlans, since not every kernel has VLANs.
type network struct {
	name, dev, parent string
	mark              uint32
}

var networks = map[string][]network{
	"one":   {{"blue", "via0", "eth1", 1}},
	"other": {{"green", "via1", "eth1", 2}},
	"both":  {{"blue", "via0", "eth1", 1}, {"green", "via1", "eth1", 2}},
	"moved": {{"blue", "via0", "eth2", 1}, {"green", "via1", "eth1", 2}},
}

// extend adds to want what the networks of an object ask for.
func extend(want *desired.Want, o desired.Origin) {
	nets := networks[o.Object.Name]
	if len(nets) == 0 {
		return
	}
	t := desired.Nft{Origins: []desired.Origin{o}, NftTable: netstate.NftTable{Name: netstate.NftTableObjects,
		Maps:   []netstate.NftMap{{Name: "net4", Family: netstate.IPv4}},
		Chains: []netstate.NftChain{}}}
	for _, n := range nets {
		want.Links = append(want.Links, desired.Link{Origin: o, Link: netstate.Link{Name: n.dev, Kind: "macvlan", Parent: n.parent, Up: true, Alias: "viarule:ExternalNetwork/" + n.name}})
		want.Sysctls = append(want.Sysctls, desired.Sysctl{Made: true, Origin: o, Sysctl: netstate.Sysctl{Key: "net/ipv4/conf/" + n.dev + "/src_valid_mark", Value: "1"}})
		table := 5010 + n.mark
		want.Routes = append(want.Routes,
			desired.Route{Origin: o, Route: netstate.Route{Family: netstate.IPv4, To: netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, 0}), 24), Table: table,
				Protocol: netstate.ProtocolObject, Type: netstate.RouteUnicast, Scope: netstate.ScopeLink, Hop: netstate.Hop{Dev: n.dev}}},
			desired.Route{Origin: o, Route: netstate.Route{Family: netstate.IPv4, To: netstate.IPv4.Default(), Table: table,
				Protocol: netstate.ProtocolObject, Type: netstate.RouteUnicast, Hop: netstate.Hop{Dev: n.dev, Via: netip.AddrFrom4([4]byte{203, 0, 113, 1})}}})
		mark := netstate.Mark{Value: n.mark, Mask: 0x3f}
		want.Rules = append(want.Rules, desired.Rule{Origin: o, Rule: netstate.Rule{Family: netstate.IPv4, Priority: 2960 + n.mark, Protocol: netstate.ProtocolObject,
			Mark: mark, Action: netstate.ToTable, Table: table}})
		t.Maps[0].Elems = append(t.Maps[0].Elems, netstate.NftElem{First: netip.AddrFrom4([4]byte{198, 18, byte(n.mark), 0}), Last: netip.AddrFrom4([4]byte{198, 18, byte(n.mark), 255}), Chain: n.name})
		t.Chains = append(t.Chains, netstate.NftChain{Name: n.name, Rules: []netstate.NftRule{{{Op: netstate.NftIIFName, Link: n.dev}, {Op: netstate.NftSetMark, Mark: mark}}}})
	}
	t.Chains = append(t.Chains, netstate.NftChain{Name: "request", Hook: netstate.NftHook{Type: "filter", Hook: "prerouting", Priority: netstate.NftMangle + 1},
		Rules: []netstate.NftRule{{{Op: netstate.NftDAddrMap, Family: netstate.IPv4, Name: "net4"}}}})
	want.Nft = &t
}

// TestNetworksMayFail is the matrix for links and the table of nftables: it
// refuses every operation on the way from nothing to one network, to another, to
// both, to one on another parent, and back to nothing.
func TestNetworksMayFail(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(*testing.T) *world) {
		for _, together := range []bool{false, true} {
			t.Run(fmt.Sprint("together ", together), func(t *testing.T) {
				refused := 0
				networkSteps(open(t), func(w *world, text string) { refused += w.refuseEach(text, together) })
				if refused < 40 {
					t.Errorf("the matrix has only %d operations", refused)
				}
			})
		}
	})
}

// TestNetworksMayStopAnywhere kills the process at every operation.
func TestNetworksMayStopAnywhere(t *testing.T) {
	onBoth(t, func(t *testing.T, open func(*testing.T) *world) {
		networkSteps(open(t), func(w *world, text string) { stopAtEach(w, text, 1) })
	})
}

func networkSteps(w *world, f func(w *world, text string)) {
	w.t.Helper()
	const rule = "\n  rules: [{to: [12.12.12.12], priority: 300, table: main}]\n"
	start := w.text()
	for _, name := range []string{"one", "other", "both", "moved", "one", ""} {
		text := ""
		if name != "" {
			text = policy(name, rule)
		}
		f(w, text)
		if _, _, err := w.apply(w.t.Context(), w.k, text); err != nil {
			w.t.Fatal(err)
		}
		w.settled(text)
		if n := strings.Count(w.text(), "viarule:ExternalNetwork/"); n != len(networks[name]) {
			w.t.Fatalf("%s: %d links in\n%s", name, n, w.text())
		}
	}
	w.same("after the last delete", start)
}
