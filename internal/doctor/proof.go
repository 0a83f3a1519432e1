package doctor

import (
	"fmt"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// proof is the command that shows what becomes of a packet which a rule selects.
func (d *doctor) proof(r *netstate.Rule) string {
	from, to := netip.Addr{}, far(farOf(r.Family))
	if r.From.IsValid() {
		from = second(r.From)
		for i := range d.s.Addrs {
			if a := d.s.Addrs[i].Prefix.Addr(); r.From.Contains(a) {
				from = a // one that this host may send from
				break
			}
		}
	}
	if r.To.IsValid() {
		to = second(r.To)
	}
	dev := r.IIF
	if dev == "" && from.IsValid() && !d.holdsAny(netip.PrefixFrom(from, from.BitLen())) {
		dev = d.anyLink()
	}
	if dev != "" && dev != "lo" && !from.IsValid() {
		from = far(to).Next()
	}
	s := ""
	if from.IsValid() {
		s += fmt.Sprintf("--from %s ", from)
	}
	s += fmt.Sprintf("--to %s", to)
	if dev != "" && dev != "lo" {
		s += " --iif " + dev
	}
	if r.OIF != "" {
		s += " --oif " + r.OIF
	}
	if r.Mark.Mask != 0 {
		s += fmt.Sprintf(" --fwmark 0x%x", r.Mark.Value)
	}
	if r.Proto != 0 {
		s += fmt.Sprintf(" --ipproto %d", r.Proto)
		if r.SPort.Lo != 0 {
			s += fmt.Sprintf(" --sport %d", r.SPort.Lo)
		}
		if r.DPort.Lo != 0 {
			s += fmt.Sprintf(" --dport %d", r.DPort.Lo)
		}
	}
	if r.UID.Set && dev == "" {
		s += fmt.Sprintf(" --uid %d", r.UID.Lo)
	}
	return d.command(s)
}

func farOf(f netstate.Family) netip.Addr { return f.Default().Addr() }

// second is the second address of a prefix: the first is often nobody's.
func second(p netip.Prefix) netip.Addr {
	if n := p.Addr().Next(); p.Contains(n) {
		return n
	}
	return p.Addr()
}

// anyLink is a link by which packets may come in; empty: none.
func (d *doctor) anyLink() string {
	for i := range d.s.Links {
		if l := &d.s.Links[i]; l.Up && !l.Loopback && l.Master == "" && l.Kind != "vrf" {
			return l.Name
		}
	}
	return ""
}
