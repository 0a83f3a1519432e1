package kernelfake

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// alone says whether kernel.Conn writes a change by itself.
func alone(ch *netstate.Change) bool { return ch.Link != nil || ch.Nft != nil || ch.Accept != nil }

// ofPort says whether a change is one of a port, of which the link is somebody else's.
func ofPort(l *netstate.Link, verb netstate.Verb) bool {
	return l.Alias == "" && l.Kind == "" && !l.Up && verb == netstate.Replace
}

func sayableLink(l *netstate.Link, verb netstate.Verb) error {
	if l.Name == "" || len(l.Name) >= unix.IFNAMSIZ || l.Alias == "" && !ofPort(l, verb) {
		return fmt.Errorf("link %q with the alias %q: %w", l.Name, l.Alias, unix.EINVAL)
	}
	return nil
}

func sayableNft(t *netstate.NftTable, verb netstate.Verb) error {
	if t.Name != netstate.NftTableObjects {
		return fmt.Errorf("table inet %s: not one of viarule's: %w", t.Name, unix.EPERM)
	}
	if verb == netstate.Add {
		return fmt.Errorf("a table of nftables is replaced or deleted: %w", unix.EINVAL)
	}
	return nil
}

func (k *Kernel) changeLink(verb netstate.Verb, l netstate.Link) error {
	at := slices.IndexFunc(k.links, func(o netstate.Link) bool { return o.Name == l.Name })
	switch {
	case verb == netstate.Add && at >= 0:
		return unix.EEXIST
	case verb != netstate.Add && at < 0:
		return fmt.Errorf("no link named %s in this namespace: %w", l.Name, unix.ENODEV)
	case verb == netstate.Delete && k.links[at].Alias != l.Alias:
		return fmt.Errorf("its alias is %q: %w", k.links[at].Alias, unix.EPERM)
	case verb == netstate.Delete:
		k.linkGone(l.Name)
	case ofPort(&l, verb):
		return k.setMaster(&k.links[at], l.Master)
	case verb == netstate.Replace:
		there := &k.links[at]
		there.Alias = l.Alias
		if l.Up {
			return k.setUp(there)
		}
		k.setDown(there)
	default:
		return k.addLink(l)
	}
	return nil
}

// above are the kinds of links that are made on another link, and go with it.
var above = []string{"vlan", "macvlan", "macvtap", "ipvlan"}

// setUp sets a link up. A VLAN refuses while its parent is down; others are then
// without a carrier.
func (k *Kernel) setUp(l *netstate.Link) error {
	parent := k.link(l.Parent)
	if l.Kind == "vlan" && parent != nil && !parent.Up {
		return fmt.Errorf("set it up: %w", unix.ENETDOWN)
	}
	l.Up = true
	l.Carrier = parent == nil || parent.Up && parent.Carrier
	return nil
}

// setDown sets a link down: the routes by it go, as with the link itself.
func (k *Kernel) setDown(l *netstate.Link) {
	l.Up, l.Carrier = false, false
	k.dropRoutes(l.Name)
}

func (k *Kernel) addLink(l netstate.Link) error {
	parent := k.link(l.Parent)
	switch {
	case strings.Contains(l.Name, "%"):
		return fmt.Errorf("link %s: %w", l.Name, unix.EINVAL)
	case l.Kind == "":
		return fmt.Errorf("no kind given: %w", unix.EINVAL)
	case l.Parent != "" && parent == nil:
		return fmt.Errorf("no link named %s in this namespace: %w", l.Parent, unix.ENODEV)
	case l.Parent == "" && slices.Contains(above, l.Kind):
		return unix.EINVAL
	}
	for i := range k.links {
		if o := &k.links[i]; l.Kind == "vlan" && o.Kind == "vlan" && o.Parent == l.Parent && o.VLAN == l.VLAN {
			return refuse(unix.EEXIST, "VLAN device already exists")
		}
		l.Index = max(l.Index, k.links[i].Index+1)
	}
	if parent != nil && l.MTU == 0 {
		l.MTU = parent.MTU
	}
	if l.Up {
		if err := k.setUp(&l); err != nil {
			return err
		}
	}
	k.links = append(k.links, l)
	for _, name := range [...]string{"rp_filter", "src_valid_mark", "arp_ignore", "arp_announce"} {
		k.sysctls["net/ipv4/conf/"+l.Name+"/"+name] = cmp.Or(k.sysctls["net/ipv4/conf/default/"+name], "0")
	}
	return nil
}

func (k *Kernel) changeNft(verb netstate.Verb, t netstate.NftTable) error {
	_, there := k.nft[t.Name]
	switch {
	case verb == netstate.Delete && !there:
		return unix.ENOENT
	case verb == netstate.Delete:
		delete(k.nft, t.Name)
	default:
		return k.putNft(t)
	}
	return nil
}

