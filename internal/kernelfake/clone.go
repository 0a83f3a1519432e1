package kernelfake

import (
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

func cloneRoute(r netstate.Route) netstate.Route {
	r.Hops = slices.Clone(r.Hops)
	return r
}

func cloneNexthop(n netstate.Nexthop) netstate.Nexthop {
	n.Group = slices.Clone(n.Group)
	return n
}

// cloneChange keeps a change as it was, whatever its sender does with it later.
func cloneChange(ch netstate.Change) netstate.Change {
	if ch.Rule != nil {
		r := *ch.Rule
		ch.Rule = &r
	}
	if ch.Route != nil {
		r := cloneRoute(*ch.Route)
		ch.Route = &r
	}
	if ch.Nexthop != nil {
		n := cloneNexthop(*ch.Nexthop)
		ch.Nexthop = &n
	}
	if ch.Sysctl != nil {
		s := *ch.Sysctl
		ch.Sysctl = &s
	}
	if ch.Link != nil {
		l := *ch.Link
		ch.Link = &l
	}
	if ch.Addr != nil {
		a := *ch.Addr
		ch.Addr = &a
	}
	if ch.Accept != nil {
		a := *ch.Accept
		ch.Accept = &a
	}
	if ch.Nft != nil {
		t := netstate.CanonicalNft(*ch.Nft)
		ch.Nft = &t
	}
	return ch
}
