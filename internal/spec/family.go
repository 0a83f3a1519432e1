package spec

import "github.com/viarule/viarule/internal/netstate"

// Family is the family of the route: that of To or, where To is not set (as for
// `to: default`), of the addresses that the route names; 0 where there is none.
// One IPv4 address decides, since an IPv4 route may have IPv6 gateways but not
// the other way round.
func (r *Route) Family() netstate.Family {
	if r.To.IsValid() {
		return netstate.FamilyOf(r.To.Addr())
	}
	f := netstate.FamilyOf(r.Src)
	if f == 0 || r.Via.Is4() {
		f = netstate.FamilyOf(r.Via)
	}
	for i := range r.Nexthops {
		if v := r.Nexthops[i].Via; f == 0 || v.Is4() {
			f = netstate.FamilyOf(v)
		}
	}
	return f
}
