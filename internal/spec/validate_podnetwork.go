package spec

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// MaxNodeName bounds the name of a node, as Kubernetes does.
const MaxNodeName = 253

// checkPodNetwork checks one PodNetwork by itself.
func (v *validator) checkPodNetwork(o *Object) {
	v.checkNotYet(o)
	v.checkPodCIDRs(o)
	v.checkNodes(o)
}

// checkNotYet refuses what the object has words for and viarule does not do.
func (v *validator) checkNotYet(o *Object) {
	if o.Pods.Interconnect == InterconnectBGP {
		v.failAt(spotOf(o, "interconnect"), "BGP is not there yet", "write `interconnect: Static`, with the nodes and their prefixes")
	}
	if o.Pods.InstallCNI {
		v.failAt(spotOf(o, "cni.install"), "viarule does not write the runtime's configuration yet", "write /etc/cni/net.d yourself, and `cni: {install: false}`")
	}
}

func podSpot(o *Object, i int) spot {
	return spotOf(o, "podCIDRs").element(i, o.Pods.PodCIDRs[i].Pos)
}

func nodeSpot(o *Object, node int) spot {
	return spotOf(o, "nodes").element(node, o.Pods.Nodes[node].Pos)
}

// key is a key of the element that s is.
func (s spot) key(key string) spot {
	s.path += "." + key
	return s
}

func nodePrefixSpot(o *Object, node, i int) spot {
	return nodeSpot(o, node).key("podCIDRs").element(i, o.Pods.Nodes[node].PodCIDRs[i].Pos)
}

func nodeAddressSpot(o *Object, node, i int) spot {
	return nodeSpot(o, node).key("addresses").element(i, o.Pods.Nodes[node].Addresses[i].Pos)
}

// podFault says what is wrong with a network of pods, and what to do.
func podFault(p netip.Prefix) (what, do string) {
	switch {
	case !p.IsValid() || p != p.Masked():
		return fmt.Sprintf("%s is not a prefix without bits behind its length", p), "write it as in 10.0.0.0/16 or fd00::/48"
	case p.Bits() == 0:
		return fmt.Sprintf("%s is every address, not the networks of pods", p), "write the networks of pods"
	}
	if what := addressesIn(p).reserved(); what != "" {
		return what, "write networks that are for pods, as 10.0.0.0/16 or fd00::/48"
	}
	return "", ""
}

func (v *validator) checkPodCIDRs(o *Object) {
	list, here := o.Pods.PodCIDRs, spotOf(o, "podCIDRs")
	if len(list) == 0 {
		v.failAt(here, "there are no networks of pods", "write them, as in [10.0.0.0/16]")
	}
	v.checkCount(here, len(list), v.known.Limits.PodCIDRs, "prefixes")
	for i, p := range list {
		if what, do := podFault(p.Prefix); what != "" {
			v.failAt(podSpot(o, i), what, do)
		}
	}
}

func (v *validator) checkCount(here spot, n, limit int, what string) {
	if n > limit {
		v.failAt(here, fmt.Sprintf("there are %d %s", n, what), fmt.Sprintf("there may be %d", limit))
	}
}

// CheckNodeName says whether s can be the name of a node: Kubernetes has DNS
// subdomains (RFC 1123).
func CheckNodeName(s string) error {
	ok := s != "" && len(s) <= MaxNodeName
	for label := range strings.SplitSeq(s, ".") {
		for i := 0; ok && i < len(label); i++ {
			c := label[i]
			ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && i > 0 && i < len(label)-1
		}
		ok = ok && label != ""
	}
	if !ok {
		return valueErrorf(fmt.Sprintf("write lower case letters, digits, '-' and '.', %d at most, with a letter or digit at both ends", MaxNodeName), "%q cannot be the name of a node", clip(s))
	}
	return nil
}

