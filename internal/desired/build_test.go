package desired_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

func sortRules(rules []netstate.Rule) {
	slices.SortStableFunc(rules, func(a, b netstate.Rule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
	})
}

func TestBuildRoutes(t *testing.T) {
	runBuildCases(t, []buildCase{{
		name: "the example of the design",
		objs: `p:
  tables:
  - {name: custom, id: 200, routes: [{to: 192.168.10.0/24, dev: eth1}, {to: 192.168.20.0/24, via: 198.51.100.23, dev: eth0}, {to: default, via: 198.51.100.23}]}
  rules:
  - {from: [10.10.10.10], table: custom}
  - {to: [12.12.12.12], priority: 300, table: main}`,
		want: `
			rule 300 from all to 12.12.12.12 table 254 proto 118
			rule 2210 from 10.10.10.10 table 200 proto 118
			route default via 198.51.100.23 dev eth0 table 200 proto 118
			route 192.168.10.0/24 dev eth1 table 200 proto 118 scope link
			route 192.168.20.0/24 via 198.51.100.23 dev eth0 table 200 proto 118`,
	}, {
		name: "the same in IPv6, whose routes have the metric 1024 and no scope",
		objs: `p:
  tables:
  - {name: custom, id: 200, routes: [{to: "2001:db8:a::/48", dev: eth1}, {to: default, via: "2001:db8:1::1"}, {to: "2001:db8:b::/48", via: "fe80::1", dev: eth1, metric: 7}]}
  rules:
  - {from: ["2001:db8:10::10"], table: custom}
  - {to: ["2001:db8:12::/48"], priority: 300, table: main}`,
		want: `
			rule -6 300 from all to 2001:db8:12::/48 table 254 proto 118
			rule -6 2210 from 2001:db8:10::10 table 200 proto 118
			route -6 default via 2001:db8:1::1 dev eth1 table 200 metric 1024 proto 118
			route -6 2001:db8:a::/48 dev eth1 table 200 metric 1024 proto 118
			route -6 2001:db8:b::/48 via fe80::1 dev eth1 table 200 metric 7 proto 118`,
	}, {
		name: "types, attributes and other names of links",
		objs: `p:
  tables:
  - name: main
    routes:
    - {to: 10.1.0.0/16, type: Blackhole}
    - {to: 10.2.0.0/16, type: Unreachable, metric: 9}
    - {to: 10.3.0.0/16, type: Local, dev: lo}
    - {to: 10.4.0.0/16, via: 192.0.2.1, dev: uplink2, mtu: 1400, advmss: 1360, src: 198.51.100.7}
    - {to: 10.5.0.0/16, via: 192.0.2.1, src: 10.3.0.9}
    - {to: 10.6.0.0/16, nexthops: [{via: 192.0.2.1}, {via: 198.51.100.1, weight: 3}]}
    - {to: 10.7.0.0/16, nexthops: [{via: 192.0.2.1, dev: eth1}]}
    - {to: 10.8.0.0/16, via: "2001:db8:1::1"}
    - {to: 10.9.0.0/16, via: 203.0.113.1, dev: eth0, onlink: true}
    - {to: 10.10.0.0/16, dev: eth1, scope: Global}
    - {to: "2001:db8:ff::/48", type: Prohibit}`,
		want: `
			route blackhole 10.1.0.0/16 table 254 proto 118
			route unreachable 10.2.0.0/16 table 254 metric 9 proto 118
			route local 10.3.0.0/16 dev lo table 254 proto 118 scope host
			route 10.4.0.0/16 via 192.0.2.1 dev eth1 table 254 proto 118 src 198.51.100.7 mtu 1400 advmss 1360
			route 10.5.0.0/16 via 192.0.2.1 dev eth1 table 254 proto 118 src 10.3.0.9
			route 10.6.0.0/16 nexthop via 192.0.2.1 dev eth1 weight 1 nexthop via 198.51.100.1 dev eth0 weight 3 table 254 proto 118
			route 10.7.0.0/16 via 192.0.2.1 dev eth1 table 254 proto 118
			route 10.8.0.0/16 via inet6 2001:db8:1::1 dev eth1 table 254 proto 118
			route 10.9.0.0/16 via 203.0.113.1 dev eth0 onlink table 254 proto 118
			route 10.10.0.0/16 dev eth1 table 254 proto 118
			route -6 prohibit 2001:db8:ff::/48 table 254 metric 1024 proto 118`,
	}, {
		name: "a gateway by a wanted route to the link, in the same table or in main",
		objs: `p:
  tables:
  - {name: main, routes: [{to: 203.0.113.1/32, dev: eth1}, {to: "2001:db8:5::1/128", dev: eth0}]}
  - {name: t, id: 7, routes: [{to: 203.0.113.2/32, dev: eth0}, {to: 10.1.0.0/16, via: 203.0.113.1, dev: eth1}, {to: 10.2.0.0/16, via: 203.0.113.2}, {to: "2001:db8:6::/48", via: "2001:db8:5::1"}]}
  - {name: u, id: 8, routes: [{to: 10.2.0.0/16, via: 203.0.113.2, dev: eth0}]}`,
		want: `
			route 10.1.0.0/16 via 203.0.113.1 dev eth1 table 7 proto 118
			route 10.2.0.0/16 via 203.0.113.2 dev eth0 table 7 proto 118
			route 203.0.113.2 dev eth0 table 7 proto 118 scope link
			route 203.0.113.1 dev eth1 table 254 proto 118 scope link
			route -6 2001:db8:6::/48 via 2001:db8:5::1 dev eth0 table 7 metric 1024 proto 118
			route -6 2001:db8:5::1 dev eth0 table 254 metric 1024 proto 118`,
		problems: `p.yaml:5: spec.tables[2].routes[0].via: 203.0.113.2 is not on a subnet of eth0 (198.51.100.7/24); set onlink: true, or use a gateway in 198.51.100.0/24`,
	}, {
		name: "a foreign route to the link makes a gateway reachable, one of ours that goes does not",
		have: `
			route 203.0.113.1/32 dev eth1 table main proto static scope link
			route 203.0.113.2/32 dev eth1 table main proto 118 scope link`,
		objs: `p:
  tables:
  - {name: t, id: 7, routes: [{to: 10.1.0.0/16, via: 203.0.113.1}, {to: 10.2.0.0/16, via: 203.0.113.2, dev: eth1}]}`,
		want:     `route 10.1.0.0/16 via 203.0.113.1 dev eth1 table 7 proto 118`,
		problems: `p.yaml:3: spec.tables[0].routes[1].via: 203.0.113.2 is not on a subnet of eth1 (192.0.2.7/24); set onlink: true, or use a gateway in 192.0.2.0/24`,
	}, {
		name: "what the host cannot hold",
		objs: `p:
  tables:
  - name: t
    id: 7
    routes:
    - {to: 10.1.0.0/16, via: 10.0.0.1, dev: eth1}
    - {to: 10.2.0.0/16, via: 10.0.0.1}
    - {to: 10.3.0.0/16, dev: eth9}
    - {to: 10.4.0.0/16, dev: eth2}
    - {to: 10.5.0.0/16, via: 192.0.2.7}
    - {to: 10.6.0.0/16, via: 192.0.2.1, src: 192.0.2.8}
    - {to: 10.7.0.0/16, nexthops: [{via: 192.0.2.1}, {via: 10.0.0.2, dev: eth0}]}
    - {to: "2001:db8:a::/48", via: "2001:db8:2::1", dev: eth0}
    - {to: "2001:db8:b::/48", via: "2001:db8:1::7"}
    - {to: "2001:db8:c::/48", via: "2001:db8:1::1", src: "2001:db8:1::8"}
    - {to: 10.8.0.0/16, via: 198.51.100.7, dev: eth1, onlink: true}`,
		problems: `
			p.yaml:6: spec.tables[0].routes[0].via: 10.0.0.1 is not on a subnet of eth1 (192.0.2.7/24); set onlink: true, or use a gateway in 192.0.2.0/24
			p.yaml:7: spec.tables[0].routes[1].via: 10.0.0.1 is on no subnet of this namespace (lo 127.0.0.1/8, eth0 198.51.100.7/24, eth1 192.0.2.7/24); name the link with dev and set onlink: true, or use a gateway in 198.51.100.0/24, 192.0.2.0/24
			p.yaml:8: spec.tables[0].routes[2].dev: no link named eth9 in this namespace; there are lo, eth0, eth1, eth2
			p.yaml:9: spec.tables[0].routes[3].dev: eth2 is down, and the kernel takes no routes through it; set it up first (ip link set eth2 up)
			p.yaml:10: spec.tables[0].routes[4].via: 192.0.2.7 is an address of this host; use the gateway's address
			p.yaml:11: spec.tables[0].routes[5].src: 192.0.2.8 is not an address of this host (lo 127.0.0.1/8, eth0 198.51.100.7/24, eth1 192.0.2.7/24); use one of its addresses, or leave src out
			p.yaml:12: spec.tables[0].routes[6].nexthops[1].via: 10.0.0.2 is not on a subnet of eth0 (198.51.100.7/24); set onlink: true, or use a gateway in 198.51.100.0/24
			p.yaml:13: spec.tables[0].routes[7].via: 2001:db8:2::1 is not on a subnet of eth0, which has no IPv6 address; set onlink: true
			p.yaml:14: spec.tables[0].routes[8].via: 2001:db8:1::7 is an address of this host; use the gateway's address
			p.yaml:15: spec.tables[0].routes[9].src: 2001:db8:1::8 is not an address of this host (lo ::1/128, eth1 2001:db8:1::7/64); use one of its addresses, or leave src out
			p.yaml:16: spec.tables[0].routes[10].via: 198.51.100.7 is an address of this host; use the gateway's address`,
	}, {
		name: "a route that stands was taken by the kernel, whatever became of the addresses",
		have: `
			route 10.1.0.0/16 via 10.0.0.1 dev eth1 table 7 proto 118
			route 10.2.0.0/16 via 192.0.2.1 dev eth1 table 7 proto 118 src 192.0.2.8
			route 10.3.0.0/16 via 10.0.0.1 dev eth0 table 7 proto 118
			route 10.4.0.0/16 via 10.0.0.1 dev eth1 table 7 proto static`,
		objs: `p:
  tables:
  - {name: t, id: 7, routes: [{to: 10.1.0.0/16, via: 10.0.0.1, dev: eth1}, {to: 10.2.0.0/16, via: 192.0.2.1, src: 192.0.2.8}, {to: 10.3.0.0/16, via: 10.0.0.1}, {to: 10.4.0.0/16, via: 10.0.0.1}]}`,
		want: `
			route 10.1.0.0/16 via 10.0.0.1 dev eth1 table 7 proto 118
			route 10.2.0.0/16 via 192.0.2.1 dev eth1 table 7 proto 118 src 192.0.2.8
			route 10.3.0.0/16 via 10.0.0.1 dev eth0 table 7 proto 118
			route 10.4.0.0/16 via 10.0.0.1 dev eth1 table 7 proto 118`,
	}, {
		name: "the same route in two objects is one route, two that differ are a conflict",
		objs: `a:
  tables:
  - {name: t, id: 7, routes: [{to: 10.1.0.0/16, dev: eth1}, {to: default, via: 192.0.2.1}, {to: "::/0", dev: eth1, metric: 1024}]}
---
b:
  tables:
  - {name: t, routes: [{to: 10.1.0.0/16, dev: eth1}, {to: default, via: 192.0.2.2}, {to: "::/0", dev: eth0}]}`,
		want: `
			route default via 192.0.2.1 dev eth1 table 7 proto 118
			route 10.1.0.0/16 dev eth1 table 7 proto 118 scope link
			route -6 default dev eth1 table 7 metric 1024 proto 118`,
		problems: `
			b.yaml:3: spec.tables[0].routes[1].to: table t has another route to default with the same metric, in RoutingPolicy/a, a.yaml:3; give one of them another metric
			b.yaml:3: spec.tables[0].routes[2].to: table t has another route to default with the same metric, in RoutingPolicy/a, a.yaml:3; give one of them another metric`,
	}})
}

