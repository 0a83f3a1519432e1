package ptp

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/cni/ipam"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
)

// check compares what there is with what an ADD with this configuration and the addresses
// of the previous result makes.
func (p *plugin) check() error {
	a := p.attachment()
	if err := p.config.read(p.call.Config); err != nil {
		return err
	}
	prev, err := cni.PrevResult(p.call.Config, p.call.Version)
	if err != nil {
		return err
	}
	if prev == nil {
		return cni.Wrong("prevResult", "it is missing", "give the result of ADD")
	}
	ips, err := cni.Addresses(prev, p.call.IfName)
	if err != nil {
		return err
	}
	var own []cni.IP
	for _, ip := range ips {
		own = append(own, cni.IP{Address: ip.Prefix, Gateway: ip.Gateway})
	}
	w, err := wire(a, &p.config, "prevResult.", own, prev.Routes)
	if err != nil {
		return err
	}
	addresses, err := ipam.Open(p.call)
	if err == nil {
		err = addresses.Check(p.ctx)
	}
	if err != nil {
		return err
	}
	c := checker{plugin: p, wiring: w}
	if err := errors.Join(c.onHost(), c.inPod()); err != nil {
		return err
	}
	if len(c.differs) > 0 {
		return &cni.Error{Code: cni.CodeDiffers, Msg: fmt.Sprintf("%s is not as it was made: %s", p.call.IfName, strings.Join(c.differs, "; "))}
	}
	p.did = "all as it was made"
	return nil
}

// checker collects what differs.
type checker struct {
	*plugin
	*wiring
	differs []string
}

func (c *checker) say(format string, args ...any) {
	c.differs = append(c.differs, fmt.Sprintf(format, args...))
}

func (c *checker) onHost() error {
	host, err := kernel.Open("")
	if err != nil {
		return err
	}
	defer host.Close()
	v, err := host.View(c.ctx)
	if err != nil {
		return err
	}
	l := v.Link(c.host)
	if l == nil {
		c.say("the host has no link %s", c.host)
		return nil
	}
	if l.Alias != c.Alias() {
		c.say("the alias of %s is %q, not %q", c.host, l.Alias, c.Alias())
	}
	c.link(l, c.hostMAC)
	var want []netstate.Route
	neighbours := map[netip.Addr]string{}
	for _, a := range c.addrs {
		want = append(want, c.hostRoute(a))
		neighbours[a] = c.podMAC
	}
	if err := errors.Join(c.routesOf(v, c.host, want), c.neighbours(v, c.host, neighbours)); err != nil {
		return err
	}
	if list, err := v.Addrs(c.ctx, c.host); err != nil {
		return err
	} else if len(list) > 0 {
		c.say("%s has the address %s", c.host, list[0].Prefix)
	}
	c.forwarding(host)
	c.trust(host)
	return c.nft(host)
}

func (c *checker) forwarding(host *kernel.Conn) {
	keys := []string{"net/ipv4/conf/" + c.host + "/forwarding"}
	switch {
	case !c.has(netstate.IPv6):
	case forces(host):
		keys = append(keys, sysctl6(c.host, "force_forwarding"))
	default:
		keys = append(keys, sysctl6("all", "forwarding"))
	}
	for _, key := range keys {
		if v, err := host.ReadSysctl(key); err != nil || v != "1" {
			c.say("%s is not 1", key)
		}
	}
}

// trust looks for what a pod could use against its host: see openHost and kernel.LinkConf.
func (c *checker) trust(host *kernel.Conn) {
	is := func(key, value string) bool {
		v, err := host.ReadSysctl(key) // there are none of IPv6 on a kernel without it
		return err == nil && v == value
	}
	for _, name := range []string{"proxy_arp", "accept_redirects"} {
		if key := "net/ipv4/conf/" + c.host + "/" + name; !is(key, "0") {
			c.say("%s is not 0", key)
		}
	}
	if key := sysctl6(c.host, "accept_ra"); is(key, "2") || is(key, "1") && is(sysctl6(c.host, "forwarding"), "0") {
		c.say("%s is not 0", key)
	}
}

