package kernel

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// View reads parts of a namespace, for programs that have no time for all of it. What
// is promised of a Snapshot holds for each part.
type View struct {
	Links []netstate.Link

	c *Conn
	d *decoder
}

// View reads the links, by which everything else is named.
func (c *Conn) View(ctx context.Context) (*View, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := &View{c: c, d: newDecoder()}
	var err error
	if c.held == nil {
		if c.held, err = c.watch(ruleGroups | route6Groups); err != nil {
			return nil, fmt.Errorf("watch the namespace: %w", err)
		}
	}
	v.Links, err = c.links(ctx, v.d)
	return v, err
}

// Link is the link of a name; nil: there is none.
func (v *View) Link(name string) *netstate.Link {
	for i := range v.Links {
		if v.Links[i].Name == name {
			return &v.Links[i]
		}
	}
	return nil
}

// RuleHead is the part of a rule by which a reader of many tells those that it wants.
type RuleHead struct {
	Family   netstate.Family
	Priority uint32
	From     netip.Prefix // as in netstate.Rule
	Table    uint32       // 0 where it looks into none
	Protocol uint8
}

// Rules reads the rules of both families, in the kernel's order, of which keep says that
// they are wanted. It is shown every rule as it comes, in a head that is of no use
// afterwards: of ten thousand that others made most of the time would go into storing
// and reading all of each. Where the list changed meanwhile it is read again: again is
// called before each time.
func (v *View) Rules(ctx context.Context, again func(), keep func(*RuleHead) bool) (rules []netstate.Rule, err error) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	var h RuleHead // one for all: of each its own would be a page for every fifty rules
	err = v.c.steady(ctx, "rules", ruleGroups, func() error {
		again()
		rules = nil
		for _, f := range netstate.Families {
			body := make([]byte, ruleHeader)
			body[0] = uint8(f)
			_, err := v.c.stream(ctx, unix.RTM_GETRULE, unix.RTM_NEWRULE, body, func(m []byte) error {
				b := m[messageHeader:]
				if foreign(b, f) {
					return nil
				}
				if err := decodeRuleHead(&h, b); err != nil || !keep(&h) {
					return err
				}
				var r netstate.Rule
				err := v.d.decodeRule(&r, b)
				rules = append(rules, r)
				return err
			})
			if err != nil && !absent(err) {
				return fmt.Errorf("list %s rules: %w", f, err)
			}
		}
		return nil
	})
	return rules, err
}

// Those reads the rules that wanted says, as Rules does.
func (v *View) Those(ctx context.Context, wanted func(*RuleHead) bool) ([]netstate.Rule, error) {
	return v.Rules(ctx, func() {}, wanted)
}

func decodeRuleHead(h *RuleHead, b []byte) error {
	if len(b) < ruleHeader {
		return errShort
	}
	*h = RuleHead{Family: netstate.Family(b[0]), Table: uint32(b[4])}
	length, toTable, size := int(b[2]), netstate.Action(b[7]) == netstate.ToTable, addrSize(b[0])
	for rest := b[ruleHeader:]; ; {
		a, r, ok, err := split(rest)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		rest = r
		switch a.typ {
		case unix.FRA_PRIORITY:
			a.u32(&h.Priority)
		case unix.FRA_TABLE:
			a.u32(&h.Table)
		case unix.FRA_PROTOCOL:
			a.u8(&h.Protocol)
		case unix.FRA_SRC:
			var from netip.Addr
			if a.addr(&from, size) && length > 0 {
				h.From = netip.PrefixFrom(from, length)
			}
		}
	}
	if !toTable {
		h.Table = 0
	}
	return nil
}

// Routes reads the routes of one table and family: those by the link dev only, where
// it is not empty. The kernel does the choosing. There are none in a table that
// does not exist.
func (v *View) Routes(ctx context.Context, f netstate.Family, table uint32, dev string) ([]netstate.Route, error) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	body := make([]byte, routeHeader)
	body[0] = uint8(f)
	body = putU32(body, unix.RTA_TABLE, table)
	if dev != "" {
		l := v.Link(dev)
		if l == nil {
			return nil, &linkError{dev}
		}
		body = putU32(body, unix.RTA_OIF, uint32(l.Index))
	}
	read := func() (list []byte, err error) {
		list, _, err = v.c.dump(ctx, f.String()+" routes", unix.RTM_GETROUTE, unix.RTM_NEWROUTE, body)
		if absent(err) || refused(err, unix.ENOENT) {
			return nil, nil
		}
		return list, err
	}
	var (
		list []byte
		err  error
	)
	if f == netstate.IPv6 {
		err = v.c.steady(ctx, "IPv6 routes", route6Groups, func() (err error) {
			list, err = read()
			return err
		})
	} else {
		list, err = read()
	}
	if err != nil {
		return nil, err
	}
	var routes []netstate.Route
	err = each(list, func(b []byte) error {
		// A kernel that does not know the filter gives everything.
		if foreign(b, f) {
			return nil
		}
		var r netstate.Route
		ok, err := v.d.decodeRoute(&r, b)
		if ok && r.Table == table && (dev == "" || usesLink(&r, dev)) {
			routes = append(routes, r)
		}
		return err
	})
	return routes, err
}

// RouteTables shows every table that has a route of either family.
func (v *View) RouteTables(ctx context.Context, show func(table uint32)) error {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	for _, f := range netstate.Families {
		list, _, err := v.c.ofFamily(ctx, "routes", f, unix.RTM_GETROUTE, unix.RTM_NEWROUTE, routeHeader)
		if err != nil {
			return err
		}
		err = each(list, func(b []byte) error {
			if len(b) < routeHeader {
				return errShort
			}
			table := uint32(b[4])
			for rest := b[routeHeader:]; ; {
				a, r, ok, err := split(rest)
				if err != nil || !ok {
					show(table)
					return err
				}
				if rest = r; a.typ == unix.RTA_TABLE {
					a.u32(&table)
				}
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func usesLink(r *netstate.Route, dev string) bool {
	if r.Hop.Dev == dev {
		return true
	}
	for i := range r.Hops {
		if r.Hops[i].Dev == dev {
			return true
		}
	}
	return false
}

// Addrs reads the addresses of a link, those of IPv4 first. The kernel does the choosing,
// of both families at once. A link that is not there has none.
func (v *View) Addrs(ctx context.Context, dev string) ([]netstate.Addr, error) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	l := v.Link(dev)
	if l == nil {
		return nil, nil
	}
	body := make([]byte, addrHeader)
	native.PutUint32(body[4:], uint32(l.Index))
	list, _, err := v.c.dump(ctx, "addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, body)
	if refused(err, unix.ENODEV) {
		return nil, nil // gone since
	}
	if err != nil {
		return nil, err
	}
	var of []netstate.Addr
	err = each(list, func(b []byte) error {
		if foreign(b, netstate.IPv4) && foreign(b, netstate.IPv6) {
			return nil
		}
		var a netstate.Addr
		err := v.d.decodeAddr(&a, b)
		if a.Dev == dev { // a kernel that does not know the filter gives those of all
			of = append(of, a)
		}
		return err
	})
	return of, err
}