// TestBuildRoutesAreCanonical: every wanted route is what the kernel would give
// back, so that a second apply finds nothing to do.
func TestBuildRoutesAreCanonical(t *testing.T) {
	w, _ := build(t, objects(t, `p:
  tables:
  - name: t
    routes:
    - {to: 10.1.0.0/16, dev: eth1}
    - {to: 10.2.0.0/16, type: Throw}
    - {to: 10.3.0.0/16, type: Local, dev: lo}
    - {to: 10.6.0.0/16, nexthops: [{via: 192.0.2.1}, {via: 198.51.100.1, weight: 3}]}
    - {to: 10.7.0.0/16, nexthops: [{dev: eth1}, {dev: eth0}]}
    - {to: "2001:db8:ff::/48", type: Prohibit}
    - {to: "2001:db8:fe::/48", type: Local, dev: lo}
    - {to: "2001:db8:fd::/48", nexthops: [{via: "2001:db8:1::1"}, {dev: eth0, weight: 2}]}`), kernelFacts(t, ""))
	if len(w.Routes) != 8 {
		t.Fatalf("%d routes", len(w.Routes))
	}
	for i := range w.Routes {
		r := &w.Routes[i].Route
		if c := netstate.CanonicalRoute(*r); !c.Equal(r) {
			t.Errorf("%s\nis not canonical: %s", r, c)
		}
	}
}

