package desired

import (
	"fmt"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
)

// hopQuery is what a next hop's answer depends on.
type hopQuery struct {
	family netstate.Family // of the route
	table  uint32
	local  bool // a route of type local
	via    netip.Addr
	dev    string
	onlink bool
}

// hopAnswer is the link of a next hop, or what is wrong with it.
type hopAnswer struct {
	dev      string
	key      string // the key of the route that is wrong
	what, do string // what is empty where nothing is
	lacking  bool   // a link is not there, or not up
}

// resolve finds the link of a next hop and checks it as the kernel would.
func (h *hostView) resolve(q hopQuery) hopAnswer {
	r := &h.recent[0]
	if q.via.IsValid() {
		b := q.via.As16()
		r = &h.recent[b[15]]
	}
	if r.q == q { // the zero query has no family, and no route does
		return r.a
	}
	a, ok := h.hops[q]
	if !ok {
		a = h.judge(q)
		h.hops[q] = a
	}
	r.q, r.a = q, a
	return a
}

func (h *hostView) judge(q hopQuery) hopAnswer {
	if q.dev != "" {
		l := h.links[q.dev]
		if l == nil {
			return hopAnswer{key: "dev", lacking: true, what: fmt.Sprintf("no link named %s in this namespace; %s", q.dev, h.linkNames())}
		}
		if q.dev = l.Name; !l.Up && !q.local {
			return hopAnswer{key: "dev", lacking: true, what: fmt.Sprintf("%s is down, and the kernel takes no routes through it", q.dev), do: fmt.Sprintf("set it up first (ip link set %s up)", q.dev)}
		}
	}
	switch {
	case q.via.IsValid():
		return h.judgeGateway(q)
	case q.dev != "":
		return hopAnswer{dev: q.dev}
	case q.local:
		for i := range h.b.facts.State.Links {
			if h.b.facts.State.Links[i].Loopback {
				return hopAnswer{dev: h.b.facts.State.Links[i].Name}
			}
		}
		return hopAnswer{dev: "lo"}
	}
	return hopAnswer{key: "to", what: "the route says neither via nor dev", do: "name the gateway, or the link"}
}

func (h *hostView) judgeGateway(q hopQuery) hopAnswer {
	f := netstate.FamilyOf(q.via)
	switch {
	case q.onlink && q.dev == "":
		return hopAnswer{key: "dev", what: "onlink needs the name of the link", do: "add dev"}
	case f == netstate.IPv6 && q.via.IsLinkLocalUnicast() && q.dev == "":
		return hopAnswer{key: "dev", what: fmt.Sprintf("%s is a link-local address, which every link may have", q.via), do: "add dev"}
	case h.own[q.via]:
		return hopAnswer{key: "via", what: fmt.Sprintf("%s is an address of this host", q.via), do: "use the gateway's address"}
	case q.onlink, f == netstate.IPv6 && q.via.IsLinkLocalUnicast():
		return hopAnswer{dev: q.dev}
	case q.dev != "" && h.onSubnet(q.via, q.dev):
		return hopAnswer{dev: q.dev}
	}
	if r, ok := h.findOnlink(f, q.table, q.via, q.dev); ok {
		if l := h.links[r.dev]; l != nil && !l.Up {
			return hopAnswer{key: "via", what: fmt.Sprintf("%s is reached by %s, which is down", q.via, r.dev), do: fmt.Sprintf("set it up first (ip link set %s up)", r.dev)}
		}
		if !r.local {
			return hopAnswer{dev: r.dev}
		}
		return hopAnswer{key: "via", what: fmt.Sprintf("%s is an address of this host", q.via), do: "use the gateway's address"}
	}
	if q.dev == "" {
		if dev := h.linkOf(q.via); dev != "" {
			return hopAnswer{dev: dev}
		}
	}
	return h.notOnSubnet(q, f)
}

// linkOf is the link with the narrowest subnet that holds the gateway.
func (h *hostView) linkOf(via netip.Addr) string {
	dev, bits := "", -1
	for i := range h.b.facts.State.Addrs {
		a := &h.b.facts.State.Addrs[i]
		if l := h.links[a.Dev]; subnet(a).Contains(via) && subnet(a).Bits() > bits && l != nil && l.Up {
			dev, bits = a.Dev, subnet(a).Bits()
		}
	}
	return dev
}

func (h *hostView) notOnSubnet(q hopQuery, f netstate.Family) hopAnswer {
	near := h.subnets(f, q.dev)
	a := hopAnswer{key: "via"}
	switch {
	case q.dev == "":
		a.what = fmt.Sprintf("%s is on no subnet of this namespace", q.via)
		if len(near.addrs) > 0 {
			a.what += " (" + some(near.addrs) + ")"
		}
		a.do = "name the link with dev and set onlink: true"
	case len(near.addrs) == 0:
		a.what = fmt.Sprintf("%s is not on a subnet of %s, which has no %s address", q.via, q.dev, f)
		a.do = "set onlink: true"
	default:
		a.what = fmt.Sprintf("%s is not on a subnet of %s (%s)", q.via, q.dev, some(near.addrs))
		a.do = "set onlink: true"
	}
	if len(near.nets) > 0 {
		a.do += ", or use a gateway in " + some(near.nets)
	}
	return a
}
