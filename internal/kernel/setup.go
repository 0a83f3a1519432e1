package kernel

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// Setup is a list of requests for a link whose number is known, which go to the kernel in
// one send: for programs that set up one interface and have no time to ask for names.
// What cannot be said to the kernel is refused by Conn.Setup.
type Setup struct {
	Dev   string // the link's name, for messages
	Index int

	b    []byte
	at   []int    // where each request begins
	what []string // each in words
	err  error    // the first that could not be encoded
}

func (s *Setup) add(typ, flags uint16, body []byte, what string) {
	at := len(s.b)
	s.at, s.what = append(s.at, at), append(s.what, what)
	s.b = append(startMessage(s.b, typ, flags, 0), body...)
	endMessage(s.b, at)
}

func (s *Setup) fail(what string, err error) {
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("%s: %w", what, err)
	}
}

// LinkUp sets the link up. The ends of a veth have a carrier as soon as both are up.
func (s *Setup) LinkUp() { s.up(s.Dev, s.Index) }

// LoopbackUp sets lo up, which has the number 1 in every namespace (LOOPBACK_IFINDEX).
func (s *Setup) LoopbackUp() { s.up("lo", 1) }

func (s *Setup) up(dev string, index int) {
	b := make([]byte, linkHeader)
	native.PutUint32(b[4:], uint32(index))
	native.PutUint32(b[8:], unix.IFF_UP)
	native.PutUint32(b[12:], unix.IFF_UP)
	s.add(unix.RTM_NEWLINK, 0, b, "ip link set "+dev+" up")
}

// LinkConf is what Setup.LinkConf sets of a link.
type LinkConf struct {
	// NoLinkLocal: the kernel gives it no link-local address of IPv6 by itself (addr_gen_mode
	// none). Nothing is set where HasIPv6 is false: a kernel without IPv6 refuses it.
	NoLinkLocal, HasIPv6 bool
	// Router: what comes in by it is forwarded (net/ipv4/conf/LINK/forwarding), and it neither
	// takes redirects nor answers ARP for others, whatever the defaults of new links are.
	Router bool
}

// LinkConf sets properties of a link that has no carrier yet: with one it has its
// link-local address already.
func (s *Setup) LinkConf(c LinkConf) {
	b := make([]byte, linkHeader)
	native.PutUint32(b[4:], uint32(s.Index))
	six := c.NoLinkLocal && c.HasIPv6
	if c.Router || six {
		b = nest(b, unix.IFLA_AF_SPEC, func(b []byte) []byte {
			if c.Router {
				// As /proc/sys/net/ipv4/conf/LINK/forwarding, without its restarts of the system
				// call for as long as another process has the lock of the network
				// (devinet_sysctl_forward; inet_set_link_af sets the same value).
				b = nest(b, unix.AF_INET, func(b []byte) []byte {
					return nest(b, inetConf, func(b []byte) []byte {
						return putU32(putU32(putU32(b, inetForwarding, 1), inetProxyARP, 0), inetAcceptRedirects, 0)
					})
				})
			}
			if six {
				b = nest(b, unix.AF_INET6, func(b []byte) []byte { return putU8(b, inet6GenMode, genModeNone) })
			}
			return b
		})
	}
	s.add(unix.RTM_NEWLINK, 0, b, "ip link set "+s.Dev+" addrgenmode none")
}

// Addr gives the link an address that nothing checks for duplicates; its prefix is not
// made a route.
func (s *Setup) Addr(p netip.Prefix) {
	a := netstate.Addr{Dev: setupDev, Prefix: p, Flags: netstate.AddrPermanent}
	if p.Addr().Is6() {
		a.Flags |= netstate.AddrNoDAD | netstate.AddrNoPrefixRoute
	}
	b, err := appendAddr(nil, &a, indexed(s.Index))
	s.fail("address "+p.String(), err)
	s.add(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b, fmt.Sprintf("ip addr add %s dev %s", p, s.Dev))
}