func TestBuildRoutesAreSortedAtAnySize(t *testing.T) {
	for _, n := range []int{300, 5000} {
		o := manyRoutes(n, true)
		// Two tables, both families and several lengths and metrics.
		six := manyRoutes(n/2, true).Policy.Tables[0]
		six.Name = "six"
		for i := range six.Routes {
			r := &six.Routes[i]
			a := r.To.Addr().As4()
			b := [16]byte{0x20, 1, 0xd, 0xb8, 15: a[3], 7: a[2]}
			r.To = prefixOf(b[:], 128-i%3)
			r.Via, r.Metric = addrOf("2001:db8:1::1"), uint32(i%7)
		}
		o.Policy.Tables = append(o.Policy.Tables, six)
		w, ps := desired.Build([]spec.Object{o}, kernelFacts(t, ""))
		sorted := make([]netstate.Route, len(w.Routes))
		for i := range w.Routes {
			sorted[i] = w.Routes[i].Route
		}
		netstate.SortRoutes(sorted)
		for i := range sorted {
			if !sorted[i].Equal(&w.Routes[i].Route) {
				t.Fatalf("%d: %s where %s belongs", i, w.Routes[i].Route, sorted[i])
			}
		}
		if len(w.Routes)+len(ps) < n || len(w.Routes) < n {
			t.Errorf("%d routes of %d", len(w.Routes), n)
		}
	}
}

