package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// LinkSpec is a link to be made.
type LinkSpec struct {
	Name     string
	Kind     string // dummy, bridge, veth, vlan, vrf, macvlan, ...
	MTU      uint32 // 0: the kernel's default
	MAC      string // empty: the kernel picks one
	Up       bool
	Master   string // bridge or VRF to be a port of
	Parent   string // link below a VLAN or macvlan
	VLAN     uint16 // id, for Kind vlan
	VRFTable uint32 // for Kind vrf
	// Peer names the other end of a veth; it is made down. PeerNetns is where it
	// goes, as for Open; empty: the namespace of the link itself.
	Peer      string
	PeerNetns string
	PeerMAC   string
}

// LinkUpdate says what of a link to change; nil leaves it as it is.
type LinkUpdate struct {
	Up     *bool
	Master *string // empty: none
	MAC    *string
	MTU    *uint32
	Name   *string
	// Netns moves the link to another namespace, named as for Open. The rest of
	// the update is done there.
	Netns *string
}

// CreateLink makes a link. The error is EEXIST where the name is taken, ENODEV
// where Master or Parent is, and *FeatureError where the kernel lacks the kind.
func (c *Conn) CreateLink(ctx context.Context, spec LinkSpec) error {
	err := c.withLinks(ctx, func(links *indexes) ([]byte, error) {
		data, done, err := kindData(&spec)
		if err != nil {
			return nil, err
		}
		defer done()
		l := netstate.Link{
			Name: spec.Name, Kind: spec.Kind, MTU: spec.MTU, MAC: spec.MAC, Up: spec.Up,
			Master: spec.Master, Parent: spec.Parent,
		}
		body, err := appendLink(nil, &l, links, data)
		if err == nil {
			_, err = c.ask(ctx, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
		}
		if errors.Is(err, unix.EOPNOTSUPP) && c.lacksKind(ctx, spec.Kind) {
			err = &FeatureError{Name: "links of kind " + spec.Kind}
		}
		return nil, err
	})
	if err != nil {
		return fmt.Errorf("create link %s: %w", spec.Name, err)
	}
	return nil
}

// lacksKind asks for a link of that kind under a name that cannot be: a kernel
// that has the kind gets as far as the name.
func (c *Conn) lacksKind(ctx context.Context, kind string) bool {
	body := make([]byte, linkHeader)
	body = putString(body, unix.IFLA_IFNAME, "a/b")
	body = nest(body, unix.IFLA_LINKINFO, func(b []byte) []byte { return putString(b, unix.IFLA_INFO_KIND, kind) })
	_, err := c.ask(ctx, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
	return errors.Is(err, unix.EOPNOTSUPP)
}

// kindData gives what a kind needs besides its name. The function that it
// returns must be called when the request was sent.
func kindData(spec *LinkSpec) (data func([]byte) []byte, done func(), err error) {
	done = func() {}
	switch spec.Kind {
	case "":
		return nil, done, fmt.Errorf("no kind given: %w", unix.EINVAL)
	case "vlan":
		return func(b []byte) []byte { return putU16(b, vlanID, spec.VLAN) }, done, nil
	case "vrf":
		return func(b []byte) []byte { return putU32(b, vrfTable, spec.VRFTable) }, done, nil
	case "macvlan":
		return func(b []byte) []byte { return putU32(b, macvlanMode, macvlanBridge) }, done, nil
	case "veth":
	default:
		return nil, done, nil
	}
	if err := linkName(spec.Peer); err != nil {
		return nil, done, fmt.Errorf("peer: %w", err)
	}
	peer := append(make([]byte, linkHeader), putString(nil, unix.IFLA_IFNAME, spec.Peer)...)
	if spec.MTU != 0 {
		peer = putU32(peer, unix.IFLA_MTU, spec.MTU)
	}
	if spec.PeerMAC != "" {
		mac, err := hardwareAddress(spec.PeerMAC)
		if err != nil {
			return nil, done, fmt.Errorf("peer: %w", err)
		}
		peer = put(peer, unix.IFLA_ADDRESS, mac)
	}
	if spec.PeerNetns != "" {
		ns, err := openNamespace(spec.PeerNetns)
		if err != nil {
			return nil, done, err
		}
		done = func() { ns.Close() }
		peer = putNamespace(peer, ns)
	}
	return func(b []byte) []byte { return put(b, vethPeer, peer) }, done, nil
}

func putNamespace(b []byte, ns *os.File) []byte {
	return putU32(b, unix.IFLA_NET_NS_FD, uint32(ns.Fd()))
}

// SetLink changes a link. The error is ENODEV where there is none of that name.
func (c *Conn) SetLink(ctx context.Context, name string, u LinkUpdate) error {
	err := c.withLinks(ctx, func(links *indexes) ([]byte, error) {
		index, err := links.of(name)
		if err != nil {
			return nil, err
		}
		body := make([]byte, linkHeader)
		native.PutUint32(body[4:], uint32(index))
		if u.Up != nil {
			if *u.Up {
				native.PutUint32(body[8:], unix.IFF_UP)
			}
			native.PutUint32(body[12:], unix.IFF_UP)
		}
		if u.Name != nil {
			if err := linkName(*u.Name); err != nil {
				return nil, err
			}
			body = putString(body, unix.IFLA_IFNAME, *u.Name)
		}
		if u.MAC != nil {
			mac, err := hardwareAddress(*u.MAC)
			if err != nil {
				return nil, err
			}
			body = put(body, unix.IFLA_ADDRESS, mac)
		}
		if u.MTU != nil {
			body = putU32(body, unix.IFLA_MTU, *u.MTU)
		}
		if u.Master != nil {
			master, err := links.of(*u.Master)
			if err != nil {
				return nil, err
			}
			body = putU32(body, unix.IFLA_MASTER, uint32(master))
		}
		if u.Netns != nil {
			ns, err := openNamespace(*u.Netns)
			if err != nil {
				return nil, err
			}
			defer ns.Close()
			body = putNamespace(body, ns)
		}
		return c.ask(ctx, unix.RTM_NEWLINK, 0, body)
	})
	if err != nil {
		return fmt.Errorf("set link %s: %w", name, err)
	}
	return nil
}

// DeleteLink removes a link; a veth takes its peer with it. The error is ENODEV
// where there is none of that name.
func (c *Conn) DeleteLink(ctx context.Context, name string) error {
	err := c.withLinks(ctx, func(links *indexes) ([]byte, error) {
		index, err := links.of(name)
		if err != nil {
			return nil, err
		}
		body := make([]byte, linkHeader)
		native.PutUint32(body[4:], uint32(index))
		return c.ask(ctx, unix.RTM_DELLINK, 0, body)
	})
	if err != nil {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// AddAddr gives a link an address. The error is EEXIST where it has it.
func (c *Conn) AddAddr(ctx context.Context, a netstate.Addr) error {
	err := c.withLinks(ctx, func(links *indexes) ([]byte, error) {
		if a.Dev == "" {
			return nil, fmt.Errorf("no link given: %w", unix.EINVAL)
		}
		body, err := appendAddr(nil, &a, links)
		if err != nil {
			return nil, err
		}
		return c.ask(ctx, unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
	})
	if err != nil {
		return fmt.Errorf("add address %s to link %s: %w", a.Prefix, a.Dev, err)
	}
	return nil
}

// withLinks runs one request that needs link numbers, alone on the socket.
func (c *Conn) withLinks(ctx context.Context, f func(*indexes) ([]byte, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := f(newIndexes(func(name string) (int32, error) { return c.linkIndex(ctx, name) }))
	return err
}
