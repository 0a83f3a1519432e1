package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

const (
	maxBatch = 512
	// maxSend ends a batch early where its messages are large. It stays below what
	// a socket may send without privileges.
	maxSend = 128 << 10
)

// Apply writes changes in their order, up to 512 in one send, with one
// acknowledgement for all; each refusal comes with the kernel's words. It stops
// after the send in which something failed, or when ctx ends.
//
// Changes [0,attempted) were tried: those that failed does not name succeeded,
// the others did nothing (a failure with ErrLostAnswers excepted: it may have been
// done). Changes from attempted on were not sent. Without a failure, attempted is
// less than len(changes) only where ctx ended.
//
// Rules are added without NLM_F_EXCL: the kernel takes duplicates, and puts a new
// rule behind all of its priority. Routes and next hop objects are added with it.
// Deletes carry every attribute. Sysctls, links and what is of nftables are never in
// one send with the others.
func (c *Conn) Apply(ctx context.Context, changes []netstate.Change) (attempted int, failed []*netstate.ChangeError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apply(ctx, changes, newIndexes(func(name string) (int32, error) { return c.linkIndex(ctx, name) }))
}

// Apply is Conn's, for one who has just read the links: their numbers are not asked for
// again until a link is changed.
func (v *View) Apply(ctx context.Context, changes []netstate.Change) (attempted int, failed []*netstate.ChangeError) {
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	links := newIndexes(func(name string) (int32, error) { return c.linkIndex(ctx, name) })
	links.seen = v
	return c.apply(ctx, changes, links)
}

func (c *Conn) apply(ctx context.Context, changes []netstate.Change, links *indexes) (attempted int, failed []*netstate.ChangeError) {
	for attempted < len(changes) && len(failed) == 0 && ctx.Err() == nil {
		n := sysctlRun(changes[attempted:])
		var errs []*netstate.ChangeError
		switch {
		case n > 0:
			n, errs = c.writeSysctls(changes[attempted : attempted+n])
		case alone(&changes[attempted]):
			n, errs = 1, c.writeAlone(ctx, &changes[attempted], links)
			links.forget() // a link may have come or gone
		default:
			n, errs = c.applyBatch(ctx, changes[attempted:], links)
		}
		for _, e := range errs {
			e.Index += attempted
		}
		attempted, failed = attempted+n, errs
	}
	return attempted, failed
}

// alone says whether a change takes more than one message.
func alone(ch *netstate.Change) bool { return ch.Link != nil || ch.Nft != nil || ch.Accept != nil }

func (c *Conn) writeAlone(ctx context.Context, ch *netstate.Change, links *indexes) []*netstate.ChangeError {
	var err error
	switch {
	case ch.Link != nil:
		err = c.writeLink(ctx, ch, links)
	case ch.Nft != nil:
		err = c.writeNft(ctx, ch)
	default:
		err = c.writeAccept(ctx, ch)
	}
	if err == nil {
		return nil
	}
	e := &netstate.ChangeError{Err: err}
	if a, ok := err.(*answer); ok {
		e.Err, e.Msg = a.errno, a.msg
	}
	return []*netstate.ChangeError{e}
}

// sysctlRun counts the sysctls at the start of changes.
func sysctlRun(changes []netstate.Change) int {
	for i := range changes {
		if changes[i].Sysctl == nil {
			return i
		}
	}
	return len(changes)
}

// applyBatch sends what fits one batch. Indices of errors count from changes[0].
func (c *Conn) applyBatch(ctx context.Context, changes []netstate.Change, links *indexes) (int, []*netstate.ChangeError) {
	var (
		n      int
		last   int // where the last message starts
		first  = c.seq + 1
		b      = c.out[:0]
		failed []*netstate.ChangeError
	)
	for n < len(changes) && n < c.batch && len(b) < maxSend && changes[n].Sysctl == nil && !alone(&changes[n]) {
		if err := c.checkFeatures(ctx, &changes[n]); err != nil {
			failed = append(failed, &netstate.ChangeError{Index: n, Err: err})
			break
		}
		at := len(b)
		next, err := appendChange(b, &changes[n], first+uint32(n), links)
		if err != nil {
			// What cannot be said to the kernel ends the batch before it.
			b = next[:at]
			failed = append(failed, &netstate.ChangeError{Index: n, Err: err})
			break
		}
		b, last = next, at
		n++
	}
	c.out = b
	tried := n + len(failed)
	if n == 0 {
		return tried, failed
	}
	c.seq += uint32(n)
	// Only now: a question asked for the batch may have replaced the socket.
	t, err := c.transport()
	if err != nil {
		return 1, []*netstate.ChangeError{{Err: err}}
	}
	flags := native.Uint16(b[last+6:])
	native.PutUint16(b[last+6:], flags|unix.NLM_F_ACK)
	refused := c.sendBatch(t, b, first, n)
	for _, e := range refused {
		c.explain(ctx, &changes[e.Index], e)
	}
	if len(failed) != 0 && len(refused) != 0 {
		// The change that could not be encoded came after a refusal; it is as if it
		// had not been looked at.
		return n, refused
	}
	return tried, append(refused, failed...)
}

