package owner

import "github.com/viarule/viarule/internal/netstate"

// Neighbour is another program that manages rules, routes or marks on hosts
// where viarule runs, with the numbers that it takes for itself.
type Neighbour struct {
	Name       string
	Priorities []Band
	Tables     []Band
	Marks      uint32 // the bits of packet marks that it reads or writes
	Protocols  []uint8

	// shapes are what its rules and routes look like. Each alternative is a
	// list of shapes that must all be found for the neighbour to be there.
	// Without alternatives the neighbour cannot be told from others by what it
	// leaves in the kernel's tables.
	shapes [][]shape
	// chains are prefixes of the names of its nftables chains, or of
	// TABLE/CHAIN: any of them tells that it is there.
	chains []string
}

// shape is what a rule or a route of a neighbour looks like. A priority alone
// proves nothing, so a shape names the selectors as well: a rule has exactly
// those.
type shape struct {
	route bool // of a route: only tables and protocols count

	priorities Band
	tables     Band // the zero Band: any, none too
	action     netstate.Action
	selects    selectors
	single     bool          // From and To are single addresses
	mark       netstate.Mark // exact, where Mask is set
	protocol   uint8         // 0: any
}

// selectors is a set of a rule's selectors.
type selectors uint8

const (
	selFrom selectors = 1 << iota
	selTo
	selIIF
	selMark
	selNot
	selSuppress
	selL3MDev
	selOther
)

func at(n uint32) Band { return Band{n, n} }

const (
	lookup      = netstate.ToTable
	unreachable = netstate.Unreachable
	tableMain   = netstate.TableMain
	tableLocal  = netstate.TableLocal
)