func (v *validator) checkNodes(o *Object) {
	list := o.Pods.Nodes
	v.checkCount(spotOf(o, "nodes"), len(list), v.known.Limits.Nodes, "nodes")
	pods := newPrefixIndex(o.Pods.PodCIDRs)
	names, addresses := make(map[string]int, len(list)), make(map[netip.Addr]spot, len(list))
	for n := range list {
		node, here := &list[n], nodeSpot(o, n)
		if err := CheckNodeName(node.Name); err != nil {
			v.failValueAt(here.key("name"), err)
		} else if first, again := names[node.Name]; again {
			v.failAt(here.key("name"), fmt.Sprintf("%s is in the list already, in %s", node.Name, nodeSpot(o, first).seenFrom(o)), "give each node its own name")
		} else {
			names[node.Name] = n
		}
		if len(node.Addresses) == 0 {
			v.failAt(here.key("addresses"), fmt.Sprintf("%s has no addresses", node.Name), "write those by which its neighbours reach it")
		}
		v.checkCount(here.key("addresses"), len(node.Addresses), v.known.Limits.NodeAddresses, "addresses")
		v.checkCount(here.key("podCIDRs"), len(node.PodCIDRs), v.known.Limits.PodCIDRs, "prefixes")
		for i := range node.Addresses {
			v.checkNodeAddress(o, n, i, pods, addresses)
		}
		for i := range node.PodCIDRs {
			v.checkNodePrefix(o, n, i, pods)
		}
	}
}

func (v *validator) checkNodeAddress(o *Object, node, i int, pods prefixIndex, seen map[netip.Addr]spot) {
	a, here := o.Pods.Nodes[node].Addresses[i].Addr, nodeAddressSpot(o, node, i)
	if !a.IsValid() {
		v.failAt(here, "this is no address", "write it as in 192.0.2.1 or 2001:db8::1")
		return
	}
	if what := addressesIn(netip.PrefixFrom(a, a.BitLen())).reserved(); what != "" {
		v.failAt(here, what, "write an address by which the other nodes reach this one")
		return
	}
	if first, again := seen[a]; again {
		v.failAt(here, fmt.Sprintf("%s is in the list already, in %s", a, first.seenFrom(o)), "an address is of one node: leave one out")
		return
	}
	seen[a] = here
	if p := pods.covers(netip.PrefixFrom(a, a.BitLen())); p >= 0 {
		v.failAt(here, fmt.Sprintf("the node's address %s is in the pods' network %s, in %s", a, o.Pods.PodCIDRs[p].Prefix, podSpot(o, p).seenFrom(o)), "nodes need addresses that are not pods': write other networks of pods")
	}
}

func (v *validator) checkNodePrefix(o *Object, node, i int, pods prefixIndex) {
	n := &o.Pods.Nodes[node]
	p, here := n.PodCIDRs[i].Prefix, nodePrefixSpot(o, node, i)
	if what, do := podFault(p); what != "" {
		v.failAt(here, what, do)
		return
	}
	if pods.covers(p) < 0 {
		v.failAt(here, fmt.Sprintf("%s is in none of the networks of pods", p), "write a part of one of podCIDRs, or add it there")
	}
	f := netstate.FamilyOf(p.Addr())
	if !slices.ContainsFunc(n.Addresses, func(a NodeAddress) bool { return netstate.FamilyOf(a.Addr) == f }) {
		v.failAt(here, fmt.Sprintf("%s has no %s address by which others could reach %s", n.Name, f, p), "add one to its addresses, or leave the prefix out")
	}
}

// prefixIndex finds the prefix that holds another one.
type prefixIndex struct {
	index   map[netip.Prefix]int
	lengths [2][129]bool // that occur, by family
}

func newPrefixIndex(list []PodPrefix) prefixIndex {
	x := prefixIndex{index: make(map[netip.Prefix]int, len(list))}
	for i, p := range list {
		if !p.IsValid() {
			continue
		}
		if _, there := x.index[p.Prefix]; !there {
			x.index[p.Prefix] = i
		}
		x.lengths[at(p.Addr())][p.Bits()] = true
	}
	return x
}

