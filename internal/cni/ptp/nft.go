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
	spoofChain = "ptp-sources"
	masqChain  = "ptp-masquerade"
	masqMap    = "ptp-links"
	outPrefix  = "ptp-out-" // of the chains that masquerade
)

// spoof drops what comes from a pod with a source to which the host has no route by that
// pod's veth: another pod's address, the host's own, one from outside, or a link-local one.
// One rule for all pods. It asks as the kernel would route the answer, for a packet without
// a mark; and behind the translation of destinations (dstnat), since rules that select by
// the address from which the answer comes mean the translated one.
var spoof = netstate.NftChain{
	Name: spoofChain,
	Hook: netstate.NftHook{Type: "filter", Hook: "prerouting", Priority: netstate.NftFilter},
	Rules: []netstate.NftRule{
		{{Op: netstate.NftIIFPrefix, Link: Prefix}, {Op: netstate.NftFibUnmarked}, {Op: netstate.NftDrop}},
	},
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
	return fmt.Sprintf("%s%08x-", outPrefix, uint32(textHash(network)))
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
	c.Name = outPrefixOf(w.Network) + fmt.Sprintf("%08x", uint32(textHash(text.String())))
	return c
}

func textHash(s string) (h uint64) {
	for i := range len(s) {
		h = mix(h<<8 ^ uint64(s[i]))
	}
	return h
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
	add := netstate.NftTable{Name: netstate.NftTableCNI}
	want := []netstate.NftChain{spoof}
	if p.config.ipMasq {
		out := w.out()
		want = append(want, masquerade, out)
		add.Maps = append(add.Maps, elem(w.host, out.Name))
	}
	for i := range want {
		ok, err := p.stands(host, &want[i])
		if err != nil {
			return err
		}
		if !ok {
			add.Chains = append(add.Chains, want[i])
		}
	}
	if len(add.Chains) > 0 || len(add.Maps) > 0 {
		p.note(&add)
		return host.AddNftCNI(p.ctx, &add)
	}
	return nil
}

func (p *plugin) note(t *netstate.NftTable) {
	if p.debug {
		p.writes = append(p.writes, t.String())
	}
}

// remove removes an attachment's veth, and with masq its element in the map.
func (p *plugin) remove(ctx context.Context, host *kernel.Conn, a Attachment, masq bool) error {
	var err error
	if masq {
		m := elem(a.HostName(), "")
		if err = host.DeleteNftCNIElems(ctx, &m); errors.Is(err, unix.ENOENT) {
			err = nil
		}
	}
	return errors.Join(err, host.DeletePair(ctx, a.HostName(), a.owns))
}

// owns says that a veth with the attachment's name and some alias is its own. Where somebody
// has written another one, the name says enough, which is a hash of the attachment's. Only
// another attachment's alias says no.
func (a Attachment) owns(alias string) bool {
	of, ok := ParseAlias(alias)
	return !ok || of.Container == a.Container && of.Interface == a.Interface
}
