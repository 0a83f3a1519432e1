package crd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/spec"
)

// TestPodNetworksAtTheirBounds: what is just allowed, and the first that is not.
func TestPodNetworksAtTheirBounds(t *testing.T) {
	const head = "apiVersion: viarule.io/v1alpha1\nkind: PodNetwork\nmetadata: {name: a}\nspec:\n"
	pods := func(list string) string { return head + "  podCIDRs: [" + list + "]\n" }
	node := func(name, addresses, pods string) string {
		return head + "  podCIDRs: [10.0.0.0/8, \"fd00::/8\"]\n  nodes: [{name: " + name + ", addresses: [" + addresses + "], podCIDRs: [" + pods + "]}]\n"
	}
	nodes := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "  - {name: node%d, addresses: [192.0.%d.%d], podCIDRs: [10.%d.%d.0/24]}\n", i, i>>8, i&255, i>>8, i&255)
		}
		return head + "  podCIDRs: [10.0.0.0/8]\n  nodes:\n" + b.String()
	}
	repeat := func(n int, f func(i int) string) string {
		var parts []string
		for i := range n {
			parts = append(parts, f(i))
		}
		return strings.Join(parts, ", ")
	}
	net := func(i int) string { return fmt.Sprintf("10.%d.0.0/16", i) }
	long := func(i int) string { return fmt.Sprintf(`"fd00:0000:0000:0000:0000:0000:%04x:0000/112"`, i) }
	address := func(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }
	l := spec.ClusterLimits()
	for _, c := range []struct {
		name, text string
		valid      bool
	}{
		{"most networks", pods(repeat(l.PodCIDRs, net)), true},
		{"a network more", pods(repeat(l.PodCIDRs+1, net)), false},
		{"most networks, the longest", pods(repeat(l.PodCIDRs, long)), true},
		{"a network inside of another", pods("10.0.0.0/8, 10.1.0.0/16"), false},
		{"two addresses of pods", pods("10.0.0.1, 10.0.0.2/32"), true},
		{"an address in a network", pods("10.0.0.0/24, 10.0.0.2"), false},
		{"an IPv6 address in a network", pods(`"fd00::/64", "fd00::2"`), false},
		{"networks side by side", pods(`10.0.0.0/9, 10.128.0.0/9, "fd00::/9", "fd80::/9"`), true},
		{"an eighth of all", pods("32.0.0.0/3"), true},
		{"half of all with loopback addresses", pods("0.0.0.0/1"), false},
		{"all IPv6", pods(`"::/0"`), false},
		{"most nodes", nodes(l.Nodes), true},
		{"a node more", nodes(l.Nodes + 1), false},
		{"most addresses", node("a", repeat(l.NodeAddresses, address), "10.0.0.0/24"), true},
		{"an address more", node("a", repeat(l.NodeAddresses+1, address), "10.0.0.0/24"), false},
		{"most prefixes of a node", node("a", "192.0.2.1", repeat(l.PodCIDRs, net)), true},
		{"prefixes of a node more", node("a", "192.0.2.1", repeat(l.PodCIDRs+1, net)), false},
		{"no prefixes of a node", node("a", "192.0.2.1", ""), true},
		{"both families", node("a", `192.0.2.1, "2001:db8::1"`, `10.0.0.0/24, "fd00::/64"`), true},
		{"a family without an address", node("a", `"2001:db8::1"`, `10.0.0.0/24, "fd00::/64"`), false},
		{"a long name", node(strings.Repeat("a.", 126)+"a", "192.0.2.1", ""), true},
		{"a longer name", node(strings.Repeat("a", 254), "192.0.2.1", ""), false},
		{"a name that ends in a dash", node("a-", "192.0.2.1", ""), false},
		{"an empty label", node("a..b", "192.0.2.1", ""), false},
		{"a broadcast address", node("a", "255.255.255.255", ""), false},
		{"a multicast address", node("a", `"ff02::1"`, ""), false},
		{"an unspecified address", node("a", `"::"`, ""), false},
		{"an address of 0/8", node("a", "0.0.0.1", ""), false},
		{"an address with a zone", node("a", `"fe80::1%eth0"`, ""), false},
		{"an IPv4 address in IPv6 notation", node("a", `"::ffff:192.0.2.1"`, ""), false},
		{"all words", pods("10.0.0.0/8") + "  interconnect: Static\n  forwarding: Keep\n  masquerade: Outside\n  cni: {install: false}\n  deletionPolicy: Orphan\n  nodeSelector: {matchLabels: {a: b}}\n", true},
		{"the other words", pods("10.0.0.0/8") + "  forwarding: Allow\n  masquerade: None\n  cni: {}\n  nodes: []\n", true},
	} {
		t.Run(c.name, func(t *testing.T) { agree(t, document{c.name, []byte(c.text)}, c.valid) })
	}
}
