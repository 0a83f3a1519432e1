package kerneltest

import "testing"

func (o Options) routes(t *testing.T) {
	t.Run("scripts", func(t *testing.T) { o.runScripts(t, routeScripts) })
}

var routeScripts = []script{
	{
		name: "every key",
		steps: `
			+ route 10.9.0.0/16 tos 0x10 via 10.1.0.9 dev v0 table 1000 metric 7 proto 118 src 10.2.0.1 mtu lock 1400 advmss 1300 realms 3/4
			+ route default dev v0 table 70000 proto 118 scope link
			+ route 10.9.0.0/16 via 10.99.0.9 dev v0 onlink table 1000 proto 118
			+ route 10.10.0.0/16 via inet6 2001:db8:1::9 dev v0 table 1000 proto 118
			+ route 10.11.0.0/16 via inet6 fe80::9 dev v1 table 1000 proto 118
			+ route blackhole 10.12.0.0/16 table 1000 proto 118
			+ route unreachable 10.13.0.0/16 table 1000 proto 118
			+ route prohibit 10.14.0.0/16 table 1000 proto 118
			+ route throw 10.15.0.0/16 table 1000 proto 118
			+ route local 10.16.0.0/16 dev lo table 1000 proto 118 scope host
			+ route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 7 proto 118 src 2001:db8:2::1 mtu 1400 advmss 1300 pref high
			+ route -6 2001:db8:9::/48 from 2001:db8:8::/48 via fe80::9 dev v0 table 1000 metric 1024 proto 118
			+ route -6 default dev v0 table 70000 metric 1024 proto 118
			+ route -6 2001:db8:10::/48 via 2001:db8:99::9 dev v0 onlink table 1000 metric 1024 proto 118
			+ route -6 blackhole 2001:db8:12::/48 table 1000 metric 1024 proto 118
			+ route -6 unreachable 2001:db8:13::/48 table 1000 metric 1024 proto 118
			+ route -6 prohibit 2001:db8:14::/48 table 1000 metric 1024 proto 118
			+ route -6 throw 2001:db8:15::/48 table 1000 metric 1024 proto 118
			+ route -6 local 2001:db8:16::/48 dev lo table 1000 metric 1024 proto 118`,
		want: `
			route 10.9.0.0/16 tos 0x10 via 10.1.0.9 dev v0 table 1000 metric 7 proto 118 src 10.2.0.1 mtu lock 1400 advmss 1300 realms 3/4
			route default dev v0 table 70000 proto 118 scope link
			route 10.9.0.0/16 via 10.99.0.9 dev v0 onlink table 1000 proto 118
			route 10.10.0.0/16 via inet6 2001:db8:1::9 dev v0 table 1000 proto 118
			route 10.11.0.0/16 via inet6 fe80::9 dev v1 table 1000 proto 118
			route blackhole 10.12.0.0/16 table 1000 proto 118
			route unreachable 10.13.0.0/16 table 1000 proto 118
			route prohibit 10.14.0.0/16 table 1000 proto 118
			route throw 10.15.0.0/16 table 1000 proto 118
			route local 10.16.0.0/16 dev lo table 1000 proto 118 scope host
			route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 7 proto 118 src 2001:db8:2::1 mtu 1400 advmss 1300 pref high
			route -6 2001:db8:9::/48 from 2001:db8:8::/48 via fe80::9 dev v0 table 1000 metric 1024 proto 118
			route -6 default dev v0 table 70000 metric 1024 proto 118
			route -6 2001:db8:10::/48 via 2001:db8:99::9 dev v0 onlink table 1000 metric 1024 proto 118
			route -6 blackhole 2001:db8:12::/48 table 1000 metric 1024 proto 118
			route -6 unreachable 2001:db8:13::/48 table 1000 metric 1024 proto 118
			route -6 prohibit 2001:db8:14::/48 table 1000 metric 1024 proto 118
			route -6 throw 2001:db8:15::/48 table 1000 metric 1024 proto 118
			route -6 local 2001:db8:16::/48 dev lo table 1000 metric 1024 proto 118`,
	},
	{
		// 8 is RTA_METRICS: quickack (15) and a congestion control (16). 21 and 22
		// are RTA_ENCAP_TYPE and RTA_ENCAP of an IP in IP tunnel.
		name: "attributes that we do not know come back",
		steps: `
			+ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118 mtu 1400 unknown 1800080008000f00010000000a0010006375626963000000
			+ route -6 2001:db8:9::/48 dev v0 table 1000 metric 1024 proto 118 unknown 0c00080008000a0040000000`,
		want: `
			route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118 mtu 1400 unknown 1800080008000f00010000000a0010006375626963000000
			route -6 2001:db8:9::/48 dev v0 table 1000 metric 1024 proto 118 unknown 0c00080008000a0040000000`,
	},
	{
		name: "an IPv6 route without a metric has 1024, a gateway finds its link",
		steps: `
			+ route -6 2001:db8:9::/48 via 2001:db8:1::9 table 1000 proto 118
			+ route 10.9.0.0/16 via 10.2.0.9 table 1000 proto 118`,
		want: `
			route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 1024 proto 118
			route 10.9.0.0/16 via 10.2.0.9 dev v1 table 1000 proto 118`,
	},
	{
		name: "several paths",
		steps: `
			+ route 10.9.0.0/16 nexthop via 10.1.0.9 dev v0 weight 3 nexthop via 10.99.0.9 dev v1 weight 256 onlink table 1000 proto 118
			+ route 10.10.0.0/16 nexthop dev v0 weight 1 nexthop via inet6 fe80::9 dev v1 weight 2 table 1000 proto 118
			+ route -6 2001:db8:9::/48 nexthop via 2001:db8:1::9 dev v0 weight 3 nexthop via fe80::9 dev v1 weight 256 table 1000 metric 1024 proto 118
			EEXIST + route 10.9.0.0/16 dev v0 table 1000 proto 118 scope link
			EEXIST + route -6 2001:db8:9::/48 via 2001:db8:1::8 dev v0 table 1000 metric 1024 proto 118
			~ route -6 2001:db8:9::/48 nexthop via fe80::8 dev v1 weight 1 nexthop via fe80::9 dev v1 weight 2 nexthop via fe80::9 dev v0 weight 3 table 1000 metric 1024 proto 118
			~ route 10.9.0.0/16 nexthop via 10.1.0.9 dev v0 weight 3 nexthop via 10.1.0.8 dev v0 weight 2 table 1000 proto 118`,
		want: `
			route 10.9.0.0/16 nexthop via 10.1.0.9 dev v0 weight 3 nexthop via 10.1.0.8 dev v0 weight 2 table 1000 proto 118
			route 10.10.0.0/16 nexthop dev v0 weight 1 nexthop via inet6 fe80::9 dev v1 weight 2 table 1000 proto 118
			route -6 2001:db8:9::/48 nexthop via fe80::8 dev v1 weight 1 nexthop via fe80::9 dev v1 weight 2 nexthop via fe80::9 dev v0 weight 3 table 1000 metric 1024 proto 118`,
	},
	{
		name: "several paths go at once",
		steps: `
			+ route 10.9.0.0/16 nexthop via 10.1.0.9 dev v0 weight 3 nexthop via 10.2.0.9 dev v1 weight 2 table 1000 proto 118
			- route 10.9.0.0/16 nexthop via 10.1.0.9 dev v0 weight 3 nexthop via 10.2.0.9 dev v1 weight 2 table 1000 proto 118
			+ route -6 2001:db8:9::/48 nexthop via 2001:db8:1::9 dev v0 weight 3 nexthop via fe80::9 dev v1 weight 256 table 1000 metric 1024 proto 118
			- route -6 2001:db8:9::/48 nexthop via 2001:db8:1::9 dev v0 weight 3 nexthop via fe80::9 dev v1 weight 256 table 1000 metric 1024 proto 118`,
	},
	{
		name: "deleting a single IPv6 gateway takes one path of several",
		steps: `
			+ route -6 2001:db8:9::/48 nexthop via 2001:db8:1::9 dev v0 weight 1 nexthop via fe80::9 dev v1 weight 1 table 1000 metric 1024 proto 118
			- route -6 2001:db8:9::/48 via fe80::9 dev v1 table 1000 metric 1024 proto 118`,
		want: `route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 1024 proto 118`,
	},
	{
		name: "add is exclusive by key",
		steps: `
			+ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118
			EEXIST + route 10.9.0.0/16 via 10.1.0.8 dev v0 table 1000 proto 99
			EEXIST + route unreachable 10.9.0.0/16 table 1000 proto 118
			+ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 1 proto 118
			+ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1001 proto 118
			+ route 10.9.0.0/16 tos 0x10 via 10.1.0.9 dev v0 table 1000 proto 118
			+ route 10.9.0.0/17 via 10.1.0.9 dev v0 table 1000 proto 118
			+ route -6 2001:db8:9::/48 dev v0 table 1000 proto 118
			EEXIST + route -6 2001:db8:9::/48 dev v1 table 1000 metric 1024 proto 118
			+ route -6 2001:db8:9::/48 dev v1 table 1000 metric 1025 proto 118
			+ route -6 2001:db8:9::/48 from 2001:db8::/32 dev v0 table 1000 proto 118`,
		want: `
			route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118
			route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 1 proto 118
			route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1001 proto 118
			route 10.9.0.0/16 tos 0x10 via 10.1.0.9 dev v0 table 1000 proto 118
			route 10.9.0.0/17 via 10.1.0.9 dev v0 table 1000 proto 118
			route -6 2001:db8:9::/48 dev v0 table 1000 metric 1024 proto 118
			route -6 2001:db8:9::/48 dev v1 table 1000 metric 1025 proto 118
			route -6 2001:db8:9::/48 from 2001:db8::/32 dev v0 table 1000 metric 1024 proto 118`,
	},
	{
		name: "replace makes a foreign route ours, and makes what is not there",
		steps: `
			+ route 10.9.0.0/16 dev v1 table 1000 proto 99 scope link
			~ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118
			~ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 5 proto 118
			+ route -6 unreachable 2001:db8:9::/48 table 1000 metric 1024 proto 99
			~ route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 proto 118
			~ route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 5 proto 118`,
		want: `
			route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118
			route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 5 proto 118
			route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 1024 proto 118
			route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 5 proto 118`,
	},
	{
		name: "a delete must match all that it says",
		steps: `
			+ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 7 proto 118 mtu 1400
			ESRCH - route 10.9.0.0/16 via 10.1.0.8 dev v0 table 1000 metric 7 proto 118 mtu 1400
			ESRCH - route 10.9.0.0/16 via 10.1.0.9 dev v1 table 1000 metric 7 proto 118 mtu 1400
			ESRCH - route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 8 proto 118 mtu 1400
			ESRCH - route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 7 proto 99 mtu 1400
			ESRCH - route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 7 proto 118 mtu 1300
			ESRCH - route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1001 metric 7 proto 118 mtu 1400
			ESRCH - route 10.9.0.0/17 via 10.1.0.9 dev v0 table 1000 metric 7 proto 118 mtu 1400
			ESRCH - route 10.9.0.0/16 dev v0 table 1000 metric 7 proto 118 scope link
			ESRCH - route unreachable 10.9.0.0/16 table 1000 metric 7 proto 118
			+ route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 7 proto 118
			ESRCH - route -6 2001:db8:9::/48 via 2001:db8:1::8 dev v0 table 1000 metric 7 proto 118
			ESRCH - route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v1 table 1000 metric 7 proto 118
			ESRCH - route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 8 proto 118
			ESRCH - route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 7 proto 99
			ESRCH - route -6 2001:db8:9::/48 from 2001:db8::/32 via 2001:db8:1::9 dev v0 table 1000 metric 8 proto 118
			ESRCH - route -6 2001:db8:9::/47 via 2001:db8:1::9 dev v0 table 1000 metric 7 proto 118`,
		want: `
			route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 7 proto 118 mtu 1400
			route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 7 proto 118`,
	},
	{
		// fib6_locate stays at the destination's node where that has no subtree.
		name: "an IPv6 delete by source takes the route from anywhere where no route has a source",
		steps: `
			+ route -6 2001:db8:9::/48 dev v0 table 1000 metric 1024 proto 118
			+ route -6 2001:db8:9::/48 from 2001:db8:8::/48 dev v0 table 1000 metric 1024 proto 118
			ESRCH - route -6 2001:db8:9::/48 from 2001:db8:7::/48 dev v0 table 1000 metric 1024 proto 118
			- route -6 2001:db8:9::/48 from 2001:db8:8::/48 dev v0 table 1000 metric 1024 proto 118
			- route -6 2001:db8:9::/48 from 2001:db8:8::/48 dev v0 table 1000 metric 1024 proto 118`,
	},
	{
		name: "what a delete leaves out matches everything",
		steps: `
			+ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 metric 7 proto 118 mtu 1400
			- route 10.9.0.0/16 via 10.1.0.9 table 1000
			+ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118 realms 3/4
			ESRCH - route 10.9.0.0/16 via 10.1.0.9 table 1000 realms 3/5
			- route 10.9.0.0/16 via 10.1.0.9 table 1000 realms 3/4
			+ route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118
			ESRCH - route 10.9.0.0/16 dev v0 table 1000 realms 3/4
			- route 10.9.0.0/16 table 1000 realms 3/4
			+ route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 1024 proto 118 mtu 1400
			- route -6 2001:db8:9::/48 dev v0 table 1000 metric 1024`,
	},
	{
		name: "IPv4 needs a gateway that is on a link",
		steps: `
			ENETUNREACH + route 10.9.0.0/16 via 10.99.0.9 table 1000 proto 118
			ENETUNREACH + route 10.9.0.0/16 via 10.1.0.9 dev v1 table 1000 proto 118
			ENETUNREACH + route 10.9.0.0/16 via 10.3.0.9 table 1000 proto 118
			ENETUNREACH + route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118 scope link
			EINVAL + route 10.9.0.0/16 via 10.1.0.255 dev v0 table 1000 proto 118
			EINVAL + route 10.9.0.0/16 via 10.1.0.1 dev v0 onlink table 1000 proto 118
			EINVAL + route 10.9.0.0/16 dev v0 onlink table 1000 proto 118 scope link
			ENODEV + route 10.9.0.0/16 via 10.1.0.9 onlink table 1000 proto 118
			ENETDOWN + route 10.9.0.0/16 dev v2 table 1000 proto 118 scope link
			ENETDOWN + route 10.9.0.0/16 via 10.3.0.9 dev v2 onlink table 1000 proto 118
			ENODEV + route 10.9.0.0/16 dev nolink table 1000 proto 118 scope link
			ENODEV + route 10.9.0.0/16 table 1000 proto 118
			EHOSTUNREACH + route 10.9.0.0/16 via inet6 2001:db8:99::9 dev v0 table 1000 proto 118
			EINVAL + route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118 src 10.77.0.1
			EINVAL + route 10.9.0.1/16 via 10.1.0.9 dev v0 table 1000 proto 118
			EINVAL + route blackhole 10.9.0.0/16 dev v0 table 1000 proto 118
			EINVAL + route local 10.9.0.0/16 dev lo table 1000 proto 118`,
	},
	{
		name: "IPv4 gateways behind a host route of the same table",
		steps: `
			+ route 10.8.0.1 dev v0 table 1000 proto 118 scope link
			+ route 10.9.0.0/16 via 10.8.0.1 dev v0 table 1000 proto 118
			ENETUNREACH + route 10.9.0.0/16 via 10.8.0.1 dev v0 table 1001 proto 118`,
		want: `
			route 10.8.0.1 dev v0 table 1000 proto 118 scope link
			route 10.9.0.0/16 via 10.8.0.1 dev v0 table 1000 proto 118`,
	},
	{
		name: "a gateway is looked for in the route's own table first",
		steps: `
			+ route 10.1.0.0/16 dev v1 table 1000 proto 118 scope link
			+ route 10.8.0.0/16 via 10.1.0.9 table 1000 proto 118
			+ route 10.8.0.0/16 via 10.1.0.9 table 1001 proto 118
			+ route 10.8.0.0/17 via 10.1.0.9 dev v0 table 1000 proto 118
			+ route unreachable 10.1.0.8/31 table 1000 proto 118
			+ route 10.9.0.0/16 via 10.1.0.9 table 1000 proto 118
			+ route local 10.1.0.6 dev lo table 1000 proto 118 scope host
			+ route 10.10.0.0/16 via 10.1.0.6 table 1000 proto 118
			+ route -6 2001:db8:1::/48 dev v1 table 1000 metric 1024 proto 118
			+ route -6 2001:db8:8::/48 via 2001:db8:1::9 table 1000 metric 1024 proto 118
			+ route -6 2001:db8:8::/48 via 2001:db8:1::9 table 1001 metric 1024 proto 118
			+ route -6 2001:db8:8::/49 via 2001:db8:1::9 dev v0 table 1000 metric 1024 proto 118
			+ route -6 unreachable 2001:db8:1::8/126 table 1000 metric 1024 proto 118
			+ route -6 2001:db8:9::/48 via 2001:db8:1::9 table 1000 metric 1024 proto 118
			+ route -6 2001:db8:1::6 via fe80::9 dev v1 table 1000 metric 1024 proto 118
			+ route -6 2001:db8:9::/49 via 2001:db8:1::6 table 1000 metric 1024 proto 118
			+ route -6 local 2001:db8:1::7 from 2001:db8:8::/48 dev lo table 1000 metric 1024 proto 118
			+ route -6 2001:db8:9::/50 via 2001:db8:1::7 table 1000 metric 1024 proto 118
			+ route 10.1.0.7 tos 0x10 dev v0 table 1000 proto 118 scope link
			+ route 10.11.0.0/16 via 10.1.0.7 table 1000 proto 118
			+ route 10.7.0.0/16 dev v1 table 1000 metric 5 proto 118 scope link
			+ route 10.7.0.0/16 dev v0 table 1000 metric 4 proto 118 scope link
			+ route 10.12.0.0/16 via 10.7.0.9 table 1000 proto 118
			+ route -6 2001:db8:7::/48 dev v1 table 1000 metric 5 proto 118
			+ route -6 2001:db8:7::/48 dev v0 table 1000 metric 4 proto 118
			+ route -6 2001:db8:12::/48 via 2001:db8:7::9 table 1000 metric 1024 proto 118
			+ route -6 local 2001:db8:1::5 dev lo table 1000 metric 1024 proto 118
			EINVAL + route -6 2001:db8:10::/48 via 2001:db8:1::5 table 1000 metric 1024 proto 118
			EINVAL + route -6 2001:db8:10::/48 via 2001:db8:1::9 dev lo onlink table 1000 metric 1024 proto 118`,
		want: `
			route 10.1.0.0/16 dev v1 table 1000 proto 118 scope link
			route local 10.1.0.6 dev lo table 1000 proto 118 scope host
			route 10.1.0.7 tos 0x10 dev v0 table 1000 proto 118 scope link
			route unreachable 10.1.0.8/31 table 1000 proto 118
			route 10.7.0.0/16 dev v0 table 1000 metric 4 proto 118 scope link
			route 10.7.0.0/16 dev v1 table 1000 metric 5 proto 118 scope link
			route 10.8.0.0/16 via 10.1.0.9 dev v1 table 1000 proto 118
			route 10.8.0.0/17 via 10.1.0.9 dev v0 table 1000 proto 118
			route 10.9.0.0/16 via 10.1.0.9 dev v1 table 1000 proto 118
			route 10.10.0.0/16 via 10.1.0.6 dev lo table 1000 proto 118
			route 10.11.0.0/16 via 10.1.0.7 dev v1 table 1000 proto 118
			route 10.12.0.0/16 via 10.7.0.9 dev v0 table 1000 proto 118
			route 10.8.0.0/16 via 10.1.0.9 dev v0 table 1001 proto 118
			route -6 2001:db8:1::/48 dev v1 table 1000 metric 1024 proto 118
			route -6 local 2001:db8:1::5 dev lo table 1000 metric 1024 proto 118
			route -6 2001:db8:1::6 via fe80::9 dev v1 table 1000 metric 1024 proto 118
			route -6 local 2001:db8:1::7 from 2001:db8:8::/48 dev lo table 1000 metric 1024 proto 118
			route -6 unreachable 2001:db8:1::8/126 table 1000 metric 1024 proto 118
			route -6 2001:db8:7::/48 dev v0 table 1000 metric 4 proto 118
			route -6 2001:db8:7::/48 dev v1 table 1000 metric 5 proto 118
			route -6 2001:db8:8::/48 via 2001:db8:1::9 dev v1 table 1000 metric 1024 proto 118
			route -6 2001:db8:8::/49 via 2001:db8:1::9 dev v0 table 1000 metric 1024 proto 118
			route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 metric 1024 proto 118
			route -6 2001:db8:9::/49 via 2001:db8:1::6 dev v0 table 1000 metric 1024 proto 118
			route -6 2001:db8:9::/50 via 2001:db8:1::7 dev v1 table 1000 metric 1024 proto 118
			route -6 2001:db8:12::/48 via 2001:db8:7::9 dev v0 table 1000 metric 1024 proto 118
			route -6 2001:db8:8::/48 via 2001:db8:1::9 dev v0 table 1001 metric 1024 proto 118`,
	},
	{
		name: "IPv6 needs a gateway that is on a link",
		steps: `
			EHOSTUNREACH + route -6 2001:db8:9::/48 via 2001:db8:99::9 table 1000 proto 118
			EHOSTUNREACH + route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v1 table 1000 proto 118
			EINVAL + route -6 2001:db8:9::/48 via 2001:db8:1::1 dev v0 table 1000 proto 118
			EINVAL + route -6 2001:db8:9::/48 via 2001:db8:1::1 dev v0 onlink table 1000 proto 118
			EINVAL + route -6 2001:db8:9::/48 via fe80::9 table 1000 proto 118
			ENODEV + route -6 2001:db8:9::/48 via 2001:db8:99::9 onlink table 1000 proto 118
			ENETDOWN + route -6 2001:db8:9::/48 dev v2 table 1000 proto 118
			ENODEV + route -6 2001:db8:9::/48 dev nolink table 1000 proto 118
			ENODEV + route -6 2001:db8:9::/48 table 1000 proto 118
			EINVAL + route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 table 1000 proto 118 src 2001:db8:77::1
			EINVAL + route -6 2001:db8:9::/48 nexthop dev v0 weight 1 nexthop via fe80::9 dev v1 weight 1 table 1000 metric 1024 proto 118`,
	},
}
