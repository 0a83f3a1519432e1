package ptp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
)

// The names in the table of nftables.
const (
	masqChain = "ptp-masquerade"
	masqMap   = "ptp-links"
	outPrefix = "ptp-out-" // of the chains that masquerade
	// oldChain is what the first builds had for all pods together, by routes.
	oldChain = "ptp-sources"
)

// sources lets in what a pod sends from one of its addresses, and drops the rest: IP from
// another pod's address, the host's own, one from outside, or a link-local one; ARP that says
// it is from such; and what is neither. It stands where frames come in from the veth, before
// all else, so that nothing else pays, and no route, rule or mark has a say.
func sources(link string, addrs []netip.Addr) netstate.NftChain {
	c := netstate.NftChain{Name: link, Hook: netstate.NftHook{Type: "filter", Hook: "ingress", Device: link, Priority: netstate.NftFilter}}
	addrs = slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	for _, op := range []netstate.NftOp{netstate.NftSAddr, netstate.NftARPSAddr} {
		for _, a := range addrs {
			if op == netstate.NftSAddr || a.Is4() {
				c.Rules = append(c.Rules, netstate.NftRule{{Op: op, Prefix: netip.PrefixFrom(a, a.BitLen())}, {Op: netstate.NftAccept}})
			}
		}
	}
	c.Rules = append(c.Rules, netstate.NftRule{{Op: netstate.NftDrop}})
	return c
}

// masquerade sends the first packet of a pod's connection to the chain that the pod's veth
// has in the map.
var masquerade = netstate.NftChain{
	Name:  masqChain,
	Hook:  netstate.NftHook{Type: "nat", Hook: "postrouting", Priority: netstate.NftSrcNAT},
	Rules: []netstate.NftRule{{{Op: netstate.NftIIFMap, Name: masqMap}}},
}

// multicast is never masqueraded.
func multicast() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4), netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8)}
}

// outPrefixOf is what the names of a network's chains that masquerade begin with.
func outPrefixOf(network string) string {
	return fmt.Sprintf("%s%08x-", outPrefix, uint32(hash(network)))
}

// out is the chain that masquerades what leaves the networks of the pod. Its name follows
// from what is in it, so that pods of the same networks have one.
func (w *wiring) out() netstate.NftChain {
	networks := slices.Clone(w.networks)
	slices.SortFunc(networks, netip.Prefix.Compare)
	networks = slices.Compact(networks)
	var c netstate.NftChain
	var text strings.Builder
	for _, p := range append(networks, multicast()...) {
		text.WriteString(p.String() + " ")
		c.Rules = append(c.Rules, netstate.NftRule{{Op: netstate.NftDAddr, Prefix: p}, {Op: netstate.NftReturn}})
	}
	c.Rules = append(c.Rules, netstate.NftRule{{Op: netstate.NftMasquerade}})
	c.Name = outPrefixOf(w.Network) + fmt.Sprintf("%08x", uint32(hash(text.String())))
	return c
}

// elem is the map with one element: a pod's veth.
func elem(link, chain string) netstate.NftMap {
	return netstate.NftMap{Name: masqMap, Elems: []netstate.NftElem{{Link: link, Chain: chain}}}
}

// stands says whether a chain has its rules.
func (p *plugin) stands(host *kernel.Conn, c *netstate.NftChain) (bool, error) {
	rules, err := host.NftCNIRules(p.ctx, c.Name)
	return sameRules(rules, c.Rules), err
}

func sameRules(a, b []netstate.NftRule) bool {
	return slices.EqualFunc(a, b, func(x, y netstate.NftRule) bool { return slices.Equal(x, y) })
}

