package kerneltest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// ownLinks is how viarule's own links come and go. The kind is macvlan, since
// every kernel of ours has that one.
func (o Options) ownLinks(t *testing.T) {
	for _, s := range []struct{ name, steps, want string }{
		{
			name:  "made, with its alias, and up",
			steps: `+ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a`,
			want:  `own kind macvlan parent v0 up carrier alias viarule:ExternalNetwork/a`,
		},
		{
			name: "made down, and set up later",
			steps: `
				+ link 0 own kind macvlan parent v0 alias viarule:ExternalNetwork/a
				~ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/b`,
			want: `own kind macvlan parent v0 up carrier alias viarule:ExternalNetwork/b`,
		},
		{
			name: "set down, which takes its routes along",
			steps: `
				+ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				+ route 10.9.0.0/16 dev own table 1000 proto 118 scope link
				+ route -6 2001:db8:9::/48 dev own table 1000 metric 1024 proto 118
				+ route 10.8.0.0/16 dev v0 table 1000 proto 118 scope link
				~ link 0 own kind macvlan parent v0 alias viarule:ExternalNetwork/a`,
			want: `
				own kind macvlan parent v0 alias viarule:ExternalNetwork/a
				route 10.8.0.0/16 dev v0 table 1000 proto 118 scope link`,
		},
		{
			name:  "no carrier above a link that is down",
			steps: `+ link 0 own kind macvlan up parent v2 alias viarule:ExternalNetwork/a`,
			want:  `own kind macvlan parent v2 up alias viarule:ExternalNetwork/a`,
		},
		{
			name: "a name that is taken",
			steps: `
				+ link 0 own kind macvlan parent v0 alias viarule:ExternalNetwork/a
				EEXIST + link 0 own kind macvlan up parent v1 alias viarule:ExternalNetwork/b
				EEXIST + link 0 v1 kind macvlan up parent v0 alias viarule:ExternalNetwork/a`,
			want: `own kind macvlan parent v0 alias viarule:ExternalNetwork/a`,
		},
		{
			name: "what cannot be made leaves nothing",
			steps: `
				ENODEV + link 0 own kind macvlan up parent nolink alias viarule:ExternalNetwork/a
				EINVAL + link 0 own kind macvlan up parent v0
				EINVAL + link 0 own up parent v0 alias viarule:ExternalNetwork/a
				EINVAL + link 0 sixteen-letters- kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				EINVAL + link 0 own%d kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				EINVAL + link 0 own kind macvlan up alias viarule:ExternalNetwork/a`,
		},
		{
			name: "what is not there cannot be changed",
			steps: `
				ENODEV ~ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				ENODEV - link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a`,
		},
		{
			name: "only its own alias takes a link away",
			steps: `
				+ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				EPERM - link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/b
				EINVAL - link 0 own kind macvlan up parent v0
				EPERM - link 0 v1 kind veth up alias viarule:ExternalNetwork/a`,
			want: `own kind macvlan parent v0 up carrier alias viarule:ExternalNetwork/a`,
		},
		{
			name: "it goes, and comes again",
			steps: `
				+ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				- link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				ENODEV - link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				+ link 0 own kind macvlan up parent v1 alias viarule:ExternalNetwork/a`,
			want: `own kind macvlan parent v1 up carrier alias viarule:ExternalNetwork/a`,
		},
		{
			name: "it takes its routes along, and no others",
			steps: `
				+ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				+ route 10.9.0.0/16 dev own table 1000 proto 118 scope link
				+ route 10.8.0.0/16 dev v0 table 1000 proto 118 scope link
				+ route -6 2001:db8:9::/48 dev own table 1000 metric 1024 proto 118
				+ rule 1000 from all iif own table 1000 proto 118
				- link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a
				ENODEV + route 10.9.0.0/16 dev own table 1000 proto 118 scope link`,
			want: `
				rule 1000 from all iif own table 1000 proto 118
				route 10.8.0.0/16 dev v0 table 1000 proto 118 scope link`,
		},
	} {
		t.Run(s.name, func(t *testing.T) {
			k := o.Open(t)
			for line := range strings.Lines(s.steps) {
				if line = strings.TrimSpace(line); line != "" {
					step(t, k, line)
				}
			}
			var want strings.Builder
			for line := range strings.Lines(s.want) {
				if line = strings.TrimSpace(line); line != "" {
					want.WriteString(line + "\n")
				}
			}
			if got := madeLinks(t, k) + ours(t, k); got != want.String() {
				t.Errorf("after\n%s\ngot:\n%s\nwant:\n%s", s.steps, got, want.String())
			}
		})
	}
	t.Run("its sysctls come and go with it", func(t *testing.T) {
		k := o.Open(t)
		const key = "net/ipv4/conf/own/rp_filter"
		link := netstatetest.ParseChange(t, "+ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a")
		apply(t, k, link, sysctl(key, "2"))
		if v, err := k.ReadSysctl(key); err != nil || v != "2" {
			t.Errorf("%s = %q, %v; want 2", key, v, err)
		}
		link.Verb = netstate.Delete
		apply(t, k, link)
		if v, err := k.ReadSysctl(key); err == nil {
			t.Errorf("%s = %q after its link went", key, v)
		}
	})
	t.Run("it goes with its parent", func(t *testing.T) {
		k := o.Open(t)
		step(t, k, "+ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a")
		step(t, k, "+ route 10.9.0.0/16 dev own table 1000 proto 118 scope link")
		o.DeleteLink(t, k, "v0")
		if got := madeLinks(t, k) + ours(t, k); got != "" {
			t.Errorf("without its parent there is still\n%s", got)
		}
	})
	t.Run("nothing else in the same change", func(t *testing.T) {
		k := o.Open(t)
		ch := netstatetest.ParseChange(t, "+ link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a")
		ch.Sysctl = &netstate.Sysctl{Key: "net/ipv4/conf/v0/rp_filter", Value: "2"}
		refused(t, k, ch, syscall.EINVAL)
		ch.Sysctl, ch.Verb = nil, 0
		refused(t, k, ch, syscall.EINVAL)
		if got := madeLinks(t, k); got != "" {
			t.Errorf("it made\n%s", got)
		}
	})
}

