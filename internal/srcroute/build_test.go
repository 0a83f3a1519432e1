package srcroute_test

import (
	"testing"

	"github.com/viarule/viarule/internal/srcroute"
)

var own = srcroute.Config{Own: true}

// TestDropIn: as the reference plugin does it, line by line of docs/design/sbr.md.
func TestDropIn(t *testing.T) {
	for _, s := range []scenario{
		{name: "both families", addrs: both, main: main, want: `
			route 10.1.0.0/24 dev net1 table 100 proto viarule-cni scope link src 10.1.0.5
			route -6 2001:db8:1::/64 dev net1 table 101 metric 256 proto viarule-cni
			route -6 fe80::/64 dev net1 table 101 metric 256 proto viarule-cni
			route default via 10.1.0.1 dev net1 table 100 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni
			- route default via 10.1.0.1 dev net1 table main
			- route -6 default via 2001:db8:1::1 dev net1 table main metric 1024
			- route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`},
		{name: "no gateway, no default", addrs: "10.1.0.5/24, 2001:db8:1::5/64", main: `
			route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
			route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`, want: `
			route 10.1.0.0/24 dev net1 table 100 proto viarule-cni scope link src 10.1.0.5
			route -6 2001:db8:1::/64 dev net1 table 101 metric 256 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni
			- route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`},
		{name: "nothing in main", addrs: both, want: `
			route -6 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			route default via 10.1.0.1 dev net1 onlink table 100 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni`},
		{name: "two addresses of one network: priorities count down", addrs: "10.1.0.5/24 10.1.0.1, 10.1.0.6/24 10.1.0.1", main: `
			route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5`, want: `
			route 10.1.0.0/24 dev net1 table 100 proto viarule-cni scope link src 10.1.0.5
			route 10.1.0.0/24 dev net1 table 101 proto viarule-cni scope link src 10.1.0.5
			route default via 10.1.0.1 dev net1 table 100 proto viarule-cni
			route default via 10.1.0.1 dev net1 table 101 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule 32764 from 10.1.0.6 table 101 proto viarule-cni
			- route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5`},
		{name: "two networks: each address has its own routes", addrs: "10.1.0.5/24 10.1.0.1, 10.2.0.5/24 10.2.0.1", main: `
			route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
			route 10.2.0.0/24 dev net1 table main proto kernel scope link src 10.2.0.5
			route 192.0.2.0/24 via 10.1.0.9 dev net1 table main
			route 198.51.100.0/24 via 10.2.0.9 dev net1 table main
			route 203.0.113.0/24 dev net1 table main scope link`, want: `
			route 10.1.0.0/24 dev net1 table 100 proto viarule-cni scope link src 10.1.0.5
			route 203.0.113.0/24 dev net1 table 100 proto viarule-cni scope link
			route 10.2.0.0/24 dev net1 table 101 proto viarule-cni scope link src 10.2.0.5
			route 203.0.113.0/24 dev net1 table 101 proto viarule-cni scope link
			route 192.0.2.0/24 via 10.1.0.9 dev net1 table 100 proto viarule-cni
			route default via 10.1.0.1 dev net1 table 100 proto viarule-cni
			route 198.51.100.0/24 via 10.2.0.9 dev net1 table 101 proto viarule-cni
			route default via 10.2.0.1 dev net1 table 101 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule 32764 from 10.2.0.5 table 101 proto viarule-cni
			- route 192.0.2.0/24 via 10.1.0.9 dev net1 table main
			- route 198.51.100.0/24 via 10.2.0.9 dev net1 table main
			- route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
			- route 10.2.0.0/24 dev net1 table main proto kernel scope link src 10.2.0.5
			- route 203.0.113.0/24 dev net1 table main scope link`},
		{name: "IPv6, two networks", addrs: "2001:db8:1::5/64 2001:db8:1::1, 2001:db8:2::5/64 2001:db8:2::1", main: `
			route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel
			route -6 2001:db8:2::/64 dev net1 table main metric 256 proto kernel
			route -6 2001:db8:88::/48 via 2001:db8:2::9 dev net1 table main metric 1024`, want: `
			route -6 2001:db8:1::/64 dev net1 table 100 metric 256 proto viarule-cni
			route -6 2001:db8:2::/64 dev net1 table 100 metric 256 proto viarule-cni
			route -6 2001:db8:1::/64 dev net1 table 101 metric 256 proto viarule-cni
			route -6 2001:db8:2::/64 dev net1 table 101 metric 256 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 100 metric 1024 proto viarule-cni
			route -6 2001:db8:88::/48 via 2001:db8:2::9 dev net1 table 101 metric 1024 proto viarule-cni
			route -6 default via 2001:db8:2::1 dev net1 table 101 metric 1024 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 100 proto viarule-cni
			rule -6 32764 from 2001:db8:2::5 table 101 proto viarule-cni
			- route -6 2001:db8:88::/48 via 2001:db8:2::9 dev net1 table main metric 1024
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel
			- route -6 2001:db8:2::/64 dev net1 table main metric 256 proto kernel`},
		{name: "/32 and /128 with a gateway outside", addrs: "10.1.0.5/32 169.254.1.1, 2001:db8:1::5/128 2001:db8:ffff::1", want: `
			route -6 2001:db8:ffff::1 dev net1 table 101 metric 1024 proto viarule-cni
			route default via 169.254.1.1 dev net1 onlink table 100 proto viarule-cni
			route -6 default via 2001:db8:ffff::1 dev net1 table 101 metric 1024 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni`},
		{name: "/32 with a route to the gateway", addrs: "10.1.0.5/32 169.254.1.1", main: `
			route 169.254.1.1 dev net1 table main scope link`, want: `
			route 169.254.1.1 dev net1 table 100 proto viarule-cni scope link
			route default via 169.254.1.1 dev net1 table 100 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			- route 169.254.1.1 dev net1 table main scope link`},
		{name: "link-local gateway", addrs: "2001:db8:1::5/64 fe80::1", main: `
			route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel
			route -6 2001:db8:77::/48 via fe80::2 dev net1 table main metric 1024`, want: `
			route -6 2001:db8:1::/64 dev net1 table 100 metric 256 proto viarule-cni
			route -6 2001:db8:77::/48 via fe80::2 dev net1 table 100 metric 1024 proto viarule-cni
			route -6 default via fe80::1 dev net1 table 100 metric 1024 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 100 proto viarule-cni
			- route -6 2001:db8:77::/48 via fe80::2 dev net1 table main metric 1024
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`},
		// What a router advertises stays in main, with the prefix of an address that it made.
		{name: "SLAAC and a router's default", addrs: "2001:db8:1::5/64", main: `
			route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel
			route -6 2001:db8:9::/64 dev net1 table main metric 256 proto kernel
			route -6 fe80::/64 dev net1 table main metric 256 proto kernel
			route -6 default via fe80::1 dev net1 table main metric 1024 proto ra pref high`, want: `
			route -6 2001:db8:1::/64 dev net1 table 100 metric 256 proto viarule-cni
			route -6 2001:db8:9::/64 dev net1 table 100 metric 256 proto viarule-cni
			route -6 fe80::/64 dev net1 table 100 metric 256 proto viarule-cni
			route -6 default via fe80::1 dev net1 table 100 metric 1024 proto viarule-cni pref high
			rule -6 32765 from 2001:db8:1::5 table 100 proto viarule-cni
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`},
		{name: "multicast stays in main and is copied", addrs: "2001:db8:1::5/64", main: `
			route -6 multicast ff00::/8 dev net1 table main metric 256 proto kernel`, want: `
			route -6 multicast ff00::/8 dev net1 table 100 metric 256 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 100 proto viarule-cni`},
		{name: "metrics, mtu and another source", addrs: "10.1.0.5/24 10.1.0.1", main: `
			route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
			route 192.0.2.0/24 via 10.1.0.9 dev net1 table main metric 7 mtu 1400
			route 192.0.2.0/24 via 10.1.0.8 dev net1 table main metric 8 src 10.1.0.77
			route 198.51.100.0/24 via 10.1.0.8 dev net1 table main src 172.16.0.1`, want: `
			route 10.1.0.0/24 dev net1 table 100 proto viarule-cni scope link src 10.1.0.5
			route 192.0.2.0/24 via 10.1.0.9 dev net1 table 100 metric 7 proto viarule-cni mtu 1400
			route 192.0.2.0/24 via 10.1.0.8 dev net1 table 100 metric 8 proto viarule-cni src 10.1.0.77
			route default via 10.1.0.1 dev net1 table 100 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			- route 192.0.2.0/24 via 10.1.0.9 dev net1 table main metric 7 mtu 1400
			- route 192.0.2.0/24 via 10.1.0.8 dev net1 table main metric 8 src 10.1.0.77
			- route 198.51.100.0/24 via 10.1.0.8 dev net1 table main src 172.16.0.1
			- route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5`},
		{name: "multipath stays in main, and is not copied", addrs: "10.1.0.5/24", main: `
			route 192.0.2.0/24 nexthop via 10.1.0.9 dev net1 weight 1 nexthop via 10.9.0.1 dev net9 weight 1 table main
			route 198.51.100.0/24 nexthop via 10.1.0.9 dev net1 weight 1 nexthop via 10.1.0.8 dev net1 weight 1 table main`, want: `
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni`},
		// The plugin bridge adds a default route beside that of eth0, and the kernel makes one of both.
		{name: "IPv6 beside another link's", addrs: "2001:db8:1::5/64 2001:db8:1::1", main: `
			route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel
			route -6 default nexthop via fe80::9 dev eth0 weight 1 nexthop via 2001:db8:1::1 dev net1 weight 1 table main metric 1024
			route -6 2001:db8:7::/48 nexthop via fe80::9 dev eth0 weight 1 nexthop via 2001:db8:1::1 dev net1 weight 3 table main metric 1024
			route -6 2001:db8:8::/48 nexthop via 2001:db8:1::2 dev net1 weight 1 nexthop via 2001:db8:1::1 dev net1 weight 1 table main metric 1024`, want: `
			route -6 2001:db8:1::/64 dev net1 table 100 metric 256 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 100 metric 1024 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 100 proto viarule-cni
			- route -6 default via 2001:db8:1::1 dev net1 table main metric 1024
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`},
		{name: "a default that another plugin wrote", addrs: "10.1.0.5/24 10.1.0.1", main: `
			route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
			route default via 10.1.0.99 dev net1 table main`, want: `
			route 10.1.0.0/24 dev net1 table 100 proto viarule-cni scope link src 10.1.0.5
			route default via 10.1.0.99 dev net1 table 100 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			- route default via 10.1.0.99 dev net1 table main
			- route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5`},
		{name: "table: nothing is copied or removed", config: srcroute.Config{Table: 77}, addrs: both, main: main, want: `
			rule 32765 from 10.1.0.5 table 77 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 77 proto viarule-cni`},
		{name: "table main", config: srcroute.Config{Table: 254}, addrs: "10.1.0.5/24", main: main, want: `
			rule 32765 from 10.1.0.5 table main proto viarule-cni`},
	} {
		s.run(t)
	}
}

