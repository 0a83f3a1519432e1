package external

import (
	"cmp"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// The chains and maps of the table.
const (
	chainRequest   = "request"
	chainByAddress = "by-address"
	chainReply     = "reply"
	chainOutput    = "output"
	chainClear     = "clear"
	chainHandOver  = "hand-over"
	mapNetworks4   = "networks4"
	mapNetworks6   = "networks6"
	chainPrefix    = "net-"
	maxChainName   = 128 // the kernel takes 255 bytes (NFT_NAME_MAXLEN)
)

var mapNames = [2]string{mapNetworks4, mapNetworks6}

// chainOf is the chain of a network: what is done to its packets.
func chainOf(o *spec.Object) string { return spec.NameFor(chainPrefix, o.Name, maxChainName) }

// lowerNft makes the table of all networks. Its prefixes and ranges are one map,
// looked up once for a packet that comes in by a network's link and once for an
// answer, however many networks there are.
//
// Of two chains with one priority the kernel runs the one that was registered last
// first. So ours stand one behind: a foreign rule that restores the mark of a
// connection at mangle would undo what we set. Answers are marked only behind
// checks of the way back that others have before dstnat: with the mark, the
// way back of a server's packet is not where it came from.
func (l *lowerer) lowerNft() {
	var nets []*network
	for _, n := range l.nets {
		if !n.bad && n.marked() {
			nets = append(nets, n)
		}
	}
	if len(nets) == 0 {
		return
	}
	slices.SortFunc(nets, func(a, b *network) int { return cmp.Compare(a.obj.Name, b.obj.Name) })
	t := &netstate.NftTable{Name: netstate.NftTableObjects, Maps: l.maps(nets)}
	base := func(typ, hook string, priority int32) netstate.NftHook {
		return netstate.NftHook{Type: typ, Hook: hook, Priority: priority}
	}
	answers := l.answers(nets, t.Maps)
	t.Chains = []netstate.NftChain{
		{Name: chainRequest, Hook: base("filter", "prerouting", netstate.NftMangle+1), Rules: l.requests(nets)},
		{Name: chainByAddress, Rules: byAddress(netstate.NftDAddrMap, t.Maps)},
		{Name: chainReply, Hook: base("filter", "prerouting", netstate.NftDstNAT+10), Rules: answers},
		{Name: chainOutput, Hook: base("route", "output", netstate.NftMangle+1), Rules: slices.Concat(answers, l.setAside(nets, t.Maps))},
		{Name: chainClear, Hook: base("filter", "forward", netstate.NftMangle), Rules: []netstate.NftRule{clearRule(l.allBits(nets))}},
	}
	if l.facts.Around.IPVS {
		// IPVS takes a request at input and sends it on by output, where it is routed
		// once more if its connection is tracked (vs/conntrack=1, as kube-proxy sets
		// it): with its mark it would go back to the gateway. Measured on 6.1.
		t.Chains = append(t.Chains, netstate.NftChain{Name: chainHandOver, Hook: base("filter", "input", netstate.NftMangle),
			Rules: []netstate.NftRule{clearRule(l.allBits(nets))}})
	}
	for _, n := range nets {
		t.Chains = append(t.Chains, netstate.NftChain{Name: chainOf(n.obj), Rules: l.networkChain(n)})
		l.out.NftOf = append(l.out.NftOf, n.obj)
	}
	t.Chains = slices.DeleteFunc(t.Chains, func(c netstate.NftChain) bool { return len(c.Rules) == 0 })
	slices.SortFunc(t.Chains, func(a, b netstate.NftChain) int { return cmp.Compare(a.Name, b.Name) })
	l.out.Nft = t
}

func (l *lowerer) maps(nets []*network) []netstate.NftMap {
	var maps []netstate.NftMap
	for i, f := range netstate.Families {
		m := netstate.NftMap{Name: mapNames[i], Family: f}
		for _, n := range nets {
			if len(n.parts[i].gateways) == 0 {
				continue
			}
			for _, a := range n.parts[i].addresses {
				m.Elems = append(m.Elems, netstate.NftElem{First: a.First, Last: a.Last, Chain: chainOf(n.obj)})
			}
		}
		if len(m.Elems) > 0 {
			slices.SortFunc(m.Elems, func(a, b netstate.NftElem) int { return a.First.Compare(b.First) })
			maps = append(maps, m)
		}
	}
	return maps
}

// byAddress looks a packet up in the maps that there are, behind conditions.
func byAddress(op netstate.NftOp, maps []netstate.NftMap, conditions ...netstate.NftStmt) []netstate.NftRule {
	var rules []netstate.NftRule
	for i := range maps {
		rules = append(rules, append(slices.Clone(conditions), netstate.NftStmt{Op: op, Family: maps[i].Family, Name: maps[i].Name}))
	}
	return rules
}

// requests looks at what comes in by the networks' links.
func (l *lowerer) requests(nets []*network) []netstate.NftRule {
	var rules []netstate.NftRule
	for _, dev := range devsOf(nets) {
		in := netstate.NftStmt{Op: netstate.NftIIFName, Link: dev}
		rules = append(rules, netstate.NftRule{in, {Op: netstate.NftJump, Name: chainByAddress}})
		if check := exemptRule(in, nets); check != nil {
			rules = append(rules, check)
		}
	}
	return rules
}

// exemptRule drops what comes in by a link from where no way leads back by it,
// except to the addresses of the networks that are exempt: those packets have
// their marks by now. nil where no network of the link is exempt.
func exemptRule(in netstate.NftStmt, nets []*network) netstate.NftRule {
	var rule netstate.NftRule
	for _, n := range nets {
		if n.dev == in.Link && n.spec.ReversePathFilter == spec.FilterExempt {
			rule = append(rule, netstate.NftStmt{Op: netstate.NftIfNotMark, Mark: n.mark})
		}
	}
	if rule == nil {
		return nil
	}
	// IPv4 only, as the kernel's own filter.
	return slices.Concat(netstate.NftRule{in}, rule, netstate.NftRule{
		{Op: netstate.NftFibMissing, Family: netstate.IPv4}, {Op: netstate.NftDrop}})
}

// answers finds the packets that answer a connection which came in by a network.
func (l *lowerer) answers(nets []*network, maps []netstate.NftMap) []netstate.NftRule {
	var rules []netstate.NftRule
	reply := netstate.NftStmt{Op: netstate.NftReply}
	if slices.ContainsFunc(nets, func(n *network) bool { return n.spec.ReturnPath == spec.ReturnAuto }) {
		rules = byAddress(netstate.NftOrigMap, maps, reply, l.cameIn(netstate.NftIfCtMark))
	}
	for _, n := range nets {
		if n.spec.ReturnPath == spec.ReturnConnectionMark {
			rules = append(rules, netstate.NftRule{reply, {Op: netstate.NftIfCtMark, Mark: n.mark}, {Op: netstate.NftSetMark, Mark: n.mark}})
		}
	}
	return rules
}

// setAside marks answers of this host to connections that came in by another
// link, so that no rule by source takes them: only where there are such rules.
func (l *lowerer) setAside(nets []*network, maps []netstate.NftMap) []netstate.NftRule {
	if !l.sourceRules(nets) {
		return nil
	}
	return byAddress(netstate.NftOrigMap, maps, netstate.NftStmt{Op: netstate.NftReply}, l.cameIn(netstate.NftIfNotCtMark))
}

// sourceRules says whether Auto has rules by source for one of the networks.
func (l *lowerer) sourceRules(nets []*network) bool {
	return slices.ContainsFunc(nets, func(n *network) bool {
		return n.spec.ReturnPath == spec.ReturnAuto && slices.ContainsFunc([]int{0, 1}, func(i int) bool {
			return l.from[i] != "" && len(n.parts[i].gateways) > 0
		})
	})
}

// cameIn compares the bit that says that a connection came in by its network.
func (l *lowerer) cameIn(op netstate.NftOp) netstate.NftStmt {
	return netstate.NftStmt{Op: op, Mark: netstate.Mark{Value: l.bit, Mask: l.bit}}
}

// networkChain is what is done to packets to the network's addresses that come in
// by any network's link, and to answers from them.
func (l *lowerer) networkChain(n *network) []netstate.NftRule {
	in := netstate.NftStmt{Op: netstate.NftIIFName, Link: n.dev}
	set := netstate.NftStmt{Op: netstate.NftSetMark, Mark: n.mark}
	switch n.spec.ReturnPath {
	case spec.ReturnConnectionMark:
		return []netstate.NftRule{
			{in, set},
			{in, {Op: netstate.NftOriginal}, {Op: netstate.NftSetCtMark, Mark: n.mark}},
		}
	case spec.ReturnSourceRule: // exempt from the filter, and told by the mark
		return []netstate.NftRule{{in, set}}
	}
	rules := []netstate.NftRule{
		{in, set},
		{in, {Op: netstate.NftOriginal}, {Op: netstate.NftSetCtMark, Mark: netstate.Mark{Value: l.bit, Mask: l.bit}}},
		{{Op: netstate.NftReply}, l.cameIn(netstate.NftIfCtMark), set},
	}
	if l.sourceRules([]*network{n}) {
		rules = append(rules, netstate.NftRule{
			{Op: netstate.NftNotIIF, Link: n.dev}, {Op: netstate.NftReply}, l.cameIn(netstate.NftIfNotCtMark),
			{Op: netstate.NftSetMark, Mark: netstate.Mark{Value: l.aside, Mask: l.field}}})
	}
	return rules
}

// clearRule takes the marks off what was routed: else the outer packet of a tunnel
// would inherit them.
func clearRule(bits uint32) netstate.NftRule {
	return netstate.NftRule{
		{Op: netstate.NftIfNotMark, Mark: netstate.Mark{Mask: bits}},
		{Op: netstate.NftSetMark, Mark: netstate.Mark{Mask: bits}},
	}
}

func (l *lowerer) allBits(nets []*network) uint32 {
	bits := uint32(0)
	for _, n := range nets {
		bits |= n.mark.Mask
	}
	if l.sourceRules(nets) {
		bits |= l.field
	}
	return bits
}

func devsOf(nets []*network) []string {
	var devs []string
	for _, n := range nets {
		devs = append(devs, n.dev)
	}
	slices.Sort(devs)
	return slices.Compact(devs)
}