// fixtureLinks are those of Fixture, and the other ends that a kernel needs.
var fixtureLinks = []string{"lo", "v0", "v1", "v2", "p0", "p1", "p2"}

// madeLinks gives the links beyond those of the fixture, without what the kernel
// picks for them.
func madeLinks(t testing.TB, k Kernel) string {
	t.Helper()
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i := range s.Links {
		l := &s.Links[i]
		if slices.Contains(fixtureLinks, l.Name) {
			continue
		}
		if l.Index == 0 {
			t.Errorf("link %s has no number", l.Name)
		}
		fmt.Fprintf(&b, "%s kind %s parent %s", l.Name, l.Kind, l.Parent)
		for _, word := range []struct {
			is   bool
			name string
		}{{l.Up, " up"}, {l.Carrier, " carrier"}} {
			if word.is {
				b.WriteString(word.name)
			}
		}
		fmt.Fprintf(&b, " alias %s\n", l.Alias)
	}
	return b.String()
}

// refused applies a change that must fail with the errno; 0 is any.
func refused(t *testing.T, k Kernel, ch netstate.Change, want syscall.Errno) {
	t.Helper()
	n, failed := k.Apply(context.Background(), []netstate.Change{ch})
	if n != 1 || len(failed) != 1 || failed[0].Index != 0 {
		t.Fatalf("%s: attempted %d, failed %v; want one failure", ch, n, failed)
	}
	if want != 0 && !isErrno(failed[0], want) {
		t.Errorf("%s: %v, want %v", ch, failed[0], want)
	}
}