// putNft refuses what a kernel does: a table that leads to chains or maps that are
// not there, intervals that are none or overlap, hooks that there are not,
// chains that lead back to themselves, and masquerading where it is not possible.
func (k *Kernel) putNft(t netstate.NftTable) error {
	p := nftTable{chains: map[string]*netstate.NftChain{}, maps: map[string]*netstate.NftMap{}}
	for i := range t.Chains {
		p.chains[t.Chains[i].Name] = &t.Chains[i]
	}
	for i := range t.Maps {
		p.maps[t.Maps[i].Name] = &t.Maps[i]
	}
	for i := range t.Maps {
		if err := p.checkMap(&t.Maps[i]); err != nil {
			return err
		}
	}
	for i := range t.Chains {
		if err := p.checkChain(&t.Chains[i]); err != nil {
			return err
		}
	}
	for name := range p.chains {
		if p.loops(name, nil) {
			return unix.ELOOP
		}
	}
	for _, c := range p.chains {
		if c.Hook != (netstate.NftHook{}) && (c.Hook.Type != "nat" || c.Hook.Hook != "postrouting") && p.masquerades(c.Name) {
			return unix.EOPNOTSUPP // nft_masq_validate
		}
	}
	k.nft[t.Name] = netstate.CanonicalNft(t)
	return nil
}

// nftTable is a table under examination.
type nftTable struct {
	chains map[string]*netstate.NftChain
	maps   map[string]*netstate.NftMap
}

func (p *nftTable) checkMap(m *netstate.NftMap) error {
	elems := slices.SortedFunc(slices.Values(m.Elems), func(a, b netstate.NftElem) int { return a.First.Compare(b.First) })
	for i, e := range elems {
		switch {
		case netstate.FamilyOf(e.First) != m.Family, netstate.FamilyOf(e.Last) != m.Family, e.Last.Less(e.First):
			return fmt.Errorf("map %s: %s is no interval of its family: %w", m.Name, &e, unix.EINVAL)
		case i > 0 && !elems[i-1].Last.Less(e.First):
			return unix.EEXIST
		case p.chains[e.Chain] == nil:
			return unix.ENOENT
		}
	}
	return nil
}

func (p *nftTable) checkChain(c *netstate.NftChain) error {
	if h := c.Hook; h != (netstate.NftHook{}) {
		switch {
		case !slices.Contains([]string{"prerouting", "input", "forward", "output", "postrouting"}, h.Hook):
			return fmt.Errorf("chain %s: no hook %q: %w", c.Name, h.Hook, unix.EINVAL)
		case h.Type == "route" && h.Hook != "output", h.Type == "nat" && h.Hook == "forward":
			return unix.EOPNOTSUPP
		case h.Type == "nat" && h.Priority <= priorityConntrack:
			return unix.EOPNOTSUPP // nft_chain_parse_hook
		}
	}
	for _, r := range c.Rules {
		for _, s := range r {
			switch {
			case s.Op == netstate.NftUnknown:
				return fmt.Errorf("%q cannot be written: %w", s, unix.EINVAL)
			case s.Op == netstate.NftJump && p.chains[s.Name] == nil, looksUp(s) && p.maps[s.Name] == nil:
				return unix.ENOENT
			}
		}
	}
	return nil
}

func looksUp(s netstate.NftStmt) bool {
	return s.Op == netstate.NftDAddrMap || s.Op == netstate.NftSAddrMap || s.Op == netstate.NftOrigMap
}

// priorityConntrack is NF_IP_PRI_CONNTRACK: what comes before cannot translate.
const priorityConntrack = -200

// masquerades says whether a chain, or one that it leads to, translates addresses.
// putNft has seen that there are no loops.
func (p *nftTable) masquerades(name string) bool {
	for _, r := range p.chains[name].Rules {
		for _, s := range r {
			switch {
			case s.Op == netstate.NftMasquerade, s.Op == netstate.NftJump && p.masquerades(s.Name),
				looksUp(s) && slices.ContainsFunc(p.leadsTo(s.Name), p.masquerades):
				return true
			}
		}
	}
	return false
}

// loops says whether a chain leads back to itself or to one on the way to it.
func (p *nftTable) loops(name string, way []string) bool {
	if slices.Contains(way, name) {
		return true
	}
	way = append(slices.Clip(way), name)
	for _, r := range p.chains[name].Rules {
		for _, s := range r {
			if s.Op == netstate.NftJump && p.loops(s.Name, way) {
				return true
			}
			if looksUp(s) && slices.ContainsFunc(p.leadsTo(s.Name), func(to string) bool { return p.loops(to, way) }) {
				return true
			}
		}
	}
	return false
}

// leadsTo lists the chains that a map sends packets to.
func (p *nftTable) leadsTo(name string) []string {
	to := map[string]bool{}
	for _, e := range p.maps[name].Elems {
		to[e.Chain] = true
	}
	return slices.Collect(maps.Keys(to))
}
