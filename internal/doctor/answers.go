package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// Clients that are far from every host: addresses of public name servers, which no
// host has a route of its own for.
var (
	far4 = netip.MustParseAddr("9.9.9.9")
	far6 = netip.MustParseAddr("2620:fe::fe")
)

func far(a netip.Addr) netip.Addr {
	if a.Is4() {
		return far4
	}
	return far6
}

// answers asks, for each address, whether what comes for it from far away is
// answered by the way that it came.
func (d *doctor) answers() {
	for _, a := range d.addresses() {
		e := d.asIfHere(a)
		for _, dev := range d.arrivals(a) {
			d.answer(e, a, dev)
		}
	}
}

// addresses are those that clients may call: of the host's links, and those by
// which rules and the networks of objects know an address.
func (d *doctor) addresses() []netip.Addr {
	if len(d.in.Addresses) > 0 {
		return d.in.Addresses
	}
	var out []netip.Addr
	seen := map[netip.Addr]bool{}
	for i := range d.s.Addrs {
		a := d.s.Addrs[i].Prefix.Addr()
		if d.s.Addrs[i].Scope == netstate.ScopeGlobal && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	// Addresses that no link has are those of services; rules know some of them.
	for i := range d.s.Rules {
		if r := &d.s.Rules[i]; r.From.IsValid() && r.From.IsSingleIP() && !r.Not && !seen[r.From.Addr()] && len(seen) < maxAddresses {
			seen[r.From.Addr()] = true
			if len(d.nearby(r.From.Addr())) > 0 {
				out = append(out, r.From.Addr())
			}
		}
	}
	return out
}

// maxAddresses bounds the addresses that are asked about.
const maxAddresses = 256

// nearby are the links in whose subnet an address is.
func (d *doctor) nearby(a netip.Addr) []string {
	var out []string
	for i := range d.s.Addrs {
		l := d.links[d.s.Addrs[i].Dev]
		if l != nil && !l.Loopback && l.Up && l.Kind != "dummy" && d.s.Addrs[i].Prefix.Contains(a) {
			out = append(out, l.Name)
		}
	}
	return out
}

// arrivals are the links by which packets for an address may come: the one that has
// it, or whose subnet holds it; where there is none, each that has a gateway.
func (d *doctor) arrivals(a netip.Addr) []string {
	var own, gateways []string
	near := d.nearby(a)
	for _, dev := range near {
		if slices.ContainsFunc(d.s.Addrs, func(l netstate.Addr) bool { return l.Dev == dev && l.Prefix.Addr() == a }) {
			own = append(own, dev)
		}
	}
	for k := range d.gateways {
		if k.family == netstate.FamilyOf(a) {
			gateways = append(gateways, k.dev)
		}
	}
	for _, list := range [][]string{own, near, gateways} {
		if len(list) > 0 {
			slices.Sort(list)
			return slices.Compact(list)
		}
	}
	return nil
}

// answer asks about one address and one link.
func (d *doctor) answer(e *explain.Explainer, a netip.Addr, dev string) {
	if d.onlyPods(dev) && len(d.in.Addresses) == 0 {
		return
	}
	client := far(a)
	p := sim.Packet{Flow: fib.Flow{From: client, To: a, IIF: dev, Proto: 6, SPort: 40000, DPort: 443}}
	request, err := e.Explain(p, explain.Options{Reply: true})
	if err != nil {
		return // of the families and links, which are the snapshot's own
	}
	f := Finding{
		// A link without a gateway in any table may yet bring what is far away: its
		// network's gateway is just not written down here. For a private address that
		// is not likely.
		Severity: Warning,
		Proof:    d.command(fmt.Sprintf("--from %s --to %s --ipproto tcp --dport 443 --iif %s --reply", client, a, dev)),
	}
	if d.gateway(netstate.FamilyOf(a), dev).IsValid() || len(d.in.Addresses) > 0 {
		f.Severity = Problem
	} else if a.IsPrivate() {
		f.Severity = Note
	}
	back := request.Reply
	switch {
	case request.Verdict == "dropped" && (request.Cause == "rp_filter" || len(d.in.Addresses) > 0):
		f.Kind, f.Cure = request.Cause, request.Cure
		f.What = fmt.Sprintf("what comes from far away for %s by %s is dropped: %s", a, dev, request.Reason)
		if request.Cause == "rp_filter" {
			f.Cure = d.byPlugin(a, dev, d.network(a, dev)+"; it keeps the filter")
		}
	case request.Verdict == "dropped", back == nil, back.Verdict == "unknown" && back.OIF == "":
		return
	case back.Verdict == "dropped":
		f.Kind, f.Cure = "reply-lost", back.Cure
		f.What = fmt.Sprintf("answers of %s to what came by %s get nowhere: %s", a, dev, back.Reason)
	case d.leavesBy(back, dev):
		return
	default:
		f.Kind, f.Cure = "reply-astray", d.byPlugin(a, dev, d.network(a, dev))
		f.What = fmt.Sprintf("answers of %s to what came from far away by %s leave by %s", a, dev, ways(back))
	}
	d.add(f)
}

// asIfHere is the snapshot with an address on lo: a socket may then hold it, which
// is how a service's address behaves once its translation is undone.
func (d *doctor) asIfHere(a netip.Addr) *explain.Explainer {
	if slices.ContainsFunc(d.s.Addrs, func(l netstate.Addr) bool { return l.Prefix.Addr() == a }) {
		return d.e
	}
	s := *d.in.Snapshot
	one := netip.PrefixFrom(a, a.BitLen())
	f := netstate.FamilyOf(a)
	s.State.Addrs = append(slices.Clone(s.State.Addrs), netstate.Addr{Dev: "lo", Prefix: one})
	s.State.Routes = append(slices.Clone(s.State.Routes), netstate.CanonicalRoute(netstate.Route{
		Family: f, Table: netstate.TableLocal, To: one, Type: netstate.RouteLocal, Scope: netstate.ScopeHost, Protocol: 2, Hop: netstate.Hop{Dev: "lo"},
	}))
	return explain.New(&s)
}

// onlyPods says whether a link is a bridge of containers or virtual machines on this
// host: nothing from far away comes by it.
func (d *doctor) onlyPods(dev string) bool {
	l := d.links[dev]
	if l == nil || l.Kind != "bridge" {
		return false
	}
	return !slices.ContainsFunc(d.s.Links, func(p netstate.Link) bool { return p.Master == dev && p.Kind != "veth" && p.Kind != "tun" })
}

// gateway is one that some table has on the link; not valid where there is none.
func (d *doctor) gateway(f netstate.Family, dev string) netip.Addr {
	return d.gateways[linkKey{f, dev}]
}

// findGateways notes the first gateway of each link.
func (d *doctor) findGateways() {
	d.gateways = map[linkKey]netip.Addr{}
	note := func(f netstate.Family, h *netstate.Hop) {
		if k := (linkKey{f, h.Dev}); h.Via.IsValid() && !d.gateways[k].IsValid() {
			d.gateways[k] = h.Via
		}
	}
	for i := range d.s.Routes {
		r := &d.s.Routes[i]
		note(r.Family, &r.Hop)
		for j := range r.Hops {
			note(r.Family, &r.Hops[j])
		}
	}
}

// network writes down the object that has answers of an address leave by a link.
func (d *doctor) network(a netip.Addr, dev string) string {
	addresses := netip.PrefixFrom(a, a.BitLen())
	for i := range d.s.Addrs {
		if l := &d.s.Addrs[i]; l.Dev == dev && l.Prefix.Contains(a) {
			addresses = l.Prefix.Masked()
		}
	}
	gateway := "THE-GATEWAY-OF-THAT-NETWORK"
	if g := d.gateway(netstate.FamilyOf(a), dev); g.IsValid() {
		gateway = g.String()
	}
	quoted := func(s string) string {
		if strings.Contains(s, ":") {
			return `"` + s + `"`
		}
		return s
	}
	return fmt.Sprintf("an ExternalNetwork with spec: {interface: {name: %s}, addresses: [%s], gateways: [%s]}", dev, quoted(addresses.String()), quoted(gateway))
}

// byPlugin puts in the place of an object what is meant in a pod that the CNI plugin was
// called for. Where it may be a pod, looksLikePod says so once for all.
func (d *doctor) byPlugin(a netip.Addr, dev, object string) string {
	switch d.e.Pod() {
	case explain.Attached:
		return d.e.ByPlugin(dev, a)
	case explain.PodLike:
		d.objects = true
	}
	return object
}

// looksLikePod says what is meant instead of ExternalNetworks if this is a pod.
func (d *doctor) looksLikePod() {
	if d.objects {
		d.add(Finding{
			Severity: Note, Kind: "pod", What: "this may be a pod: all links that have addresses end in another namespace",
			Proof: d.linksCommand(),
			Cure:  `if it is, in the place of ExternalNetworks {"type": "viarule-sbr"} behind the plugin that makes the interface, in that network's configuration, and a new pod; its gateway comes from the ipam, or is named under gateways`,
		})
	}
}

func (d *doctor) leavesBy(a *explain.Answer, dev string) bool {
	same := func(oif string) bool {
		l := d.links[oif]
		return oif == dev || l != nil && l.Master == dev || d.links[dev] != nil && d.links[dev].Master == oif
	}
	for _, w := range a.Ways {
		if !same(w.OIF) {
			return false
		}
	}
	return same(a.OIF)
}

func ways(a *explain.Answer) string {
	if len(a.Ways) == 0 {
		return a.OIF
	}
	names := make([]string, len(a.Ways))
	for i, w := range a.Ways {
		names[i] = w.OIF
	}
	return strings.Join(names, " or ")
}
