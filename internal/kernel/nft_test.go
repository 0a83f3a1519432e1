package kernel_test

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

func openHere(t testing.TB) *kernel.Conn {
	t.Helper()
	c, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// write applies one change.
func write(t interface {
	Helper()
	Fatalf(string, ...any)
}, c *kernel.Conn, ch netstate.Change) {
	t.Helper()
	if _, failed := c.Apply(context.Background(), []netstate.Change{ch}); len(failed) > 0 {
		t.Fatalf("%s: %v", ch, failed[0])
	}
}

func readNft(t interface {
	Helper()
	Fatalf(string, ...any)
}, c *kernel.Conn) []netstate.NftTable {
	t.Helper()
	s, err := c.Snapshot(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s.Nft
}

func nft(t interface {
	Helper()
	Fatalf(string, ...any)
}, in string, args ...string) string {
	t.Helper()
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v\n%s\n%s", args, err, out, in)
	}
	return string(out)
}

func TestNftTableReadsBackAsWritten(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	rapid.Check(t, func(t *rapid.T) {
		want := netstatetest.NftTable().Draw(t, "table")
		write(t, c, netstate.Change{Verb: netstate.Replace, Nft: &want})
		got := readNft(t, c)
		if len(got) != 1 || !got[0].Equal(&want) {
			t.Fatalf("reads back as %s\nwant %s\nnft says %s", netstate.State{Nft: got}, netstate.State{Nft: []netstate.NftTable{want}}, nft(t, "", "--debug=netlink", "list", "ruleset"))
		}
	})
	write(t, c, netstate.Change{Verb: netstate.Delete, Nft: &netstate.NftTable{Name: netstate.NftTableObjects}})
	if got := readNft(t, c); len(got) != 0 {
		t.Errorf("after its delete there is %v", got)
	}
}

// A table is edited where that can be done: what stays is never taken away, so
// that no packet can miss it. Any table turns into any other one.
func TestNftTableIsEdited(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	rapid.Check(t, func(t *rapid.T) {
		from, other := netstatetest.NftTable().Draw(t, "from"), netstatetest.NftTable().Draw(t, "to")
		sameHooks := other
		sameHooks.Chains = slices.Clone(other.Chains)
		for i, chain := range sameHooks.Chains {
			for _, old := range from.Chains {
				if old.Name == chain.Name {
					sameHooks.Chains[i].Hook = old.Hook
				}
			}
		}
		write(t, c, netstate.Change{Verb: netstate.Replace, Nft: &from})
		before := tableHandle(t)
		for _, to := range []*netstate.NftTable{&sameHooks, &other} {
			write(t, c, netstate.Change{Verb: netstate.Replace, Nft: to})
			if got := readNft(t, c); len(got) != 1 || !got[0].Equal(to) {
				t.Fatalf("turns into %s\nwant %s\nfrom %s", netstate.State{Nft: got}, to, &from)
			}
			if after := tableHandle(t); to == &sameHooks && after != before {
				t.Fatalf("the table's handle was %s and is %s: it was made anew\nfrom %s\nto %s", before, after, &from, to)
			}
		}
	})
}

// tableHandle is the number that the kernel gave to the table when it was made.
func tableHandle(t *rapid.T) string {
	t.Helper()
	first, _, _ := strings.Cut(nft(t, "", "-a", "list", "table", "inet", netstate.NftTableObjects), "\n")
	_, handle, found := strings.Cut(first, "# handle ")
	if !found {
		t.Fatalf("no handle in %q", first)
	}
	return handle
}

// What String gives is nft's own language, and means the same there.
func TestNftTableTextMeansTheSameToNft(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	rapid.Check(t, func(t *rapid.T) {
		want := netstatetest.NftTable().Draw(t, "table")
		nft(t, "flush ruleset\n"+want.String(), "-f", "-")
		got := readNft(t, c)
		if len(got) != 1 || !got[0].Equal(&want) {
			t.Fatalf("nft makes of\n%s\n%s", &want, netstate.State{Nft: got})
		}
	})
}

func TestNftTableOfOthersAreNotTouched(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	nft(t, "table ip viarule { chain a { counter drop\n }\n }\ntable inet other { set s { type ipv4_addr\n }\n }\n", "-f", "-")
	before := nft(t, "", "list", "ruleset")
	table := netstate.NftTable{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{{Name: "a"}}}
	write(t, c, netstate.Change{Verb: netstate.Replace, Nft: &table})
	write(t, c, netstate.Change{Verb: netstate.Replace, Nft: &table})
	write(t, c, netstate.Change{Verb: netstate.Delete, Nft: &table})
	if after := nft(t, "", "list", "ruleset"); after != before {
		t.Errorf("the ruleset was\n%s\nand is\n%s", before, after)
	}
	for _, ch := range []netstate.Change{
		{Verb: netstate.Replace, Nft: &netstate.NftTable{Name: "other"}},
		{Verb: netstate.Delete, Nft: &netstate.NftTable{Name: "other"}},
	} {
		if _, failed := c.Apply(context.Background(), []netstate.Change{ch}); len(failed) != 1 {
			t.Errorf("%s: done, though the table is not viarule's", ch)
		}
	}
}

func TestNftTableThatSomebodyChangedIsNotEqual(t *testing.T) {
	for _, c := range []struct{ name, change string }{
		{"a rule more", "add rule inet viarule a counter"},
		{"an expression that viarule does not know, in front of its own", "insert rule inet viarule a notrack"},
		{"a chain more", "add chain inet viarule b"},
		{"another policy", "chain inet viarule base { type filter hook forward priority -150; policy drop; }"},
		{"a set", "add set inet viarule s { type ipv4_addr; }"},
		{"an element more", "add element inet viarule networks4 { 9.9.9.9 : goto a }"},
		{"an element that drops", "add element inet viarule networks4 { 9.9.9.9 : drop }"},
		{"the mark of the connection read in place of set", "replace"},
	} {
		netnstest.Run(t, c.name, func(t *testing.T) {
			k := openHere(t)
			a := netip.MustParseAddr("1.2.3.4")
			table := netstate.NftTable{Name: netstate.NftTableObjects,
				Maps: []netstate.NftMap{{Name: "networks4", Family: netstate.IPv4, Elems: []netstate.NftElem{{First: a, Last: a, Chain: "a"}}}},
				Chains: []netstate.NftChain{
					{Name: "a", Rules: []netstate.NftRule{{{Op: netstate.NftSetCtMark, Mark: netstate.Mark{Value: 1, Mask: 1}}}}},
					{Name: "base", Hook: netstate.NftHook{Type: "filter", Hook: "forward", Priority: -150}},
				}}
			write(t, k, netstate.Change{Verb: netstate.Replace, Nft: &table})
			if c.change == "replace" {
				nft(t, "flush chain inet viarule a\nadd rule inet viarule a ct mark and 0x1 == 0x1\n", "-f", "-")
			} else {
				nft(t, c.change+"\n", "-f", "-")
			}
			if got := readNft(t, k); len(got) != 1 || got[0].Equal(&table) {
				t.Errorf("reads as %v, equal to what viarule wrote", netstate.State{Nft: got})
			}
			write(t, k, netstate.Change{Verb: netstate.Replace, Nft: &table})
			if got := readNft(t, k); len(got) != 1 || !got[0].Equal(&table) {
				t.Errorf("written again it reads as %v", netstate.State{Nft: got})
			}
		})
	}
}

func TestNftRefusalsChangeNothing(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	good := netstate.NftTable{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{{Name: "a"}}}
	write(t, c, netstate.Change{Verb: netstate.Replace, Nft: &good})
	bad := netstate.NftTable{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{
		{Name: "a", Rules: []netstate.NftRule{{{Op: netstate.NftJump, Name: "nowhere"}}}}}}
	_, failed := c.Apply(context.Background(), []netstate.Change{{Verb: netstate.Replace, Nft: &bad}})
	if len(failed) != 1 {
		t.Fatal("a jump to nowhere was taken")
	}
	if got := readNft(t, c); len(got) != 1 || !got[0].Equal(&good) {
		t.Errorf("the refused table left %v", netstate.State{Nft: got})
	}
}

// manyNets is a map with as many intervals.
func manyNets(n int) netstate.NftTable {
	t := netstate.NftTable{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{{Name: "a"}}, Maps: []netstate.NftMap{{Name: "networks4", Family: netstate.IPv4}}}
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		t.Maps[0].Elems = append(t.Maps[0].Elems, netstate.NftElem{First: a, Last: netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 127}), Chain: "a"})
	}
	return t
}