// ownTable is a table with a bit of everything.
func ownTable() netstate.NftTable {
	at := netip.MustParseAddr
	return netstate.CanonicalNft(netstate.NftTable{
		Name: netstate.NftTableObjects,
		Maps: []netstate.NftMap{
			{Name: "networks4", Family: netstate.IPv4, Elems: []netstate.NftElem{
				{First: at("10.0.0.0"), Last: at("10.0.0.255"), Chain: "net-a"},
				{First: at("255.255.255.250"), Last: at("255.255.255.255"), Chain: "net-a"},
			}},
			{Name: "networks6", Family: netstate.IPv6, Elems: []netstate.NftElem{{First: at("2001:db8::"), Last: at("2001:db8::ffff"), Chain: "net-a"}}},
		},
		Chains: []netstate.NftChain{
			{Name: "by-address", Rules: []netstate.NftRule{
				{{Op: netstate.NftDAddrMap, Family: netstate.IPv4, Name: "networks4"}},
				{{Op: netstate.NftDAddrMap, Family: netstate.IPv6, Name: "networks6"}}}},
			{Name: "net-a", Rules: []netstate.NftRule{{{Op: netstate.NftSetMark, Mark: netstate.Mark{Value: 1, Mask: 0x3f}}}}},
			{Name: "request", Hook: netstate.NftHook{Type: "filter", Hook: "prerouting", Priority: netstate.NftMangle + 1}, Rules: []netstate.NftRule{
				{{Op: netstate.NftIIFName, Link: "v0"}, {Op: netstate.NftJump, Name: "by-address"}}}},
		},
	})
}