func at(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// covers gives the index of a prefix that holds all of p; -1 where none does.
func (x *prefixIndex) covers(p netip.Prefix) int {
	for bits := 0; bits <= p.Bits(); bits++ {
		if x.lengths[at(p.Addr())][bits] {
			if i, ok := x.index[netip.PrefixFrom(p.Addr(), bits).Masked()]; ok {
				return i
			}
		}
	}
	return -1
}

// podPlace is a prefix of pods, and where it is written.
type podPlace struct {
	netip.Prefix
	order int // as written, over all objects
	spot  func() spot
	obj   *Object
}

// checkPodNetworks finds prefixes of pods that are in two places: of one object
// or of two, in their podCIDRs and in those of nodes. Then it holds the addresses
// of nodes against the networks of pods of the other objects.
func (v *validator) checkPodNetworks() {
	var networks, ofNodes []podPlace
	for i := range v.objs {
		o := &v.objs[i]
		if o.Pods == nil {
			continue
		}
		for j, p := range o.Pods.PodCIDRs {
			networks = append(networks, podPlace{p.Prefix, len(networks), func() spot { return podSpot(o, j) }, o})
		}
		own := newPrefixIndex(o.Pods.PodCIDRs)
		for n := range o.Pods.Nodes {
			for j, p := range o.Pods.Nodes[n].PodCIDRs {
				// Of one that is in no network of its object, checkNodePrefix has told.
				if p.IsValid() && own.covers(p.Prefix) >= 0 {
					ofNodes = append(ofNodes, podPlace{p.Prefix, len(ofNodes), func() spot { return nodePrefixSpot(o, n, j) }, o})
				}
			}
		}
	}
	v.checkApart(networks, "pods of two networks could not be told apart: leave one of them out, or write smaller ones")
	v.checkApart(ofNodes, "a pod is on one node: give each node its own prefix")
	v.checkForeignAddresses(networks)
}

// checkApart finds prefixes that hold one another. Sorted by address and length, a
// prefix stands behind those that hold it, and these hold all between.
func (v *validator) checkApart(list []podPlace, do string) {
	list = slices.DeleteFunc(list, func(p podPlace) bool { return !p.IsValid() || p.Bits() == 0 || p.Prefix != p.Masked() })
	slices.SortFunc(list, func(a, b podPlace) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()), cmp.Compare(a.order, b.order))
	})
	type pair struct{ first, second podPlace }
	var found []pair
	for i, wide := 1, 0; i < len(list); i++ {
		a, b := list[wide], list[i]
		if !a.Overlaps(b.Prefix) {
			wide = i
			continue
		}
		if b.order < a.order {
			a, b = b, a
		}
		found = append(found, pair{a, b})
	}
	slices.SortStableFunc(found, func(a, b pair) int { return cmp.Compare(a.second.order, b.second.order) })
	for _, p := range found {
		here, first := p.second.spot(), p.first.spot()
		what := fmt.Sprintf("%s and %s have addresses in common, in %s", p.second.Prefix, p.first.Prefix, first.seenFrom(here.obj))
		if p.first.Prefix == p.second.Prefix {
			what = fmt.Sprintf("%s is there already, in %s", p.second.Prefix, first.seenFrom(here.obj))
		}
		v.failAt(here, what, do)
	}
}

// checkForeignAddresses finds nodes whose addresses are pods' of another object.
func (v *validator) checkForeignAddresses(networks []podPlace) {
	list := make([]PodPrefix, len(networks))
	for i := range networks {
		list[i].Prefix = networks[i].Prefix
	}
	pods := newPrefixIndex(list)
	for i := range v.objs {
		o := &v.objs[i]
		if o.Pods == nil {
			continue
		}
		for n := range o.Pods.Nodes {
			for j, a := range o.Pods.Nodes[n].Addresses {
				if !a.IsValid() {
					continue
				}
				if p := pods.covers(netip.PrefixFrom(a.Addr, a.BitLen())); p >= 0 && networks[p].obj != o {
					v.failAt(nodeAddressSpot(o, n, j), fmt.Sprintf("the node's address %s is in the pods' network %s, in %s", a.Addr, networks[p].Prefix, networks[p].spot().seenFrom(o)), "nodes need addresses that are not pods': write other networks of pods")
				}
			}
		}
	}
}