func TestNftMapOfTenThousandIntervals(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	want := manyNets(10_000)
	write(t, c, netstate.Change{Verb: netstate.Replace, Nft: &want})
	if got := readNft(t, c); len(got) != 1 || !got[0].Equal(&want) {
		t.Error("10,000 intervals do not read back as written")
	}
}

func BenchmarkNftMapOfTenThousandIntervals(b *testing.B) {
	netnstest.New(b)
	c := openHere(b)
	want := manyNets(10_000)
	for b.Loop() {
		write(b, c, netstate.Change{Verb: netstate.Replace, Nft: &want})
		readNft(b, c)
	}
}

func TestSurroundingsNameWhoIsThere(t *testing.T) {
	netnstest.New(t)
	c := openHere(t)
	nft(t, "table ip kube-proxy { chain services { }\n }\ntable inet viarule { chain a { }\n }\n", "-f", "-")
	s, err := c.Surroundings(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := []netstate.NftName{{Family: "ip", Table: "kube-proxy"}, {Family: "ip", Table: "kube-proxy", Chain: "services"}}
	if fmt.Sprint(s.Chains) != fmt.Sprint(want) || s.IPVS {
		t.Errorf("found %+v, want the chains %v", s, want)
	}
}

func TestProbeTellsWhoAnswers(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.Named(t, "far")
	netnstest.IP(t,
		"link add ext0 type veth peer name b0 netns far", "link set ext0 up", "addr add 192.0.2.1/24 dev ext0", "addr add 2001:db8::1/64 dev ext0 nodad",
		"link add down0 type veth peer name d0 netns far", "addr add 198.51.100.1/24 dev down0",
		"-n far link set b0 up", "-n far addr add 192.0.2.2/24 dev b0", "-n far addr add 2001:db8::2/64 dev b0 nodad")
	// The kernel asks with the link's own address, which others must not have (ndisc_send_ns).
	for end := time.Now().Add(20 * time.Second); ; {
		own := netnstest.Exec(t, "ip", "-6", "addr", "show", "dev", "ext0", "scope", "link")
		if strings.Contains(own, "fe80::") && !strings.Contains(own, "tentative") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("ext0 got no address of its own:\n%s", own)
		}
	}
	c := openHere(t)
	key := func(dev, a string) netstate.NeighKey {
		return netstate.NeighKey{Dev: dev, Addr: netip.MustParseAddr(a)}
	}
	want := map[netstate.NeighKey]netstate.NeighState{
		key("ext0", "192.0.2.2"):     netstate.NeighAnswers,
		key("ext0", "2001:db8::2"):   netstate.NeighAnswers,
		key("ext0", "192.0.2.9"):     netstate.NeighSilent,
		key("ext0", "2001:db8::9"):   netstate.NeighSilent,
		key("down0", "198.51.100.2"): netstate.NeighSilent, // the link is down
		key("none", "198.51.100.2"):  netstate.NeighUnknown,
	}
	var keys []netstate.NeighKey
	for k := range want {
		keys = append(keys, k)
	}
	for range 2 { // the second time the entries are there
		got, err := c.Probe(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		for k, w := range want {
			if got[k] != w {
				t.Errorf("%v: %s, want %s", k, got[k], w)
			}
		}
	}
}

// Whoever keeps an entry of the neighbour table keeps it: a question that nobody
// answers must not take it away.
func TestProbeLeavesEntriesThatOthersKeep(t *testing.T) {
	netnstest.New(t)
	netnstest.IP(t,
		"link add ext0 type veth peer name b0", "link set ext0 up", "link set b0 up",
		"addr add 192.0.2.1/24 dev ext0", "addr add 2001:db8::1/64 dev ext0 nodad",
		"neigh add 192.0.2.2 lladdr 02:00:00:00:00:09 dev ext0 nud permanent",
		"neigh add 192.0.2.3 lladdr 02:00:00:00:00:09 dev ext0 nud noarp",
		"neigh add 192.0.2.4 lladdr 02:00:00:00:00:09 dev ext0 nud reachable extern_learn",
		"neigh add 2001:db8::2 lladdr 02:00:00:00:00:09 dev ext0 nud permanent",
		"neigh add 2001:db8::3 lladdr 02:00:00:00:00:09 dev ext0 nud permanent router")
	c := openHere(t)
	before := netnstest.Exec(t, "ip", "neigh", "show", "dev", "ext0")
	var keys []netstate.NeighKey
	for _, a := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8::2", "2001:db8::3"} {
		keys = append(keys, netstate.NeighKey{Dev: "ext0", Addr: netip.MustParseAddr(a)})
	}
	got, err := c.Probe(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if got[k] != netstate.NeighAnswers {
			t.Errorf("%v: %s, want %s", k, got[k], netstate.NeighAnswers)
		}
	}
	if after := netnstest.Exec(t, "ip", "neigh", "show", "dev", "ext0"); after != before {
		t.Errorf("the entries were\n%sand are\n%s", before, after)
	}
}

// Somebody who fills our table with a million elements of another kind makes no
// million notes: a snapshot has room for one.
func TestNftNotesEachKindOnce(t *testing.T) {
	netnstest.New(t)
	nft(t, "table inet viarule { map m { type ipv4_addr : verdict; flags interval; elements = { 10.0.0.1 : accept, 10.0.0.2 : drop, 10.0.0.3 : accept }; }; set s { type mark; }; }", "-f", "-")
	tables := readNft(t, openHere(t))
	if want := "a set s of another kind; an element of m that is no goto; "; len(tables) != 1 || tables[0].Unknown != want {
		t.Errorf("read as %+v, want the notes %q", tables, want)
	}
}
