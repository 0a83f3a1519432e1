package crd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/spec"
)

// TestExternalNetworksAtTheirBounds: what is just allowed, and the first that is
// not.
func TestExternalNetworksAtTheirBounds(t *testing.T) {
	const head = "apiVersion: viarule.io/v1alpha1\nkind: ExternalNetwork\nmetadata: {name: a}\nspec:\n"
	on := func(link string) string {
		return head + "  interface: " + link + "\n  addresses: [192.0.2.0/24]\n  gateways: [192.0.2.1]\n"
	}
	with := func(more string) string { return on("{name: eth1}") + "  " + more + "\n" }
	lists := func(addresses, gateways string) string {
		return head + "  interface: {name: eth1}\n  addresses: [" + addresses + "]\n  gateways: [" + gateways + "]\n"
	}
	repeat := func(n int, f func(i int) string) string {
		var parts []string
		for i := range n {
			parts = append(parts, f(i))
		}
		return strings.Join(parts, ", ")
	}
	net := func(i int) string { return fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255) }
	span := func(i int) string {
		return fmt.Sprintf(`"2001:0db8:0000:0000:0000:0000:%04x:0000-2001:0db8:0000:0000:0000:0000:%04x:ffff"`, i, i)
	}
	gateway := func(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) }
	long := func(i int) string { return fmt.Sprintf(`"fe80:0000:0000:0000:0000:0000:0000:%04x"`, i+1) }
	l := spec.ClusterLimits()
	for _, c := range []struct {
		name, text string
		valid      bool
	}{
		{"most addresses", lists(repeat(l.Addresses, net), "192.0.2.1"), true},
		{"an address more", lists(repeat(l.Addresses+1, net), "192.0.2.1"), false},
		{"most addresses, the longest", lists(repeat(l.Addresses, span), repeat(l.Gateways, long)), true},
		{"most gateways", lists("10.0.0.0/8", repeat(l.Gateways, gateway)), true},
		{"a gateway more", lists("10.0.0.0/8", repeat(l.Gateways+1, gateway)), false},
		{"most addresses and gateways", lists(repeat(l.Addresses, func(i int) string { return fmt.Sprintf("10.0.%d.%d", i>>8, i&255) }), repeat(l.Gateways, gateway)), true},
		{"most pods", with("returnPath: SourceRule\n  clusterCIDRs: [" + repeat(l.ClusterCIDRs, net) + "]"), true},
		{"pods more", with("returnPath: SourceRule\n  clusterCIDRs: [" + repeat(l.ClusterCIDRs+1, net) + "]"), false},

		{"the smallest numbers", with("priority: 1\n  table: 1\n  mark: 1"), true},
		{"the largest numbers", with("priority: 32765\n  table: 4294967295\n  mark: 4294967295"), true},
		{"numbers in quotes", with(`table: "4294967295"` + "\n" + `  mark: "4294967295"`), true},
		{"numbers with leading zeros", with(`table: "0100"`), false},
		{"a mark with a leading zero", with(`mark: "0256"`), false},
		{"beside the kernel's tables", with("table: 252"), true},
		{"beside them on the other side", with("table: 256"), true},
		{"a table's name", with("table: ext_1.a-b"), true},
		{"a name like that of a table of the kernel", with("table: main2"), true},
		{"a long name", with("table: " + strings.Repeat("a", 63)), true},
		{"a longer name", with("table: " + strings.Repeat("a", 64)), false},
		{"a hexadecimal mark", with("mark: 0xFF00"), true},
		{"a mark and its mask", with("mark: 0xAB00/0xff00"), true},
		{"a mark with zeros", with("mark: 0x00000001/0x1"), true},
		{"a mark of zeros", with("mark: 0x00000000/0x1"), false},
		{"a mask too small", with("mark: 0x3/0x1"), false},
		{"a mark too long", with("mark: 0x000000001/0x1"), false},
		{"nothing is said", with("strictARP: false\n  spread: false\n  returnPath: Auto\n  reversePathFilter: Keep"), true},
		{"all that is rare", with("strictARP: true\n  deletionPolicy: Orphan\n  nodeSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: Exists}]}"), true},

		{"the last VLAN", on("{name: v, vlan: {parent: eth0, id: 4094}}"), true},
		{"the first VLAN", on("{name: fifteen-letters, vlan: {parent: eth0, id: 1}}"), true},
		{"sixteen letters", on("{name: sixteen-letters., vlan: {parent: eth0, id: 1}}"), false},
		{"a link with %", on(`{name: "v%d"}`), true},
		{"a VLAN of lo", on("{name: v, vlan: {parent: lo, id: 1}}"), false},
		{"a MAC in capitals", on(`{match: {mac: "52:54:00:AB:CD:EF"}}`), true},
		{"a MAC without quotes", on("{match: {mac: 52:54:00:12:34:56}}"), true},
		{"a MAC of digits that looks like a number", on("{match: {mac: 12:34:56:12:34:56}}"), true},
		{"a short MAC", on(`{match: {mac: "2:0:0:0:0:1"}}`), false},
		{"a subnet of one address", on("{match: {subnet: 192.0.2.1}}"), true},
		{"the largest subnet", on(`{match: {mac: "02:00:00:00:00:01", subnet: 128.0.0.0/1}}`), true},

		{"IPv4 ranges of all kinds", lists("1.0.0.0-126.255.255.255, 128.0.0.0-169.253.255.255, 169.255.0.0-223.255.255.255, 240.0.0.0-255.255.255.254", "fe80::1"), false},
		{"IPv4 ranges of all kinds with a gateway", lists("1.0.0.0-126.255.255.255, 128.0.0.0-169.253.255.255, 169.255.0.0-223.255.255.255, 240.0.0.0-255.255.255.254", "169.254.0.1"), true},
		{"IPv6 ranges of all kinds", lists(`"::2-fe7f:ffff::", "fec0::-feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"`, `"fe80::1"`), true},
		{"the range before", lists("10.0.0.2-10.0.0.1", "192.0.2.1"), false},
		{"a carry", lists("10.0.1.0-10.0.0.255", "192.0.2.1"), false},
		{"no carry", lists("10.0.0.255-10.0.1.0", "192.0.2.1"), true},
		{"an IPv6 range in capitals", lists(`"2001:DB8::A-2001:DB8::F"`, `"FE80::1"`), true},
		{"an IPv6 address with an IPv4 one in it", lists(`"64:ff9b::192.0.2.1"`, `"fe80::1"`), true},
		{"a range of two slashes", lists("10.0.0.0/8-11.0.0.0/8", "192.0.2.1"), false},
		{"a range without an end", lists("10.0.0.1-", "192.0.2.1"), false},
		{"a range without a beginning", lists(`"-10.0.0.1"`, "192.0.2.1"), false},
		{"an empty address", lists(`""`, "192.0.2.1"), false},
		{"zeros in an address", lists("10.0.0.01", "192.0.2.1"), false},
		{"a prefix of one address", lists("10.0.0.1/32, 10.0.0.2", "192.0.2.1"), true},
		{"an eighth of all", lists("32.0.0.0/3", "192.0.2.1"), true},
		{"half of all with loopback addresses", lists("0.0.0.0/1", "192.0.2.1"), false},
		{"the gateway is of the prefix", lists("192.0.2.0/24, \"2001:db8::/64\"", "192.0.2.1, \"2001:db8::1\""), true},
		{"the gateway is of 0/8", lists("192.0.2.0/24", "0.1.2.3"), true},
		{"the gateway is /32", lists("192.0.2.1/32", "192.0.2.1"), false},
		{"the gateway is /128", lists(`"2001:db8::1/128"`, `"2001:db8::1"`), false},
		{"no gateways", head + "  interface: {name: eth1}\n  addresses: [192.0.2.0/24, \"2001:db8::/64\"]\n", true},
	} {
		t.Run(c.name, func(t *testing.T) { agree(t, document{c.name, []byte(c.text)}, c.valid) })
	}
}
