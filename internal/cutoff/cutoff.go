// Package cutoff says whether a plan would cut the host off from those who
// manage it: whether the packets of an ssh connection would take another way, or
// the way to the default gateway would be lost. It works out both from the state
// before and the state that the plan leads to, with package fib; it asks nobody
// and changes nothing.
//
// Another way is taken for the loss of a connection, since the peer's firewall
// has not seen it and translated addresses do not fit. Two things that look
// alike are no loss, because they are what viarule is for: traffic that is moved
// to another uplink, as long as it still finds one; and a connection whose
// packets left by a wrong link so far and leave by the link of its own address
// from now on.
package cutoff

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// Socket is a TCP socket of the namespace.
type Socket struct {
	Local, Remote netip.AddrPort // IPv4 may be mapped to IPv6
	Listen        bool           // else the connection is established
	UID           uint32         // of its owner
	Owners        []string       // names of the processes that hold it, as in /proc/PID/comm
}

// Input is what Check looks at.
type Input struct {
	Before netstate.State
	// Changes are those of the plan, in order, each with its number.
	Changes iter.Seq2[int, *netstate.Change]
	// Where says who asked for the change of a number, as file:line; empty: not
	// known. May be nil.
	Where func(int) string
	// Sockets are all TCP sockets of the namespace.
	Sockets []Socket
}

// Finding is one thing that would be cut off.
type Finding struct {
	What   string         // a sentence
	Peer   netip.AddrPort // of the connection; not valid where it is about the default gateway
	Object string         // the rule or route that is to blame, in text form; may be empty
	Where  string         // who asked for it, as file:line; may be empty
}

// String is the sentence, with what is to blame.
func (f Finding) String() string {
	s := f.What
	if f.Object != "" {
		s += ": " + f.Object
	}
	if f.Where != "" {
		s += " (" + f.Where + ")"
	}
	return s
}