func TestBuildTables(t *testing.T) {
	const route = `routes: [{to: 10.0.0.0/8, dev: eth1}]`
	ids := func(w desired.Want) string {
		var b strings.Builder
		for _, x := range w.Tables {
			fmt.Fprintf(&b, "%s %s %d\n", x.Origin.Object.Name, x.Name, x.ID)
		}
		return b.String()
	}
	for _, c := range []struct {
		name, objs, have string
		names            map[string]uint32
		own              map[string]bool
		used             map[uint32]bool
		attached         map[uint32]string
		want, problems   string
	}{{
		name: "free numbers in the order of the objects' names, clear of all that is taken",
		objs: "b:\n  tables: [{name: x}, {name: v, id: 5003}]\n  rules: [{from: [10.0.0.1], table: 5004}]\n---\na:\n  tables: [{name: z}, {name: w}]",
		have: `
			rule 900 from 10.9.0.0/16 table 5001 proto static
			route -6 default dev eth1 table 5002 proto 118 metric 1024
			link 9 red kind vrf mtu 1500 vrftable 5005`,
		used:     map[uint32]bool{5000: true, 5006: false},
		names:    map[string]uint32{"somebody": 5006},
		want:     "a z 5007\na w 5008\nb x 5009\nb v 5003",
		problems: "b.yaml:3: warning: spec.rules[0].table: table 5004 has no IPv4 routes, neither on this host nor in the objects, so packets go on to the next rule; give the table routes, or leave the rule out",
	}, {
		name:  "a name keeps the number that it has",
		objs:  "a:\n  tables: [{name: b}, {name: c}, {name: main}]",
		names: map[string]uint32{"b": 5017, "c": 42}, own: map[string]bool{"b": true},
		want: "a b 5017\na c 42\na main 254",
	}, {
		name:  "rt_tables says another number, or another name",
		objs:  "a:\n  tables: [{name: b, id: 200}, {name: c, id: 300}, {name: d, id: 254}]",
		names: map[string]uint32{"b": 100, "e": 300},
		problems: `
			a.yaml:2: spec.tables[0].id: table b has the number 100 on this host (rt_tables), not 200; leave id out, or use another name
			a.yaml:2: spec.tables[1].id: table 300 has the name e on this host (rt_tables); use the name e, or another id
			a.yaml:2: spec.tables[2].id: table 254 has the name main on this host (rt_tables); use the name main, or another id`,
	}, {
		name:  "an object may change the number of its own name, and the name of its own number",
		objs:  "a:\n  tables: [{name: b, id: 200}, {name: c, id: 300}]",
		names: map[string]uint32{"b": 100, "e": 300}, own: map[string]bool{"b": true, "e": true},
		want: "a b 200\na c 300",
	}, {
		name:  "objects that share a table, and such that do not agree",
		objs:  "a:\n  tables: [{name: t}, {name: u, id: 8}]\n---\nb:\n  tables: [{name: t, id: 7}, {name: u, id: 9}]\n---\nc:\n  tables: [{name: v, id: 7}, {name: w}]",
		names: map[string]uint32{"w": 8},
		own:   map[string]bool{"w": true},
		want:  "a t 7\nb t 7\nc w 8",
		problems: `
			a.yaml:2: spec.tables[1].id: table u has the number 8, which is table w of RoutingPolicy/c, c.yaml:2; use one name for the table
			b.yaml:2: spec.tables[1].id: table u has the number 8 in RoutingPolicy/a, a.yaml:2; give both the same id, or one of them another name
			c.yaml:2: spec.tables[0].id: table v has the number 7, which is table t of RoutingPolicy/b, b.yaml:2; use one name for the table`,
	}, {
		name: "neighbours and the kernel keep theirs; who has no routes only gives a name",
		objs: "a:\n  tables:\n  - {name: t, id: 70, " + route + "}\n  - {name: local, " + route + "}\n  - {name: u, id: 71}",
		want: "a u 71",
		problems: `
			a.yaml:3: spec.tables[0].id: table 70 belongs to neighbour, which runs on this host; use another id, or leave it out to get one that is free
			a.yaml:4: spec.tables[1].id: table local is the kernel's own; viarule puts no routes there; use main, or a table of your own`,
	}, {
		name:     "what a CNI plugin fills is its own; who has no routes only gives a name",
		objs:     "a:\n  tables:\n  - {name: t, " + route + "}\n  - {name: u, id: 5001, " + route + "}\n  - {name: v, id: 5000}",
		attached: map[uint32]string{5000: "CNI network sip, interface net1", 5001: "CNI network sip, interface net2"},
		want:     "a t 5002\na v 5000",
		problems: "a.yaml:4: spec.tables[1].id: table 5001 belongs to CNI network sip, interface net2; use another id, or leave it out to get one that is free",
	}} {
		t.Run(c.name, func(t *testing.T) {
			f := kernelFacts(t, c.have)
			f.Names, f.OwnNames, f.Used, f.Attached = c.names, c.own, c.used, c.attached
			f.Neighbours = testNeighbours
			w, ps := build(t, objects(t, c.objs), f)
			if got, want := ids(w), lines(c.want); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if got, want := problemText(ps), lines(c.problems); got != want {
				t.Errorf("problems: got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestBuildTablePoolIsFull(t *testing.T) {
	used := map[uint32]bool{}
	for i := uint32(5000); i < 5999; i++ {
		used[i] = true
	}
	f := kernelFacts(t, "")
	f.Used = used
	w, ps := build(t, objects(t, "a:\n  tables: [{name: b}, {name: c, routes: [{to: 10.0.0.0/8, dev: eth1}]}]"), f)
	if len(w.Tables) != 1 || w.Tables[0].ID != 5999 || len(w.Routes) != 0 {
		t.Errorf("tables %v, %d routes", w.Tables, len(w.Routes))
	}
	if got, want := problemText(ps), "a.yaml:2: spec.tables[1].id: no number is left for table c: all of 5000-5999 are taken; give the table an id\n"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
}
