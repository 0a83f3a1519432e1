package ptp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/cni/ipam"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
)

// gc removes the veths of this network whose attachments the runtime does not list, their
// addresses, and what is left of them in the table of nftables.
func (p *plugin) gc() error {
	valid, err := cni.ValidAttachments(p.call.Config)
	if err != nil {
		return err
	}
	host, err := kernel.Open("")
	if err != nil {
		return err
	}
	defer host.Close()
	v, err := host.View(p.ctx)
	if err != nil {
		return err
	}
	removed := 0
	var failed []error
	gone := map[string]bool{}
	for i := range v.Links {
		a, ours := ParseAlias(v.Links[i].Alias)
		if !ours || a.Network != p.call.Network || a.HostName() != v.Links[i].Name || slices.Contains(valid, cni.GCAttachment{ContainerID: a.Container, IfName: a.Interface}) {
			continue
		}
		if err := host.DeletePair(p.ctx, v.Links[i].Name, a.owns); err != nil {
			failed = append(failed, err)
			continue
		}
		gone[v.Links[i].Name] = true
		removed++
	}
	failed = append(failed, p.sweep(p.ctx, host), p.gcNft(host, func(link string) bool { return v.Link(link) != nil && !gone[link] }), p.gcAddresses())
	p.did = fmt.Sprintf("removed %d veths", removed)
	return errors.Join(failed...)
}

// gcNft removes the elements of this network whose veth is gone, and chains that nothing
// leads to. An ADD makes the veth before the element.
func (p *plugin) gcNft(host *kernel.Conn, there func(link string) bool) error {
	t, err := host.NftCNI(p.ctx)
	if t == nil || err != nil {
		return err
	}
	prefix := outPrefixOf(p.call.Network)
	var failed []error
	for _, m := range t.Maps {
		if m.Name == masqMap {
			m.Elems = slices.DeleteFunc(m.Elems, func(e netstate.NftElem) bool { return !strings.HasPrefix(e.Chain, prefix) || there(e.Link) })
			failed = append(failed, host.DeleteNftCNI(p.ctx, nil, &m))
		}
	}
	for i := range t.Chains {
		if !strings.HasPrefix(t.Chains[i].Name, prefix) {
			continue
		}
		if err := host.DeleteNftCNIChain(p.ctx, t.Chains[i].Name); !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (p *plugin) gcAddresses() error {
	addresses, err := ipam.Open(p.call)
	if err != nil {
		return err
	}
	return addresses.GC(p.ctx)
}
