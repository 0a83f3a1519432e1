package sim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// incoming is the way of a packet that came in by a link.
func (r *run) incoming() {
	if !r.arrives() {
		return
	}
	if !r.hook(Prerouting) {
		return
	}
	// vrf_ip_rcv and vrf_ip6_rcv make the VRF the packet's device, and have the chains
	// of prerouting run once more; those of the hooks behind see the VRF alone.
	if v := r.w.vrf(r.in); v != "" && v != r.in && !r.p.To.IsMulticast() {
		if r.in = v; !r.hook(Prerouting) {
			return
		}
	}
	if r.v6() {
		r.route6()
	} else {
		r.route4()
	}
}

// arrives looks at the link and at what sees packets before netfilter does.
func (r *run) arrives() bool {
	l := r.w.links[r.p.IIF]
	if l == nil {
		r.unknown("there is no link %s", r.p.IIF)
		return false
	}
	if !l.Up {
		r.step(Arrival, "link", l.Name, text("is down"))
		r.drop(LinkDown, "%s is down: nothing comes in by it", l.Name)
		return false
	}
	r.opaque(Arrival, l.Name, true)
	if m := r.w.links[l.Master]; m != nil && m.Kind != "vrf" {
		// rx_handler: a bridge or bond takes the packet before IP sees it.
		r.step(Arrival, "link", l.Name, func() string {
			return "is a port of " + m.Name + ", which takes the packet; it is routed if its frame is for " + m.Name
		})
		r.opaque(Arrival, m.Name, true)
		r.p.IIF = m.Name
		if !m.Up {
			r.drop(LinkDown, "%s, of which %s is a port, is down", m.Name, l.Name)
			return false
		}
		l = m
	}
	r.in = l.Name
	if m := r.w.links[l.Master]; m != nil && r.v6() {
		if linkLocal(r.p.To) {
			// vrf_ip6_input_dst asks the VRF's table past the rules, with the port or
			// the VRF as the link, as the source and the sort of message say.
			r.unknown("%s is a port of VRF %s, and how the VRF treats link-local destinations is not worked out", l.Name, m.Name)
			return false
		}
		// vrf_ip6_rcv makes the VRF the packet's device before it is routed;
		// vrf_ip_rcv does so too, but ip_rcv_finish has taken the port before.
		r.step(Arrival, "link", l.Name, func() string { return "is a port of VRF " + m.Name + ", which rules see as iif" })
		r.port, r.p.IIF = l.Name, m.Name
	}
	return true
}

func linkLocal(a netip.Addr) bool { return a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() }

// opaque notes what may do anything to packets of a link.
func (r *run) opaque(h Hook, dev string, in bool) {
	for i := range r.w.in.Opaque {
		o := &r.w.in.Opaque[i]
		if o.Dev != "" && o.Dev != dev {
			continue
		}
		what := ""
		switch o.Kind {
		case netstate.OpaqueXDP, netstate.OpaqueFlowtable:
			if in {
				what = "takes packets of " + dev + " before IP"
			}
		case netstate.OpaqueTC:
			what = "sees packets of " + dev
		case netstate.OpaqueBridgeNF:
			if l := r.w.links[dev]; in && l != nil && (l.Kind == "bridge" || isBridge(r.w.links[l.Master])) {
				what = "has netfilter see the packets of the bridge first"
			}
		case netstate.OpaqueXFRM:
			what = "may encrypt what leaves, and drop what it lets through encrypted only"
		case netstate.OpaqueNft, netstate.OpaqueIptables:
			if in || r.p.IIF == "" {
				what = "may do anything"
			}
		}
		if what == "" {
			continue
		}
		name := o.Kind.String() + " " + o.Name
		if o.Unread {
			name, what = o.Kind.String(), "cannot be read: "+o.Name
		}
		r.step(h, "opaque", name, text(what))
		r.doubt(name + " " + what)
	}
}

func isBridge(l *netstate.Link) bool { return l != nil && l.Kind == "bridge" }