// TestOwn: nothing is removed from main; what has no source gets one.
func TestOwn(t *testing.T) {
	for _, s := range []scenario{
		{name: "both families", config: own, addrs: both, main: main, want: `
			route 10.1.0.0/24 dev net1 table 5000 proto viarule-cni scope link src 10.1.0.5
			route -6 2001:db8:1::/64 dev net1 table 5001 metric 256 proto viarule-cni src 2001:db8:1::5
			route -6 fe80::/64 dev net1 table 5001 metric 256 proto viarule-cni
			route default via 10.1.0.1 dev net1 table 5000 proto viarule-cni src 10.1.0.5
			route -6 default via 2001:db8:1::1 dev net1 table 5001 metric 1024 proto viarule-cni src 2001:db8:1::5
			rule 2900 from 10.1.0.5 table 5000 proto viarule-cni
			rule -6 2900 from 2001:db8:1::5 table 5001 proto viarule-cni
			- route default via 10.1.0.1 dev net1 table main
			~ route default via 10.1.0.1 dev net1 table main src 10.1.0.5
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel
			~ route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel src 2001:db8:1::5
			- route -6 default via 2001:db8:1::1 dev net1 table main metric 1024
			~ route -6 default via 2001:db8:1::1 dev net1 table main metric 1024 src 2001:db8:1::5`},
		// The kernel refuses such a source.
		{name: "a tentative address", config: own, addrs: "2001:db8:1::5/64 2001:db8:1::1", main: `
			addr 2001:db8:1::5/64 dev net1 flags 0xc0
			route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`, want: `
			route -6 2001:db8:1::/64 dev net1 table 5000 metric 256 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 5000 metric 1024 proto viarule-cni
			rule -6 2900 from 2001:db8:1::5 table 5000 proto viarule-cni`},
		{name: "two networks: the source is the one of the gateway's, else of the destination's, else the first", config: own,
			addrs: "10.1.0.5/24 10.1.0.1, 10.2.0.5/24 10.2.0.1", main: `
			route 192.0.2.0/24 via 10.2.0.9 dev net1 table main
			route 10.2.0.128/25 dev net1 table main scope link
			route 203.0.113.0/24 dev net1 table main scope link`, want: `
			route 10.2.0.128/25 dev net1 table 5000 proto viarule-cni scope link src 10.1.0.5
			route 203.0.113.0/24 dev net1 table 5000 proto viarule-cni scope link src 10.1.0.5
			route 10.2.0.128/25 dev net1 table 5001 proto viarule-cni scope link src 10.2.0.5
			route 203.0.113.0/24 dev net1 table 5001 proto viarule-cni scope link src 10.2.0.5
			route default via 10.1.0.1 dev net1 onlink table 5000 proto viarule-cni src 10.1.0.5
			route 192.0.2.0/24 via 10.2.0.9 dev net1 onlink table 5001 proto viarule-cni src 10.2.0.5
			route default via 10.2.0.1 dev net1 onlink table 5001 proto viarule-cni src 10.2.0.5
			rule 2900 from 10.1.0.5 table 5000 proto viarule-cni
			rule 2900 from 10.2.0.5 table 5001 proto viarule-cni
			- route 192.0.2.0/24 via 10.2.0.9 dev net1 table main
			~ route 192.0.2.0/24 via 10.2.0.9 dev net1 table main src 10.2.0.5
			- route 10.2.0.128/25 dev net1 table main scope link
			~ route 10.2.0.128/25 dev net1 table main scope link src 10.2.0.5
			- route 203.0.113.0/24 dev net1 table main scope link
			~ route 203.0.113.0/24 dev net1 table main scope link src 10.1.0.5`},
		// They may hide the way to gateways: others go before them, and come back before them.
		{name: "routes by gateways that lead to gateways", addrs: "10.1.0.5/24, 2001:db8:1::5/64", main: `
			route 10.1.0.0/16 via 10.1.0.9 dev net1 table main
			route default via 10.1.0.1 dev net1 table main
			route -6 2001:db8:1::/64 via fe80::1 dev net1 table main metric 7
			route -6 default via 2001:db8:1::1 dev net1 table main metric 1024`, want: `
			route -6 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			route 10.1.0.0/16 via 10.1.0.9 dev net1 onlink table 100 proto viarule-cni
			route default via 10.1.0.1 dev net1 onlink table 100 proto viarule-cni
			route -6 2001:db8:1::/64 via fe80::1 dev net1 table 101 metric 7 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni
			- route 10.1.0.0/16 via 10.1.0.9 dev net1 table main
			- route default via 10.1.0.1 dev net1 table main
			- route -6 2001:db8:1::/64 via fe80::1 dev net1 table main metric 7
			- route -6 default via 2001:db8:1::1 dev net1 table main metric 1024`},
		{name: "and by their metric", addrs: "2001:db8:1::5/64", main: `
			route -6 2001:db8:1::/64 via 2001:db8:1::1 dev net1 table main metric 7
			route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel
			route -6 2001:db8:1::/64 via 2001:db8:1::2 dev net1 table main metric 1024
			route -6 2001:db8:1::7 via 2001:db8:1::3 dev net1 table main metric 1024`, want: `
			route -6 2001:db8:1::/64 dev net1 table 100 metric 256 proto viarule-cni
			route -6 2001:db8:1::/64 via 2001:db8:1::2 dev net1 table 100 metric 1024 proto viarule-cni
			route -6 2001:db8:1::7 via 2001:db8:1::3 dev net1 table 100 metric 1024 proto viarule-cni
			route -6 2001:db8:1::/64 via 2001:db8:1::1 dev net1 table 100 metric 7 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 100 proto viarule-cni
			- route -6 2001:db8:1::/64 via 2001:db8:1::1 dev net1 table main metric 7
			- route -6 2001:db8:1::/64 via 2001:db8:1::2 dev net1 table main metric 1024
			- route -6 2001:db8:1::7 via 2001:db8:1::3 dev net1 table main metric 1024
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`},
		{name: "two addresses of one network", config: own, addrs: "10.1.0.5/24, 10.1.0.6/24", main: `
			route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5`, want: `
			route 10.1.0.0/24 dev net1 table 5000 proto viarule-cni scope link src 10.1.0.5
			route 10.1.0.0/24 dev net1 table 5001 proto viarule-cni scope link src 10.1.0.6
			rule 2900 from 10.1.0.5 table 5000 proto viarule-cni
			rule 2900 from 10.1.0.6 table 5001 proto viarule-cni`},
		{name: "priority", config: srcroute.Config{Own: true, Priority: 700}, addrs: both, want: `
			route -6 2001:db8:1::1 dev net1 table 5001 metric 1024 proto viarule-cni src 2001:db8:1::5
			route default via 10.1.0.1 dev net1 onlink table 5000 proto viarule-cni src 10.1.0.5
			route -6 default via 2001:db8:1::1 dev net1 table 5001 metric 1024 proto viarule-cni src 2001:db8:1::5
			rule 700 from 10.1.0.5 table 5000 proto viarule-cni
			rule -6 700 from 2001:db8:1::5 table 5001 proto viarule-cni`},
		{name: "a router's default keeps what the kernel gave it", config: own, addrs: "2001:db8:1::5/64", main: `
			route -6 default via fe80::1 dev net1 table main metric 1024 proto ra`, want: `
			route -6 default via fe80::1 dev net1 table 5000 metric 1024 proto viarule-cni src 2001:db8:1::5
			rule -6 2900 from 2001:db8:1::5 table 5000 proto viarule-cni`},
		{name: "table", config: srcroute.Config{Own: true, Table: 77}, addrs: both, main: main, want: `
			rule 2900 from 10.1.0.5 table 77 proto viarule-cni
			rule -6 2900 from 2001:db8:1::5 table 77 proto viarule-cni`},
	} {
		s.run(t)
	}
}