// neighbours holds what is known, each with the place in its source that says so.
var neighbours = []Neighbour{
	{
		// aws/amazon-vpc-cni-k8s, pkg/networkutils: VlanRulePriority 10,
		// ToContainerRulePriority 512, the node port rule at 1024 (mark 0x80),
		// FromPodRulePriority 1536. Its tables count from 2 (one for each further
		// interface) and from 101 (branch interfaces).
		Name:       "AWS VPC CNI",
		chains:     []string{"AWS-SNAT-CHAIN", "AWS-CONNMARK-CHAIN"},
		Priorities: []Band{at(10), at(512), {1024, 1025}, at(1536)},
		Tables:     []Band{{2, 16}, {101, 199}},
		Marks:      0x80,
		shapes: [][]shape{
			{{priorities: at(1024), tables: at(tableMain), action: lookup, selects: selMark, mark: netstate.Mark{Value: 0x80, Mask: 0x80}}},
			{
				{priorities: at(512), tables: at(tableMain), action: lookup, selects: selTo, single: true},
				{priorities: at(1536), action: lookup, selects: selFrom, single: true},
			},
		},
	},
	{
		// AliyunContainerService/terway, plugin/datapath/consts_linux.go:
		// toContainerPriority 512, fromContainerPriority 2048; GetRouteTableID is
		// 1000 + link index.
		Name:       "Terway",
		Priorities: []Band{at(512), at(2048)},
		Tables:     []Band{{1001, 1999}},
		shapes: [][]shape{
			{{priorities: at(2048), tables: Band{1001, 1999}, action: lookup, selects: selFrom, single: true}},
			{{priorities: at(2048), tables: Band{1001, 1999}, action: lookup, selects: selFrom | selIIF, single: true}},
		},
	},
	{
		// projectcalico/calico, felix: WireguardRoutingRulePriority 99 with a rule
		// of one mark bit negated, tables from 1 to 250, mark mask 0xffff0000,
		// protocol 80 on its routes (dataplane/linux/dataplanedefs).
		Name:       "Calico",
		chains:     []string{"cali-"},
		Priorities: []Band{at(99)},
		Tables:     []Band{{1, 250}},
		Marks:      0xffff0000,
		Protocols:  []uint8{80},
		shapes: [][]shape{
			{{route: true, protocol: 80}},
			{{priorities: at(99), tables: Band{1, 250}, action: lookup, selects: selMark | selNot}},
		},
	},
	{
		// cilium/cilium, pkg/datapath/linux/linux_defaults: proxy rules at 9 and
		// 10 (marks 0x200 and 0xa00 of 0xf00, tables 2004 and 2005), ingress 20,
		// the local table's rule moved from 0 to 100, node port 109 (mark 0x80),
		// egress 110 and 111, VTEP 112, encryption 1. Everything has protocol 2,
		// the kernel's. The low byte of the mark is the cluster's id.
		Name:       "Cilium",
		chains:     []string{"CILIUM_"},
		Priorities: []Band{at(1), {8, 10}, at(20), at(100), {109, 112}},
		Tables:     []Band{{11, 99}, {200, 202}, {2004, 2005}},
		Marks:      0x0fff,
		shapes: [][]shape{
			{{priorities: at(9), tables: at(2004), action: lookup, selects: selMark}},
			{{priorities: at(10), tables: at(2005), action: lookup, selects: selMark}},
			{{priorities: at(100), tables: at(tableLocal), action: lookup}},
			{{priorities: at(109), tables: at(tableMain), action: lookup, selects: selMark, mark: netstate.Mark{Value: 0x80, Mask: 0x80}}},
			{
				{priorities: at(20), tables: at(tableMain), action: lookup, selects: selTo, single: true, protocol: 2},
				{priorities: Band{110, 111}, action: lookup, selects: selFrom, single: true, protocol: 2},
			},
			{
				{priorities: at(20), tables: at(tableMain), action: lookup, selects: selTo, single: true, protocol: 2},
				{priorities: Band{110, 111}, action: lookup, selects: selFrom | selTo, single: false, protocol: 2},
			},
		},
	},
	{
		// cybozu-go/coil, v2/pkg/constants and founat: rules between 1800 and 2100
		// that lead to its tables 116 to 119, protocol 30.
		Name:       "Coil",
		Priorities: []Band{{1800, 2100}},
		Tables:     []Band{{116, 119}},
		Protocols:  []uint8{30},
		shapes: [][]shape{
			{{priorities: Band{1800, 2100}, tables: Band{116, 119}, action: lookup}},
			{{priorities: Band{1800, 2100}, tables: Band{116, 119}, action: lookup, selects: selTo}},
			{{priorities: Band{1800, 2100}, tables: Band{116, 119}, action: lookup, selects: selMark}},
			{{route: true, tables: Band{116, 119}, protocol: 30}},
		},
	},
	{
		// cloudnativelabs/kube-router, pkg/controllers/proxy: tables 78
		// (kube-router-dsr) and 79 (external_ip) with rules at 32764 and 32765, 77
		// for policy routing; protocol 17 (0x11, "zebra" in its words).
		Name:       "kube-router",
		chains:     []string{"KUBE-ROUTER-"},
		Priorities: []Band{{32764, 32765}},
		Tables:     []Band{{77, 79}},
		Protocols:  []uint8{17},
		shapes: [][]shape{
			{{priorities: Band{32000, 32765}, tables: at(77), action: lookup, selects: selFrom}},
			{{priorities: at(32764), tables: at(78), action: lookup, selects: selMark}},
			{{priorities: at(32765), tables: at(79), action: lookup}},
		},
	},
	{
		// GoogleCloudPlatform/netd, pkg/config/policy_routing_config.go:
		// priorities from 70 (localTableRulePriority) to 76, table 1, mark 0x4000.
		Name:       "netd",
		Priorities: []Band{{70, 76}},
		Tables:     []Band{at(1)},
		Marks:      0x4000,
		shapes: [][]shape{
			{{priorities: Band{71, 76}, action: lookup, selects: selMark, mark: netstate.Mark{Value: 0x4000, Mask: 0x4000}}},
			{{priorities: Band{71, 76}, tables: at(1), action: lookup, selects: selMark | selIIF}},
			{
				{priorities: at(70), tables: at(tableLocal), action: lookup, selects: selTo},
				{priorities: at(76), tables: at(1), action: lookup, selects: selNot | selIIF},
			},
		},
	},
	{
		// ovn-org/ovn-kubernetes, pkg/node: UDNMasqueradeIPRulePriority 2000 (it
		// removes what it does not know at its priorities), egress services 5000,
		// egress addresses 6000; tables 1000 + link index, packet marks 0x1000 +
		// network id.
		Name:       "OVN-Kubernetes",
		Priorities: []Band{at(2000), at(5000), at(6000)},
		Tables:     []Band{{1001, 1999}},
		Marks:      0x1fff,
		shapes: [][]shape{
			{{priorities: at(2000), tables: Band{1001, 1999}, action: lookup, selects: selMark}},
			{{priorities: at(2000), tables: Band{1001, 1999}, action: lookup, selects: selTo}},
			{{priorities: at(6000), tables: Band{1001, 1999}, action: lookup, selects: selFrom}},
		},
	},
	{
		// tailscale/tailscale, wgengine/router: rules 5210, 5230 and 5250 with the
		// mark 0x80000/0xff0000, 5270 to table 52.
		Name:       "Tailscale",
		chains:     []string{"ts-input", "ts-forward"},
		Priorities: []Band{{5210, 5270}},
		Tables:     []Band{at(52)},
		Marks:      0xff0000,
		shapes: [][]shape{
			{{priorities: at(5270), tables: at(52), action: lookup}},
			{{priorities: at(5210), tables: at(tableMain), action: lookup, selects: selMark, mark: netstate.Mark{Value: 0x80000, Mask: 0xff0000}}},
			{{priorities: at(5250), action: unreachable, selects: selMark, mark: netstate.Mark{Value: 0x80000, Mask: 0xff0000}}},
		},
	},
	{
		// telekom/das-schiff-network-operator: rules at 100. They have no shape of
		// their own.
		Name:       "das-schiff network operator",
		Priorities: []Band{at(100)},
	},
	{
		// antrea-io/antrea, pkg/agent: tables 101 to 120 for egress networks with
		// rules on its mark 0xff, table 141 for replies.
		Name:   "Antrea",
		chains: []string{"ANTREA-"},
		Tables: []Band{{101, 120}, at(141)},
		Marks:  0xff,
		shapes: [][]shape{
			{{priorities: Band{1, 32765}, tables: Band{101, 120}, action: lookup, selects: selMark, mark: netstate.Mark{Mask: 0xff}}},
		},
	},
	{
		// spidernet-io/spiderpool, cmd/coordinator: hostRuleTable 500 on hosts; in
		// pods the rules 999, 1000 and 32765 with tables from 100.
		Name:       "Spiderpool",
		Priorities: []Band{{999, 1000}, at(32765)},
		Tables:     []Band{{100, 116}, at(500)},
		shapes: [][]shape{
			{{priorities: Band{999, 1000}, tables: at(500), action: lookup}},
			{{priorities: Band{999, 1000}, tables: at(500), action: lookup, selects: selTo}},
			{{priorities: Band{999, 1000}, tables: at(500), action: lookup, selects: selFrom}},
		},
	},
	{
		// kubernetes/kubernetes, pkg/proxy: the masquerade and drop marks. No rules.
		Name:   "kube-proxy",
		chains: []string{"KUBE-SERVICES", "kube-proxy/"},
		Marks:  0xc000,
	},
	{
		// containernetworking/plugins, plugins/meta/portmap. No rules.
		Name:   "portmap",
		chains: []string{"CNI-HOSTPORT-", "cni_hostport/"},
		Marks:  0x2000,
	},
	{
		// nmstate/nmstate: route rules get priorities from 30000 where none is
		// given. They have no shape of their own.
		Name:       "nmstate",
		Priorities: []Band{{30000, 30099}},
	},
	{
		// amazonlinux/amazon-ec2-net-utils: for each interface a table 10000 + N
		// and rules at 10000 + N (and so on) that send its addresses there.
		Name:       "ec2-net-utils",
		Priorities: []Band{{10000, 10999}},
		Tables:     []Band{{10000, 10999}},
		shapes: [][]shape{
			{{priorities: Band{10000, 10999}, tables: Band{10000, 10999}, action: lookup, selects: selFrom}},
		},
	},
	{
		// containernetworking/plugins, plugins/meta/sbr: the first free table from
		// 100, rules without a priority, so from 32765 downwards. Many people set
		// up the same by hand, so the shape says no more than "like sbr".
		Name:   "the CNI plugin sbr",
		Tables: []Band{{100, 4096}},
	},
	{
		// The kernel, drivers/net/vrf.c (vrf_fib_rule): one l3mdev rule for all
		// VRF links.
		Name:       "VRF",
		Priorities: []Band{at(1000)},
		shapes: [][]shape{
			{{priorities: at(1000), action: lookup, selects: selL3MDev, protocol: 2}},
		},
	},
}
