package netstate_test

import (
	"reflect"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
)

// TestNftOfPlugins: what only the table of the CNI plugins has reads back as it was written.
func TestNftOfPlugins(t *testing.T) {
	const text = `nft table viarule_cni
nft map links ifname
nft elem via0 goto out
nft elem "via x" goto out
nft chain out
nft rule ip daddr 10.1.0.0/24 return
nft rule ip6 daddr 2001:db8::/64 return
nft rule masquerade
nft chain pods type nat hook postrouting priority 100
nft rule iifname vmap @links
nft chain sources type filter hook prerouting priority 0
nft rule iifname "via*" fib saddr . mark . iif oif missing drop
nft table viarule_cni netdev
nft chain "via x" type filter hook ingress device "via x" priority 0
nft rule drop
nft chain via0 type filter hook ingress device via0 priority 0
nft rule ip saddr 10.1.0.2 accept
nft rule ip6 saddr 2001:db8::2 accept
nft rule arp saddr ip 10.1.0.2 accept
nft rule drop
`
	s, err := netstate.ParseState(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := netstate.ParseState(s.String())
	if err != nil || !reflect.DeepEqual(s, again) {
		t.Errorf("%v\n%s\nreads as\n%s", err, s.String(), again.String())
	}
	rules := s.Nft[0].Chains[2].Rules
	if op := rules[0][0]; op.Op != netstate.NftIIFPrefix || op.Link != "via" || rules[0][1].Op != netstate.NftFibMissing {
		t.Errorf("%+v", rules)
	}
	links := s.Nft[1].Chains
	if links[0].Hook.Device != "via x" || links[1].Rules[1][0].Op != netstate.NftSAddr || links[1].Rules[2][0].Op != netstate.NftARPSAddr {
		t.Errorf("%+v", links)
	}
	if o := s.Nft[1]; o.Equal(&netstate.NftTable{Name: o.Name, Chains: o.Chains}) {
		t.Error("a table of another family is equal")
	}
	for _, bad := range []string{"nft rule ip daddr 2001:db8::/64 return", "nft rule ip daddr 10.1.0.1/99 return", "nft rule iifname vmap links", "nft rule ip saddr 2001:db8::1 drop", "nft rule ip6 saddr 2001:db8::/64 drop", "nft rule arp saddr ip 2001:db8::1 drop", "nft rule fib saddr . daddr . iif oif missing"} {
		if _, err := netstate.ParseState("nft table t\nnft chain c\n" + bad + "\n"); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
