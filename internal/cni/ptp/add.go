package ptp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/cni/ipam"
	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
)

func (p *plugin) attachment() Attachment {
	return Attachment{p.call.Network, p.call.ContainerID, p.call.IfName}
}

// add joins the pod, or leaves nothing.
func (p *plugin) add() (*cni.Result, error) {
	a := p.attachment()
	if err := errors.Join(p.config.read(p.call.Config), a.check()); err != nil {
		return nil, err
	}
	addresses, err := ipam.Open(p.call)
	if err != nil {
		return nil, err
	}
	host, err := kernel.Open("")
	if err != nil {
		return nil, err
	}
	defer host.Close()
	// Before addresses are asked for: with those that this call takes, the IPAM plugin would
	// take back those of the earlier one.
	if there, err := host.HasLink(p.ctx, a.HostName()); err != nil {
		return nil, err
	} else if there {
		return nil, fmt.Errorf("%s is there since an earlier ADD of %s in this container: %w; call DEL before ADD", a.HostName(), a.Interface, unix.EEXIST)
	}
	given, err := addresses.Add(p.ctx)
	if err != nil {
		return nil, err
	}
	w, err := wire(a, &p.config, "result of the IPAM plugin: ", given.IPs, given.Routes)
	if err == nil {
		err = p.join(host, w)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), cleaning)
		defer cancel()
		return nil, left(err, addresses.Del(ctx))
	}
	p.did = fmt.Sprintf("%s with %v", w.host, w.addrs)
	return w.result(p.call.Netns, &p.config, given), nil
}

// left is the error of an ADD with that of taking back what it had made.
func left(err, undo error) error {
	if undo == nil {
		return err
	}
	e := *cni.Failed("add", err)
	e.Msg += "; and not all of it could be taken back, which DEL will try again: " + undo.Error()
	return &e
}

// join makes the veth and what belongs to it.
func (p *plugin) join(host *kernel.Conn, w *wiring) (err error) {
	pod, ends, err := p.make(host, w)
	if err != nil {
		return err
	}
	defer pod.Close()
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), cleaning)
		defer cancel()
		err = left(err, errors.Join(p.remove(ctx, host, w.Attachment, p.config.ipMasq), host.DeleteNftCNI(ctx, []string{w.host}, &netstate.NftMap{})))
	}()
	if err := p.openHost(host, w, ends); err != nil {
		return err
	}
	if err := p.protect(host, w); err != nil {
		return err
	}
	refused, err := p.setup(host, w.onHost(ends))
	if err == nil && len(refused) > 0 {
		err = p.settle(host, w, ends, refused)
	}
	if err != nil {
		return err
	}
	// Behind the routes: what is sent to the addresses before goes another way, and may be
	// translated there. The pod gets nothing before its end is up.
	if err := p.forget(host, w); err != nil {
		return err
	}
	if err := p.openPod(pod, w, ends); err != nil {
		return err
	}
	return host.SyncCarrier(w.host)
}

// openPod sets the pod's end up. Where another interface has the default route already,
// this one gets the way to its addresses' networks.
func (p *plugin) openPod(pod *kernel.Conn, w *wiring, ends *kernel.Ends) error {
	s, lax := w.inPod(ends)
	refused, err := p.setup(pod, s)
	if err != nil || len(refused) == 0 {
		return err
	}
	more := &kernel.Setup{Dev: w.Interface, Index: ends.PeerIndex}
	for _, r := range refused {
		route := lax[r.Index]
		if route == nil || !errors.Is(r, unix.EEXIST) {
			return r
		}
		if route.To.Bits() > 0 {
			continue
		}
		for _, n := range w.toNetworks(route.Family, nil) {
			more.Route(n)
		}
	}
	return p.must(pod, more)
}

