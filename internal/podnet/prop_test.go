package podnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// drawHost draws a host with a few links and addresses in few networks, so that
// nodes are on its links often.
func drawHost(t *rapid.T) Facts {
	s := netstate.State{Links: []netstate.Link{{Name: "lo", Up: true, Loopback: true}}}
	f := Facts{State: &s, Sysctls: map[string]string{}, Changed: map[string]bool{}}
	for i := range rapid.IntRange(0, 4).Draw(t, "links") {
		dev := fmt.Sprintf("eth%d", i)
		s.Links = append(s.Links, netstate.Link{Name: dev, Up: rapid.IntRange(0, 3).Draw(t, "up") > 0})
		for range rapid.IntRange(0, 2).Draw(t, "addresses") {
			a := drawAddr(t)
			s.Addrs = append(s.Addrs, netstate.Addr{Dev: dev, Prefix: netip.PrefixFrom(a, rapid.IntRange(a.BitLen()-16, a.BitLen()).Draw(t, "length"))})
		}
	}
	forces := rapid.Bool().Draw(t, "force_forwarding")
	for _, key := range RelevantSysctls(&s) {
		if strings.HasSuffix(key, "/force_forwarding") && (!forces || key != force6("all") && rapid.IntRange(0, 3).Draw(t, "IPv6 off") == 0) {
			continue
		}
		f.Sysctls[key] = rapid.SampledFrom([]string{"0", "1", "2"}).Draw(t, key)
		f.Changed[key] = rapid.Bool().Draw(t, "changed")
	}
	return f
}

func drawAddr(t *rapid.T) netip.Addr {
	net, host := rapid.Byte().Draw(t, "net")&3, rapid.Byte().Draw(t, "host")&7
	if rapid.Bool().Draw(t, "IPv4") {
		return netip.AddrFrom4([4]byte{192, 0, net, host})
	}
	return netip.AddrFrom16([16]byte{0x20, 1, 13: net, 15: host})
}

func drawPrefix(t *rapid.T) spec.PodPrefix {
	n, m := rapid.Byte().Draw(t, "n")&3, rapid.Byte().Draw(t, "m")&15
	a := netip.AddrFrom4([4]byte{10, n, m})
	if rapid.Bool().Draw(t, "IPv6") {
		a = netip.AddrFrom16([16]byte{0xfd, n, m})
	}
	return spec.PodPrefix{Prefix: netip.PrefixFrom(a, rapid.SampledFrom([]int{8, 16, 24, a.BitLen()}).Draw(t, "length")).Masked(), Pos: spec.Pos{Line: rapid.Int32Range(1, 1<<20).Draw(t, "line")}}
}

// drawNetwork draws networks that may be wrong in every way that spec refuses. Most of
// them have the host itself among their nodes.
func drawNetwork(t *rapid.T, name string, host *netstate.State) *spec.Object {
	p := &spec.PodNetwork{Keys: map[string]spec.Pos{}, Forwarding: spec.Forwarding(rapid.IntRange(0, 1).Draw(t, "forwarding")), Masquerade: spec.Masquerade(rapid.IntRange(0, 1).Draw(t, "masquerade"))}
	p.PodCIDRs = rapid.SliceOfN(rapid.Custom(drawPrefix), 0, 4).Draw(t, "podCIDRs")
	for i := range rapid.IntRange(0, 6).Draw(t, "nodes") {
		n := spec.PodNode{Name: fmt.Sprint("node", i), PodCIDRs: rapid.SliceOfN(rapid.Custom(drawPrefix), 0, 3).Draw(t, "prefixes")}
		for range rapid.IntRange(0, 3).Draw(t, "addresses") {
			n.Addresses = append(n.Addresses, spec.NodeAddress{Addr: drawAddr(t)})
		}
		if i == 0 && len(host.Addrs) > 0 && rapid.IntRange(0, 3).Draw(t, "other") > 0 {
			n.Addresses = append(n.Addresses, spec.NodeAddress{Addr: rapid.SampledFrom(host.Addrs).Draw(t, "own").Prefix.Addr()})
		}
		p.Nodes = append(p.Nodes, n)
	}
	return &spec.Object{Ref: spec.Ref{Kind: spec.KindPodNetwork, Name: name}, Pods: p}
}

