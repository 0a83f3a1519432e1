package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
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
// nobody else has: see HasLink. Where it fails otherwise, no pair is left.
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
	if len(refused) > 0 && refused[0].at == 0 {
		if err := refused[0].err; !errors.Is(err, unix.EOPNOTSUPP) || !c.lacksKind(ctx, "veth") {
			return e, err
		}
		return e, &FeatureError{Name: "links of kind veth"}
	}
	if err == nil {
		err = e.take(found, refused)
	}
	if err != nil {
		// Made, or nobody knows. What has the name without the alias is another's, or was made a
		// moment ago and got none.
		ours := func(alias string) bool { return alias == p.Alias || alias == "" }
		err = errors.Join(err, c.deletePair(context.WithoutCancel(ctx), p.Name, ours))
	}
	return e, err
}

// take takes in what the kernel answered to the requests behind the first.
func (e *Ends) take(found [][]byte, refused []refusal) error {
	for _, r := range refused {
		switch r.at {
		case 1:
			return fmt.Errorf("look it up: %w", r.err)
		case 2: // a kernel without IPv6 has no answer
		default:
			return fmt.Errorf("set the alias: %w", r.err)
		}
	}
	if err := e.read(found[1]); err != nil {
		return err
	}
	if len(found[2]) >= netconfHeader {
		e.ForwardsIPv6 = native32(readAttrs(found[2][netconfHeader:]).get(netconfForwarding)) != 0
	}
	return nil
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

// DeletePair deletes a veth pair by the end that is here. The kernel takes some 18 ms for
// it, nearly all of them asleep. The error is EPERM where the link is no veth, or ours says
// no to its alias; there is none where there is no such link.
func (c *Conn) DeletePair(ctx context.Context, name string, ours func(alias string) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.deletePair(ctx, name, ours); err != nil {
		return fmt.Errorf("delete veth %s: %w", name, err)
	}
	return nil
}

// HasLink says whether there is a link of a name. It costs one question, where a View reads all links.
func (c *Conn) HasLink(ctx context.Context, name string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := c.linkNamed(ctx, name)
	if err != nil {
		return false, fmt.Errorf("look for link %s: %w", name, err)
	}
	return l != nil, nil
}

// linkNamed gives the link of a name; nil: there is none.
func (c *Conn) linkNamed(ctx context.Context, name string) (*rawLink, error) {
	body := putU32(make([]byte, linkHeader), unix.IFLA_EXT_MASK, skipStats)
	found, err := c.ask(ctx, unix.RTM_GETLINK, 0, putString(body, unix.IFLA_IFNAME, name))
	if errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l := &rawLink{}
	return l, decodeLink(l, found)
}

func (c *Conn) deletePair(ctx context.Context, name string, ours func(alias string) bool) error {
	there, err := c.linkNamed(ctx, name)
	if there == nil || err != nil {
		return err
	}
	if there.Kind != "veth" || !ours(there.Alias) {
		return fmt.Errorf("it is a link of kind %q with the alias %q, so not one that viarule made: %w", there.Kind, there.Alias, unix.EPERM)
	}
	if err := c.deleteIndex(ctx, int32(there.Index)); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}