// Neigh adds a permanent neighbour, in the place of what is known of it.
func (s *Setup) Neigh(a netip.Addr, mac string) {
	b := make([]byte, neighHeader)
	b[0] = uint8(netstate.FamilyOf(a))
	native.PutUint32(b[4:], uint32(s.Index))
	native.PutUint16(b[8:], unix.NUD_PERMANENT)
	m, err := hardwareAddress(mac)
	s.fail("neighbour "+a.String(), err)
	b = put(putAddr(b, unix.NDA_DST, a), unix.NDA_LLADDR, m)
	s.add(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, b, fmt.Sprintf("ip neigh replace %s lladdr %s nud permanent dev %s", a, mac, s.Dev))
}

// Route adds a route by the link, whatever device it names.
func (s *Setup) Route(r netstate.Route) {
	s.route(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "add", r)
}

// DeleteRoute deletes one.
func (s *Setup) DeleteRoute(r netstate.Route) { s.route(unix.RTM_DELROUTE, 0, "del", r) }

func (s *Setup) route(typ, flags uint16, verb string, r netstate.Route) {
	r.Hop.Dev = s.Dev
	what := "ip route " + verb + " " + r.String()
	r.Hop.Dev = setupDev
	b, err := appendRoute(nil, &r, indexed(s.Index))
	s.fail(what, err)
	s.add(typ, flags, b, what)
}

// Writes are the requests, each as `ip` would be told.
func (s *Setup) Writes() []string { return s.what }

// setupDev stands for the link that a request of a Setup is about.
const setupDev = "-"

func indexed(index int) *indexes {
	return &indexes{last: setupDev, lastIdx: int32(index)}
}

// SetupError is the kernel's refusal of one request of a Setup.
type SetupError struct {
	Index int    // of the request, in the order in which they were added
	What  string // in `ip`'s words
	Err   error
}

// Error gives the request, the errno and the kernel's words.
func (e *SetupError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap gives the errno to errors.Is.
func (e *SetupError) Unwrap() error { return e.Err }

// Setup sends the requests. The kernel goes on behind one that it refuses; all refusals
// are given, each as a *SetupError. err is for what came in between: then nobody knows what was
// done.
func (c *Conn) Setup(ctx context.Context, s *Setup) (refused []*SetupError, err error) {
	if len(s.at) == 0 {
		return nil, s.err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, list, err := c.setup(ctx, s)
	for _, r := range list {
		refused = append(refused, &SetupError{Index: r.at, What: s.what[r.at], Err: r.err})
	}
	return refused, err
}

// refusal is that of the request number at.
type refusal struct {
	at  int
	err error
}

// setup sends all, and gives what the kernel found by each request, and refused.
func (c *Conn) setup(ctx context.Context, s *Setup) (found [][]byte, refused []refusal, err error) {
	if s.err != nil {
		return nil, nil, s.err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	t, err := c.transport()
	if err != nil {
		return nil, nil, err
	}
	n := len(s.at)
	first := c.seq + 1
	c.seq += uint32(n)
	for i, at := range s.at {
		native.PutUint32(s.b[at+8:], first+uint32(i))
	}
	last := s.at[n-1]
	native.PutUint16(s.b[last+6:], native.Uint16(s.b[last+6:])|unix.NLM_F_ACK)
	defer func() {
		if err != nil {
			c.drop()
		}
	}()
	if err := t.send(s.b); err != nil {
		return nil, nil, fmt.Errorf("send: %w", err)
	}
	found = make([][]byte, n)
	for {
		size, err := t.receive(c.buf)
		if err != nil {
			return nil, nil, err
		}
		for r := c.buf[:size]; len(r) > 0; {
			var m message
			if m, r, err = nextMessage(r); err != nil {
				return nil, nil, err
			}
			i := int(m.seq - first)
			if m.seq-first >= uint32(n) {
				continue
			}
			if m.typ != unix.NLMSG_ERROR {
				found[i] = append([]byte(nil), m.body...)
				continue
			}
			a, err := parseAnswer(m)
			if err != nil {
				return nil, nil, err
			}
			if a != nil {
				refused = append(refused, refusal{i, a})
			}
			if i == n-1 {
				return found, refused, nil
			}
		}
	}
}
