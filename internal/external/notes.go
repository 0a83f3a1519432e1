package external

import (
	"fmt"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// note says what is worth to know before an apply.
func (l *lowerer) note() {
	for _, n := range l.nets {
		if n.bad || !n.hasGateways() {
			continue
		}
		l.noteGateways(n)
		l.noteFilter(n)
		l.noteARP(n)
		l.noteSourceRules(n)
	}
	tracks := func(t netstate.NftTable) bool { return t.Tracks() }
	if l.out.Nft != nil && tracks(*l.out.Nft) && !slices.ContainsFunc(l.facts.State.Nft, tracks) {
		n := l.netOf(l.out.NftOf[0])
		l.say(n, "this loads connection tracking (nftables `ct`) in this namespace, if it is not on already")
	}
}

// noteGateways says which gateway is used, and why not the first.
func (l *lowerer) noteGateways(n *network) {
	for i, f := range netstate.Families {
		if len(n.parts[i].gateways) == 0 {
			continue
		}
		var written []spec.Gateway
		for _, g := range n.spec.Gateways {
			if netstate.FamilyOf(g.Addr) == f {
				written = append(written, g)
			}
		}
		for _, g := range written {
			if l.facts.Gateways[netstate.NeighKey{Dev: n.dev, Addr: g.Addr}] == netstate.NeighSilent {
				l.warn(n, "gateways", fmt.Sprintf("the gateway %s does not answer on %s", g.Addr, n.dev), "look at the gateway, the cable and the VLAN")
			}
		}
		if used := n.parts[i].gateways; len(written) > 1 && !n.spec.Spread && used[0] != written[0] {
			l.say(n, "%s is used, the first gateway that answers", used[0].Addr)
		}
		if n.spec.Spread && len(written) > 1 {
			l.say(n, "answers are spread over %d gateways by their addresses: stateful ones must share their state, since an answer may pass another one than its request", len(written))
		}
	}
}

// noteFilter says what the kernel's reverse path filter does on the link, and what
// that means.
func (l *lowerer) noteFilter(n *network) {
	if len(n.parts[0].gateways) == 0 {
		return
	}
	now := l.effective(n.dev)
	from := ""
	if l.filter("all") > l.filter(n.dev) {
		from = ", from `all`"
	}
	is := fmt.Sprintf("the reverse path filter of %s is %s (%d%s)", n.dev, [...]string{"off", "strict", "loose"}[min(max(now, 0), 2)], now, from)
	switch f := n.spec.ReversePathFilter; {
	case !l.hasIPv4(n.dev) && (f == spec.FilterLoose || f == spec.FilterKeep && now == 2) && n.spec.ReturnPath == spec.ReturnSourceRule:
		// fib_validate_source (net/ipv4/fib_frontend.c, no_addr).
		l.warn(n, "reversePathFilter", "on a link without an IPv4 address, such as "+n.dev+", the kernel's loose filter is as strict as the strict one", "give it an address, or use returnPath: Auto, or reversePathFilter: Disabled or Exempt")
	case f == spec.FilterLoose:
		l.say(n, "%s; it becomes loose: a source is taken that any link leads to", is)
	case f == spec.FilterDisabled:
		l.say(n, "%s; %s", is, l.howOff(now))
	case f == spec.FilterExempt:
		l.say(n, "%s; %s; nftables checks what is not for the addresses of this network", is, l.howOff(now))
	case now == 1 && n.spec.ReturnPath == spec.ReturnAuto:
		l.say(n, "%s, and stays so: requests pass it, since it looks at their mark", is)
	case now == 1:
		l.warn(n, "reversePathFilter", is+": it drops requests from sources that main reaches by another link, and nobody sees it", "use returnPath: Auto, or reversePathFilter: Loose or Exempt")
	default:
		l.say(n, "%s, which lets requests pass", is)
	}
}

// howOff says what it takes to have the filter off.
func (l *lowerer) howOff(now int) string {
	if all := l.filter("all"); all > 0 {
		return fmt.Sprintf("for it to be off, `all` becomes 0 and every other link gets the value %d that it has now by it", all)
	}
	if now == 0 {
		return "it stays off"
	}
	return "it becomes off"
}

// noteARP warns of a link without an address: the kernel then asks for the gateway
// with an address of another link.
func (l *lowerer) noteARP(n *network) {
	if len(n.parts[0].gateways) == 0 {
		return
	}
	if !l.hasIPv4(n.dev) {
		l.warn(n, "interface", fmt.Sprintf("%s has no IPv4 address, so it asks for its gateway in the name of an address of another link, which strict gateways do not answer", n.dev),
			"give it an address of the gateway's subnet, or set the sender to 0.0.0.0 in an nftables table of the family arp (docs/guide/external-network.md)")
	}
}

func (l *lowerer) hasIPv4(dev string) bool {
	return slices.ContainsFunc(l.facts.State.Addrs, func(a netstate.Addr) bool { return a.Dev == dev && a.Prefix.Addr().Is4() })
}

// noteSourceRules says why Auto has rules by source.
func (l *lowerer) noteSourceRules(n *network) {
	if n.spec.ReturnPath != spec.ReturnAuto {
		return
	}
	var why []string
	for i := range n.parts {
		if w := l.from[i]; w != "" && len(n.parts[i].gateways) > 0 && !slices.Contains(why, w) {
			why = append(why, w)
		}
	}
	if len(why) > 0 {
		l.say(n, "there are rules by source as well: %s", strings.Join(why, "; "))
	}
}
