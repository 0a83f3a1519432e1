package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// tornRetries is how often a dump that the kernel marks as interrupted is done
// in all before it counts as torn.
const tornRetries = 10

// keepList is the largest buffer that a Conn keeps between snapshots: 100,000
// routes fit.
const keepList = 16 << 20

// firstList is what a list begins with, in bytes: most are short, and a page that is
// touched for the first time costs two microseconds.
const firstList = 4 << 10

var errInterrupted = errors.New("dump interrupted")

// dump asks for a list and returns the messages of the given type one behind the
// other, and how many there are. A list that changed meanwhile is asked for again.
func (c *Conn) dump(ctx context.Context, what string, get, answer uint16, body []byte) (list []byte, count int, err error) {
	for range tornRetries {
		list, count, err = c.dumpOnce(ctx, get, answer, body, c.list[:0])
		c.list = list[:0]
		if err == nil || !errors.Is(err, errInterrupted) {
			break
		}
	}
	switch {
	case err == nil:
		return list, count, nil
	case errors.Is(err, errInterrupted):
		err = ErrTornDump
	}
	return nil, 0, &listError{what, err}
}

// listError is an error of a dump. It is made for each table that does not exist, and no
// words for it before somebody wants them.
type listError struct {
	what string
	err  error
}

func (e *listError) Error() string { return "list " + e.what + ": " + e.err.Error() }
func (e *listError) Unwrap() error { return e.err }

// refused says that the kernel refused a question, and how.
func refused(err error, with unix.Errno) bool {
	if l, ok := err.(*listError); ok {
		err = l.err
	}
	a, ok := err.(*answer)
	return ok && a.errno == with
}

// dumpOnce appends the messages of one dump to list.
func (c *Conn) dumpOnce(ctx context.Context, get, want uint16, body, list []byte) (_ []byte, count int, err error) {
	count, err = c.stream(ctx, get, want, body, func(m []byte) error {
		if len(list)+len(m) > cap(list) {
			// append grows a long list by a quarter, and new memory costs
			// more than what is written to it.
			list = slices.Grow(list, max(len(list), firstList))
		}
		list = append(list, m...)
		return nil
	})
	return list, count, err
}

// stream shows the messages of one dump, whole and with their headers, as they come;
// they are of no use after take. The error is errInterrupted where the list changed
// meanwhile: then what was shown is not one. It gives their number.
func (c *Conn) stream(ctx context.Context, get, want uint16, body []byte, take func(message []byte) error) (count int, err error) {
	t, err := c.transport()
	if err != nil {
		return 0, err
	}
	c.seq++
	seq := c.seq
	req := startMessage(nil, get, unix.NLM_F_DUMP, seq)
	req = append(req, body...)
	endMessage(req, 0)
	if err := t.send(req); err != nil {
		return 0, err
	}
	done := false
	defer func() {
		if !done {
			// The rest of the dump is still in the pipe, and the socket busy with it.
			c.drop()
		}
	}()
	torn, parts := false, 0
	defer func() { c.parts = max(c.parts, parts) }()
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := t.receive(c.buf)
		if errors.Is(err, ErrLostAnswers) || c.grow(err) {
			return 0, errInterrupted
		}
		if err != nil {
			return 0, err
		}
		had := count
		for b := c.buf[:n]; len(b) > 0; {
			at := b
			var m message
			if m, b, err = nextMessage(b); err != nil {
				return 0, err
			}
			if m.seq != seq {
				continue
			}
			torn = torn || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.typ {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				done = true
				a, err := parseAnswer(m)
				switch {
				case err != nil:
					return 0, err
				case a != nil:
					return 0, a
				case torn:
					return 0, errInterrupted
				}
				return count, nil
			case unix.NLMSG_OVERRUN:
				torn = true
			case want:
				if err := take(at[:len(at)-len(b)]); err != nil {
					return 0, err
				}
				if count == had {
					parts++
				}
				count++
			}
		}
	}
}

// each calls f with the body of each message of a list.
func each(list []byte, f func(body []byte) error) error {
	for len(list) > 0 {
		m, rest, err := nextMessage(list)
		if err != nil {
			return err
		}
		if err := f(m.body); err != nil {
			return err
		}
		list = rest
	}
	return nil
}

// Snapshot reads the whole namespace: links first, so that everything after can
// be named, then addresses, rules, routes of all tables, next hop objects,
// viarule's own tables of nftables, and the forward chains of others.
// Rules stand in the kernel's order. Each list is consistent in itself; a link
// that appears between two of them is "if" and its number. It fails with
// ErrTornDump where a list does not hold still.
func (c *Conn) Snapshot(ctx context.Context) (netstate.State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.snapshot(ctx)
	if cap(c.list)+cap(c.list6) > keepList {
		c.list, c.list6 = nil, nil
	}
	if err != nil {
		return netstate.State{}, fmt.Errorf("read the namespace: %w", err)
	}
	return s, nil
}

func (c *Conn) snapshot(ctx context.Context) (s netstate.State, err error) {
	d := newDecoder()
	if s.Links, err = c.links(ctx, d); err != nil {
		return s, err
	}
	for _, f := range netstate.Families {
		if err = c.addrs(ctx, d, f, &s); err != nil {
			return s, err
		}
	}
	if err = c.rules(ctx, d, &s); err != nil {
		return s, err
	}
	if err = c.routes(ctx, d, &s); err != nil {
		return s, err
	}
	if err = c.nexthops(ctx, d, &s); err != nil {
		return s, err
	}
	if s.Nft, err = c.nft(ctx); err != nil {
		return s, err
	}
	s.Forward, err = c.forward(ctx)
	return s, err
}

