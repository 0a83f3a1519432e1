package impact

import (
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// places is the axis of where packets come from: atom 0 is made here by a socket that
// is not bound, atoms 1 to n are in by a link, the n behind them are made here and
// bound to it.
type places struct {
	links  []string
	number map[string]int
	in     []bool     // whether packets come in by the link: not by lo
	alike  []int      // links of one number differ in nothing but their name
	named  []bool     // some rule, chain or program asks for the link by its name
	above  [][]string // the link's master, and that one's
}

func newPlaces(w [2]*sim.World, named map[string]bool) *places {
	p := &places{number: map[string]int{}}
	sysctls := [2]map[string]string{linkSysctls(w[0].Input().Sysctls), linkSysctls(w[1].Input().Sysctls)}
	type look struct {
		name, kind, master [2]string // name: only where others may have it as their master
		up, loopback, addr [2]bool
		vrf                [2]uint32
		sysctls            [2]string
		begun              [2]string
	}
	starts := [2][]string{beginnings(&w[0].Input().State), beginnings(&w[1].Input().State)}
	var addr [2]map[string]bool // links that have an IPv4 address
	masters := map[string]bool{}
	for i := range w {
		for _, l := range w[i].Input().State.Links {
			masters[l.Master] = true
		}
		addr[i] = map[string]bool{}
		for _, a := range w[i].Input().State.Addrs {
			if a.Prefix.Addr().Is4() {
				addr[i][a.Dev] = true
			}
		}
	}
	numbers := map[look]int{}
	for i := range w[0].Input().State.Links {
		name := w[0].Input().State.Links[i].Name
		if w[1].Link(name) == nil {
			continue
		}
		var l look
		for j := range w {
			k := w[j].Link(name)
			l.kind[j], l.master[j], l.up[j], l.loopback[j], l.vrf[j] = k.Kind, k.Master, k.Up, k.Loopback, k.VRFTable
			if masters[name] {
				l.name[j] = name
			}
			l.addr[j], l.sysctls[j], l.begun[j] = addr[j][name], sysctls[j][name], begun(name, starts[j])
		}
		n, there := numbers[l]
		if !there {
			n = len(numbers)
			numbers[l] = n
		}
		p.number[name] = len(p.links)
		p.links = append(p.links, name)
		p.in = append(p.in, !l.loopback[0])
		p.alike = append(p.alike, n)
		p.named = append(p.named, named[name])
		p.above = append(p.above, slices.Concat(mastersOf(w[0], name), mastersOf(w[1], name)))
	}
	return p
}

// mastersOf are the bridge that a link is a port of, the VRF of that, and so on.
func mastersOf(w *sim.World, name string) []string {
	var out []string
	for l := w.Link(name); l != nil && l.Master != "" && len(out) < maxMasters; l = w.Link(l.Master) {
		out = append(out, l.Master)
	}
	return out
}

// maxMasters is more than package sim looks at: a port's bridge and the bridge's VRF.
const maxMasters = 4

// linkSysctls gives the sysctls of each link as one text.
func linkSysctls(list []netstate.Sysctl) map[string]string {
	texts := map[string]*strings.Builder{}
	for _, s := range list {
		link, name := sysctlLink(s.Key)
		if link == "" {
			continue
		}
		b := texts[link]
		if b == nil {
			b = &strings.Builder{}
			texts[link] = b
		}
		b.WriteString(name + "=" + s.Value + "\n")
	}
	out := make(map[string]string, len(texts))
	for link, b := range texts {
		out[link] = b.String()
	}
	return out
}

// sysctlLink is the link that a sysctl is of (net/ipv4/conf/LINK/...), or "", and its
// name without the link.
func sysctlLink(key string) (link, name string) {
	parts := strings.SplitN(key, "/", 5)
	if len(parts) != 5 || parts[0] != "net" || parts[2] != "conf" || parts[3] == "all" || parts[3] == "default" {
		return "", ""
	}
	return parts[3], parts[1] + "/" + parts[4]
}

// group is some places that are as good as each other for some packets.
type group struct {
	members set
	bound   bool
	in      string // of its first member
	oif     string
}

func (p *places) group(members set) group {
	g := group{members: members}
	n := int(members[0]) - 1
	switch {
	case n < 0:
	case n < len(p.links):
		g.in = p.links[n]
	default:
		g.bound, g.oif = true, p.links[n-len(p.links)]
	}
	return g
}

// groups cuts the axis for packets whose addresses have routes by some links: those,
// and links that are asked for by name, each count for themselves.
func (p *places) groups(by []string) []group {
	alone := slices.Clone(p.named)
	for _, name := range by {
		if n, ok := p.number[name]; ok {
			alone[n] = true
		}
	}
	var in, bound []set
	at := map[int]int{}
	for n := range p.links {
		i, there := at[p.alike[n]]
		if alone[n] || !there {
			i = len(in)
			in, bound = append(in, nil), append(bound, nil)
			if !alone[n] {
				at[p.alike[n]] = i
			}
		}
		in[i] = append(in[i], int32(1+n))
		bound[i] = append(bound[i], int32(1+len(p.links)+n))
	}
	out := []group{p.group(one(0))}
	for _, s := range in {
		if p.in[s[0]-1] {
			out = append(out, p.group(s))
		}
	}
	for _, s := range bound {
		out = append(out, p.group(s))
	}
	return out
}

// find tells a packet's place; -1 where its link is not among those looked at.
func (p *places) find(q *sim.Packet) int {
	switch {
	case q.IIF != "":
		if n, ok := p.number[q.IIF]; ok && p.in[n] {
			return 1 + n
		}
		return -1
	case q.OIF != "":
		if n, ok := p.number[q.OIF]; ok {
			return 1 + len(p.links) + n
		}
		return -1
	}
	return 0
}
