package explain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// summary is the closing sentence: what becomes of the packet, by which rule, table
// and object, or what drops it.
func summary(a *Answer) string {
	b := make([]byte, 0, 256)
	switch a.Verdict {
	case "dropped":
		return string(appendBehind(append(append(b, "dropped: "...), a.Reason...), a))
	case "unknown":
		b = append(append(b, "unknown: "...), a.Reason...)
		if a.Otherwise != "" && a.Otherwise != "dropped" {
			b = append(append(b, "; if it is let pass as it is: "...), a.Otherwise...)
			b = appendBehind(appendWay(b, a), a)
		}
		return string(b)
	case "delivered":
		return string(appendBehind(append(b, "delivered to this host"...), a))
	}
	return string(appendBehind(appendWay(append(b, a.Verdict...), a), a))
}

// appendBehind appends what stands behind the verdict, in brackets.
func appendBehind(b []byte, a *Answer) []byte {
	sep := " ("
	word := func(key, value string) {
		b = append(append(append(b, sep...), key...), value...)
		sep = ", "
	}
	if a.Rule != nil {
		word("rule ", "")
		b = strconv.AppendUint(b, uint64(*a.Rule), 10)
	}
	if a.Table != "" {
		word("table ", a.Table)
	}
	if a.WantedBy != "" {
		word("wanted by ", a.WantedBy)
	}
	if a.Cause == causes[sim.ReverseFilter] {
		word("in the check of the source", "")
	}
	if sep == ", " {
		b = append(b, ')')
	}
	return b
}

func appendWay(b []byte, a *Answer) []byte {
	if len(a.Ways) > 0 {
		for i, w := range a.Ways {
			if i == 0 {
				b = append(b, " by one of these, as the hash of the flow picks: "...)
			} else {
				b = append(b, ", "...)
			}
			b = appendHop(b, w.OIF, w.Via)
		}
		return b
	}
	if a.OIF == "" {
		return b
	}
	b = appendHop(append(b, " by "...), a.OIF, a.Via)
	if a.Source != "" {
		b = append(append(b, " from "...), a.Source...)
	}
	return b
}

func appendHop(b []byte, dev, via string) []byte {
	b = append(b, dev...)
	if via != "" {
		b = append(append(b, " via "...), via...)
	}
	return b
}

// astray adds to an answer that leaves by another link than the packet came in by
// what that means, and what mends it.
func (e *Explainer) astray(request, back *sim.Packet, a *sim.Answer, out *Answer) {
	v := a.Verdict
	if v == sim.Unknown {
		v = a.Otherwise
	}
	if request.IIF == "" || v != sim.Forwarded && v != sim.Sent || a.Dev == request.IIF || e.sameBridge(a.Dev, request.IIF) {
		return
	}
	out.Summary += fmt.Sprintf("; that is not the way by which the packet came in (%s): a stateful firewall or a provider's source filter on that way drops it", request.IIF)
	if out.Cure == "" {
		out.Cure = e.byObject(fmt.Sprintf("an ExternalNetwork with interface: {name: %s}, addresses that hold %s and that network's gateway makes the answer leave by %s", request.IIF, back.From, request.IIF), request.IIF, back.From)
	}
}

// sameBridge says whether one of the links is the bridge of the other.
func (e *Explainer) sameBridge(a, b string) bool {
	la, lb := e.world.Link(a), e.world.Link(b)
	return la != nil && la.Master == b || lb != nil && lb.Master == a
}

// cure says what would have to change for a packet that is dropped. What can be
// tried is tried by simulation before it is named.
func (e *Explainer) cure(p *sim.Packet, a *sim.Answer) string {
	family := "ipv4"
	if p.Family() == netstate.IPv6 {
		family = "ipv6"
	}
	switch a.Cause {
	case sim.ReverseFilter:
		return e.cureFilter(p, a)
	case sim.NotForwarding:
		if family == "ipv6" {
			all, link := "sysctl -w net.ipv6.conf.all.forwarding=1", "net/ipv6/conf/"+p.IIF+"/force_forwarding"
			if slices.ContainsFunc(e.in.Sysctls, func(s netstate.Sysctl) bool { return s.Key == link }) {
				return all + " (all links), or " + link + "=1 (this one)"
			}
			return all
		}
		return "sysctl -w net.ipv4.ip_forward=1 (all links), or net/ipv4/conf/" + p.IIF + "/forwarding=1 (this one)"
	case sim.OwnSource:
		return "if the sender is right to use it: sysctl net/ipv4/conf/" + p.IIF + "/accept_local=1; else two hosts have the address"
	case sim.LinkDown:
		return "ip link set " + p.IIF + " up"
	case sim.NoIPv6:
		return "sysctl net/ipv6/conf/" + p.IIF + "/disable_ipv6=0"
	case sim.ForeignFilter:
		const pods = "via" // viarule-ptp's
		if strings.HasPrefix(p.IIF, pods) || strings.HasPrefix(a.Dev, pods) {
			return "a PodNetwork with forwarding: Allow has what pods send and get accepted there; where one is applied, `viarule status` says what is missing"
		}
		return fmt.Sprintf("a rule in that chain, in front of the one that decides, that accepts what comes in by %s and goes out by %s", p.IIF, a.Dev)
	case sim.NoRoute:
		return fmt.Sprintf("a route to %s in a table that its rules look up; a RoutingPolicy can add it", p.To)
	case sim.RejectRoute:
		if r := a.Decision.Route; r != nil && r.Protocol == netstate.ProtocolObject && r.To.Bits() == 0 {
			return "the table fails closed since the routes before this one are missing (a link that is down or was): `viarule status` says which; `viarule apply` again puts them back"
		}
	}
	return ""
}

// cureFilter tries what may make the source check pass.
func (e *Explainer) cureFilter(p *sim.Packet, a *sim.Answer) string {
	c := a.Check
	try := func(key, value string) bool {
		in := e.in
		in.Sysctls = make([]netstate.Sysctl, 0, len(e.in.Sysctls)+1)
		for _, s := range e.in.Sysctls {
			if s.Key != key {
				in.Sysctls = append(in.Sysctls, s)
			}
		}
		in.Sysctls = append(in.Sysctls, netstate.Sysctl{Key: key, Value: value})
		got := sim.New(&in).Run(*p, sim.Conn{})
		return got.Verdict != sim.Dropped
	}
	conf := "net/ipv4/conf/" + c.In + "/"
	if a.Mark != 0 && try(conf+"src_valid_mark", "1") {
		return "sysctl " + conf + "src_valid_mark=1: the check then sees the packet's mark, and finds the way back by " + c.In
	}
	object := fmt.Sprintf("an ExternalNetwork with interface: {name: %s} and that network's gateway gives answers their way back, and keeps the filter", c.In)
	if try(conf+"rp_filter", "2") {
		object += "; with reversePathFilter: Loose (rp_filter=2) any way back counts"
	}
	return e.byObject(object, c.In, p.To)
}