// make makes the veth, with its other end in the pod, and what has to be written from
// within the pod.
func (p *plugin) make(host *kernel.Conn, w *wiring) (_ *kernel.Conn, _ *kernel.Ends, err error) {
	ns, err := p.enter()
	if err != nil {
		return nil, nil, err
	}
	var pod *kernel.Conn
	made := false
	defer func() {
		if err = errors.Join(err, ns.Leave()); err == nil {
			return
		}
		if pod != nil {
			pod.Close()
		}
		if made {
			err = left(err, p.remove(context.WithoutCancel(p.ctx), host, w.Attachment, false))
		}
	}()
	if pod, err = ns.Open(); err != nil {
		return nil, nil, err
	}
	e, err := host.CreatePair(p.ctx, kernel.Pair{Name: w.host, MAC: w.hostMAC, Alias: w.Alias(), Peer: w.Interface, PeerMAC: w.podMAC, MTU: w.mtu}, ns)
	if errors.Is(err, unix.EEXIST) {
		return nil, nil, fmt.Errorf("%w: the pod has an interface %s already", err, w.Interface)
	}
	if err != nil {
		return nil, nil, err
	}
	if made = true; !w.has(netstate.IPv6) {
		return pod, &e, nil
	}
	if e.IPv6 == nil {
		return nil, nil, cni.Wrong("ipam", "it gives an address of IPv6, and this kernel has IPv6 switched off", "leave the range out, or boot without ipv6.disable=1")
	}
	// Container runtimes switch IPv6 off in namespaces of their own accord.
	if v, err := pod.ReadSysctl(sysctl6(w.Interface, "disable_ipv6")); err != nil || v != "0" {
		if err := p.write(pod, sysctl6("lo", "disable_ipv6"), "0", sysctl6(w.Interface, "disable_ipv6"), "0"); err != nil {
			return nil, nil, err
		}
	}
	return pod, &e, p.write(pod, sysctl6(w.Interface, "accept_ra"), "0")
}

// enter enters the pod's namespace. It needs a function init above it: see kernel.Pinned.
func (p *plugin) enter() (*kernel.Namespace, error) {
	if p.call.OwnNetns {
		return nil, &cni.Error{Code: cni.CodeNetns, Msg: "CNI_NETNS_OVERRIDE: a veth needs another namespace than the host's"}
	}
	// A bare name is a file in the current folder, as the reference has it; kernel.Enter
	// would take it for one of `ip netns`.
	path := p.call.Netns
	if path != "" && !strings.Contains(path, "/") {
		path = "./" + path
	}
	ns, err := kernel.Enter(path, kernel.Pinned)
	if path != p.call.Netns && errors.Is(err, kernel.ErrNoNamespace) {
		err = fmt.Errorf("%w; CNI_NETNS takes a path, such as /run/netns/%s", err, p.call.Netns)
	}
	return ns, err
}

func sysctl6(dev, name string) string { return "net/ipv6/conf/" + dev + "/" + name }

// write writes sysctls, given as keys and values by turns.
func (p *plugin) write(c *kernel.Conn, list ...string) error {
	var changes []netstate.Change
	for i := 0; i < len(list); i += 2 {
		changes = append(changes, netstate.Change{Verb: netstate.Replace, Sysctl: &netstate.Sysctl{Key: list[i], Value: list[i+1]}})
		if p.debug {
			p.writes = append(p.writes, list[i]+" = "+list[i+1])
		}
	}
	_, failed := c.Apply(p.ctx, changes)
	if len(failed) > 0 {
		return failed[0].Err
	}
	return p.ctx.Err()
}

// openHost sets what the host's end needs to forward IPv6, and to take no routes from the
// pod. IPv4's part is in onHost.
func (p *plugin) openHost(host *kernel.Conn, w *wiring, e *kernel.Ends) error {
	if e.IPv6 == nil {
		return nil
	}
	six := w.has(netstate.IPv6)
	if six && e.IPv6.Disabled {
		if err := p.write(host, sysctl6(w.host, "disable_ipv6"), "0"); err != nil {
			return err
		}
	}
	// A router takes router advertisements only with 2 (ipv6_accept_ra).
	if ra := e.IPv6.AcceptRA; ra == 2 || ra != 0 && !e.IPv6.Forwarding {
		if err := p.write(host, sysctl6(w.host, "accept_ra"), "0"); err != nil {
			return err
		}
	}
	if !six {
		return nil
	}
	// Also where all links forward: what makes them does not go with the pod, and may go
	// before it. The kernel lets a write spin until it gets the lock of all networking
	// (addrconf_sysctl_force_forwarding, restart_syscall): of many at once, only one shall.
	return p.alone(func() error {
		err := p.write(host, sysctl6(w.host, "force_forwarding"), "1")
		switch {
		case !errors.Is(err, unix.ENOENT) || forces(host): // or the link has gone
			return err
		case e.ForwardsIPv6:
			return nil
		}
		return p.forwardAll(host)
	})
}

