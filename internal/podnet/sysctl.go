package podnet

import (
	"fmt"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

func conf4(dev string) string { return "net/ipv4/conf/" + dev + "/forwarding" }

// forwarding6 is the switch of IPv6 for all links: ip6_forward looks at it, and not at
// the links' own `forwarding` (net/ipv6/ip6_output.c).
const forwarding6 = "net/ipv6/conf/all/forwarding"

// force6 has ip6_forward take what comes in by the link whatever forwarding6 is, and
// nothing else looks at it: the link is no router in its neighbours' eyes, and reads
// advertisements as before. The kernel sets it to 0 for all links whenever somebody
// writes 0 to forwarding6, also where that was 0 (addrconf_forward_change,
// net/ipv6/addrconf.c). It exists since Linux 6.17.
func force6(dev string) string { return "net/ipv6/conf/" + dev + "/force_forwarding" }

func acceptRA(dev string) string { return "net/ipv6/conf/" + dev + "/accept_ra" }

func linkForwarding6(dev string) string { return "net/ipv6/conf/" + dev + "/forwarding" }

// RelevantSysctls are the sysctls whose values Lower wants to know. Those of pods'
// links, which may be many, are not among them: other hosts are not behind these.
func RelevantSysctls(s *netstate.State) []string {
	keys := []string{forwarding6, force6("all")}
	for i := range s.Links {
		dev := s.Links[i].Name
		if s.Links[i].Loopback || s.Links[i].Kind == "veth" && strings.HasPrefix(dev, "via") {
			continue
		}
		keys = append(keys, conf4(dev), force6(dev), linkForwarding6(dev), acceptRA(dev))
	}
	return keys
}

// lowerSysctls has packets of pods forwarded by the links by which they come in from
// other hosts: both families look at the link of arrival (__mkroute_input, ip6_forward).
// Kernels without force6 forward IPv6 by all links or none. The links of the pods
// themselves are the plugin's.
//
// With forwarding6, a link takes no router advertisements any more, and the default
// routes that it has from one are removed at once (ipv6_accept_ra,
// addrconf_fixup_forwarding and rt6_purge_dflt_routers, net/ipv6), unless its
// accept_ra is 2. So a link that uses them gets that first.
func (l *lowerer) lowerSysctls() {
	for _, n := range l.nets {
		links := n.links
		if n.spec.Masquerade == spec.MasqueradeOutside {
			links = slices.Compact(slices.Sorted(slices.Values(slices.Concat(links, l.defaultLinks()))))
		}
		v4, v6 := n.has(netstate.IPv4), n.has(netstate.IPv6)
		if n.spec.Forwarding == spec.ForwardingKeep {
			l.warnKept(n, links, v4, v6)
			continue
		}
		set := func(key, value string) {
			l.out.Sysctls = append(l.out.Sysctls, Sysctl{Sysctl: netstate.Sysctl{Key: key, Value: value}, Object: n.obj, Pos: n.at("forwarding")})
		}
		for _, dev := range links {
			if v4 {
				set(conf4(dev), "1")
			}
		}
		if !v6 {
			continue
		}
		if l.forces() {
			for _, dev := range links {
				// A link that IPv6 is not on (an MTU below 1280) has none.
				if _, ok := l.facts.Sysctls[force6(dev)]; ok {
					set(force6(dev), "1")
				}
			}
			continue
		}
		if l.facts.Sysctls[forwarding6] == "0" {
			ra := l.advertised()
			for _, dev := range ra {
				set(acceptRA(dev), "2")
			}
			l.noteIPv6(n, ra)
		}
		set(forwarding6, "1")
	}
}

// forces says whether the kernel has force6.
func (l *lowerer) forces() bool {
	_, ok := l.facts.Sysctls[force6("all")]
	return ok
}

func (n *network) has(f netstate.Family) bool {
	return slices.ContainsFunc(n.spec.PodCIDRs, func(p spec.PodPrefix) bool { return netstate.FamilyOf(p.Addr()) == f })
}

// defaultLinks are those of the default routes: answers from outside come in there.
func (l *lowerer) defaultLinks() []string {
	var out []string
	for i := range l.facts.State.Routes {
		r := &l.facts.State.Routes[i]
		if r.Table != netstate.TableMain || r.Type != netstate.RouteUnicast || r.To != r.Family.Default() {
			continue
		}
		if r.Hop.Dev != "" {
			out = append(out, r.Hop.Dev)
		}
		for _, h := range r.Hops {
			out = append(out, h.Dev)
		}
	}
	return out
}

// advertised are the links whose configuration comes from router advertisements
// that the kernel reads itself. One that viarule has changed for that stays one.
func (l *lowerer) advertised() []string {
	uses := map[string]bool{}
	for i := range l.facts.State.Routes {
		r := &l.facts.State.Routes[i]
		if r.Family != netstate.IPv6 || r.Protocol != netstate.ProtocolRA {
			continue
		}
		uses[r.Hop.Dev] = true
		for _, h := range r.Hops {
			uses[h.Dev] = true
		}
	}
	for i := range l.facts.State.Addrs {
		// The kernel's own addresses from a prefix that is advertised have a lifetime.
		if a := &l.facts.State.Addrs[i]; a.Prefix.Addr().Is6() && a.Scope == netstate.ScopeGlobal && a.Flags&netstate.AddrPermanent == 0 {
			uses[a.Dev] = true
		}
	}
	var out []string
	for i := range l.facts.State.Links {
		dev := l.facts.State.Links[i].Name
		key := acceptRA(dev)
		reads := l.facts.Sysctls[key] == "1" && uses[dev] && l.facts.Sysctls[linkForwarding6(dev)] == "0"
		if reads || l.facts.Changed[key] && l.facts.Sysctls[key] == "1" {
			out = append(out, dev)
		}
	}
	slices.Sort(out)
	return out
}

func (l *lowerer) noteIPv6(n *network, ra []string) {
	what := "no link here uses them"
	if len(ra) > 0 {
		what = "it becomes 2 where they are in use: " + strings.Join(ra, ", ")
	}
	l.say(n, "IPv6 is forwarded by all links or none (%s), and links that forward take no router advertisements unless their accept_ra is 2; %s", forwarding6, what)
}

// warnKept tells what is not forwarded where nothing about it is changed.
func (l *lowerer) warnKept(n *network, links []string, v4, v6 bool) {
	var off []string
	for _, dev := range links {
		if v4 && l.facts.Sysctls[conf4(dev)] == "0" {
			off = append(off, conf4(dev))
		}
	}
	if v6 && l.facts.Sysctls[forwarding6] == "0" {
		if !l.forces() {
			off, links = append(off, forwarding6), nil
		}
		for _, dev := range links {
			if l.facts.Sysctls[force6(dev)] == "0" {
				off = append(off, force6(dev))
			}
		}
	}
	if len(off) == 0 {
		return
	}
	is := "is"
	if len(off) > 1 {
		is = "are"
	}
	l.warn(n, n.at("forwarding"), "spec.forwarding", fmt.Sprintf("packets of pods are not forwarded: %s %s 0", strings.Join(off, ", "), is), "write `forwarding: Allow`, or set them to 1")
}
