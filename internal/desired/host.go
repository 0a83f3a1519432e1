package desired

import (
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
)

// hostView answers what routes need to know of links and addresses.
type hostView struct {
	b     *builder
	links map[string]*netstate.Link   // by name and by alternative name
	addrs map[string][]*netstate.Addr // by link
	own   map[netip.Addr]bool         // the addresses of all links
	// onlink, made at first use, holds the routes without a gateway by which the
	// kernel finds gateways: foreign ones that stand and all that are wanted.
	onlink map[onlinkKey][]onlinkRoute
	// lengths are the prefix lengths that occur in a table of onlink.
	lengths map[tableKey]*[129]bool
	// standing, made at first use, finds a route of the state by its key.
	standing map[netstate.RouteKey]int
	hops     map[hopQuery]hopAnswer
	locals   *prefixSet // made at first use
	names    string     // of the links, for messages, made at first use
	listed   map[subnetsKey]*subnets
	// recent holds the last answer for each last byte of a gateway: most routes
	// go by one of a few gateways.
	recent [256]struct {
		q hopQuery
		a hopAnswer
	}
}

type onlinkKey struct {
	tableKey
	pfx
}

type onlinkRoute struct {
	dev    string
	metric uint32
	local  bool // the address is one of this host
}

func newHostView(b *builder) *hostView {
	s := &b.facts.State
	h := &hostView{
		b:     b,
		links: make(map[string]*netstate.Link, len(s.Links)),
		addrs: make(map[string][]*netstate.Addr),
		own:   make(map[netip.Addr]bool, len(s.Addrs)),
		hops:  make(map[hopQuery]hopAnswer),
	}
	for i := range s.Links {
		for _, n := range s.Links[i].AltNames {
			h.links[n] = &s.Links[i]
		}
	}
	for i := range s.Links {
		h.links[s.Links[i].Name] = &s.Links[i]
	}
	for i := range s.Addrs {
		h.addrs[s.Addrs[i].Dev] = append(h.addrs[s.Addrs[i].Dev], &s.Addrs[i])
		h.own[s.Addrs[i].Prefix.Addr()] = true
	}
	return h
}

// linkNames lists the links, for messages.
func (h *hostView) linkNames() string {
	if h.names == "" {
		h.names = h.listLinks()
	}
	return h.names
}

func (h *hostView) listLinks() string {
	s := &h.b.facts.State
	if len(s.Links) == 0 {
		return "there are none"
	}
	names := make([]string, len(s.Links))
	for i := range s.Links {
		names[i] = s.Links[i].Name
	}
	if len(names) == 1 {
		return "there is only " + names[0]
	}
	return "there are " + some(names)
}

// subnets are the addresses of a link, or of all with the names of the links,
// and the prefixes that gateways could be in. They are for messages.
type subnets struct{ addrs, nets []string }

type subnetsKey struct {
	family netstate.Family
	dev    string // "": all
}

func (h *hostView) subnets(f netstate.Family, dev string) *subnets {
	k := subnetsKey{f, dev}
	if s := h.listed[k]; s != nil {
		return s
	}
	s := new(subnets)
	if h.listed == nil {
		h.listed = make(map[subnetsKey]*subnets)
	}
	h.listed[k] = s
	for i := range h.b.facts.State.Addrs {
		a := &h.b.facts.State.Addrs[i]
		if netstate.FamilyOf(a.Prefix.Addr()) != f || dev != "" && a.Dev != dev {
			continue
		}
		text := a.Prefix.String()
		if dev == "" {
			text = a.Dev + " " + text
		}
		s.addrs = append(s.addrs, text)
		if n := subnet(a); !n.IsSingleIP() && !n.Addr().IsLoopback() && !n.Addr().IsLinkLocalUnicast() {
			s.nets = append(s.nets, n.String())
		}
	}
	return s
}

// onSubnet says whether the gateway is on a subnet that an address of the link
// names. That counts also while the kernel has no route to the subnet, since the
// message about the link's state says more then.
func (h *hostView) onSubnet(via netip.Addr, dev string) bool {
	for _, a := range h.addrs[dev] {
		if subnet(a).Contains(via) {
			return true
		}
	}
	return false
}

// subnet is what the kernel makes a route to for an address: the peer's side
// where it is point-to-point.
func subnet(a *netstate.Addr) netip.Prefix {
	if a.Peer.IsValid() {
		return a.Peer.Masked()
	}
	return a.Prefix.Masked()
}

// isSource says whether the kernel takes a as a preferred source: an address of
// any link, and for IPv4 (fib_valid_prefsrc) whatever a local route makes one.
func (h *hostView) isSource(a netip.Addr) bool {
	if h.own[a] || a.Is4() && a.IsLoopback() {
		return true
	}
	if !a.Is4() {
		return false
	}
	if h.locals == nil {
		h.locals = h.localPrefixes()
	}
	for _, n := range h.locals.lengths {
		if p, err := a.Prefix(n); err == nil && h.locals.set[p] {
			return true
		}
	}
	return false
}