// forces says whether links of this kernel have force_forwarding (Linux 6.17).
func forces(host *kernel.Conn) bool {
	_, err := host.ReadSysctl(sysctl6("all", "force_forwarding"))
	return err == nil
}

// forwardAll makes the host a router of IPv6, as kernels before 6.17 have it: wholly or not
// at all. A router takes no routes from router advertisements where accept_ra is 1: the
// host would lose its own default route. So those links get 2 first.
func (p *plugin) forwardAll(host *kernel.Conn) error {
	v, err := host.View(p.ctx)
	if err != nil {
		return err
	}
	var list []string
	for i := range v.Links {
		dev := v.Links[i].Name
		if strings.HasPrefix(dev, Prefix) {
			continue
		}
		ra, err := host.ReadSysctl(sysctl6(dev, "accept_ra"))
		forwards, ferr := host.ReadSysctl(sysctl6(dev, "forwarding"))
		if err == nil && ferr == nil && ra == "1" && forwards == "0" {
			list = append(list, sysctl6(dev, "accept_ra"), "2")
		}
	}
	return p.write(host, append(list, sysctl6("all", "forwarding"), "1")...)
}

// settle deals with what the kernel refused of the host's part: a route to the pod's
// address is there already.
func (p *plugin) settle(host *kernel.Conn, w *wiring, ends *kernel.Ends, refused []*kernel.SetupError) error {
	for _, r := range refused {
		if !errors.Is(r, unix.EEXIST) {
			return r
		}
	}
	v, err := host.View(p.ctx)
	if err != nil {
		return err
	}
	again := &kernel.Setup{Dev: w.host, Index: ends.Index}
	for _, a := range w.addrs {
		mine := w.hostRoute(a)
		routes, err := v.Routes(p.ctx, mine.Family, mine.Table, "")
		if err != nil {
			return err
		}
		stands := false
		for i := range routes {
			r := &routes[i]
			if r.Key() != mine.Key() {
				continue
			}
			if stands = r.Hop.Dev == w.host; stands {
				break
			}
			if err := w.stale(v, r); err != nil {
				return err
			}
			old := &kernel.Setup{Dev: r.Hop.Dev, Index: v.Link(r.Hop.Dev).Index}
			old.DeleteRoute(*r)
			if err := p.must(host, old); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		if !stands { // also where what was in the way has gone by itself: see del
			again.Route(mine)
		}
	}
	return p.must(host, again)
}

// stale says why a route in the place of one of ours may not go: only one that this
// plugin made for the same network may, whose IPAM plugin has given the address to a new pod.
func (w *wiring) stale(v *kernel.View, r *netstate.Route) error {
	l := v.Link(r.Hop.Dev)
	if r.Protocol != netstate.ProtocolCNI || l == nil {
		return fmt.Errorf("there is another route to the pod's address: %s; delete it, or give pods other addresses", r)
	}
	if of, ok := ParseAlias(l.Alias); !ok || of.Network != w.Network {
		return fmt.Errorf("there is another route to the pod's address: %s, and that link's alias is %q; give the two networks addresses that do not overlap", r, l.Alias)
	}
	return nil
}

// forget deletes the connections of addresses that other pods had before.
func (p *plugin) forget(host *kernel.Conn, w *wiring) error {
	var again []netip.Addr
	for _, a := range w.addrs {
		used, err := usedBefore(a)
		if err != nil {
			return err
		}
		if used {
			again = append(again, a)
		}
	}
	if len(again) == 0 {
		return nil
	}
	return host.ForgetConnections(p.ctx, again)
}

// result is what the runtime gets: the host's end first, then the pod's.
func (w *wiring) result(netns string, c *config, given *cni.Result) *cni.Result {
	one := 1
	r := &cni.Result{
		Interfaces: []cni.Interface{{Name: w.host, Mac: w.hostMAC, MTU: int(w.mtu)}, {Name: w.Interface, Mac: w.podMAC, MTU: int(w.mtu), Sandbox: netns}},
		Routes:     given.Routes,
		DNS:        given.DNS,
	}
	for _, ip := range given.IPs {
		if !ip.Gateway.IsValid() {
			ip.Gateway = gateway(netstate.FamilyOf(ip.Address.Addr()))
		}
		ip.Interface = &one
		r.IPs = append(r.IPs, ip)
	}
	if c.dns != nil {
		r.DNS = *c.dns
	}
	return r
}
