package plan

import (
	"errors"
	"fmt"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// kernel is a small model of what Linux does with the writes of a plan. It is
// written from the kernel's sources and shares nothing with the code under test:
// rule lists as net/core/fib_rules.c keeps them, route lists as
// net/ipv4/fib_trie.c and net/ipv6/ip6_fib.c.
type kernel struct {
	rules   []netstate.Rule
	routes  []netstate.Route
	sysctls map[string]string
	kernelLinks
}

func newKernel(s netstate.State, sysctls map[string]string) *kernel {
	k := &kernel{rules: slices.Clone(s.Rules), routes: slices.Clone(s.Routes), sysctls: map[string]string{}}
	for key, v := range sysctls {
		k.sysctls[key] = v
	}
	k.links, k.nft = slices.Clone(s.Links), slices.Clone(s.Nft)
	return k
}

func (k *kernel) clone() *kernel { return newKernel(k.state(), k.sysctls) }

func (k *kernel) state() netstate.State {
	return netstate.State{Rules: slices.Clone(k.rules), Routes: slices.Clone(k.routes), Links: slices.Clone(k.links), Nft: slices.Clone(k.nft)}
}

func (k *kernel) apply(c *netstate.Change) error {
	switch {
	case c.Rule != nil && c.Verb == netstate.Add:
		return k.addRule(*c.Rule)
	case c.Rule != nil && c.Verb == netstate.Delete:
		return k.delRule(c.Rule)
	case c.Route != nil && c.Verb == netstate.Delete:
		return k.delRoute(c.Route)
	case c.Route != nil:
		return k.setRoute(*c.Route, c.Verb == netstate.Replace)
	case c.Link != nil:
		return k.setLink(c.Verb, *c.Link)
	case c.Nft != nil:
		return k.setNft(c.Verb, *c.Nft)
	case c.Sysctl != nil && c.Verb == netstate.Replace:
		if dev := sysctlLink(c.Sysctl.Key); !k.hasLink(dev) {
			return fmt.Errorf("no link %s", dev)
		}
		k.sysctls[c.Sysctl.Key] = c.Sysctl.Value
		return nil
	}
	return fmt.Errorf("no such write: %s", c)
}

func (k *kernel) addRule(r netstate.Rule) error {
	if r.Action == netstate.Goto && r.Goto <= r.Priority {
		return errors.New("a goto leads backwards")
	}
	at := len(k.rules)
	for i := range k.rules {
		if o := &k.rules[i]; o.Family > r.Family || o.Family == r.Family && o.Priority > r.Priority {
			at = i
			break
		}
	}
	k.rules = slices.Insert(k.rules, at, r)
	return nil
}

func (k *kernel) delRule(d *netstate.Rule) error {
	for i, r := range k.rules {
		field := func(r *netstate.Rule) int {
			if r.DSCP.Set {
				return int(r.DSCP.Val) * 4
			}
			return int(r.TOS)
		}
		switch {
		case r.Family != d.Family, r.Priority != d.Priority:
		case d.Action != 0 && r.Action != d.Action, d.Table != 0 && r.Table != d.Table:
		case d.IIF != "" && r.IIF != d.IIF, d.OIF != "" && r.OIF != d.OIF:
		case d.Mark.Value != 0 && r.Mark.Value != d.Mark.Value, d.Mark.Mask != 0 && r.Mark.Mask != d.Mark.Mask:
		case d.SuppressIfGroup.Set && r.SuppressIfGroup != d.SuppressIfGroup:
		case d.SuppressPrefixLength.Set && r.SuppressPrefixLength != d.SuppressPrefixLength:
		case d.TunID != 0 && r.TunID != d.TunID, d.L3MDev && !r.L3MDev, d.UID.Set && r.UID != d.UID:
		case d.Proto != 0 && r.Proto != d.Proto, d.Protocol != 0 && r.Protocol != d.Protocol:
		case d.SPort.Lo != 0 && r.SPort != d.SPort, d.DPort.Lo != 0 && r.DPort != d.DPort:
		case d.From.IsValid() && r.From != d.From, d.To.IsValid() && r.To != d.To:
		case d.TOS != 0 && field(&r) != int(d.TOS), d.DSCP.Set && r.DSCP != d.DSCP:
		case d.Realms != 0 && d.Family == netstate.IPv4 && r.Realms != d.Realms:
		default:
			k.rules = slices.Delete(k.rules, i, i+1)
			return nil
		}
	}
	return errors.New("no such rule")
}

func (k *kernel) setRoute(r netstate.Route, replace bool) error {
	if r.Hop.Dev != "" && !k.isUp(r.Hop.Dev) {
		return fmt.Errorf("%s is not there or down", r.Hop.Dev)
	}
	at := len(k.routes)
	for i := range k.routes {
		if k.routes[i].Key() != r.Key() {
			continue
		}
		if !replace {
			return errors.New("route exists")
		}
		rest := k.routes[i+1:]
		if r.Family == netstate.IPv4 {
			if slices.ContainsFunc(rest, func(o netstate.Route) bool { return o.Equal(&r) }) {
				return errors.New("route exists, further down")
			}
		} else if slices.ContainsFunc(rest, func(o netstate.Route) bool { return o.Key() == r.Key() }) {
			return errors.New("test: replacing one of several IPv6 routes of a key")
		}
		k.routes[i] = r
		return nil
	}
	for i := range k.routes {
		if netstate.CompareRouteKey(k.routes[i].Key(), r.Key()) > 0 {
			at = i
			break
		}
	}
	k.routes = slices.Insert(k.routes, at, r)
	return nil
}

func (k *kernel) delRoute(d *netstate.Route) error {
	for i := range k.routes {
		r := &k.routes[i]
		if r.Family != d.Family || r.Table != d.Table || r.To != d.To || r.From != d.From || r.TOS != d.TOS ||
			d.Metric != 0 && r.Metric != d.Metric || d.Protocol != 0 && r.Protocol != d.Protocol ||
			d.Hop.Dev != "" && r.Hop.Dev != d.Hop.Dev || d.Hop.Via.IsValid() && r.Hop.Via != d.Hop.Via ||
			d.Family == netstate.IPv4 && (r.Type != d.Type || r.Scope != d.Scope || d.Src.IsValid() && r.Src != d.Src || d.MTU != 0 && r.MTU != d.MTU) {
			continue
		}
		k.routes = slices.Delete(k.routes, i, i+1)
		return nil
	}
	return errors.New("no such route")
}
