package kerneltest

import "testing"

func (o Options) nexthops(t *testing.T) {
	t.Run("scripts", func(t *testing.T) { o.runScripts(t, nexthopScripts) })
}

const fourNexthops = `
	+ nexthop 1 via 10.1.0.9 dev v0 proto 118
	+ nexthop 2 dev v1 proto 118
	+ nexthop -6 3 via 2001:db8:1::9 dev v0 proto 118
	+ nexthop -6 4 via fe80::9 dev v1 proto 118`

var nexthopScripts = []script{
	{
		name: "every kind",
		steps: fourNexthops + `
			+ nexthop 5 blackhole proto 118
			+ nexthop 6 group 1/2,5 proto 118
			EEXIST + nexthop 1 dev v0 proto 118
			~ nexthop 1 via 10.2.0.9 dev v1 proto 118`,
		want: `
			nexthop 1 via 10.2.0.9 dev v1 scope link proto 118
			nexthop 2 dev v1 scope host proto 118
			nexthop -6 3 via 2001:db8:1::9 dev v0 scope link proto 118
			nexthop -6 4 via fe80::9 dev v1 scope link proto 118
			nexthop 5 blackhole proto 118
			nexthop 6 group 1/2,5 proto 118`,
	},
	{
		name: "routes by an object repeat it",
		steps: fourNexthops + `
			+ nexthop 6 group 1/2,5 proto 118
			+ nexthop 7 group 3,2/4,3 proto 118
			+ route 10.9.0.0/16 nhid 1 table 1000 proto 118
			+ route 10.10.0.0/16 nhid 6 table 1000 metric 5 proto 118
			+ route 10.11.0.0/16 nhid 3 table 1000 proto 118
			+ route -6 2001:db8:9::/48 nhid 3 table 1000 metric 1024 proto 118
			+ route -6 2001:db8:10::/48 nhid 7 table 1000 metric 5 proto 118
			EINVAL + route 10.12.0.0/16 nhid 77 table 1000 proto 118
			EINVAL + route -6 2001:db8:12::/48 nhid 1 table 1000 proto 118
			EEXIST + route 10.9.0.0/16 nhid 6 table 1000 proto 118
			~ route 10.11.0.0/16 nhid 1 table 1000 proto 118`,
		want: `
			route 10.9.0.0/16 via 10.1.0.9 dev v0 nhid 1 table 1000 proto 118
			route 10.10.0.0/16 nexthop via 10.1.0.9 dev v0 weight 1 nexthop dev v1 weight 5 nhid 6 table 1000 metric 5 proto 118
			route 10.11.0.0/16 via 10.1.0.9 dev v0 nhid 1 table 1000 proto 118
			route -6 2001:db8:9::/48 via 2001:db8:1::9 dev v0 nhid 3 table 1000 metric 1024 proto 118
			route -6 2001:db8:10::/48 nexthop via 2001:db8:1::9 dev v0 weight 2 nexthop via fe80::9 dev v1 weight 3 nhid 7 table 1000 metric 5 proto 118
			nexthop 1 via 10.1.0.9 dev v0 scope link proto 118
			nexthop 2 dev v1 scope host proto 118
			nexthop -6 3 via 2001:db8:1::9 dev v0 scope link proto 118
			nexthop -6 4 via fe80::9 dev v1 scope link proto 118
			nexthop 6 group 1/2,5 proto 118
			nexthop 7 group 3,2/4,3 proto 118`,
	},
	{
		name: "deleting an object takes its routes, foreign ones too, and its places in groups",
		steps: fourNexthops + `
			+ nexthop 6 group 1/2,5 proto 118
			+ nexthop 8 group 1 proto 118
			+ route 10.9.0.0/16 nhid 1 table 1000 proto 99
			+ route 10.10.0.0/16 nhid 6 table 1000 proto 99
			+ route 10.11.0.0/16 nhid 8 table 1000 proto 99
			+ route -6 2001:db8:9::/48 nhid 3 table 1000 metric 1024 proto 99
			- nexthop 1
			- nexthop 3
			ENOENT - nexthop 3`,
		want: `
			route 10.10.0.0/16 dev v1 nhid 6 table 1000 proto 99
			nexthop 2 dev v1 scope host proto 118
			nexthop -6 4 via fe80::9 dev v1 scope link proto 118
			nexthop 6 group 2,5 proto 118`,
	},
	{
		name: "a route by an object goes by that name only",
		steps: fourNexthops + `
			+ nexthop 5 blackhole proto 118
			+ route 10.9.0.0/16 nhid 1 table 1000 proto 118
			+ route 10.10.0.0/16 nhid 5 table 1000 proto 118
			ESRCH - route 10.9.0.0/16 nhid 2 table 1000 proto 118
			ESRCH - route 10.9.0.0/16 via 10.1.0.9 dev v0 table 1000 proto 118
			- route 10.9.0.0/16 via 10.1.0.9 dev v0 nhid 1 table 1000 proto 118
			- route blackhole 10.10.0.0/16 nhid 5 table 1000 proto 118
			+ route -6 2001:db8:9::/48 nhid 3 table 1000 metric 1024 proto 118
			ESRCH - route -6 2001:db8:9::/48 nhid 4 table 1000 metric 1024 proto 118
			- route -6 2001:db8:9::/48 nhid 3 table 1000 metric 1024 proto 118
			- nexthop 1
			- nexthop 2
			- nexthop 3
			- nexthop 4
			- nexthop 5`,
	},
	{
		name: "an object that is replaced must suit its routes, and those of its groups",
		steps: fourNexthops + `
			+ nexthop 5 group 3 proto 118
			+ nexthop 6 group 1/2 proto 118
			+ route -6 2001:db8:9::/48 nhid 5 table 1000 metric 1024 proto 118
			+ route -6 2001:db8:10::/48 nhid 4 table 1000 metric 1024 proto 118
			EINVAL ~ nexthop 5 group 1/3 proto 118
			EINVAL ~ nexthop 3 via 10.1.0.9 dev v0 proto 118
			EINVAL ~ nexthop 4 blackhole proto 118
			EINVAL ~ nexthop 2 blackhole proto 118
			+ route 10.9.0.0/16 nhid 2 table 1000 proto 118 scope host
			EINVAL ~ nexthop 2 via 10.2.0.9 dev v1 proto 118
			EINVAL ~ nexthop 2 via 10.2.0.9 dev v1 onlink proto 118
			~ nexthop 5 group 3/4 proto 99
			~ nexthop -6 3 via fe80::9 dev v0 proto 118
			- nexthop 2
			~ nexthop 1 blackhole proto 118`,
		want: `
			route -6 2001:db8:9::/48 nexthop via fe80::9 dev v0 weight 1 nexthop via fe80::9 dev v1 weight 1 nhid 5 table 1000 metric 1024 proto 118
			route -6 2001:db8:10::/48 via fe80::9 dev v1 nhid 4 table 1000 metric 1024 proto 118
			nexthop 1 blackhole proto 118
			nexthop -6 3 via fe80::9 dev v0 scope link proto 118
			nexthop -6 4 via fe80::9 dev v1 scope link proto 118
			nexthop 5 group 3/4 proto 118
			nexthop 6 group 1 proto 118`,
	},
	{
		name: "what a kernel refuses",
		steps: fourNexthops + `
			EINVAL + nexthop 5 via 10.1.0.9 proto 118
			ENETUNREACH + nexthop 5 via 10.1.0.9 dev v1 proto 118
			ENETDOWN + nexthop 5 dev v2 proto 118
			ENODEV + nexthop 5 dev nolink proto 118
			EHOSTUNREACH + nexthop -6 5 via 2001:db8:99::9 dev v0 proto 118
			EINVAL + nexthop 5 group 1/9 proto 118
			EINVAL + nexthop 0 dev v0 proto 118
			- nexthop 1
			- nexthop 2
			- nexthop 3
			- nexthop 4`,
	},
}
