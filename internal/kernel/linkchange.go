package kernel

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// writeLink makes, changes or removes a link of viarule's own.
//
// A link cannot have its alias from the start. So it is made down and under a
// name that nobody else has, gets the alias, and then its own name: a process
// that is killed on the way leaves no link under the wanted name that does not
// say whose it is. What it does leave, under the temporary name, the next Add or
// Delete of the same link takes away.
func (c *Conn) writeLink(ctx context.Context, ch *netstate.Change, links *indexes) error {
	if ch.Objects() != 1 {
		return fmt.Errorf("a change of a link must be of nothing else: %w", unix.EINVAL)
	}
	l := ch.Link
	if err := linkName(l.Name); err != nil {
		return err
	}
	if l.Alias == "" && l.Kind == "" && !l.Up && ch.Verb == netstate.Replace {
		return c.setMaster(ctx, l)
	}
	if l.Alias == "" {
		return fmt.Errorf("link %s: without an alias nobody knows whose it is: %w", l.Name, unix.EINVAL)
	}
	switch ch.Verb {
	case netstate.Add:
		return c.makeLink(ctx, l, links)
	case netstate.Replace:
		index, err := c.linkIndex(ctx, l.Name)
		if err != nil {
			return err
		}
		if err := c.settleLink(ctx, index, l); err != nil || l.Up {
			return err
		}
		return c.setUp(ctx, index, false)
	case netstate.Delete:
		return c.removeLink(ctx, l)
	}
	return fmt.Errorf("a change of a link with the verb %d: %w", ch.Verb, unix.EINVAL)
}

// temporaryName is that of a link on its way.
func temporaryName(name string) string {
	h := fnv.New32a()
	h.Write([]byte(name))
	return fmt.Sprintf("vtmp-%08x", h.Sum32())
}

// removeTemporary removes what an Add left under the temporary name.
func (c *Conn) removeTemporary(ctx context.Context, name string) error {
	temporary := temporaryName(name)
	left, err := c.linkIndex(ctx, temporary)
	if err != nil {
		return nil // there is nothing, or the next request fails as well
	}
	if err := c.deleteIndex(ctx, left); err != nil {
		return fmt.Errorf("remove %s, which an earlier run left: %w", temporary, err)
	}
	return nil
}

func (c *Conn) makeLink(ctx context.Context, l *netstate.Link, links *indexes) (err error) {
	if strings.Contains(l.Name, "%") {
		return fmt.Errorf("link %s: the kernel would put a number in the place of %%d: %w", l.Name, unix.EINVAL)
	}
	if _, err := c.linkIndex(ctx, l.Name); err == nil {
		return unix.EEXIST
	}
	if err := c.removeTemporary(ctx, l.Name); err != nil {
		return err
	}
	temporary := temporaryName(l.Name)
	data, done, err := kindData(&LinkSpec{Kind: l.Kind, VLAN: l.VLAN, VRFTable: l.VRFTable})
	if err != nil {
		return err
	}
	defer done()
	body, err := appendLink(nil, &netstate.Link{Name: temporary, Kind: l.Kind, Parent: l.Parent}, links, data)
	if err != nil {
		return err
	}
	if _, err = c.ask(ctx, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) && c.lacksKind(ctx, l.Kind) {
			err = &FeatureError{Name: "links of kind " + l.Kind}
		}
		return err
	}
	index, err := c.linkIndex(ctx, temporary)
	if err == nil {
		err = c.settleLink(ctx, index, l)
	}
	if err == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	var gone error
	if index == 0 {
		index, gone = c.linkIndex(ctx, temporary)
	}
	if gone == nil {
		gone = c.deleteIndex(ctx, index)
	}
	if errors.Is(gone, unix.ENODEV) {
		gone = nil
	}
	return errors.Join(err, gone)
}

// settleLink gives a link its alias, then its name, then sets it up if it is to be.
func (c *Conn) settleLink(ctx context.Context, index int32, l *netstate.Link) error {
	if err := c.setAttrs(ctx, index, put(nil, unix.IFLA_IFALIAS, []byte(l.Alias))); err != nil {
		return fmt.Errorf("set the alias: %w", err)
	}
	if now, err := c.linkIndex(ctx, l.Name); err != nil || now != index {
		if err := c.setAttrs(ctx, index, putString(nil, unix.IFLA_IFNAME, l.Name)); err != nil {
			return fmt.Errorf("set the name: %w", err)
		}
	}
	if !l.Up {
		return nil
	}
	if err := c.setUp(ctx, index, true); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	return nil
}

// setMaster makes a link a port, or no port any more.
func (c *Conn) setMaster(ctx context.Context, l *netstate.Link) error {
	index, err := c.linkIndex(ctx, l.Name)
	if err != nil {
		return err
	}
	var master int32
	if l.Master != "" {
		if master, err = c.linkIndex(ctx, l.Master); err != nil {
			return err
		}
	}
	return c.setAttrs(ctx, index, putU32(nil, unix.IFLA_MASTER, uint32(master)))
}

func (c *Conn) setAttrs(ctx context.Context, index int32, attrs []byte) error {
	body := make([]byte, linkHeader)
	native.PutUint32(body[4:], uint32(index))
	_, err := c.ask(ctx, unix.RTM_NEWLINK, 0, append(body, attrs...))
	return err
}

func (c *Conn) setUp(ctx context.Context, index int32, up bool) error {
	body := make([]byte, linkHeader)
	native.PutUint32(body[4:], uint32(index))
	if up {
		native.PutUint32(body[8:], unix.IFF_UP)
	}
	native.PutUint32(body[12:], unix.IFF_UP)
	_, err := c.ask(ctx, unix.RTM_NEWLINK, 0, body)
	return err
}

// removeLink takes a link away that bears the alias, and no other; and what an Add
// of it left that was killed on the way.
func (c *Conn) removeLink(ctx context.Context, l *netstate.Link) error {
	if err := c.removeTemporary(ctx, l.Name); err != nil {
		return err
	}
	body := putU32(make([]byte, linkHeader), unix.IFLA_EXT_MASK, skipStats)
	found, err := c.ask(ctx, unix.RTM_GETLINK, 0, putString(body, unix.IFLA_IFNAME, l.Name))
	if err != nil {
		return err
	}
	var there rawLink
	if err := decodeLink(&there, found); err != nil {
		return err
	}
	if there.Link.Alias != l.Alias {
		return fmt.Errorf("its alias is %q, so it is not the link that viarule made: %w", there.Link.Alias, unix.EPERM)
	}
	return c.deleteIndex(ctx, int32(there.Link.Index))
}

func (c *Conn) deleteIndex(ctx context.Context, index int32) error {
	body := make([]byte, linkHeader)
	native.PutUint32(body[4:], uint32(index))
	_, err := c.ask(ctx, unix.RTM_DELLINK, 0, body)
	return err
}
