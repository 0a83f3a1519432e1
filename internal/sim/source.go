package sim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// SourceCheck is the kernel's check of a packet's source address, which looks
// where an answer to it would go.
type SourceCheck struct {
	Filter  int    // the effective rp_filter: 0, 1 (strict) or 2 (loose)
	FromAll bool   // the value is that of `all`, and not the link's own
	In      string // the link that the packet came in by
	Out     string // the link by which it goes on, lo for this host: the iif of the check's walk
	Mark    uint32 // that the walk was made with
	Back    fib.Decision
}

// checkSource is fib_validate_source for IPv4; IPv6 has no such check. The walk has
// out as its iif, and to as its source. It gives nil where the packet passes.
func (r *run) checkSource(out string, to netip.Addr) *Answer {
	in, from := r.p.IIF, r.p.From
	conf := func(link, key string) int { return r.sysctl("net/ipv4/conf/" + link + "/" + key) }
	own, all := conf(in, "rp_filter"), conf("all", "rp_filter")
	c := &SourceCheck{Filter: max(own, all), FromAll: all > own, In: in, Out: out}
	r.a.Check = c
	acceptLocal := conf(in, "accept_local") > 0 || conf("all", "accept_local") > 0
	// A packet that goes back by its own link is checked for the redirect's sake.
	redirects := in == out && (conf(in, "send_redirects") > 0 || conf("all", "send_redirects") > 0)
	short := c.Filter == 0 && !r.w.realms && !redirects
	if short && acceptLocal {
		return nil
	}
	if conf(in, "src_valid_mark") > 0 || conf("all", "src_valid_mark") > 0 {
		c.Mark = r.p.Mark
	}
	back := r.p.Flow
	back.From, back.To = to, from
	back.SPort, back.DPort = r.p.DPort, r.p.SPort
	if !r.w.dissect {
		// The check is made with iif lo for what is delivered; a rule of iif lo with
		// ports then sees none, unless another rule had the kernel look for them.
		back.Proto, back.SPort, back.DPort = 0, 0, 0
	}
	back.IIF, back.Mark, back.UID, back.TunID = out, c.Mark, 0, 0
	back.VRF, back.Check = r.w.vrf(in), true
	c.Back = r.decide(SourceHook, back)
	d := &c.Back
	switch d.Verdict {
	case fib.Unknown:
		return &Answer{Verdict: Unknown, Reason: "the check of the source: " + d.Why}
	case fib.Unicast:
	case fib.Local:
		if !acceptLocal {
			return r.ownSource()
		}
	case fib.Broadcast, fib.Anycast, fib.Multicast:
		if short && !r.w.custom {
			// Until the namespace has had a rule of its own, only the host's addresses
			// are refused (fib4_has_custom_rules), and that cannot be seen later.
			return &Answer{Verdict: Unknown, Reason: fmt.Sprintf("the source %s is of the type %s here, which the kernel refuses only where there was ever a rule besides its own", from, d.Verdict)}
		}
		return r.failed(OwnSource, fmt.Sprintf("the source %s is of the type %s here", from, d.Verdict))
	default:
		if c.Filter > 0 {
			return r.failed(ReverseFilter, fmt.Sprintf("rp_filter on %s (%s) drops it: no way leads back to %s (%s)", in, c, from, d.Verdict))
		}
		r.passed(c, "nothing leads back, and nothing needs to")
		return nil
	}
	if r.leadsBack(d) {
		r.passed(c, "the way back is by "+in)
		return nil
	}
	if c.Filter == 1 || c.Filter == 2 && !r.hasAddress(in) {
		reason := fmt.Sprintf("rp_filter on %s (%s) drops it: an answer to %s would leave by %s", in, c, from, d.Hop.Dev)
		if c.Filter == 2 {
			reason = fmt.Sprintf("rp_filter on %s (%s) drops it: %s has no IPv4 address, so that the way back must be by it, and it is by %s", in, c, in, d.Hop.Dev)
		}
		return r.failed(ReverseFilter, reason)
	}
	if c.Filter == 0 && !r.hasAddress(in) {
		r.passed(c, "the way back is another one, and nothing needs it")
		return nil
	}
	r.passed(c, "some way leads back, by "+d.Hop.Dev)
	return nil
}

// String says how the check was set, and by what.
func (c *SourceCheck) String() string {
	word := [...]string{"off", "strict", "loose"}[min(c.Filter, 2)]
	from := "its own"
	if c.FromAll {
		from = "effective from `all`"
	}
	return fmt.Sprintf("%s: %d, %s", word, c.Filter, from)
}

func (r *run) passed(c *SourceCheck, why string) {
	r.step(SourceHook, "sysctl", "rp_filter", func() string { return c.String() + ": passes: " + why })
}

func (r *run) failed(cause Cause, reason string) *Answer {
	if r.trace {
		r.a.Steps = append(r.a.Steps, Step{Hook: SourceHook, Kind: "sysctl", Object: "rp_filter", Result: reason, Decides: true})
	}
	return &Answer{Verdict: Dropped, Cause: cause, Reason: reason}
}

func (r *run) ownSource() *Answer {
	return r.failed(OwnSource, fmt.Sprintf("its source %s is an address of this host, which nobody else may use (sysctl accept_local is 0)", r.p.From))
}

// leadsBack is fib_info_nh_uses_dev: whether any next hop of the route is by the
// link that the packet came in by, or by a port of that VRF. A local route counts
// for packets of lo.
func (r *run) leadsBack(d *fib.Decision) bool {
	uses := func(dev string) bool { return dev == r.p.IIF || r.w.vrf(dev) == r.p.IIF }
	if d.Verdict == fib.Local && r.p.IIF == "lo" || uses(d.Hop.Dev) {
		return true
	}
	return d.Route != nil && slices.ContainsFunc(d.Route.Hops, func(h netstate.Hop) bool { return uses(h.Dev) })
}

// vrf is the VRF that a link is, or is a port of, itself or by its bridge; empty:
// none.
func (w *World) vrf(dev string) string {
	l := w.links[dev]
	if l == nil {
		return ""
	}
	if l.Kind == "vrf" {
		return l.Name
	}
	m := w.links[l.Master]
	if m != nil && m.Kind != "vrf" {
		m = w.links[m.Master] // of the bridge that it is a port of
	}
	if m != nil && m.Kind == "vrf" {
		return m.Name
	}
	return ""
}

// hasAddress says whether the link has an IPv4 address.
func (r *run) hasAddress(dev string) bool {
	return slices.ContainsFunc(r.w.in.State.Addrs, func(a netstate.Addr) bool { return a.Dev == dev && a.Prefix.Addr().Is4() })
}
