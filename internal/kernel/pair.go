package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// Pair is a veth pair of which one end is made in another namespace.
type Pair struct {
	Name, MAC     string // of the end in the Conn's namespace
	Alias         string // of that end; empty: none
	Peer, PeerMAC string // of the end in the other one
	MTU           uint32 // of both; 0: the kernel's default
}

// Ends is what CreatePair made.
type Ends struct {
	Index, PeerIndex int
	// IPv6 are sysctls of net/ipv6/conf for Name's end, as the kernel has set them from its
	// defaults; nil where IPv6 is off.
	IPv6 *IPv6Conf
	// ForwardsIPv6 is net/ipv6/conf/all/forwarding, without which the kernel forwards no
	// packet (ip6_forward) but those of a link with force_forwarding (Linux 6.17).
	ForwardsIPv6 bool
}

// IPv6Conf is a part of a link's net/ipv6/conf.
type IPv6Conf struct {
	Forwarding bool
	AcceptRA   int32
	Disabled   bool
}

// Places in IFLA_INET6_CONF, an array of 32 bit numbers (include/uapi/linux/ipv6.h,
// DEVCONF_*).
const (
	devconfForwarding = 0
	devconfAcceptRA   = 3
	devconfDisable    = 26

	inet6Conf           = 2 // IFLA_INET6_CONF
	inet6GenMode        = 8 // IFLA_INET6_ADDR_GEN_MODE
	genModeNone         = 1 // IN6_ADDR_GEN_MODE_NONE
	netconfIndex        = 1 // NETCONFA_IFINDEX
	netconfForwarding   = 2 // NETCONFA_FORWARDING
	inetConf            = 1 // IFLA_INET_CONF
	inetForwarding      = 1 // IPV4_DEVCONF_FORWARDING
	inetProxyARP        = 3 // IPV4_DEVCONF_PROXY_ARP
	inetAcceptRedirects = 4 // IPV4_DEVCONF_ACCEPT_REDIRECTS
	netconfHeader       = 4 // struct netconfmsg, with its padding
)

// CreatePair makes a veth pair, with both ends down and the peer already in the
// namespace that the caller has entered: to make it here and move it there takes the
// kernel a grace period of RCU more. It takes one send, which no signal ends half-way: there
// is no moment without the alias. The error is EEXIST where one of the names is taken; it does
// not say which. A link that has Name already gets the alias then, so Name should be one that
// nobody else has.
func (c *Conn) CreatePair(ctx context.Context, p Pair, peer *Namespace) (Ends, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ends, err := c.createPair(ctx, &p, peer)
	if err != nil {
		return Ends{}, fmt.Errorf("create veth %s with the peer %s in network namespace %q: %w", p.Name, p.Peer, peer.path, err)
	}
	return ends, nil
}

func (c *Conn) createPair(ctx context.Context, p *Pair, peer *Namespace) (e Ends, err error) {
	if err := errors.Join(linkName(p.Name), linkName(p.Peer)); err != nil {
		return e, err
	}
	if len(p.Alias) >= maxAlias {
		return e, fmt.Errorf("the alias has %d bytes, more than %d: %w", len(p.Alias), maxAlias-1, unix.EINVAL)
	}
	near, err := endAttrs(nil, p.Name, p.MAC, p.MTU)
	if err != nil {
		return e, err
	}
	far, err := endAttrs(make([]byte, linkHeader), p.Peer, p.PeerMAC, p.MTU)
	if err != nil {
		return e, err
	}
	far = putNamespace(far, peer.file)
	create := append(make([]byte, linkHeader), near...)
	create = nest(create, unix.IFLA_LINKINFO, func(b []byte) []byte {
		return nest(putString(b, unix.IFLA_INFO_KIND, "veth"), unix.IFLA_INFO_DATA, func(b []byte) []byte { return put(b, vethPeer, far) })
	})
	get := putU32(make([]byte, linkHeader), unix.IFLA_EXT_MASK, skipStats)
	get = putString(get, unix.IFLA_IFNAME, p.Name)
	all := put([]byte{unix.AF_INET6, 0, 0, 0}, netconfIndex, native.AppendUint32(nil, netconfAll))

	var s Setup
	s.add(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, create, "")
	s.add(unix.RTM_GETLINK, 0, get, "")
	s.add(unix.RTM_GETNETCONF, 0, all, "")
	if p.Alias != "" {
		s.add(unix.RTM_NEWLINK, 0, put(putString(make([]byte, linkHeader), unix.IFLA_IFNAME, p.Name), unix.IFLA_IFALIAS, []byte(p.Alias)), "")
	}
	found, refused, err := c.setup(ctx, &s)
	if err != nil {
		return e, err
	}
	for _, r := range refused {
		switch r.at {
		case 0:
			if errors.Is(r.err, unix.EOPNOTSUPP) && c.lacksKind(ctx, "veth") {
				return e, &FeatureError{Name: "links of kind veth"}
			}
			return e, r.err
		case 1:
			return e, fmt.Errorf("look it up: %w", r.err)
		case 2: // a kernel without IPv6 has no answer
		default:
			return e, fmt.Errorf("set the alias: %w", r.err)
		}
	}
	if err := e.read(found[1]); err != nil {
		return e, err
	}
	if len(found[2]) >= netconfHeader {
		e.ForwardsIPv6 = native32(readAttrs(found[2][netconfHeader:]).get(netconfForwarding)) != 0
	}
	return e, nil
}

// netconfAll is NETCONFA_IFINDEX_ALL, -1.
const netconfAll = 0xffffffff

