package external

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

func confKey(dev, name string) string { return "net/ipv4/conf/" + dev + "/" + name }

const reversePath = "rp_filter"

// RelevantSysctls are the sysctls whose values Lower wants to know.
func RelevantSysctls(s *netstate.State) []string {
	keys := []string{confKey("all", reversePath), confKey("default", reversePath)}
	for i := range s.Links {
		keys = append(keys, confKey(s.Links[i].Name, reversePath))
	}
	return keys
}

// filter is the value of rp_filter, as it is without viarule. A link that is to be
// made will have the value of default.
func (l *lowerer) filter(dev string) int {
	text, ok := l.facts.Sysctls[confKey(dev, reversePath)]
	if !ok {
		text = l.facts.Sysctls[confKey("default", reversePath)]
	}
	v, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return v
}

// effective is what the kernel does on a link: the larger of the link's value and
// that of all (IN_DEV_RPFILTER, include/linux/inetdevice.h).
func (l *lowerer) effective(dev string) int { return max(l.filter("all"), l.filter(dev)) }

// lowerSysctls asks for the sysctls of all networks. They are of IPv4: IPv6 has no
// such filter, and no arp.
func (l *lowerer) lowerSysctls() {
	for _, n := range l.nets {
		if n.bad || len(n.parts[0].addresses) == 0 {
			continue
		}
		set := func(key, dev, name string, value int) {
			l.out.Sysctls = append(l.out.Sysctls, Sysctl{
				Sysctl: netstate.Sysctl{Key: confKey(dev, name), Value: strconv.Itoa(value)},
				Object: n.obj, Pos: n.at(key), Made: n.made && dev == n.dev,
			})
		}
		if n.spec.StrictARP {
			set("strictARP", n.dev, "arp_ignore", 1)
			set("strictARP", n.dev, "arp_announce", 2)
		}
		if !n.hasGateways() {
			continue
		}
		if n.spec.ReturnPath != spec.ReturnSourceRule {
			// The check of a request's source looks at its mark as well, and so finds
			// the way back in the network's table.
			set("returnPath", n.dev, "src_valid_mark", 1)
		}
		switch n.spec.ReversePathFilter {
		case spec.FilterLoose:
			set("reversePathFilter", n.dev, reversePath, 2)
		case spec.FilterDisabled, spec.FilterExempt:
			l.switchOff(n, func(dev string, value int) { set("reversePathFilter", dev, reversePath, value) })
		}
	}
	l.sortSysctls()
}

// switchOff has the filter off on the network's link. Since the larger value
// counts, `all` must be 0 for it; then every other link, and those to come, get
// what `all` gave them. A link for which a network chooses has what that wants.
func (l *lowerer) switchOff(n *network, set func(dev string, value int)) {
	set(n.dev, 0)
	all := l.filter("all")
	if all == 0 {
		return
	}
	set("default", max(all, l.filter("default")))
	for i := range l.facts.State.Links {
		if dev := l.facts.State.Links[i].Name; dev != n.dev && l.filter(dev) < all && !l.filtered(dev) {
			set(dev, all)
		}
	}
	set("all", 0) // sortSysctls puts it last: no link is without its filter for a moment
}

// filtered says whether a network has a filter of its own choice on the link.
func (l *lowerer) filtered(dev string) bool {
	return slices.ContainsFunc(l.nets, func(n *network) bool {
		return !n.bad && n.dev == dev && n.hasGateways() && len(n.parts[0].addresses) > 0 && n.spec.ReversePathFilter != spec.FilterKeep
	})
}

// sortSysctls finds networks on one link that want different values, and has what
// they both want only once.
func (l *lowerer) sortSysctls() {
	first := map[string]int{}
	out := l.out.Sysctls[:0]
	for _, s := range l.out.Sysctls {
		i, again := first[s.Key]
		if !again {
			first[s.Key] = len(out)
			out = append(out, s)
			continue
		}
		if out[i].Value != s.Value {
			n := l.netOf(s.Object)
			l.fail(n, "reversePathFilter", fmt.Sprintf("%s wants %s = %s, and this object %s", out[i].Object.Ref, s.Key, out[i].Value, s.Value), "give both the same reversePathFilter", false)
			continue
		}
		if out[i].Object != s.Object {
			out = append(out, s) // each is a user of its own: it stays until both have gone
		}
	}
	l.out.Sysctls = slices.DeleteFunc(out, func(s Sysctl) bool { return l.netOf(s.Object).bad })
	last := func(s Sysctl) int {
		if s.Key == confKey("all", reversePath) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(l.out.Sysctls, func(a, b Sysctl) int { return cmp.Compare(last(a), last(b)) })
}

func (l *lowerer) netOf(o *spec.Object) *network {
	return l.nets[slices.IndexFunc(l.nets, func(n *network) bool { return n.obj == o })]
}
