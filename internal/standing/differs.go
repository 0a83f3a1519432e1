package standing

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
)

// Sysctl reads the value of a sysctl, by its key with slashes.
type Sysctl func(key string) (string, error)

// Differs says what is missing or wrong of an attachment, a part each; none: all of it
// stands as it was made. have is as for Of, with all links. Where the plugin stood in for
// the reference one, rules and routes need not have its mark.
//
// In a VRF the interface has to have addrs too: those that the kernel kept by itself are
// in no step.
func Differs(a *record.Attachment, have *netstate.State, sysctl Sysctl, addrs ...netip.Addr) []string {
	dev := link(have, a.Interface)
	if dev == nil {
		return []string{"the interface is missing"}
	}
	c := comparison{Standing: Of(a.Steps, have), markless: a.Plugin == record.DropIn, sysctl: sysctl}
	var out []string
	add := func(what string) {
		if what != "" {
			out = append(out, what)
		}
	}
	if a.VRF != "" {
		add(vrf(a, link(have, a.VRF)))
		if dev.Master != a.VRF {
			add("it is not a port of " + a.VRF)
		}
		for _, x := range given(a, addrs) {
			if !slices.ContainsFunc(have.Addrs, func(o netstate.Addr) bool { return o.Dev == a.Interface && o.Prefix.Addr() == x }) {
				add(fmt.Sprintf("the address %s is missing", x))
			}
		}
	}
	strict := netstate.Sysctl{Key: "net/ipv4/conf/" + a.Interface + "/rp_filter", Value: "1"}
	if slices.ContainsFunc(a.Steps, func(x record.Step) bool { return x.Do.Sysctl != nil && *x.Do.Sysctl == strict }) {
		add(Loose(sysctl))
	}
	for i := range a.Steps {
		add(c.step(&a.Steps[i].Do))
	}
	return out
}

func link(s *netstate.State, name string) *netstate.Link {
	for i := range s.Links {
		if s.Links[i].Name == name {
			return &s.Links[i]
		}
	}
	return nil
}

func vrf(a *record.Attachment, v *netstate.Link) string {
	switch {
	case v == nil || v.Kind != "vrf":
		return fmt.Sprintf("the VRF %s is missing", a.VRF)
	case len(a.Tables) == 1 && v.VRFTable != a.Tables[0]:
		return fmt.Sprintf("the VRF %s has the table %d, not %d", a.VRF, v.VRFTable, a.Tables[0])
	case !v.Up:
		return fmt.Sprintf("the VRF %s is down", a.VRF)
	}
	return ""
}

// Loose says that the reverse path filter of every link is loose, since the larger of
// the link's value and that of all counts; empty: it is not.
func Loose(sysctl Sysctl) string {
	const all = "net/ipv4/conf/all/rp_filter"
	if v, err := sysctl(all); err == nil && v == "2" {
		return all + " is 2, so the reverse path filter is loose"
	}
	return ""
}

// given adds to addrs those that the steps put on the interface.
func given(a *record.Attachment, addrs []netip.Addr) []netip.Addr {
	for i := range a.Steps {
		do := &a.Steps[i].Do
		if do.Addr != nil && do.Verb != netstate.Delete && !slices.Contains(addrs, do.Addr.Prefix.Addr()) {
			addrs = append(addrs, do.Addr.Prefix.Addr())
		}
	}
	return addrs
}

// comparison is one call of Differs.
type comparison struct {
	*Standing
	markless bool // the same without our mark is as good
	sysctl   Sysctl
}

// step says what is wrong with one step.
func (c *comparison) step(do *netstate.Change) string {
	switch {
	case do.Sysctl != nil:
		switch now, err := c.sysctl(do.Sysctl.Key); {
		case err != nil:
			return err.Error()
		case now != do.Sysctl.Value:
			return fmt.Sprintf("%s is %s, not %s", do.Sysctl.Key, now, do.Sysctl.Value)
		}
	case do.Rule != nil:
		if !c.rule(do.Rule) {
			return "missing: " + do.Rule.String()
		}
	case do.Link != nil, do.Addr != nil: // told before
	case do.Verb == netstate.Delete:
		// What the kernel makes by itself for IPv6 may come back.
		if now := c.Route(do.Route); now != nil && now.Equal(do.Route) && do.Route.Family == netstate.IPv4 {
			return "back in main: " + do.Route.String()
		}
	default:
		return c.route(do.Route)
	}
	return ""
}

func (c *comparison) rule(want *netstate.Rule) bool {
	if c.rules[*want] > 0 {
		return true
	}
	for r := range c.rules {
		if r.Protocol = want.Protocol; c.markless && r == *want {
			return true
		}
	}
	return false
}

func (c *comparison) route(want *netstate.Route) string {
	now := c.Route(want)
	if now == nil {
		return "missing: " + want.String()
	}
	is := *now
	if c.markless {
		is.Protocol = want.Protocol
	}
	if !is.Equal(want) {
		return fmt.Sprintf("wrong: %s, which should be %s", now, want)
	}
	return ""
}