// TestSharedInMain: the kernel replaces the first route of a key, so what another link
// shares is left alone.
func TestSharedInMain(t *testing.T) {
	c := own
	a := attachment(t, both)
	f := facts(t, &c, a, main)
	f.Shared = keysOf(f.Main)
	w, err := srcroute.Build(&c, a, f)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Main) != 0 {
		t.Errorf("own edits %v", w.Main)
	}
	c = srcroute.Config{SourceHints: true}
	if w, err = srcroute.Build(&c, a, f); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.Main {
		if e.New != nil {
			t.Errorf("addSourceHints edits %s", e.New)
		}
	}
}

func TestSourceHints(t *testing.T) {
	hints := srcroute.Config{SourceHints: true}
	const rest = `
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni`
	for _, s := range []scenario{
		// The reference deletes the IPv6 route that it has just written.
		{name: "both families", config: hints, addrs: both, main: main, want: `
			route 10.1.0.0/24 dev net1 table 100 proto viarule-cni scope link src 10.1.0.5
			route -6 2001:db8:1::/64 dev net1 table 101 metric 256 proto viarule-cni
			route -6 fe80::/64 dev net1 table 101 metric 256 proto viarule-cni
			route default via 10.1.0.1 dev net1 table 100 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni` + rest + `
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel
			~ route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel src 2001:db8:1::5
			- route default via 10.1.0.1 dev net1 table main
			- route -6 default via 2001:db8:1::1 dev net1 table main metric 1024`},
		{name: "nothing was connected", config: hints, addrs: both, want: `
			route -6 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			route default via 10.1.0.1 dev net1 onlink table 100 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni` + rest + `
			+ route 10.1.0.0/24 dev net1 table main proto viarule-cni scope link src 10.1.0.5
			+ route -6 2001:db8:1::/64 dev net1 table main metric 1024 proto viarule-cni src 2001:db8:1::5`},
		// As ptp makes it.
		{name: "the network is behind a gateway", config: hints, addrs: "10.1.0.5/24 10.1.0.1", main: `
			route 10.1.0.1 dev net1 table main scope link src 10.1.0.5
			route 10.1.0.0/24 via 10.1.0.1 dev net1 table main src 10.1.0.5`, want: `
			route 10.1.0.1 dev net1 table 100 proto viarule-cni scope link src 10.1.0.5
			route 10.1.0.0/24 via 10.1.0.1 dev net1 table 100 proto viarule-cni src 10.1.0.5
			route default via 10.1.0.1 dev net1 table 100 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			- route 10.1.0.0/24 via 10.1.0.1 dev net1 table main src 10.1.0.5
			~ route 10.1.0.0/24 dev net1 table main proto viarule-cni scope link src 10.1.0.5`},
		{name: "two addresses of one network: the first has it", config: hints, addrs: "10.1.0.5/24, 10.1.0.6/24", main: `
			route 10.1.0.0/24 dev net1 table main proto kernel scope link`, want: `
			route 10.1.0.0/24 dev net1 table 100 proto viarule-cni scope link
			route 10.1.0.0/24 dev net1 table 101 proto viarule-cni scope link
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule 32764 from 10.1.0.6 table 101 proto viarule-cni
			- route 10.1.0.0/24 dev net1 table main proto kernel scope link
			~ route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5`},
		{name: "two addresses of one network that was not connected", config: hints, addrs: "10.1.0.5/24, 10.1.0.6/24, 2001:db8:1::5/64, 2001:db8:1::6/64", want: `
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule 32764 from 10.1.0.6 table 101 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 102 proto viarule-cni
			rule -6 32764 from 2001:db8:1::6 table 103 proto viarule-cni
			+ route 10.1.0.0/24 dev net1 table main proto viarule-cni scope link src 10.1.0.5
			+ route -6 2001:db8:1::/64 dev net1 table main metric 1024 proto viarule-cni src 2001:db8:1::5`},
		{name: "with a table it says nothing", config: srcroute.Config{SourceHints: true, Table: 7}, addrs: "10.1.0.5/24", main: main, want: `
			rule 32765 from 10.1.0.5 table 7 proto viarule-cni`},
	} {
		s.run(t)
	}
}

