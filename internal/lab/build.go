package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
)

// lingering bounds the removal of a lab after its context has ended.
const lingering = 30 * time.Second

// build makes everything of the lab but the objects. It removes what it made when
// it cannot make all of it, or when ctx ends.
func (l *Lab) build(ctx context.Context, s *store, cfg *Config) (err error) {
	if os.Geteuid() != 0 {
		return fmt.Errorf("lab %s: making network namespaces takes root", l.Name)
	}
	old, err := s.load()
	switch {
	case err != nil:
		return err
	case old != nil && old.Up:
		return l.stateError(ErrUp, "take it down first: viarule lab down")
	case old != nil:
		return l.stateError(ErrHalf, "remove what is left of it: viarule lab down")
	}
	st := &state{Lab: l.Name, Namespaces: make([]space, len(l.Hosts))}
	if st.Boot, err = bootID(); err != nil {
		return err
	}
	for i := range l.Hosts {
		ns := l.Namespace(l.Hosts[i].Name)
		st.Namespaces[i] = space{Host: l.Hosts[i].Name, Name: ns}
		if kind, err := kindOfNetns(ns); err != nil {
			return err
		} else if kind != nsAbsent {
			return fmt.Errorf("lab %s: there is a network namespace %s already, which the lab did not make; remove it or rename the lab", l.Name, ns)
		}
	}
	if err := s.save(st); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), lingering)
			defer cancel()
			err = errors.Join(err, l.demolish(clean, s, st, &Config{}))
		}
	}()

	b := &builder{lab: l, conns: map[string]*kernel.Conn{}}
	defer b.close()
	for i := range st.Namespaces {
		if err := b.addHost(ctx, &st.Namespaces[i]); err != nil {
			return err
		}
		if err := s.save(st); err != nil {
			return err
		}
	}
	for _, step := range []func(context.Context) error{b.addLinks, b.addPorts, b.raise, b.settings, b.addAddrs, b.addRoutes} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("lab %s: %w", l.Name, err)
		}
	}
	for i := range l.Hosts {
		if err := setFirewall(l.Namespace(l.Hosts[i].Name), &l.Hosts[i].Firewall); err != nil {
			return fmt.Errorf("lab %s: %w", l.Name, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	st.Up = true
	if err := s.save(st); err != nil {
		return err
	}
	l.describe(cfg.say)
	return nil
}

// builder holds a connection to the kernel in each host's namespace.
type builder struct {
	lab   *Lab
	conns map[string]*kernel.Conn
}

func (b *builder) close() {
	for _, c := range b.conns {
		c.Close()
	}
}

func (b *builder) addHost(ctx context.Context, sp *space) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := kernel.CreateNetns(sp.Name); err != nil {
		return fmt.Errorf("lab %s: make the namespace of host %s: %w", b.lab.Name, sp.Host, err)
	}
	c, err := kernel.Open(sp.Name)
	if err != nil {
		return fmt.Errorf("lab %s: host %s: %w", b.lab.Name, sp.Host, err)
	}
	b.conns[sp.Host] = c
	if sp.Cookie, err = c.Cookie(); err != nil {
		return fmt.Errorf("lab %s: host %s: %w", b.lab.Name, sp.Host, err)
	}
	h := b.lab.host(sp.Host)
	settings := baseline(h)
	for _, s := range h.Sysctls {
		if forFutureLinks(s.Key) {
			settings = append(settings, s)
		}
	}
	if err := b.sysctls(ctx, h, settings); err != nil {
		return fmt.Errorf("lab %s: %w", b.lab.Name, err)
	}
	up := true
	if err := c.SetLink(ctx, loopback, kernel.LinkUpdate{Up: &up}); err != nil {
		return fmt.Errorf("lab %s: host %s: set lo up: %w", b.lab.Name, sp.Host, err)
	}
	return nil
}

// baseline makes a namespace the same whatever the machine is set to: a new one
// takes IPv4 settings over from the first namespace. Addresses are usable at
// once (no duplicate address detection), nothing comes from router
// advertisements, and routers say no every time, not once a second (but for
// IPv4's "no route", whose limit belongs to the whole machine).
func baseline(h *Host) []netstate.Sysctl {
	on := "0"
	if h.Forwarding {
		on = "1"
	}
	return []netstate.Sysctl{
		{Key: "net/ipv4/ip_forward", Value: on},
		{Key: "net/ipv4/icmp_ratelimit", Value: "0"},
		{Key: "net/ipv6/icmp/ratelimit", Value: "0"},
		{Key: "net/ipv4/conf/all/rp_filter", Value: "0"},
		{Key: "net/ipv4/conf/default/rp_filter", Value: "0"},
		{Key: "net/ipv6/conf/all/disable_ipv6", Value: "0"},
		{Key: "net/ipv6/conf/default/disable_ipv6", Value: "0"},
		{Key: "net/ipv6/conf/all/forwarding", Value: on},
		{Key: "net/ipv6/conf/all/accept_dad", Value: "0"},
		{Key: "net/ipv6/conf/default/accept_dad", Value: "0"},
		{Key: "net/ipv6/conf/default/accept_ra", Value: "0"},
	}
}

// forFutureLinks says whether a sysctl is what new links begin with.
func forFutureLinks(key string) bool {
	return strings.Contains(key, "/conf/default/") || strings.Contains(key, "/neigh/default/")
}

func (b *builder) sysctls(ctx context.Context, h *Host, list []netstate.Sysctl) error {
	changes := make([]netstate.Change, len(list))
	for i := range list {
		changes[i] = netstate.Change{Verb: netstate.Replace, Sysctl: &list[i]}
	}
	return b.apply(ctx, h, changes)
}

// apply makes changes on a host. The error is that of the first one that failed.
func (b *builder) apply(ctx context.Context, h *Host, changes []netstate.Change) error {
	if len(changes) == 0 {
		return ctx.Err()
	}
	n, failed := b.conns[h.Name].Apply(ctx, changes)
	if len(failed) > 0 {
		return fmt.Errorf("host %s: %s: %w", h.Name, changes[failed[0].Index].String(), failed[0])
	}
	if n < len(changes) {
		if err := ctx.Err(); err != nil {
			return err
		}
		return fmt.Errorf("host %s: %s: it was not tried", h.Name, changes[n].String())
	}
	return nil
}

// addLinks makes the veth pairs, then what stands on them.
func (b *builder) addLinks(ctx context.Context) error {
	for _, pairs := range []bool{true, false} {
		for i := range b.lab.Links {
			k := &b.lab.Links[i]
			if (k.Kind == Veth) != pairs {
				continue
			}
			if err := b.addLink(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) addLink(ctx context.Context, k *Link) error {
	e := &k.Ends[0]
	spec := kernel.LinkSpec{Name: e.Name, Kind: string(k.Kind), MTU: e.MTU, MAC: e.MAC, Parent: k.Parent, VLAN: k.ID, VRFTable: k.Table}
	if k.Kind == Veth {
		p := &k.Ends[1]
		spec.Peer, spec.PeerNetns, spec.PeerMAC = p.Name, b.lab.Namespace(p.Host), p.MAC
	}
	switch err := b.conns[e.Host].CreateLink(ctx, spec); {
	case errors.Is(err, kernel.ErrNotSupported):
		return fmt.Errorf("host %s: this kernel has no links of kind %s; the lab needs one that has (make test-vm runs labs under Debian's): %w", e.Host, k.Kind, err)
	case err != nil:
		return fmt.Errorf("host %s: make link %s: %w", e.Host, e.Name, err)
	}
	if k.Kind == Veth && k.Ends[1].MTU != 0 {
		p := &k.Ends[1]
		if err := b.conns[p.Host].SetLink(ctx, p.Name, kernel.LinkUpdate{MTU: &p.MTU}); err != nil {
			return fmt.Errorf("host %s: set the MTU of link %s: %w", p.Host, p.Name, err)
		}
	}
	return nil
}

// addPorts puts links under their bridge or VRF, before they get addresses: a VRF
// takes those away.
func (b *builder) addPorts(ctx context.Context) error {
	for i := range b.lab.Links {
		k := &b.lab.Links[i]
		for _, p := range k.Ports {
			if err := b.conns[k.Ends[0].Host].SetLink(ctx, p, kernel.LinkUpdate{Master: &k.Ends[0].Name}); err != nil {
				return fmt.Errorf("host %s: make %s a port of %s: %w", k.Ends[0].Host, p, k.Ends[0].Name, err)
			}
		}
	}
	return nil
}

// raise sets every link up and waits until it carries packets.
func (b *builder) raise(ctx context.Context) error {
	up := true
	links := map[string][]string{}
	for i := range b.lab.Links {
		for _, e := range b.lab.Links[i].Ends {
			if err := b.conns[e.Host].SetLink(ctx, e.Name, kernel.LinkUpdate{Up: &up}); err != nil {
				return fmt.Errorf("host %s: set link %s up: %w", e.Host, e.Name, err)
			}
			links[e.Host] = append(links[e.Host], e.Name)
		}
	}
	for host, names := range links {
		// The link watch runs once a second. Asking for a link by its name, as a
		// change of it does first, makes it look at once (rtnl_getlink since Linux
		// 6.9); before, it is waited for.
		for _, name := range names {
			if err := b.conns[host].SetLink(ctx, name, kernel.LinkUpdate{Up: &up}); err != nil {
				return fmt.Errorf("host %s: set link %s up: %w", host, name, err)
			}
		}
		if err := awaitRunning(ctx, b.lab.Namespace(host), names); err != nil {
			return err
		}
	}
	return nil
}

// settings writes the sysctls of hosts, now that the links are there.
func (b *builder) settings(ctx context.Context) error {
	for i := range b.lab.Hosts {
		h := &b.lab.Hosts[i]
		now := slices.DeleteFunc(slices.Clone(h.Sysctls), func(s netstate.Sysctl) bool { return forFutureLinks(s.Key) })
		if err := b.sysctls(ctx, h, now); err != nil {
			return err
		}
	}
	return nil
}

// ifaNoDAD is IFA_F_NODAD: an IPv6 address is usable at once, without a search
// for another host that has it.
const ifaNoDAD = 0x02

func (b *builder) addAddrs(ctx context.Context) error {
	add := func(e *End) error {
		for _, p := range e.Addresses {
			a := netstate.Addr{Dev: e.Name, Prefix: p}
			if p.Addr().Is6() {
				a.Flags = ifaNoDAD
			}
			if err := b.conns[e.Host].AddAddr(ctx, a); err != nil {
				return fmt.Errorf("host %s: add address %s to link %s: %w", e.Host, p, e.Name, err)
			}
		}
		return nil
	}
	for i := range b.lab.Hosts {
		if err := add(&End{Host: b.lab.Hosts[i].Name, Name: loopback, Addresses: b.lab.Hosts[i].Addresses}); err != nil {
			return err
		}
	}
	for i := range b.lab.Links {
		for j := range b.lab.Links[i].Ends {
			if err := add(&b.lab.Links[i].Ends[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) addRoutes(ctx context.Context) error {
	for i := range b.lab.Hosts {
		h := &b.lab.Hosts[i]
		var changes []netstate.Change
		for j := range h.Routes {
			changes = append(changes, netstate.Change{Verb: netstate.Add, Route: &h.Routes[j]})
		}
		for j := range h.Rules {
			changes = append(changes, netstate.Change{Verb: netstate.Add, Rule: &h.Rules[j]})
		}
		if err := b.apply(ctx, h, changes); err != nil {
			return err
		}
	}
	return nil
}
