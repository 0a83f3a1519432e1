package kernelfake

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// addNexthop is rtm_new_nexthop.
func (k *Kernel) addNexthop(given netstate.Nexthop, replace bool) error {
	n := cloneNexthop(given)
	var err error
	if len(n.Group) > 0 {
		err = k.checkGroup(&n)
	} else {
		err = k.checkSingle(&n)
	}
	if err != nil {
		return err
	}
	old, exists := k.nexthops[n.ID]
	if exists && !replace {
		return unix.EEXIST
	}
	if exists && (len(old.Group) > 0) != (len(n.Group) > 0) {
		return refuse(unix.EINVAL, "Can not replace a nexthop group with a nexthop.")
	}
	if exists {
		if err := k.checkReplace(&n); err != nil {
			return err
		}
		if len(n.Group) > 0 {
			n.Protocol = old.Protocol // replace_nexthop_grp leaves it
		}
	}
	k.nexthops[n.ID] = n
	return nil
}

// checkReplace is replace_nexthop: what goes by the object of n's id, or by a group
// that has it, must be able to go by n.
func (k *Kernel) checkReplace(n *netstate.Nexthop) error {
	if err := k.checkRoutesBy(n.ID, n); err != nil {
		return err
	}
	for id, g := range k.nexthops {
		if !slices.ContainsFunc(g.Group, func(m netstate.GroupHop) bool { return m.ID == n.ID }) {
			continue
		}
		if n.Blackhole && len(g.Group) > 1 {
			return refuse(unix.EINVAL, "Blackhole nexthop can not be a member of a group with more than one path")
		}
		if err := k.checkRoutesBy(id, n); err != nil {
			return err
		}
	}
	return nil
}

// checkRoutesBy checks whether the routes by the object id could go by n.
func (k *Kernel) checkRoutesBy(id uint32, n *netstate.Nexthop) error {
	for _, list := range k.routes {
		for i := range list {
			if list[i].NexthopID != id {
				continue
			}
			if err := k.checkRouteBy(&list[i], n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *Kernel) checkGroup(n *netstate.Nexthop) error {
	n.Scope = netstate.ScopeGlobal
	for i := range n.Group {
		g := &n.Group[i]
		g.Weight = max(g.Weight, 1)
		member, ok := k.nexthops[g.ID]
		switch {
		case !ok:
			return refuse(unix.EINVAL, "Invalid nexthop id")
		case len(member.Group) > 0:
			return refuse(unix.EINVAL, "Hash-threshold group can not be a nexthop within a group")
		case member.Blackhole && len(n.Group) > 1:
			return refuse(unix.EINVAL, "Blackhole nexthop can not be used in a group with more than 1 path")
		case slices.ContainsFunc(n.Group[:i], func(o netstate.GroupHop) bool { return o.ID == g.ID }):
			return refuse(unix.EINVAL, "Nexthop id can not be used twice in a group")
		}
	}
	return nil
}

func (k *Kernel) checkSingle(n *netstate.Nexthop) error {
	if n.Blackhole {
		n.Hop, n.Scope = netstate.Hop{}, netstate.ScopeGlobal
		return nil
	}
	link := k.link(n.Hop.Dev)
	switch {
	case n.Hop.Dev == "":
		return refuse(unix.EINVAL, "Device attribute required for non-blackhole and non-fdb nexthops")
	case !link.Up:
		return refuse(unix.ENETDOWN, "Nexthop device is not up")
	}
	n.Scope = netstate.ScopeLink
	if n.Family == netstate.IPv4 && !n.Hop.Via.IsValid() {
		n.Scope = netstate.ScopeHost
	}
	return k.checkHop(&netstate.Route{Family: n.Family, Table: netstate.TableMain}, &n.Hop)
}

// checkObject checks a route by a next hop object.
func (k *Kernel) checkObject(r *netstate.Route) error {
	n, ok := k.nexthops[r.NexthopID]
	switch {
	case !ok:
		return refuse(unix.EINVAL, "Nexthop id does not exist")
	case r.Family == netstate.IPv6 && r.From.IsValid():
		return refuse(unix.EINVAL, "Nexthops can not be used with source routing")
	}
	return k.checkRouteBy(r, &n)
}

// checkRouteBy is fib_check_nexthop, or fib6_check_nexthop: whether r can go by n.
func (k *Kernel) checkRouteBy(r *netstate.Route, n *netstate.Nexthop) error {
	members := []netstate.Nexthop{*n}
	for i, g := range n.Group {
		if i == 0 {
			members = nil
		}
		members = append(members, k.nexthops[g.ID])
	}
	if r.Family == netstate.IPv6 {
		for _, m := range members {
			if m.Family == netstate.IPv4 {
				return refuse(unix.EINVAL, "IPv6 routes can not use an IPv4 nexthop")
			}
		}
		return nil
	}
	// nexthop_check_scope looks at the first of a group only.
	switch first := members[0]; {
	case r.Scope == netstate.ScopeHost && len(n.Group) > 0:
		return refuse(unix.EINVAL, "Route with host scope can not have multiple nexthops")
	case r.Scope == netstate.ScopeHost && first.Hop.Via.IsValid():
		return refuse(unix.EINVAL, "Route with host scope can not have a gateway")
	case r.Scope >= netstate.ScopeLink && first.Hop.OnLink:
		return refuse(unix.EINVAL, "Scope mismatch with nexthop")
	}
	return nil
}

// deleteNexthop removes an object, and what hangs on it.
func (k *Kernel) deleteNexthop(id uint32) error {
	if _, ok := k.nexthops[id]; !ok {
		return unix.ENOENT
	}
	k.dropNexthop(id)
	return nil
}

func (k *Kernel) dropNexthop(id uint32) {
	delete(k.nexthops, id)
	for g, list := range k.routes {
		k.setRoutes(g, slices.DeleteFunc(list, func(r netstate.Route) bool { return r.NexthopID == id }))
	}
	for other, n := range k.nexthops {
		had := len(n.Group)
		n.Group = slices.DeleteFunc(n.Group, func(g netstate.GroupHop) bool { return g.ID == id })
		switch {
		case len(n.Group) == had:
		case len(n.Group) == 0:
			k.dropNexthop(other)
		default:
			k.nexthops[other] = n
		}
	}
}

// resolved fills in what the kernel repeats of a route's next hop object.
func (k *Kernel) resolved(r netstate.Route) netstate.Route {
	n, ok := k.nexthops[r.NexthopID]
	if r.NexthopID == 0 || !ok {
		return r
	}
	r.Hop, r.Hops = netstate.Hop{}, nil
	switch {
	case n.Blackhole:
		r.Type = netstate.RouteBlackhole
	case len(n.Group) == 0:
		r.Hop = n.Hop
	case len(n.Group) == 1:
		r.Hop = k.nexthops[n.Group[0].ID].Hop
	default:
		for _, g := range n.Group {
			h := k.nexthops[g.ID].Hop
			h.Weight = g.Weight
			r.Hops = append(r.Hops, h)
		}
	}
	return r
}
