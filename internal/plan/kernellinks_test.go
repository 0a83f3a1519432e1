package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// kernelLinks is the model's links and tables of nftables. Links whose names
// begin with v come and go; all others are there and up, without being listed.
type kernelLinks struct {
	links []netstate.Link
	nft   []netstate.NftTable
}

// madeSysctls are those that a link begins with.
var madeSysctls = []string{"rp_filter", "src_valid_mark"}

func sysctlOf(dev, name string) string { return "net/ipv4/conf/" + dev + "/" + name }

func (k *kernel) link(name string) *netstate.Link {
	for i := range k.links {
		if k.links[i].Name == name {
			return &k.links[i]
		}
	}
	return nil
}

func (k *kernel) hasLink(name string) bool {
	return !strings.HasPrefix(name, "v") || k.link(name) != nil
}

func (k *kernel) isUp(name string) bool {
	l := k.link(name)
	return !strings.HasPrefix(name, "v") || l != nil && l.Up
}

func (k *kernel) setLink(v netstate.Verb, l netstate.Link) error {
	have := k.link(l.Name)
	switch {
	case v == netstate.Add:
		if have != nil || !k.hasLink(l.Parent) || slices.ContainsFunc(k.links, func(o netstate.Link) bool { return o.Parent == l.Parent && o.VLAN == l.VLAN }) {
			return errors.New("the link or its VLAN exists, or the parent does not")
		}
		k.links = append(k.links, l)
		// The order of the list means nothing.
		slices.SortFunc(k.links, func(a, b netstate.Link) int { return strings.Compare(a.Name, b.Name) })
		for _, name := range madeSysctls {
			k.sysctls[sysctlOf(l.Name, name)] = "0"
		}
		return nil
	case have == nil || !strings.HasPrefix(have.Alias, "viarule:"):
		return errors.New("no such link of ours")
	case v == netstate.Replace:
		if have.Up && !l.Up {
			k.routes = slices.DeleteFunc(k.routes, func(r netstate.Route) bool { return r.Hop.Dev == l.Name })
		}
		have.Alias, have.Up = l.Alias, l.Up
		return nil
	case have.Alias != l.Alias:
		return errors.New("the link has another alias")
	}
	k.linkGone(l.Name)
	return nil
}

func (k *kernel) linkGone(name string) {
	k.links = slices.DeleteFunc(k.links, func(l netstate.Link) bool { return l.Name == name })
	k.routes = slices.DeleteFunc(k.routes, func(r netstate.Route) bool { return r.Hop.Dev == name })
	for _, s := range madeSysctls {
		delete(k.sysctls, sysctlOf(name, s))
	}
	for _, l := range slices.Clone(k.links) {
		if l.Parent == name {
			k.linkGone(l.Name)
		}
	}
}

func (k *kernel) setNft(v netstate.Verb, t netstate.NftTable) error {
	at := slices.IndexFunc(k.nft, func(o netstate.NftTable) bool { return o.Name == t.Name })
	switch {
	case v == netstate.Delete && at >= 0:
		k.nft = slices.Delete(k.nft, at, at+1)
		return nil
	case v != netstate.Replace:
		return errors.New("no such table, or no such verb")
	case strings.Contains(fmt.Sprintf("%+v", t), "Op:0"), t.Unknown != "":
		return errors.New("what is not known cannot be sent")
	case at >= 0:
		k.nft[at] = t
	default:
		k.nft = append(k.nft, t)
	}
	return nil
}

// text is all there is of links, tables of nftables and sysctls.
func (k *kernel) text() string { return fmt.Sprintf("%+v\n%+v\n%v", k.links, k.nft, k.sysctls) }
