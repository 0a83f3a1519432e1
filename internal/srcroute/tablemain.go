package srcroute

import (
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// editMain says what becomes of the interface's routes in main.
func (b *builder) editMain() {
	switch {
	case b.Own:
		b.giveHints()
	case b.SourceHints:
		b.keepConnected()
	default:
		b.remove(func(*netstate.Route) bool { return true })
	}
}

// remove takes those of the interface's routes out of main that go says.
func (b *builder) remove(goes func(*netstate.Route) bool) {
	var list []*netstate.Route
	for i := range b.facts.Main {
		if r := &b.facts.Main[i]; b.plain(r) && !b.kernelKeeps(r) && goes(r) {
			list = append(list, r)
		}
	}
	slices.Reverse(list) // so that those of no matter go in the order in which they stand
	for _, r := range slices.Backward(inOrder(list)) {
		b.want.Main = append(b.want.Main, Edit{Old: r})
	}
}

// kernelKeeps says that a route has to stay: without those to link-local addresses
// neighbours are not found, and what router advertisements bring comes back with the
// next one.
func (b *builder) kernelKeeps(r *netstate.Route) bool {
	if r.Family == netstate.IPv4 {
		return false
	}
	if r.To.Addr().IsLinkLocalUnicast() || r.To.Addr().IsMulticast() || r.Protocol == netstate.ProtocolRA {
		return true
	}
	return r.Protocol == netstate.ProtocolKernel && !slices.ContainsFunc(b.Addrs, func(a Address) bool { return r.To.Contains(a.addr()) })
}

// keepConnected leaves the networks of the addresses in main, with the address as
// source, and takes out what leaves by a gateway. As in giveHints, what another link
// shares is left alone.
func (b *builder) keepConnected() {
	for i := range b.Addrs {
		a := &b.Addrs[i]
		net := a.Prefix.Masked()
		at := slices.IndexFunc(b.facts.Main, func(r netstate.Route) bool {
			return r.To == net && r.Family == a.family() && b.plain(&r) && !r.Hop.Via.IsValid()
		})
		if at < 0 {
			r := netstate.CanonicalRoute(netstate.Route{Family: a.family(), Table: netstate.TableMain, To: net, Type: netstate.RouteUnicast,
				Protocol: netstate.ProtocolCNI, Hop: netstate.Hop{Dev: b.Dev}})
			r.Scope = netstate.DefaultScope(&r)
			b.setSource(&r, a)
			// Two addresses of one network: the first has it.
			if !b.facts.Shared[r.Key()] && !b.wanted(r.Key()) {
				b.want.Main = append(b.want.Main, Edit{Old: b.inTheWay(&r), New: &r})
			}
			continue
		}
		if old := &b.facts.Main[at]; !b.isAddr(old.Src) && !b.facts.Shared[old.Key()] {
			b.hint(old, a)
		}
	}
	b.remove(func(r *netstate.Route) bool { return r.Hop.Via.IsValid() && !b.edited(r) })
}

// inTheWay is the route that has r's place in main: the plugin ptp has one by the
// gateway to its network.
func (b *builder) inTheWay(r *netstate.Route) *netstate.Route {
	for i := range b.facts.Main {
		if old := &b.facts.Main[i]; b.plain(old) && old.Key() == r.Key() && !b.edited(old) {
			return old
		}
	}
	return nil
}

// wanted says that main is to have a route of a key.
func (b *builder) wanted(k netstate.RouteKey) bool {
	return slices.ContainsFunc(b.want.Main, func(e Edit) bool { return e.New != nil && e.New.Key() == k })
}

func (b *builder) edited(old *netstate.Route) bool {
	return slices.ContainsFunc(b.want.Main, func(e Edit) bool { return e.Old == old })
}

func (b *builder) hint(old *netstate.Route, a *Address) {
	hinted := *old
	b.setSource(&hinted, a)
	if hinted.Src == old.Src || b.edited(old) {
		return
	}
	b.want.Main = append(b.want.Main, Edit{Old: old, New: &hinted})
}

// giveHints leaves all of the interface's routes in main, and gives those without a
// source the address that belongs to them. The kernel replaces the first route of a
// key, so one whose key another link's route has is left alone.
func (b *builder) giveHints() {
	for i := range b.facts.Main {
		r := &b.facts.Main[i]
		if !Hintable(r) || !b.plain(r) || b.facts.Shared[r.Key()] || b.kernelKeeps(r) {
			continue
		}
		if a := b.sourceFor(r); a != nil {
			b.hint(r, a)
		}
	}
}

// Hintable says that a route could do with a source.
func Hintable(r *netstate.Route) bool {
	return r.Type == netstate.RouteUnicast && !r.Src.IsValid() && !r.To.Addr().IsMulticast()
}

// sourceFor is the address in whose network a route's gateway is, else its
// destination, else the first of its family.
func (b *builder) sourceFor(r *netstate.Route) *Address {
	within := func(x netip.Addr) *Address {
		for i := range b.Addrs {
			if b.Addrs[i].Prefix.Contains(x) {
				return &b.Addrs[i]
			}
		}
		return nil
	}
	if a := within(r.Hop.Via); a != nil { // of no gateway there is none
		return a
	}
	if a := within(r.To.Addr()); a != nil && r.To.Bits() > 0 {
		return a
	}
	_, a := b.tableOf(r.Family)
	return a
}