// route4 is ip_route_input_slow.
func (r *run) route4() {
	in := r.p.IIF
	from, to := r.p.From, r.p.To
	conf := func(key string) string { return "net/ipv4/conf/" + in + "/" + key }
	localnet := func() bool {
		return r.sysctl("net/ipv4/conf/all/route_localnet") > 0 || r.sysctl(conf("route_localnet")) > 0
	}
	broadcast := to == limitedBroadcast || !from.IsValid() || from.IsUnspecified() && to.IsUnspecified()
	switch {
	case from.IsMulticast() || from == limitedBroadcast:
		r.martian("source", from)
		return
	case broadcast:
	case from.IsUnspecified():
		r.martian("source", from)
		return
	case to.IsUnspecified():
		r.martian("destination", to)
		return
	case to.IsLoopback() && !localnet():
		r.martian("destination", to)
		return
	case from.IsLoopback() && !localnet():
		r.martian("source", from)
		return
	}
	if to.IsMulticast() {
		r.unknown("%s is a multicast address, and who joined the group is not known", to)
		return
	}
	if broadcast {
		r.delivered(fib.Decision{Verdict: fib.Broadcast}, !from.IsUnspecified() && from.IsValid())
		return
	}
	d := r.decide(Routing, r.p.Flow)
	r.a.Decision = d
	if !d.Verdict.Goes() && d.Verdict != fib.Unknown && r.sysctl(conf("forwarding")) == 0 {
		// The kernel tells nobody why: a host that does not forward stays silent.
		r.step(Routing, "sysctl", conf("forwarding"), text("0: nobody is told"))
	}
	if r.routeFailed(&d) {
		return
	}
	switch d.Verdict {
	case fib.Broadcast, fib.Local:
		r.delivered(d, true)
		return
	}
	if n := r.sysctl(conf("forwarding")); n == 0 {
		r.step(Forward, "sysctl", conf("forwarding"), text("0"))
		r.drop(NotForwarding, "%s is not an address of this host, and what comes in by %s is not forwarded (sysctl %s is 0)", to, in, conf("forwarding"))
		return
	}
	if d.Verdict != fib.Unicast {
		r.drop(Martian, "the route to %s is of the type %s, which is not forwarded to", to, d.Verdict)
		return
	}
	var passed []Way
	var refused *Answer
	for _, way := range waysOf(&d) {
		// The check walks the rules as if the answer came in by the way out.
		if failed := r.checkSource(way.Dev, r.p.To); failed != nil {
			refused = failed
			continue
		}
		passed = append(passed, way)
	}
	r.forward(&d, passed, refused)
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func (r *run) martian(which string, a netip.Addr) {
	r.step(Routing, "address", a.String(), text("must not be a "+which))
	r.drop(Martian, "%s must not be the %s of a packet that comes in by %s", a, which, r.p.IIF)
}

// delivered is what is for this host; check says whether its source is checked.
func (r *run) delivered(d fib.Decision, check bool) {
	r.a.Decision = d
	if check && !r.v6() {
		to := r.p.To
		if d.Verdict == fib.Broadcast {
			to = netip.IPv4Unspecified() // brd_input in ip_route_input_slow
		}
		if failed := r.checkSource("lo", to); failed != nil {
			r.refuse(failed)
			return
		}
	}
	if !r.hook(InputHook) {
		return
	}
	r.arp()
	r.a.Verdict = Delivered
	r.a.Way = Way{Dev: "lo"}
}

// arp notes that neighbours on the link do not learn that the packet's address is
// here (arp_ignore, net/ipv4/arp.c): only a router that knows it otherwise sends
// packets for it by that link.
func (r *run) arp() {
	in := r.p.IIF
	ignore := max(r.optional("net/ipv4/conf/"+in+"/arp_ignore"), r.optional("net/ipv4/conf/all/arp_ignore"))
	if r.v6() || ignore == 0 || r.a.Decision.Verdict != fib.Local {
		return
	}
	here := slices.ContainsFunc(r.w.in.State.Addrs, func(a netstate.Addr) bool { return a.Dev == in && a.Prefix.Addr() == r.p.To })
	if ignore == 8 || (ignore == 1 || ignore == 2) && !here {
		note := fmt.Sprintf("neighbours on %s that ask for %s by ARP get no answer (arp_ignore is %d): they send no such packet unless a route of theirs says so", in, r.p.To, ignore)
		r.a.Notes = append(r.a.Notes, note)
		r.step(InputHook, "sysctl", "arp_ignore", text(note))
	}
}

func (r *run) refuse(failed *Answer) {
	r.a.Verdict, r.a.Cause, r.a.Reason = failed.Verdict, failed.Cause, failed.Reason
}

// forward is ip_forward and ip6_forward, for the ways that passed the checks.
// refused is the answer for one that did not, nil where all passed.
func (r *run) forward(d *fib.Decision, passed []Way, refused *Answer) {
	switch {
	case len(passed) == 0:
		r.refuse(refused)
		return
	case refused != nil:
		r.take(waysOf(d))
		r.unknown("the hash picks one of %d next hops, and by some of them: %s", len(waysOf(d)), refused.Reason)
		return
	}
	r.take(passed)
	if r.p.TTL == 1 {
		r.drop(TimeExceeded, "its TTL of 1 ends here")
		return
	}
	if !r.hook(Forward) || !r.others() {
		return
	}
	r.a.Verdict = Forwarded
	r.leaves(passed)
}

// leaves looks at what sees packets behind the decision.
func (r *run) leaves(ways []Way) {
	if !r.hook(Postrouting) {
		return
	}
	for _, way := range ways {
		l := r.w.links[way.Dev]
		if l == nil {
			continue
		}
		if !l.Carrier {
			r.step(Postrouting, "link", l.Name, text("has no carrier"))
		}
		r.opaque(Postrouting, l.Name, false)
	}
}

// route6 is ip6_rcv_core, ip6_route_input and ip6_forward.
func (r *run) route6() {
	from, to, in := r.p.From, r.p.To, r.p.IIF
	if r.port != "" {
		in = r.port // ip6_rcv_core has looked before the VRF gets the packet
	}
	link := r.w.links[in]
	realLink := !link.Loopback && link.Kind != "vrf"
	switch {
	case r.sysctl("net/ipv6/conf/"+in+"/disable_ipv6") > 0:
		r.step(Arrival, "sysctl", "net/ipv6/conf/"+in+"/disable_ipv6", text("1"))
		r.drop(NoIPv6, "%s takes no IPv6 (sysctl net/ipv6/conf/%s/disable_ipv6 is 1)", in, in)
		return
	case from.IsMulticast(), from.IsLoopback() && realLink:
		r.martian("source", from)
		return
	case to.IsLoopback() && realLink:
		r.martian("destination", to)
		return
	case to.IsMulticast():
		r.unknown("%s is a multicast address, and who joined the group is not known", to)
		return
	}
	d := r.decide(Routing, r.p.Flow)
	r.a.Decision = d
	if r.routeFailed(&d) {
		return
	}
	if d.Verdict == fib.Local || d.Verdict == fib.Anycast {
		r.delivered(d, false)
		return
	}
	if all := "net/ipv6/conf/all/forwarding"; r.sysctl(all) == 0 && r.optional("net/ipv6/conf/"+in+"/force_forwarding") == 0 {
		r.step(Forward, "sysctl", all, text("0"))
		r.drop(NotForwarding, "%s is not an address of this host, and this host does not forward IPv6 (sysctl %s is 0)", to, all)
		return
	}
	var passed []Way
	var refused *Answer
	for _, way := range waysOf(&d) {
		// "This check is security critical", but ip6_forward makes it only for
		// packets that do not go back by the link that they came in by, which is the
		// port and not its VRF (IP6CB(skb)->iif).
		if way.Dev != in && (from.IsUnspecified() || from.IsLinkLocalUnicast()) {
			refused = &Answer{Verdict: Dropped, Cause: Martian, Reason: fmt.Sprintf("packets from %s are not forwarded: the address counts on its link only", from)}
			continue
		}
		passed = append(passed, way)
	}
	r.forward(&d, passed, refused)
}

// outgoing is the way of a packet that is made here.
func (r *run) outgoing() {
	d := r.decide(Routing, r.p.Flow)
	r.a.Decision = d
	if r.routeFailed(&d) {
		return
	}
	before := r.p.Mark
	if !r.p.From.IsValid() {
		r.p.From = d.Src // the hook sees the packet with its source
	}
	if !r.hook(Output) {
		return
	}
	if r.p.Mark != before {
		// ip_route_me_harder: with the source that was chosen, which is routed anew
		// though a socket is bound (the flow's oif stays).
		r.step(Rerouting, "mark", fmt.Sprintf("0x%x", r.p.Mark), text("the mark has changed: routed once more"))
		d = r.decide(Rerouting, r.p.Flow)
		r.a.Decision = d
		if r.routeFailed(&d) {
			return
		}
	}
	ways := waysOf(&d)
	r.take(ways)
	if d.Verdict == fib.Local || d.Verdict == fib.Anycast {
		r.a.Verdict = Delivered
		r.a.Way.Dev = "lo"
		return
	}
	r.a.Verdict = Sent
	r.leaves(ways)
}