func (c *Conn) links(ctx context.Context, d *decoder) ([]netstate.Link, error) {
	body := make([]byte, linkHeader)
	body = putU32(body, unix.IFLA_EXT_MASK, skipStats)
	list, count, err := c.dump(ctx, "links", unix.RTM_GETLINK, unix.RTM_NEWLINK, body)
	if err != nil {
		return nil, err
	}
	raw := make([]rawLink, 0, count)
	err = each(list, func(b []byte) error {
		raw = append(raw, rawLink{})
		return decodeLink(&raw[len(raw)-1], b)
	})
	return d.settleLinks(raw), err
}

// skipStats is RTEXT_FILTER_SKIP_STATS: counters are the larger part of a link.
const skipStats = 1 << 3

func (c *Conn) addrs(ctx context.Context, d *decoder, f netstate.Family, s *netstate.State) error {
	body := make([]byte, addrHeader)
	body[0] = uint8(f)
	list, _, err := c.dump(ctx, f.String()+" addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, body)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return each(list, func(b []byte) error {
		if foreign(b, f) {
			return nil
		}
		s.Addrs = append(s.Addrs, netstate.Addr{})
		return d.decodeAddr(&s.Addrs[len(s.Addrs)-1], b)
	})
}

// ofFamily asks for the list of one family, read into a buffer of its own. There
// are none of a family that the kernel does not have.
func (c *Conn) ofFamily(ctx context.Context, what string, f netstate.Family, get, answer uint16, header int) ([]byte, int, error) {
	body := make([]byte, header)
	body[0] = uint8(f)
	if f == netstate.IPv6 {
		c.list, c.list6 = c.list6, c.list
		defer func() { c.list, c.list6 = c.list6, c.list }()
	}
	list, n, err := c.dump(ctx, f.String()+" "+what, get, answer, body)
	if absent(err) {
		return nil, 0, nil
	}
	return list, n, err
}

// ruleLists reads the rules of both families.
func (c *Conn) ruleLists(ctx context.Context) (lists [2][]byte, count int, err error) {
	err = c.steady(ctx, "rules", ruleGroups, func() error {
		count = 0
		for i, f := range netstate.Families {
			list, n, err := c.ofFamily(ctx, "rules", f, unix.RTM_GETRULE, unix.RTM_NEWRULE, ruleHeader)
			if err != nil {
				return err
			}
			lists[i], count = list, count+n
		}
		return nil
	})
	return lists, count, err
}

func (c *Conn) rules(ctx context.Context, d *decoder, s *netstate.State) error {
	lists, count, err := c.ruleLists(ctx)
	if err != nil {
		return err
	}
	s.Rules = make([]netstate.Rule, 0, count)
	for i, f := range netstate.Families {
		err := each(lists[i], func(b []byte) error {
			if foreign(b, f) {
				return nil
			}
			s.Rules = append(s.Rules, netstate.Rule{})
			return d.decodeRule(&s.Rules[len(s.Rules)-1], b)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) routes(ctx context.Context, d *decoder, s *netstate.State) error {
	read := func(f netstate.Family) ([]byte, int, error) {
		return c.ofFamily(ctx, "routes", f, unix.RTM_GETROUTE, unix.RTM_NEWROUTE, routeHeader)
	}
	var (
		lists  [2][]byte
		counts [2]int
	)
	err := c.steady(ctx, "IPv6 routes", route6Groups, func() (err error) {
		lists[1], counts[1], err = read(netstate.IPv6)
		return err
	})
	if err != nil {
		return err
	}
	if lists[0], counts[0], err = read(netstate.IPv4); err != nil {
		return err
	}
	// Both families are read before the first is decoded, to make room for all of
	// them at once: a list of a million must not be copied.
	routes := make([]netstate.Route, counts[0]+counts[1])
	n := 0
	for i, f := range netstate.Families {
		err := each(lists[i], func(b []byte) error {
			if foreign(b, f) {
				return nil
			}
			ok, err := d.decodeRoute(&routes[n], b)
			if ok {
				n++
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	s.Routes = routes[:n]
	return nil
}

func (c *Conn) nexthops(ctx context.Context, d *decoder, s *netstate.State) error {
	list, _, err := c.dump(ctx, "next hop objects", unix.RTM_GETNEXTHOP, unix.RTM_NEWNEXTHOP, make([]byte, objectHeader))
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return each(list, func(b []byte) error {
		s.Nexthops = append(s.Nexthops, netstate.Nexthop{})
		return d.decodeNexthop(&s.Nexthops[len(s.Nexthops)-1], b)
	})
}

// absent says that the kernel has no such kind of object at all: IPv6 is off, or
// policy routing or next hop objects were not built in. Then there are none.
func absent(err error) bool {
	return refused(err, unix.EAFNOSUPPORT) || refused(err, unix.EOPNOTSUPP)
}

// foreign says that a message is not of family f. A kernel without IPv6 answers
// a question for its routes with those of every family it has.
func foreign(b []byte, f netstate.Family) bool { return len(b) > 0 && b[0] != uint8(f) }
