package crd

import (
	"fmt"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/spec"
)

// TestExpectationsAtTheirBounds: what is just allowed, and the first that is not,
// in each kind of object.
func TestExpectationsAtTheirBounds(t *testing.T) {
	heads := map[string]string{
		spec.KindRoutingPolicy:   "apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: a}\nspec:\n",
		spec.KindExternalNetwork: "apiVersion: viarule.io/v1alpha1\nkind: ExternalNetwork\nmetadata: {name: a}\nspec:\n  interface: {name: eth1}\n  addresses: [192.0.2.0/24]\n",
	}
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "  - {"+format+"}\n", i)
		}
		return b.String()
	}
	one := func(s string) string { return "  - {name: a, " + s + "}\n" }
	const longest = "fe80:0000:0000:0000:0000:0000:0000:0001"
	everything := `name: ` + strings.Repeat("a", 60) + `-%02d, from: "` + longest + `", to: "` + longest + `", ipproto: udplite, sport: 65535, dport: 65535, ` +
		`fwmark: "0xffffffff", uid: 4294967294, tos: "0x000000ff", leaves: {dev: fifteen-letters, via: "` + longest + `"}, verdict: Sent, source: "` + longest + `"`
	for _, c := range []struct {
		name, list string
		valid      bool
	}{
		{"none", "", true},
		{"most", many(spec.MaxExpectations, "name: n%d, to: 192.0.2.1, verdict: Sent"), true},
		{"one more", many(spec.MaxExpectations+1, "name: n%d, to: 192.0.2.1, verdict: Sent"), false},
		{"most, with every key at its longest", many(spec.MaxExpectations, everything), true},
		{"the longest name", "  - {name: " + strings.Repeat("a", 63) + ", to: 192.0.2.1, verdict: Sent}\n", true},
		{"a longer name", "  - {name: " + strings.Repeat("a", 64) + ", to: 192.0.2.1, verdict: Sent}\n", false},
		{"a name of digits in quotes", `  - {name: "10", to: 192.0.2.1, verdict: Sent}` + "\n", true},
		{"two names alike", "  - {name: a, to: 192.0.2.1, verdict: Sent}\n" + one("to: 192.0.2.1, verdict: Sent"), false},

		{"the smallest numbers", one("to: 192.0.2.1, ipproto: 1, fwmark: 0, uid: 0, tos: 0, verdict: Sent"), true},
		{"the smallest numbers in quotes", one(`to: 192.0.2.1, ipproto: "1", fwmark: "0", tos: "0", verdict: Sent`), true},
		{"the largest numbers", one(`to: 192.0.2.1, ipproto: 255, fwmark: 4294967295, uid: 4294967294, tos: 255, verdict: Sent`), true},
		{"the largest numbers in quotes", one(`to: 192.0.2.1, ipproto: "255", fwmark: "4294967295", tos: "255", verdict: Sent`), true},
		{"hexadecimal", one("to: 192.0.2.1, fwmark: 0xFFFFFFFF, tos: 0xfF, verdict: Sent"), true},
		{"a mark with zeros", one(`to: 192.0.2.1, fwmark: "0x00000010", verdict: Sent`), true},
		{"a mark too large", one("to: 192.0.2.1, fwmark: 4294967296, verdict: Sent"), false},
		{"a mark with a zero too many", one(`to: 192.0.2.1, fwmark: "0x000000010", verdict: Sent`), false},
		{"a negative mark", one("to: 192.0.2.1, fwmark: -1, verdict: Sent"), false},
		{"TOS with zeros", one(`to: 192.0.2.1, tos: "0x00000010", verdict: Sent`), true},
		{"TOS with a zero too many", one(`to: 192.0.2.1, tos: "0x000000010", verdict: Sent`), false},
		{"TOS with leading zeros", one(`to: 192.0.2.1, tos: "016", verdict: Sent`), false},
		{"TOS in hexadecimal beyond its end", one("to: 192.0.2.1, tos: 0x100, verdict: Sent"), false},
		{"TOS with bits for congestion notification", one("to: 192.0.2.1, tos: 0x13, verdict: Sent"), true},
		{"a user too many", one("to: 192.0.2.1, uid: 4294967295, verdict: Sent"), false},
		{"the first port", one("to: 192.0.2.1, ipproto: tcp, sport: 1, dport: 1, verdict: Sent"), true},
		{"a port too many", one("to: 192.0.2.1, ipproto: tcp, dport: 65536, verdict: Sent"), false},
		{"each protocol with ports", one("to: 192.0.2.1, ipproto: dccp, dport: 1, verdict: Sent") + "  - {name: b, to: 192.0.2.1, ipproto: 132, sport: 1, verdict: Sent}\n" +
			`  - {name: c, to: 192.0.2.1, ipproto: "136", sport: 1, verdict: Sent}` + "\n  - {name: d, to: 192.0.2.1, ipproto: udp, sport: 1, verdict: Sent}\n", true},
		{"a protocol without ports", one(`to: 192.0.2.1, ipproto: "47", dport: 1, verdict: Sent`), false},

		{"user 0 of what comes in", one("from: 192.0.2.9, to: 192.0.2.1, iif: eth0, uid: 0, verdict: Delivered"), true},
		{"an IPv4 packet by an IPv6 gateway", one(`to: 192.0.2.1, leaves: {via: "fe80::1"}`), true},
		{"an IPv6 packet by an IPv6 gateway", one(`to: "2001:db8::1", leaves: {via: "fe80::1"}`), true},
		{"an IPv6 address written otherwise", one(`from: "2001:DB8:0::1", to: "2001:db8::2", source: "2001:db8::1"`), true},
		{"what is delivered has a source", one("to: 192.0.2.1, verdict: Delivered, source: 192.0.2.1"), true},
		{"what is forwarded leaves", one("from: 192.0.2.9, to: 10.0.0.1, iif: eth0, verdict: Forwarded, leaves: {dev: eth1, via: 10.9.0.1}"), true},
		{"what is sent leaves, with a source", one(`to: "2001:db8::1", verdict: Sent, leaves: {dev: eth1}, source: "2001:db8::2"`), true},
		{"what comes in has no way that is said", one(`from: "2001:db8::9", to: "2001:db8::1", iif: eth0, verdict: Dropped`), true},
	} {
		for kind, head := range heads {
			list := "  expect:\n" + c.list
			if c.list == "" {
				list = "  expect: []\n"
			}
			t.Run(c.name+"/"+kind, func(t *testing.T) { agree(t, document{c.name, []byte(head + list)}, c.valid) })
		}
	}
}
