package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

const neighHeader = 12 // struct ndmsg

// neighState tells from the kernel's NUD_* whether a neighbour answers. STALE and
// what follows it say only that it once did: a link-layer address is known, and
// nobody has asked of late.
func neighState(nud uint16) netstate.NeighState {
	switch {
	case nud&(unix.NUD_REACHABLE|unix.NUD_PERMANENT|unix.NUD_NOARP) != 0:
		return netstate.NeighAnswers
	case nud&unix.NUD_FAILED != 0:
		return netstate.NeighSilent
	}
	return netstate.NeighUnknown
}

// Probe has the kernel ask for neighbours (ARP, NDP), and waits until each has
// answered, or the kernel has given up, or ctx ends: what is still out then is
// NeighUnknown, which is no error. It opens no raw socket and sends nothing
// itself; the only trace is the entry in the neighbour table that the first packet
// to the neighbour would make as well. An entry that somebody else keeps (set by
// hand, or learned by another program) is not asked anew, since the kernel would
// then forget that it is theirs: it tells its state as it is.
func (c *Conn) Probe(ctx context.Context, keys []netstate.NeighKey) (map[netstate.NeighKey]netstate.NeighState, error) {
	out, err := c.probe(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("ask for neighbours: %w", err)
	}
	return out, nil
}

func (c *Conn) probe(ctx context.Context, keys []netstate.NeighKey) (map[netstate.NeighKey]netstate.NeighState, error) {
	// The watch begins before the questions, so that no answer is missed.
	var m *multicast
	err := inNamespace(c.ns, func() (err error) {
		m, err = openMulticast(1 << (unix.RTNLGRP_NEIGH - 1))
		return err
	})
	if err != nil {
		return nil, err
	}
	w := os.NewFile(uintptr(m.fd), "neighbours") // which can be waited for
	defer w.Close()
	p := prober{state: make(map[netstate.NeighKey]netstate.NeighState, len(keys)), keys: map[neighAt]netstate.NeighKey{}}
	for _, k := range keys {
		at, known, err := c.ask1(ctx, k)
		if err != nil {
			return nil, err
		}
		if p.state[k] = known; at.index != 0 {
			p.keys[at] = k
		}
	}
	return p.state, p.wait(ctx, w)
}

// neighAt is a neighbour as the kernel's messages name it.
type neighAt struct {
	index int32
	addr  string
}

// ask1 has the kernel ask for one neighbour anew, whatever it knows of it. Without
// an index there is nothing to wait for: the state is all that can be told.
func (c *Conn) ask1(ctx context.Context, k netstate.NeighKey) (neighAt, netstate.NeighState, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	index, err := c.linkIndex(ctx, k.Dev)
	if errors.Is(err, unix.ENODEV) {
		return neighAt{}, netstate.NeighUnknown, nil
	}
	if err != nil {
		return neighAt{}, netstate.NeighUnknown, err
	}
	body := make([]byte, neighHeader)
	body[0] = uint8(netstate.FamilyOf(k.Addr))
	native.PutUint32(body[4:], uint32(index))
	send := func(typ, flags, state uint16, ntf uint8) ([]byte, error) {
		b := append([]byte(nil), body...)
		native.PutUint16(b[8:], state)
		b[10] = ntf
		return c.ask(ctx, typ, flags, putAddr(b, unix.NDA_DST, k.Addr))
	}
	found, err := send(unix.RTM_GETNEIGH, 0, 0, 0)
	if err == nil && kept(found) {
		return neighAt{}, neighState(native.Uint16(found[8:])), nil
	}
	if err == nil || errors.Is(err, unix.ENOENT) {
		// NTF_USE makes the entry and begins to ask where the kernel knows no address
		// (neigh_event_send); an entry with one is set to be asked again by NUD_PROBE.
		// Without NLM_F_REPLACE it stays the entry of a router if it was one.
		_, err = send(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE, 0, unix.NTF_USE)
		if err == nil {
			_, err = send(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE, unix.NUD_PROBE, 0)
		}
	}
	switch {
	case errors.Is(err, unix.EINVAL): // no address to ask again: it is asked for now
		err = nil
	case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return neighAt{}, netstate.NeighUnknown, nil
	}
	return neighAt{index, string(k.Addr.AsSlice())}, netstate.NeighUnknown, err
}

// kept says whether somebody keeps the entry.
func kept(entry []byte) bool {
	if len(entry) < neighHeader {
		return false
	}
	const (
		flagsExt = 15 // NDA_FLAGS_EXT
		managed  = 1  // NTF_EXT_MANAGED
	)
	ext := readAttrs(entry[neighHeader:]).get(flagsExt)
	return native.Uint16(entry[8:])&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0 || entry[10]&unix.NTF_EXT_LEARNED != 0 ||
		len(ext) == 4 && native.Uint32(ext)&managed != 0
}

type prober struct {
	state map[netstate.NeighKey]netstate.NeighState
	keys  map[neighAt]netstate.NeighKey // still out
}

// wait reads what the kernel tells of neighbours until all have answered.
func (p *prober) wait(ctx context.Context, w *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = w.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 32<<10)
	for len(p.keys) > 0 {
		n, err := w.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.ENOBUFS) {
			continue // so many that some were lost: the kernel tells again when it gives up
		}
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) > 0; {
			var m message
			if m, b, err = nextMessage(b); err != nil {
				return err
			}
			if m.typ == unix.RTM_NEWNEIGH {
				p.told(m.body)
			}
		}
	}
	return nil
}

// told takes in one message.
func (p *prober) told(b []byte) {
	if len(b) < neighHeader {
		return
	}
	at := neighAt{int32(native.Uint32(b[4:])), string(readAttrs(b[neighHeader:]).get(unix.NDA_DST))}
	k, ok := p.keys[at]
	if !ok {
		return
	}
	if s := neighState(native.Uint16(b[8:])); s != netstate.NeighUnknown {
		p.state[k] = s
		delete(p.keys, at)
	}
}

// Kept are the permanent neighbours of a link, with their link-layer addresses.
func (v *View) Kept(ctx context.Context, dev string) (map[netip.Addr]string, error) {
	l := v.Link(dev)
	if l == nil {
		return nil, &linkError{dev}
	}
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	body := putU32(make([]byte, neighHeader), unix.NDA_IFINDEX, uint32(l.Index))
	list, _, err := v.c.dump(ctx, "neighbours", unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, body)
	if err != nil {
		return nil, err
	}
	kept := map[netip.Addr]string{}
	err = each(list, func(b []byte) error {
		if len(b) < neighHeader {
			return errShort
		}
		attrs := readAttrs(b[neighHeader:])
		a, ok := netip.AddrFromSlice(attrs.get(unix.NDA_DST))
		if ok && int(native.Uint32(b[4:])) == l.Index && native.Uint16(b[8:])&unix.NUD_PERMANENT != 0 {
			kept[a] = net.HardwareAddr(attrs.get(unix.NDA_LLADDR)).String()
		}
		return nil
	})
	return kept, err
}