func (c *checker) nft(host *kernel.Conn) error {
	have, err := host.NftCNILink(c.ctx, c.host)
	if err != nil {
		return err
	}
	if want := sources(c.host, c.addrs); have == nil || have.Hook != want.Hook || !sameRules(have.Rules, want.Rules) {
		c.say("the chain %s of table netdev %s is missing, or another", c.host, netstate.NftTableCNI)
	}
	if !c.config.ipMasq {
		return nil
	}
	t, err := host.NftCNI(c.ctx)
	if err != nil {
		return err
	}
	if t == nil {
		t = &netstate.NftTable{}
	}
	out := c.out()
	led := slices.ContainsFunc(t.Maps, func(m netstate.NftMap) bool {
		return m.Name == masqMap && slices.Contains(m.Elems, netstate.NftElem{Link: c.host, Chain: out.Name})
	})
	if !led {
		c.say("%s is not in the map %s of table inet %s", c.host, masqMap, netstate.NftTableCNI)
	}
	want := []netstate.NftChain{masquerade, out}
	for i := range want {
		same := slices.ContainsFunc(t.Chains, func(o netstate.NftChain) bool {
			return o.Name == want[i].Name && o.Hook == want[i].Hook && sameRules(o.Rules, want[i].Rules)
		})
		if !same {
			c.say("the chain %s of table inet %s is missing, or another", want[i].Name, netstate.NftTableCNI)
		}
	}
	return nil
}

func (c *checker) inPod() (err error) {
	ns, err := c.enter()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Leave()) }()
	pod, err := ns.Open()
	if err != nil {
		return err
	}
	defer pod.Close()
	v, err := pod.View(c.ctx)
	if err != nil {
		return err
	}
	if lo := v.Link("lo"); lo == nil || !lo.Up {
		c.say("the pod's lo is down")
	}
	l := v.Link(c.Interface)
	if l == nil {
		c.say("the pod has no interface %s", c.Interface)
		return nil
	}
	c.link(l, c.podMAC)
	have, err := v.Addrs(c.ctx, c.Interface)
	if err != nil {
		return err
	}
	for _, a := range c.addrs {
		if !slices.ContainsFunc(have, func(h netstate.Addr) bool { return h.Prefix.Addr() == a }) {
			c.say("the pod's address %s is missing", a)
		}
	}
	neighbours := map[netip.Addr]string{}
	for _, g := range c.nexts {
		neighbours[g] = c.hostMAC
	}
	return errors.Join(c.laxRoutes(v), c.routesOf(v, c.Interface, c.routes), c.neighbours(v, c.Interface, neighbours))
}

// laxRoutes looks for the routes that may be another interface's.
func (c *checker) laxRoutes(v *kernel.View) error {
	for i := range c.lax {
		r := &c.lax[i]
		have, err := v.Routes(c.ctx, r.Family, r.Table, "")
		if err != nil {
			return err
		}
		stands := func(h netstate.Route) bool { return h.Key() == r.Key() && (h.Hop.Dev != c.Interface || h.Equal(r)) }
		if !slices.ContainsFunc(have, stands) {
			c.say("missing: %s", r)
		}
	}
	return nil
}

func (c *checker) link(l *netstate.Link, mac string) {
	if l.MAC != mac {
		c.say("the link-layer address of %s is %s, not %s", l.Name, l.MAC, mac)
	}
	if !l.Up {
		c.say("%s is down", l.Name)
	}
	if c.mtu != 0 && l.MTU != c.mtu {
		c.say("the MTU of %s is %d, not %d", l.Name, l.MTU, c.mtu)
	}
}

func (c *checker) routesOf(v *kernel.View, dev string, want []netstate.Route) error {
	type list struct {
		family netstate.Family
		table  uint32
	}
	read := map[list][]netstate.Route{}
	for i := range want {
		r := &want[i]
		at := list{r.Family, r.Table}
		have, ok := read[at]
		if !ok {
			var err error
			if have, err = v.Routes(c.ctx, r.Family, r.Table, dev); err != nil {
				return err
			}
			read[at] = have
		}
		if !slices.ContainsFunc(have, func(h netstate.Route) bool { return h.Equal(r) }) {
			c.say("missing: %s", r)
		}
	}
	return nil
}

func (c *checker) neighbours(v *kernel.View, dev string, want map[netip.Addr]string) error {
	have, err := v.Kept(c.ctx, dev)
	if err != nil {
		return err
	}
	for _, a := range slices.SortedFunc(maps.Keys(want), netip.Addr.Compare) {
		if have[a] != want[a] {
			c.say("missing: neighbour %s lladdr %s dev %s nud permanent", a, want[a], dev)
		}
	}
	return nil
}