// TestNoBlackHoles: whatever the objects and the host are, a route leads to an address
// of the node on a link that is up and has its subnet; each prefix of a peer has such
// a route or a reason; and the host's own prefixes are unreachable.
func TestNoBlackHoles(t *testing.T) {
	routes, without := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		f := drawHost(t)
		objects := []*spec.Object{drawNetwork(t, "a", f.State), drawNetwork(t, "b", f.State)}
		low := Lower(objects, f)
		for i := range low.Networks {
			n := &low.Networks[i]
			peers := slices.DeleteFunc(slices.Clone(low.Peers), func(p Peer) bool { return p.Object != n.Object })
			var want []netip.Prefix
			for _, p := range peers {
				if p.Why == "" {
					want = append(want, p.Prefix)
				} else {
					without++
				}
			}
			var got, unreachable []netip.Prefix
			for _, table := range n.Policy.Tables {
				for _, r := range table.Routes {
					if r.Type == netstate.RouteUnreachable {
						unreachable = append(unreachable, r.To)
						continue
					}
					got, routes = append(got, r.To), routes+1
					onLink := slices.ContainsFunc(f.State.Addrs, func(a netstate.Addr) bool { return a.Dev == r.Dev && a.Prefix.Masked().Contains(r.Via) })
					up := slices.ContainsFunc(f.State.Links, func(l netstate.Link) bool { return l.Name == r.Dev && l.Up })
					own := slices.ContainsFunc(f.State.Addrs, func(a netstate.Addr) bool { return a.Prefix.Addr() == r.Via })
					if !onLink || !up || own || r.OnLink || netstate.FamilyOf(r.Via) != netstate.FamilyOf(r.To.Addr()) {
						t.Fatalf("route %s via %s dev %s: on the link %t, up %t, own %t", r.To, r.Via, r.Dev, onLink, up, own)
					}
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("routes to %v, reached are %v", got, want)
			}
			if k := slices.IndexFunc(n.Object.Pods.Nodes, func(n spec.PodNode) bool {
				return slices.ContainsFunc(n.Addresses, func(a spec.NodeAddress) bool {
					return slices.ContainsFunc(f.State.Addrs, func(x netstate.Addr) bool { return x.Prefix.Addr() == a.Addr })
				})
			}); len(unreachable) != len(n.Object.Pods.Nodes[k].PodCIDRs) {
				t.Fatalf("unreachable are %v of %v", unreachable, n.Object.Pods.Nodes[k].PodCIDRs)
			}
		}
		for _, m := range low.Maps {
			for i, e := range m.Elems {
				if e.Last.Less(e.First) || i > 0 && !m.Elems[i-1].Last.Less(e.First) {
					t.Fatalf("map %s: %v", m.Name, m.Elems)
				}
			}
		}
		checkIPv6(t, &low, f)
		for i, s := range low.Sysctls {
			// Advertisements first: the kernel forgets what it learned by them at once.
			if s.Value == "2" && slices.ContainsFunc(low.Sysctls[:i], func(b Sysctl) bool { return b.Key == forwarding6 && b.Object == s.Object }) {
				t.Fatalf("%s stands behind %s", s.Sysctl, forwarding6)
			}
		}
	})
	if routes == 0 || without == 0 {
		t.Errorf("%d routes and %d peers without one: the test has become blind", routes, without)
	}
}

// checkIPv6: a kernel with force_forwarding gets that alone, on the links that have IPv6
// among those on which IPv4 would be forwarded; another one gets the switch of all links.
func checkIPv6(t *rapid.T, low *Lowered, f Facts) {
	_, forces := f.Sysctls[force6("all")]
	for i := range low.Networks {
		n := &low.Networks[i]
		of := func(key string) bool {
			return slices.ContainsFunc(low.Sysctls, func(s Sysctl) bool { return s.Object == n.Object && s.Key == key })
		}
		has := func(family netstate.Family) bool {
			return slices.ContainsFunc(n.Object.Pods.PodCIDRs, func(p spec.PodPrefix) bool { return netstate.FamilyOf(p.Addr()) == family })
		}
		v4, v6 := has(netstate.IPv4) && n.Forward, has(netstate.IPv6) && n.Forward
		if of(forwarding6) != (v6 && !forces) {
			t.Fatalf("%s: %s is set: %t; IPv6 %t, force_forwarding %t", n.Object.Name, forwarding6, of(forwarding6), v6, forces)
		}
		for k := range f.State.Links {
			dev := f.State.Links[k].Name
			_, there := f.Sysctls[force6(dev)]
			set := of(force6(dev))
			if set && !(v6 && forces && there) || forces && of(acceptRA(dev)) || v4 && v6 && forces && there && set != of(conf4(dev)) {
				t.Fatalf("%s: %s is set: %t", n.Object.Name, force6(dev), set)
			}
		}
	}
}