// Check returns what the plan would cut off, connections first. Only routes that
// can matter are looked at, so that it takes some milliseconds for a plan of
// 100,000 routes.
func Check(in Input) []Finding {
	c := checker{in: in}
	sessions := ssh(in.Sockets)
	gateways := defaults(&in.Before)
	c.addrs = hostAddrs(&in.Before)

	var look []netip.Addr
	for i := range sessions {
		look = append(look, sessions[i].Local.Addr(), sessions[i].Remote.Addr())
	}
	for _, r := range gateways {
		for _, h := range hops(r) {
			if h.Via.IsValid() {
				look = append(look, h.Via)
			}
		}
	}
	look = append(look, c.addrs...)
	look = append(look, far4[:]...)
	look = append(look, far6[:]...)
	all := newTargets(look)

	c.before = all.only(in.Before)
	var changes []*netstate.Change
	for i, ch := range in.Changes {
		if ch.Route == nil || all.in(ch.Route.To) {
			changes = append(changes, ch)
			c.numbers = append(c.numbers, i)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	c.changes = changes
	c.after = netstate.After(c.before, changes)
	c.old, c.new = fib.New(&c.before), fib.New(&c.after)

	for i := range sessions {
		c.session(&sessions[i])
	}
	c.defaultRoutes()
	for _, r := range gateways {
		c.gateway(r)
	}
	c.farAway()
	return c.found
}

type checker struct {
	in            Input
	addrs         []netip.Addr
	before, after netstate.State // with the routes that matter
	old, new      *fib.FIB
	changes       []*netstate.Change
	numbers       []int // of the changes
	found         []Finding
}

// sshNames are the names of processes that serve ssh: OpenSSH before and since
// 9.8, and dropbear.
var sshNames = [...]string{"sshd", "sshd-session", "sshd-auth", "dropbear"}

const sshPort = 22

// ssh picks the connections of ssh servers: those that such a process holds, and
// those to a port on which one listens. A process cannot be seen from another
// process namespace (a container); port 22 is taken for ssh in any case.
func ssh(sockets []Socket) []Socket {
	served := func(s *Socket) bool {
		return slices.ContainsFunc(s.Owners, func(name string) bool { return slices.Contains(sshNames[:], name) })
	}
	ports := map[uint16]bool{sshPort: true}
	for i := range sockets {
		if s := &sockets[i]; s.Listen && served(s) {
			ports[s.Local.Port()] = true
		}
	}
	var out []Socket
	for i := range sockets {
		s := sockets[i]
		if s.Listen || !s.Remote.IsValid() || !s.Local.IsValid() || !served(&s) && !ports[s.Local.Port()] {
			continue
		}
		s.Local = netip.AddrPortFrom(s.Local.Addr().Unmap().WithZone(""), s.Local.Port())
		s.Remote = netip.AddrPortFrom(s.Remote.Addr().Unmap().WithZone(""), s.Remote.Port())
		out = append(out, s)
	}
	return out
}

func (c *checker) session(s *Socket) {
	const tcp = 6
	flow := fib.Flow{From: s.Local.Addr(), To: s.Remote.Addr(), Proto: tcp, SPort: s.Local.Port(), DPort: s.Remote.Port(), UID: s.UID}
	before, after := c.old.Lookup(flow), c.new.Lookup(flow)
	if c.same(&before, &after) || before.Verdict != fib.Unknown && !before.Verdict.Goes() {
		return
	}
	if after.Verdict == fib.Unicast && c.holds(after.Hop.Dev, flow.From) && !c.holds(before.Hop.Dev, flow.From) {
		return // it leaves by the link of its own address at last
	}
	c.add(Finding{Peer: s.Remote, What: fmt.Sprintf("the ssh connection of %s to %s would be cut off: its packets leave %s now, and %s",
		s.Remote, s.Local, way(&before), would(&after))}, &before, &after)
}

// same says whether a packet meets no difference. Where it cannot be told which
// way it goes, that stays so if the same rule is in doubt.
func (c *checker) same(before, after *fib.Decision) bool {
	if before.Verdict == fib.Unknown && after.Verdict == fib.Unknown {
		return before.Why == after.Why
	}
	return before.Verdict == after.Verdict && slices.Equal(taken(before), taken(after))
}

// step is what a connection feels of a next hop: realms, weights and the like
// may change under it.
type step struct {
	dev string
	via netip.Addr
}

func taken(d *fib.Decision) []step {
	ways := d.Multipath
	if len(ways) == 0 {
		ways = []fib.Way{d.Way}
	}
	out := make([]step, len(ways))
	for i, w := range ways {
		out[i] = step{w.Hop.Dev, w.Hop.Via}
	}
	return out
}

// holds says whether an address is one of a link.
func (c *checker) holds(dev string, a netip.Addr) bool {
	return slices.ContainsFunc(c.in.Before.Addrs, func(l netstate.Addr) bool { return l.Dev == dev && l.Prefix.Addr() == a })
}

// defaultRoutes compares what main's default routes of lowest metric say.
func (c *checker) defaultRoutes() {
	for _, f := range netstate.Families {
		before, after := best(&c.before, f), best(&c.after, f)
		switch {
		case before == nil:
		case after == nil:
			c.addRoute(Finding{What: fmt.Sprintf("the %s default route of table main would go", f)}, before, nil)
		case !slices.EqualFunc(hops(before), hops(after), func(a, b netstate.Hop) bool { return a.Dev == b.Dev && a.Via == b.Via }):
			c.addRoute(Finding{What: fmt.Sprintf("the %s default route of table main goes %s now, and would go %s", f, hopsText(hops(before)), hopsText(hops(after)))}, before, after)
		}
	}
}

// gateway checks that a default gateway is still reached by its link.
func (c *checker) gateway(r *netstate.Route) {
	for _, h := range hops(r) {
		// A link-local gateway is on its link whatever the rules say.
		if !h.Via.IsValid() || h.Via.IsLinkLocalUnicast() {
			continue
		}
		flow := fib.Flow{To: h.Via}
		before, after := c.old.Lookup(flow), c.new.Lookup(flow)
		if before.Verdict != fib.Unicast || before.Hop.Dev != h.Dev || c.same(&before, &after) {
			continue
		}
		if after.Verdict == fib.Unicast && after.Hop.Dev == h.Dev {
			continue
		}
		c.add(Finding{What: fmt.Sprintf("the default gateway %s is reached %s now, and %s", h.Via, way(&before), strings.Replace(would(&after), "would leave", "would be reached", 1))}, &before, &after)
	}
}

// Addresses that are far from every host: those of public name servers, since
// hosts that filter drop what goes to the documentation's prefixes.
var (
	far4 = [...]netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("8.8.4.4"), netip.MustParseAddr("1.0.0.1")}
	far6 = [...]netip.Addr{netip.MustParseAddr("2620:fe::fe"), netip.MustParseAddr("2001:4860:4860::8844"), netip.MustParseAddr("2606:4700:4700::1001")}
)

// farAway checks that packets from each address of the host, and from a socket
// that has not chosen one, still find a way out if they did before.
func (c *checker) farAway() {
	for _, f := range netstate.Families {
		list := far4[:]
		if f == netstate.IPv6 {
			list = far6[:]
		}
		if lost, before, after := c.lost(netip.Addr{}, list); lost {
			c.add(Finding{What: fmt.Sprintf("the host would have no way out by %s any more: %s", f, would(&after))}, &before, &after)
			continue // so would none of its addresses
		}
		for _, a := range c.addrs {
			if netstate.FamilyOf(a) != f {
				continue
			}
			if lost, before, after := c.lost(a, list); lost {
				c.add(Finding{What: fmt.Sprintf("packets from the host's address %s would find no way out any more: they %s", a, would(&after))}, &before, &after)
			}
		}
	}
}

// lost says whether all of the targets that were reached are not any more: a
// single one may be blocked on purpose.
func (c *checker) lost(from netip.Addr, to []netip.Addr) (lost bool, before, after fib.Decision) {
	for _, t := range to {
		flow := fib.Flow{From: from, To: t}
		b := c.old.Lookup(flow)
		if !b.Verdict.Goes() {
			continue
		}
		a := c.new.Lookup(flow)
		if a.Verdict.Goes() || a.Verdict == fib.Unknown {
			return false, b, a
		}
		lost, before, after = true, b, a
	}
	return lost, before, after
}

// defaults are the default routes of table main that forward.
func defaults(s *netstate.State) []*netstate.Route {
	var out []*netstate.Route
	for i := range s.Routes {
		r := &s.Routes[i]
		if r.Table == netstate.TableMain && r.To == r.Family.Default() && r.Type == netstate.RouteUnicast && !r.From.IsValid() {
			out = append(out, r)
		}
	}
	return out
}

// best is the default route of a family with the lowest metric.
func best(s *netstate.State, f netstate.Family) *netstate.Route {
	var out *netstate.Route
	for _, r := range defaults(s) {
		if r.Family == f && (out == nil || r.Metric < out.Metric) {
			out = r
		}
	}
	return out
}

func hops(r *netstate.Route) []netstate.Hop {
	if len(r.Hops) > 0 {
		return r.Hops
	}
	return []netstate.Hop{r.Hop}
}

// hostAddrs are the addresses that packets of the host have far away.
func hostAddrs(s *netstate.State) []netip.Addr {
	var out []netip.Addr
	for i := range s.Addrs {
		a := s.Addrs[i].Prefix.Addr()
		if s.Addrs[i].Scope == netstate.ScopeGlobal && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			out = append(out, a)
		}
	}
	return out
}