// prefixSet finds whether an address is in one of many prefixes.
type prefixSet struct {
	set     map[netip.Prefix]bool
	lengths []int // that occur
}

// localPrefixes are those of foreign and of wanted routes of type local.
func (h *hostView) localPrefixes() *prefixSet {
	s := &prefixSet{set: make(map[netip.Prefix]bool)}
	var has [33]bool
	add := func(p netip.Prefix) {
		if p.Addr().Is4() {
			s.set[p] = true
			has[p.Bits()] = true
		}
	}
	for i := range h.b.facts.State.Routes {
		if r := &h.b.facts.State.Routes[i]; r.Type == netstate.RouteLocal && h.b.own.Route(r) != owner.Ours {
			add(r.To)
		}
	}
	for _, o := range h.b.objs {
		for i := range o.Policy.Tables {
			for j := range o.Policy.Tables[i].Routes {
				if r := &o.Policy.Tables[i].Routes[j]; r.Type == netstate.RouteLocal {
					add(r.To)
				}
			}
		}
	}
	for n := range has {
		if has[n] {
			s.lengths = append(s.lengths, n)
		}
	}
	return s
}

func (h *hostView) addOnlink(f netstate.Family, table uint32, to netip.Prefix, r onlinkRoute) {
	t := tableKey{f, table}
	k := onlinkKey{t, makePfx(to)}
	h.onlink[k] = append(h.onlink[k], r)
	if h.lengths[t] == nil {
		h.lengths[t] = new([129]bool)
	}
	h.lengths[t][k.n] = true
}

// indexOnlink collects the routes on which gateways are found. Our own that
// stand and are not wanted are about to go, so they do not count.
func (h *hostView) indexOnlink() {
	h.onlink = make(map[onlinkKey][]onlinkRoute)
	h.lengths = make(map[tableKey]*[129]bool)
	s := &h.b.facts.State
	for i := range s.Routes {
		r := &s.Routes[i]
		if h.b.own.Route(r) == owner.Ours || r.Type != netstate.RouteUnicast && r.Type != netstate.RouteLocal {
			continue
		}
		if len(r.Hops) == 0 && !r.Hop.Via.IsValid() && r.Hop.Dev != "" {
			h.addOnlink(r.Family, r.Table, r.To, onlinkRoute{r.Hop.Dev, r.Metric, r.Type == netstate.RouteLocal})
		}
		for j := range r.Hops {
			if !r.Hops[j].Via.IsValid() {
				h.addOnlink(r.Family, r.Table, r.To, onlinkRoute{r.Hops[j].Dev, r.Metric, false})
			}
		}
	}
	for _, o := range h.b.objs {
		for i := range o.Policy.Tables {
			t := &o.Policy.Tables[i]
			id := h.b.tables[t.Name].id
			for j := range t.Routes {
				r := &t.Routes[j]
				if id == 0 || r.Type != netstate.RouteUnicast || r.Via.IsValid() || r.Dev == "" || len(r.Nexthops) > 0 {
					continue
				}
				if l := h.links[r.Dev]; l != nil {
					h.addOnlink(familyOf(r), id, r.To, onlinkRoute{l.Name, r.Metric, false})
				}
			}
		}
	}
}

// findOnlink looks a gateway up as the kernel does (fib_check_nh_v4_gw and
// ip6_route_check_nh): first in the route's own table, then as any packet, for
// which the tables local, main and default are taken here. dev "" is any link.
func (h *hostView) findOnlink(f netstate.Family, table uint32, via netip.Addr, dev string) (onlinkRoute, bool) {
	if h.onlink == nil {
		h.indexOnlink()
	}
	full := makePfx(netip.PrefixFrom(via, f.Bits()))
	for _, t := range [...]uint32{table, netstate.TableLocal, netstate.TableMain, netstate.TableDefault} {
		lengths := h.lengths[tableKey{f, t}]
		if lengths == nil {
			continue
		}
		for n := f.Bits(); n >= 0; n-- {
			if !lengths[n] {
				continue
			}
			best, found := onlinkRoute{}, false
			for _, r := range h.onlink[onlinkKey{tableKey{f, t}, full.cut(uint8(n))}] {
				if (dev == "" || r.dev == dev) && (!found || r.metric < best.metric) {
					best, found = r, true
				}
			}
			if found {
				return best, true
			}
		}
	}
	return onlinkRoute{}, false
}

// stands finds the route of the state with this key.
func (h *hostView) stands(k netstate.RouteKey) *netstate.Route {
	s := &h.b.facts.State
	if h.standing == nil {
		h.standing = make(map[netstate.RouteKey]int, len(s.Routes))
		for i := range s.Routes {
			if _, ok := h.standing[s.Routes[i].Key()]; !ok {
				h.standing[s.Routes[i].Key()] = i
			}
		}
	}
	if i, ok := h.standing[k]; ok {
		return &s.Routes[i]
	}
	return nil
}