// protect has sources checked, and masquerades what the pod sends if that is asked for.
func (p *plugin) protect(host *kernel.Conn, w *wiring) error {
	tables := []netstate.NftTable{{Name: netstate.NftTableCNI, Netdev: true, Chains: []netstate.NftChain{sources(w.host, w.addrs)}}}
	if p.config.ipMasq {
		out := w.out()
		add := netstate.NftTable{Name: netstate.NftTableCNI, Maps: []netstate.NftMap{elem(w.host, out.Name)}}
		for _, c := range []netstate.NftChain{masquerade, out} {
			ok, err := p.stands(host, &c)
			if err != nil {
				return err
			}
			if !ok {
				add.Chains = append(add.Chains, c)
			}
		}
		tables = append(tables, add)
	}
	if p.debug {
		for i := range tables {
			p.writes = append(p.writes, tables[i].String())
		}
	}
	err := host.AddNftCNI(p.ctx, tables...)
	for try := 0; try < startTries && errors.Is(err, unix.ENOENT); try++ {
		err = p.start(host, w.host, tables)
	}
	return err
}

// startTries is how often a table is started while pods come and go.
const startTries = 3

// start makes the table of the family netdev, with the chains of all pods that are there: on
// a host's first pod, or when somebody has flushed nftables. Until the table is there, no ADD
// has written its chain; those that come later rewrite theirs.
func (p *plugin) start(host *kernel.Conn, own string, tables []netstate.NftTable) error {
	v, err := host.View(p.ctx)
	if err != nil {
		return err
	}
	all := slices.Clone(tables)
	for i := range v.Links {
		l := &v.Links[i]
		if a, ours := ParseAlias(l.Alias); !ours || l.Name == own || a.HostName() != l.Name {
			continue
		}
		var addrs []netip.Addr
		for _, f := range netstate.Families {
			routes, err := v.Routes(p.ctx, f, netstate.TableMain, l.Name)
			if err != nil {
				return err
			}
			for j := range routes {
				if r := &routes[j]; r.Protocol == netstate.ProtocolCNI && r.To.IsSingleIP() {
					addrs = append(addrs, r.To.Addr())
				}
			}
		}
		if len(addrs) > 0 { // else its ADD is under way
			all[0].Chains = append(slices.Clip(all[0].Chains), sources(l.Name, addrs))
		}
	}
	err = host.StartNftCNI(p.ctx, all...)
	switch {
	case errors.Is(err, unix.EEXIST):
		return host.AddNftCNI(p.ctx, tables...)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: does the kernel have NF_TABLES_NETDEV and NETFILTER_INGRESS?", err)
	case err != nil:
		return err
	}
	if err = host.DeleteNftCNIChain(p.ctx, oldChain); errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// remove removes an attachment's veth, and then, when the pod can send no more, what nftables
// has of it. With masq that is its chain, and an element of the map, which the kernel's NAT
// looks at. The chain alone is of no link any more, and matters to nobody: so those of many
// veths go together, since each deletion keeps all of nftables waiting for some 20 ms.
func (p *plugin) remove(ctx context.Context, host *kernel.Conn, a Attachment, masq bool) error {
	name := a.HostName()
	if err := host.DeletePair(ctx, name, a.owns); err != nil {
		return err
	}
	if masq {
		m := elem(name, "")
		return host.DeleteNftCNI(ctx, []string{name}, &m)
	}
	if hash("sweep", a.Container, a.Interface)%sweepEvery == 0 {
		return p.sweep(ctx, host)
	}
	return nil
}

// sweepEvery is of how many attachments one deletes the chains that others have left.
const sweepEvery = 32

// sweep deletes the chains of veths that are gone, of whatever network: their names do not
// tell. An ADD makes the veth before the chain; so the links are looked at behind the chains.
func (p *plugin) sweep(ctx context.Context, host *kernel.Conn) error {
	chains, err := host.NftCNILinks(ctx)
	if err != nil || len(chains) == 0 {
		return err
	}
	v, err := host.View(ctx)
	if err != nil {
		return err
	}
	chains = slices.DeleteFunc(chains, func(link string) bool { return v.Link(link) != nil })
	return host.DeleteNftCNI(ctx, chains, &netstate.NftMap{})
}

// owns says that a veth with the attachment's name and some alias is its own. Where somebody
// has written another one, the name says enough, which is a hash of the attachment's. Only
// another attachment's alias says no.
func (a Attachment) owns(alias string) bool {
	of, ok := ParseAlias(alias)
	return !ok || of.Container == a.Container && of.Interface == a.Interface
}