// maxAlias is IFALIASZ, with the NUL.
const maxAlias = 256

func endAttrs(b []byte, name, mac string, mtu uint32) ([]byte, error) {
	b = putString(b, unix.IFLA_IFNAME, name)
	if mac != "" {
		m, err := hardwareAddress(mac)
		if err != nil {
			return nil, err
		}
		b = put(b, unix.IFLA_ADDRESS, m)
	}
	if mtu != 0 {
		b = putU32(b, unix.IFLA_MTU, mtu)
	}
	return b, nil
}

// read takes in what the kernel says of the link.
func (e *Ends) read(b []byte) error {
	if len(b) < linkHeader {
		return errShort
	}
	e.Index = int(native.Uint32(b[4:]))
	attrs := readAttrs(b[linkHeader:])
	// Left out by some kernels where both ends happen to have one number.
	if e.PeerIndex = e.Index; attrs.get(unix.IFLA_LINK) != nil {
		e.PeerIndex = int(native32(attrs.get(unix.IFLA_LINK)))
	}
	e.IPv6 = readIPv6Conf(attrs)
	return nil
}

func readIPv6Conf(link attrList) *IPv6Conf {
	conf := readAttrs(readAttrs(link.get(unix.IFLA_AF_SPEC)).get(unix.AF_INET6)).get(inet6Conf)
	if len(conf) < 4*(devconfDisable+1) {
		return nil
	}
	at := func(i int) uint32 { return native.Uint32(conf[4*i:]) }
	return &IPv6Conf{Forwarding: at(devconfForwarding) != 0, AcceptRA: int32(at(devconfAcceptRA)), Disabled: at(devconfDisable) != 0}
}

// DeletePair deletes a veth pair by the end that is here, and its chain and elements of m as
// DeleteNftCNI does. The kernel takes some 18 ms for either, nearly all of them asleep. So
// both are under way at once; but the chain goes only when nothing can come by the link any
// more. The error is EPERM where the link is no veth, or ours says no to its alias: then all
// stays. There is none where there is no such link.
func (c *Conn) DeletePair(ctx context.Context, name string, ours func(alias string) bool, m *netstate.NftMap) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.deletePair(ctx, name, ours, m); err != nil {
		return fmt.Errorf("delete veth %s: %w", name, err)
	}
	return nil
}

func (c *Conn) deletePair(ctx context.Context, name string, ours func(alias string) bool, m *netstate.NftMap) error {
	body := putU32(make([]byte, linkHeader), unix.IFLA_EXT_MASK, skipStats)
	found, err := c.ask(ctx, unix.RTM_GETLINK, 0, putString(body, unix.IFLA_IFNAME, name))
	if errors.Is(err, unix.ENODEV) {
		return c.dropNftCNI(ctx, []string{name}, m)
	}
	if err != nil {
		return err
	}
	var there rawLink
	if err := decodeLink(&there, found); err != nil {
		return err
	}
	if there.Kind != "veth" || !ours(there.Alias) {
		return fmt.Errorf("it is a link of kind %q with the alias %q, so not one that viarule made: %w", there.Kind, there.Alias, unix.EPERM)
	}
	w, err := c.listen(1 << (unix.RTNLGRP_LINK - 1))
	if err != nil {
		return fmt.Errorf("listen for its end: %w", err)
	}
	ended, dropped := make(chan bool, 1), make(chan error, 1)
	go func() {
		defer w.close()
		down, err := w.untilDown(int32(there.Index), ended)
		if down && err == nil {
			err = c.dropNftCNI(ctx, []string{name}, m)
		}
		dropped <- err
	}()
	err = c.deleteIndex(ctx, int32(there.Index))
	if errors.Is(err, unix.ENODEV) {
		err = nil
	}
	ended <- err == nil
	return errors.Join(err, <-dropped)
}

// listen opens a socket of multicast groups in the namespace of c.
func (c *Conn) listen(groups uint32) (m *multicast, err error) {
	err = inNamespace(c.ns, func() (err error) {
		m, err = openMulticast(groups)
		return err
	})
	return m, err
}

// hearing is how long it takes to see that a deletion has ended of which nothing was heard,
// in milliseconds: it failed, or there was so much to hear that it was lost.
const hearing = 20

// untilDown waits for the word that a link is down, with which its deletion begins. The
// kernel gives it when nothing comes by the link any more, and before it waits for all that
// still look at it (unregister_netdevice_many_notify, dev_close_many; netdev_run_todo). Of a
// deletion that has ended without it, ended tells how.
func (m *multicast) untilDown(index int32, ended <-chan bool) (down bool, err error) {
	buf := make([]byte, datagram)
	for {
		n, _, err := unix.Recvfrom(m.fd, buf, 0)
		switch err {
		case nil:
			for r := buf[:n]; len(r) > 0; {
				var msg message
				if msg, r, err = nextMessage(r); err != nil {
					return false, err
				}
				b := msg.body // struct ifinfomsg
				if (msg.typ == unix.RTM_NEWLINK || msg.typ == unix.RTM_DELLINK) && len(b) >= linkHeader && b[0] == unix.AF_UNSPEC &&
					int32(native.Uint32(b[4:])) == index && native.Uint32(b[8:])&unix.IFF_UP == 0 {
					return true, nil
				}
			}
		case unix.EINTR, unix.ENOBUFS:
		case unix.EAGAIN:
			select {
			case deleted := <-ended:
				return deleted, nil
			default:
			}
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}, hearing); err != nil && err != unix.EINTR {
				return false, err
			}
		default:
			return false, err
		}
	}
}