func (o Options) ownNft(t *testing.T) {
	put := func(t netstate.NftTable) netstate.Change { return netstate.Change{Verb: netstate.Replace, Nft: &t} }
	gone := netstate.Change{Verb: netstate.Delete, Nft: &netstate.NftTable{Name: netstate.NftTableObjects}}
	t.Run("it is put in the place of the old one as a whole, and goes", func(t *testing.T) {
		k := o.Open(t)
		hasNft(t, k)
		full, other := ownTable(), netstate.NftTable{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{{Name: "only"}}}
		for _, table := range []netstate.NftTable{full, other, full, full} {
			apply(t, k, put(table))
			hasNft(t, k, table)
		}
		apply(t, k, gone)
		hasNft(t, k)
		refused(t, k, gone, syscall.ENOENT)
	})
	t.Run("tables that are put in place are listed equal", func(t *testing.T) {
		k := o.Open(t)
		rapid.Check(t, func(t *rapid.T) {
			want := netstatetest.NftTable().Draw(t, "table")
			must(t, k, []netstate.Change{put(want)})
			s, err := k.Snapshot(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Nft) != 1 || !s.Nft[0].Equal(&want) {
				t.Fatalf("got %s\nwant %s", netstate.State{Nft: s.Nft}, netstate.State{Nft: []netstate.NftTable{want}})
			}
		})
	})
	for _, c := range []struct {
		name   string
		change func(*netstate.NftTable)
		want   syscall.Errno // 0: kernels differ in it
	}{
		{"a foreign name", func(t *netstate.NftTable) { t.Name = "filter" }, syscall.EPERM},
		{"no name", func(t *netstate.NftTable) { t.Name = "" }, syscall.EPERM},
		{"a jump to a chain that is not there", func(t *netstate.NftTable) {
			t.Chains[0].Rules = []netstate.NftRule{{{Op: netstate.NftJump, Name: "nowhere"}}}
		}, syscall.ENOENT},
		{"an element that leads to a chain that is not there", func(t *netstate.NftTable) { t.Maps[0].Elems[0].Chain = "nowhere" }, syscall.ENOENT},
		{"a look-up in a map that is not there", func(t *netstate.NftTable) { t.Maps = t.Maps[:1] }, syscall.ENOENT},
		{"a statement that viarule does not know", func(t *netstate.NftTable) {
			t.Chains[0].Rules = []netstate.NftRule{{{Op: netstate.NftUnknown, Unknown: "counter"}}}
		}, syscall.EINVAL},
		{"an element of the other family", func(t *netstate.NftTable) { t.Maps[1].Elems[0] = t.Maps[0].Elems[0] }, syscall.EINVAL},
		{"an interval that ends before it begins", func(t *netstate.NftTable) {
			e := &t.Maps[0].Elems[0]
			e.First, e.Last = e.Last, e.First
		}, syscall.EINVAL},
		{"intervals that overlap", func(t *netstate.NftTable) {
			t.Maps[0].Elems[1] = netstate.NftElem{First: netip.MustParseAddr("10.0.0.9"), Last: netip.MustParseAddr("10.0.1.0"), Chain: "net-a"}
		}, 0},
		{"a hook that there is not", func(t *netstate.NftTable) { t.Chains[2].Hook.Hook = "ingress" }, syscall.EINVAL},
		{"a chain of type route elsewhere than at output", func(t *netstate.NftTable) { t.Chains[2].Hook.Type = "route" }, 0},
		{"a loop", func(t *netstate.NftTable) {
			t.Chains[1].Rules = []netstate.NftRule{{{Op: netstate.NftJump, Name: "by-address"}}}
		}, 0},
		{"masquerading in a chain of type filter", func(t *netstate.NftTable) {
			t.Chains[2].Hook.Hook = "postrouting"
			t.Chains[2].Rules = []netstate.NftRule{{{Op: netstate.NftMasquerade}}}
		}, 0},
		{"masquerading by way of a map, before packets are routed", func(t *netstate.NftTable) {
			t.Chains[1].Rules = []netstate.NftRule{{{Op: netstate.NftMasquerade}}}
			t.Chains[2].Hook = netstate.NftHook{Type: "nat", Hook: "prerouting", Priority: netstate.NftDstNAT}
		}, 0},
		{"a chain of type nat at forward", func(t *netstate.NftTable) {
			t.Chains[2].Hook = netstate.NftHook{Type: "nat", Hook: "forward", Priority: netstate.NftSrcNAT}
		}, 0},
		{"a chain of type nat before connections are tracked", func(t *netstate.NftTable) {
			t.Chains[2].Hook = netstate.NftHook{Type: "nat", Hook: "postrouting", Priority: -200}
		}, 0},
	} {
		t.Run(c.name+" is refused, and the old one stays", func(t *testing.T) {
			k := o.Open(t)
			before := netstate.NftTable{Name: netstate.NftTableObjects, Chains: []netstate.NftChain{{Name: "only"}}}
			apply(t, k, put(before))
			table := ownTable()
			c.change(&table)
			refused(t, k, put(table), c.want)
			hasNft(t, k, before)
		})
	}
	t.Run("verbs and company that make no sense", func(t *testing.T) {
		k := o.Open(t)
		table := ownTable()
		for _, ch := range []netstate.Change{
			{Verb: netstate.Add, Nft: &table},
			{Nft: &table},
			{Verb: netstate.Replace, Nft: &table, Sysctl: &netstate.Sysctl{Key: "net/ipv4/conf/v0/rp_filter", Value: "2"}},
			{Verb: netstate.Replace, Nft: &table, Link: &netstate.Link{Name: "own", Kind: "macvlan", Parent: "v0", Alias: "a"}},
		} {
			refused(t, k, ch, syscall.EINVAL)
		}
		refused(t, k, netstate.Change{Verb: netstate.Delete, Nft: &netstate.NftTable{Name: "filter"}}, syscall.EPERM)
		hasNft(t, k)
	})
}

func hasNft(t *testing.T, k Kernel, want ...netstate.NftTable) {
	t.Helper()
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(s.Nft, want, func(a, b netstate.NftTable) bool { return a.Equal(&b) }) {
		t.Errorf("there is\n%s\nwant\n%s", netstate.State{Nft: s.Nft}, netstate.State{Nft: want})
	}
}