func TestGateways(t *testing.T) {
	static := srcroute.Config{Gateways: addrs("10.1.0.254", "2001:db8:1::fe")}
	infer := srcroute.Config{InferGateway: true}
	inferErr := func(p string) string {
		return "inferGateway: the network of " + p + " has no first address that could be its gateway; name it under gateways"
	}
	for _, s := range []scenario{
		{name: "in place of prevResult's, and before a default of others", config: static, addrs: both, main: main, want: `
			route 10.1.0.0/24 dev net1 table 100 proto viarule-cni scope link src 10.1.0.5
			route -6 2001:db8:1::/64 dev net1 table 101 metric 256 proto viarule-cni
			route -6 fe80::/64 dev net1 table 101 metric 256 proto viarule-cni
			route default via 10.1.0.254 dev net1 table 100 proto viarule-cni
			route -6 default via 2001:db8:1::fe dev net1 table 101 metric 1024 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni
			- route default via 10.1.0.1 dev net1 table main
			- route -6 default via 2001:db8:1::1 dev net1 table main metric 1024
			- route 10.1.0.0/24 dev net1 table main proto kernel scope link src 10.1.0.5
			- route -6 2001:db8:1::/64 dev net1 table main metric 256 proto kernel`},
		{name: "of one family only", config: srcroute.Config{Gateways: addrs("10.9.0.1")}, addrs: both, want: `
			route -6 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			route default via 10.9.0.1 dev net1 onlink table 100 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni`},
		{name: "infer", config: infer, addrs: "10.1.0.5/24, 2001:db8:1::5/64", want: `
			route -6 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			route default via 10.1.0.1 dev net1 onlink table 100 proto viarule-cni
			route -6 default via 2001:db8:1::1 dev net1 table 101 metric 1024 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni
			rule -6 32765 from 2001:db8:1::5 table 101 proto viarule-cni`},
		{name: "infer where one is said", config: infer, addrs: "10.1.0.5/24 10.1.0.9", want: `
			route default via 10.1.0.9 dev net1 onlink table 100 proto viarule-cni
			rule 32765 from 10.1.0.5 table 100 proto viarule-cni`},
		{name: "infer /30", config: infer, addrs: "10.1.0.6/30", want: `
			route default via 10.1.0.5 dev net1 onlink table 100 proto viarule-cni
			rule 32765 from 10.1.0.6 table 100 proto viarule-cni`},
		{name: "infer /31", config: infer, addrs: "10.1.0.4/31", err: inferErr("10.1.0.4/31")},
		{name: "infer /32", config: infer, addrs: "10.1.0.4/32", err: inferErr("10.1.0.4/32")},
		{name: "infer /127", config: infer, addrs: "2001:db8:1::4/127", err: inferErr("2001:db8:1::4/127")},
		{name: "infer /128", config: infer, addrs: "2001:db8:1::4/128", err: inferErr("2001:db8:1::4/128")},
		{name: "infer the own address", config: infer, addrs: "10.1.0.1/24", err: inferErr("10.1.0.1/24")},
		{name: "infer the own address, IPv6", config: infer, addrs: "2001:db8:1::1/64", err: inferErr("2001:db8:1::1/64")},
	} {
		s.run(t)
	}
}

func TestStrictReversePath(t *testing.T) {
	strict := srcroute.Config{StrictRP: true, Table: 7}
	for _, s := range []scenario{
		{name: "without marks", config: strict, addrs: "10.1.0.5/24", want: `
			rule 32765 from 10.1.0.5 table 7 proto viarule-cni
			sysctl net/ipv4/conf/net1/rp_filter = 1`},
		{name: "with a mark", config: strict, addrs: "10.1.0.5/24", rules: `[{"fwmark": "0x1/0x3"}]`, want: `
			rule 32765 from 10.1.0.5 table 7 proto viarule-cni
			rule 32765 from all fwmark 0x1/0x3 table 7 proto viarule-cni
			sysctl net/ipv4/conf/net1/src_valid_mark = 1
			sysctl net/ipv4/conf/net1/rp_filter = 1`},
	} {
		s.run(t)
	}
	a := attachment(t, "10.1.0.5/24")
	_, err := srcroute.Build(&strict, a, &srcroute.Facts{LooseForAll: true})
	if err == nil || err.(*srcroute.Error).Key != "strictReversePath" {
		t.Errorf("loose for all: %v", err)
	}
}