// sendBatch sends n requests numbered from first and collects the refusals.
func (c *Conn) sendBatch(t transport, b []byte, first uint32, n int) []*netstate.ChangeError {
	var failed []*netstate.ChangeError
	lost := func(err error) []*netstate.ChangeError {
		// Whatever was not refused is of unknown fate.
		c.drop()
		known := map[int]bool{}
		for _, e := range failed {
			known[e.Index] = true
		}
		for i := range n {
			if !known[i] {
				failed = append(failed, &netstate.ChangeError{Index: i, Err: err})
			}
		}
		return failed
	}
	if err := t.send(b); err != nil {
		return lost(fmt.Errorf("send: %w", err))
	}
	for {
		size, err := t.receive(c.buf)
		if err != nil {
			return lost(err)
		}
		for r := c.buf[:size]; len(r) > 0; {
			var m message
			if m, r, err = nextMessage(r); err != nil {
				return lost(err)
			}
			i := int(m.seq - first)
			if m.typ != unix.NLMSG_ERROR || m.seq-first >= uint32(n) {
				continue
			}
			a, err := parseAnswer(m)
			if err != nil {
				return lost(err)
			}
			if a != nil {
				failed = append(failed, &netstate.ChangeError{Index: i, Err: a.errno, Msg: a.msg})
			}
			if i == n-1 {
				return failed
			}
		}
	}
}

// appendChange appends one request.
func appendChange(b []byte, ch *netstate.Change, seq uint32, links *indexes) (_ []byte, err error) {
	at := len(b)
	typ, flags, err := request(ch)
	if err != nil {
		return b, err
	}
	b = startMessage(b, typ, flags, seq)
	body := len(b)
	switch {
	case ch.Rule != nil:
		b, err = appendRule(b, ch.Rule)
	case ch.Route != nil:
		if b, err = appendRoute(b, ch.Route, links); err == nil {
			routeRequest(b, body, ch)
		}
	case ch.Addr != nil:
		if !ch.Addr.Prefix.Addr().Is6() {
			err = fmt.Errorf("a change of an address that is not IPv6: %w", unix.EAFNOSUPPORT)
			break
		}
		b, err = appendAddr(b, ch.Addr, links)
	case ch.Nexthop.ID == 0:
		err = errNoID // the kernel would pick one, and nobody would know which
	case ch.Verb == netstate.Delete:
		// The kernel takes nothing but the id (nh_valid_get_del_req).
		b = putU32(append(b, make([]byte, objectHeader)...), nhaID, ch.Nexthop.ID)
	default:
		if b, err = appendNexthop(b, ch.Nexthop, links); err == nil {
			nexthopRequest(b, body)
		}
	}
	if err == nil {
		endMessage(b, at)
	}
	return b, err
}

// request gives the message type and flags of a change, and refuses one that is
// not well formed.
func request(ch *netstate.Change) (typ, flags uint16, err error) {
	if n := ch.Objects(); n != 1 {
		return 0, 0, fmt.Errorf("a change of %d objects: %w", n, unix.EINVAL)
	}
	var add, del uint16
	switch {
	case ch.Rule != nil:
		add, del = unix.RTM_NEWRULE, unix.RTM_DELRULE
	case ch.Route != nil:
		add, del = unix.RTM_NEWROUTE, unix.RTM_DELROUTE
	case ch.Addr != nil:
		add, del = unix.RTM_NEWADDR, unix.RTM_DELADDR
	default:
		add, del = unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP
	}
	switch {
	case ch.Verb == netstate.Delete:
		return del, 0, nil
	case ch.Verb == netstate.Add && ch.Rule != nil:
		return add, unix.NLM_F_CREATE, nil
	case ch.Verb == netstate.Add:
		return add, unix.NLM_F_CREATE | unix.NLM_F_EXCL, nil
	case ch.Verb == netstate.Append && ch.Route != nil:
		return add, unix.NLM_F_CREATE | unix.NLM_F_APPEND, nil
	case ch.Verb == netstate.Replace && ch.Rule == nil:
		return add, unix.NLM_F_CREATE | unix.NLM_F_REPLACE, nil
	case ch.Verb == netstate.Replace:
		return 0, 0, fmt.Errorf("a rule cannot be replaced: %w", unix.EOPNOTSUPP)
	}
	return 0, 0, fmt.Errorf("a change with the verb %d: %w", ch.Verb, unix.EINVAL)
}

// linkIndex asks the kernel for a link's number.
func (c *Conn) linkIndex(ctx context.Context, name string) (int32, error) {
	if linkName(name) != nil {
		return 0, &linkError{name}
	}
	body := putU32(make([]byte, linkHeader), unix.IFLA_EXT_MASK, skipStats)
	found, err := c.ask(ctx, unix.RTM_GETLINK, 0, putString(body, unix.IFLA_IFNAME, name))
	switch {
	case errors.Is(err, unix.ENODEV):
		return 0, &linkError{name}
	case err != nil:
		return 0, fmt.Errorf("look up link %s: %w", name, err)
	case len(found) < linkHeader:
		return 0, fmt.Errorf("look up link %s: %w", name, errShort)
	}
	return int32(native.Uint32(found[4:])), nil
}

// ask sends one request with an acknowledgement. It never uses the buffer of a
// batch that is being put together.
func (c *Conn) ask(ctx context.Context, typ, flags uint16, body []byte) ([]byte, error) {
	found, err := c.askOnce(ctx, typ, flags, body)
	if c.grow(err) {
		return c.askOnce(ctx, typ, flags, body)
	}
	return found, err
}

func (c *Conn) askOnce(ctx context.Context, typ, flags uint16, body []byte) ([]byte, error) {
	t, err := c.transport()
	if err != nil {
		return nil, err
	}
	// Numbered from the far end, so that a batch under way keeps its numbers.
	c.asked--
	seq := c.asked
	req := startMessage(nil, typ, flags|unix.NLM_F_ACK, seq)
	req = append(req, body...)
	endMessage(req, 0)
	found, err := exchange(ctx, t, req, seq, c.buf)
	if a := (*answer)(nil); err != nil && !errors.As(err, &a) {
		c.drop()
	}
	return found, err
}