// everything is links, routes by them, rules, sysctls and nftables in one call:
// each sees what the ones before it did, and nothing is tried behind a failure.
func (o Options) everything(t *testing.T) {
	const (
		link  = " link 0 own kind macvlan up parent v0 alias viarule:ExternalNetwork/a"
		route = " route 10.9.0.0/16 dev own table 1000 proto 118 scope link"
		key   = "net/ipv4/conf/own/src_valid_mark"
	)
	changes := func(t *testing.T) []netstate.Change {
		table := ownTable()
		return []netstate.Change{
			netstatetest.ParseChange(t, "+ rule 1000 from all iif own table 1000 proto 118"),
			netstatetest.ParseChange(t, "+"+link),
			sysctl(key, "1"),
			netstatetest.ParseChange(t, "+"+route),
			{Verb: netstate.Replace, Nft: &table},
			netstatetest.ParseChange(t, "+ rule 1001 from all fwmark 0x1/0x3f table 1000 proto 118"),
		}
	}
	t.Run("to and fro", func(t *testing.T) {
		k := o.Open(t)
		apply(t, k, changes(t)...)
		if v, err := k.ReadSysctl(key); err != nil || v != "1" {
			t.Errorf("%s = %q, %v; want 1", key, v, err)
		}
		hasNft(t, k, ownTable())
		s, err := k.Snapshot(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		s.Nft = nil
		want := canonicalText(t, "rule 1000 from all iif own table 1000 proto 118\nrule 1001 from all fwmark 0x1/0x3f table 1000 proto 118\nroute 10.9.0.0/16 dev own table 1000 proto 118 scope link")
		if got := text(s); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
		back := changes(t)
		slices.Reverse(back)
		back = slices.DeleteFunc(back, func(ch netstate.Change) bool { return ch.Sysctl != nil })
		for i := range back {
			back[i].Verb = netstate.Delete
		}
		apply(t, k, back...)
		if got := madeLinks(t, k) + ours(t, k); got != "" {
			t.Errorf("on the way back it left\n%s", got)
		}
	})
	t.Run("a link that is made again is another one", func(t *testing.T) {
		k := o.Open(t)
		apply(t, k,
			netstatetest.ParseChange(t, "+"+link), netstatetest.ParseChange(t, "+"+route),
			netstatetest.ParseChange(t, "-"+link), netstatetest.ParseChange(t, "+"+link), netstatetest.ParseChange(t, "+"+route))
		if got, want := ours(t, k), canonicalText(t, route); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
	for i, name := range []string{1: "the link fails", 2: "the sysctl fails", 3: "the route fails", 4: "the table fails"} {
		if name == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			k := o.Open(t)
			list := changes(t)
			switch i {
			case 1:
				list[i].Link.Parent = "nolink"
			case 2:
				list[i].Sysctl.Key = "net/ipv4/conf/nolink/src_valid_mark"
			case 3:
				list[i].Route.Hop.Dev = "nolink"
			case 4:
				list[i].Nft.Maps[0].Elems[0].Chain = "nowhere"
			}
			n, failed := k.Apply(context.Background(), list)
			if n != i+1 || len(failed) != 1 || failed[0].Index != i {
				t.Errorf("attempted %d, failed %v; want %d and the last of them", n, failed, i+1)
			}
			hasNft(t, k)
			if got := strings.Contains(ours(t, k), "rule 1001"); got {
				t.Error("the rule behind the failure was made")
			}
			if made := madeLinks(t, k) != ""; made != (i > 1) {
				t.Errorf("the link is there: %t, want %t", made, i > 1)
			}
		})
	}
	t.Run("a route in front of its link", func(t *testing.T) {
		k := o.Open(t)
		n, failed := k.Apply(context.Background(), []netstate.Change{netstatetest.ParseChange(t, "+"+route), netstatetest.ParseChange(t, "+"+link)})
		if n != 1 || len(failed) != 1 || !isErrno(failed[0], syscall.ENODEV) {
			t.Errorf("attempted %d, failed %v; want 1 and ENODEV", n, failed)
		}
	})
}
