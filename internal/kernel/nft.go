package kernel

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// nftables is read and written with a codec of viarule's own.
// github.com/google/nftables reads `ct mark set` as the loading of a mark, leaves
// out expressions that it does not know, and cannot say `ct original ip daddr`: a
// table that somebody has changed would look as if it was whole.

// ownTables are the tables that a State holds, all of the family inet.
var ownTables = []string{netstate.NftTableObjects}

func ownTable(name string) bool { return slices.Contains(ownTables, name) }

// openNft opens a socket to nftables.
func (c *Conn) openNft() (*Conn, error) { return c.openOther(unix.NETLINK_NETFILTER) }

// nftAbsent says that there can be no tables: the kernel has no nftables, or this
// process may not look, which it may not write either.
func nftAbsent(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM)
}

// nft reads viarule's own tables. A host that has none costs one question.
func (c *Conn) nft(ctx context.Context) ([]netstate.NftTable, error) {
	n, err := c.openNft()
	if nftAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer n.drop()
	var out []netstate.NftTable
	for _, name := range ownTables {
		r, err := n.nftTable(ctx, name)
		switch {
		case errors.Is(err, unix.ENOENT), nftAbsent(err):
		case err != nil:
			return nil, fmt.Errorf("read the table inet %s of nftables: %w", name, err)
		default:
			out = append(out, r.table)
		}
	}
	return out, nil
}

// nftReading is a table as it was read.
type nftReading struct {
	table      netstate.NftTable
	generation uint32 // of the ruleset that it was a part of
	// foreign says that some map has its intervals in other elements than viarule
	// writes, which comes to the same for packets.
	foreign bool
}

// nftTable reads one table. Its lists are read one after the other; the number of
// the ruleset's generation tells whether somebody changed it meanwhile.
func (c *Conn) nftTable(ctx context.Context, name string) (*nftReading, error) {
	for range tornRetries {
		if _, err := c.ask(ctx, nftSubsystem|unix.NFT_MSG_GETTABLE, 0, putString(inetHeader(), unix.NFTA_TABLE_NAME, name)); err != nil {
			return nil, err
		}
		before, err := c.generation(ctx)
		if err != nil {
			return nil, err
		}
		r, err := c.nftParts(ctx, name)
		if err != nil {
			return nil, err
		}
		after, err := c.generation(ctx)
		if err != nil {
			return nil, err
		}
		if before == after {
			r.generation = after
			return r, nil
		}
	}
	return nil, ErrTornDump
}

func inetHeader() []byte { return []byte{unix.NFPROTO_INET, 0, 0, 0} }

func netdevHeader() []byte { return []byte{unix.NFPROTO_NETDEV, 0, 0, 0} }

// generation is the number of the ruleset of the namespace: every transaction
// counts it up.
func (c *Conn) generation(ctx context.Context) (uint32, error) {
	b, err := c.ask(ctx, nftSubsystem|unix.NFT_MSG_GETGEN, 0, []byte{unix.AF_UNSPEC, 0, 0, 0})
	if err != nil {
		return 0, err
	}
	if len(b) < genHeader {
		return 0, errShort
	}
	return readAttrs(b[genHeader:]).be(unix.NFTA_GEN_ID), nil
}

// nftListAll gives the objects of one kind of all families, each with its family.
func (c *Conn) nftListAll(ctx context.Context, what string, get, answer uint16, f func(family uint8, a attrList) error) error {
	return c.nftMessages(ctx, what, get, answer, []byte{unix.AF_UNSPEC, 0, 0, 0}, f)
}

// nftList gives the attributes of each message of a list.
func (c *Conn) nftList(ctx context.Context, what string, get, answer uint16, body []byte, f func(attrList) error) error {
	return c.nftMessages(ctx, what, get, answer, body, func(_ uint8, a attrList) error { return f(a) })
}

func (c *Conn) nftMessages(ctx context.Context, what string, get, answer uint16, body []byte, f func(uint8, attrList) error) error {
	list, _, err := c.dump(ctx, what, nftSubsystem|get, nftSubsystem|answer, body)
	if err != nil {
		return err
	}
	return each(list, func(b []byte) error {
		if len(b) < genHeader {
			return errShort
		}
		attrs, err := parseAttrs(b[genHeader:])
		if err != nil {
			return err
		}
		return f(b[0], attrList(attrs))
	})
}

func (c *Conn) nftParts(ctx context.Context, name string) (*nftReading, error) {
	r := &nftReading{table: netstate.NftTable{Name: name}}
	t := &r.table
	err := c.nftList(ctx, "chains", unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_NEWCHAIN, inetHeader(), func(a attrList) error {
		if a.text(unix.NFTA_CHAIN_TABLE) == name {
			t.Chains = append(t.Chains, decodeChain(a))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = c.nftList(ctx, "rules", unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, putString(inetHeader(), unix.NFTA_RULE_TABLE, name), func(a attrList) error {
		chain := a.text(unix.NFTA_RULE_CHAIN)
		i := slices.IndexFunc(t.Chains, func(c netstate.NftChain) bool { return c.Name == chain })
		if i >= 0 && a.text(unix.NFTA_RULE_TABLE) == name {
			t.Chains[i].Rules = append(t.Chains[i].Rules, decodeNftRule(a))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := c.nftMaps(ctx, r); err != nil {
		return nil, err
	}
	*t = netstate.CanonicalNft(*t)
	return r, nil
}

func (c *Conn) nftMaps(ctx context.Context, r *nftReading) error {
	t := &r.table
	err := c.nftList(ctx, "sets", unix.NFT_MSG_GETSET, unix.NFT_MSG_NEWSET, putString(inetHeader(), unix.NFTA_SET_TABLE, t.Name), func(a attrList) error {
		if a.text(unix.NFTA_SET_TABLE) != t.Name {
			return nil
		}
		m := netstate.NftMap{Name: a.text(unix.NFTA_SET_NAME)}
		known := true
		switch a.be(unix.NFTA_SET_KEY_TYPE) {
		case nftTypeIPv4:
			m.Family = netstate.IPv4
		case nftTypeIPv6:
			m.Family = netstate.IPv6
		case nftTypeLink:
		default:
			known = false
		}
		if _, _, flags := keyOf(m.Family); !known || a.be(unix.NFTA_SET_FLAGS) != flags || a.be(unix.NFTA_SET_DATA_TYPE) != unix.NFT_DATA_VERDICT {
			noteUnknown(t, "a set %s of another kind; ", m.Name)
			return nil
		}
		t.Maps = append(t.Maps, m)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range t.Maps {
		found, err := c.nftElements(ctx, t, &t.Maps[i])
		if err != nil {
			return err
		}
		if t.Maps[i].Family == 0 {
			for _, b := range found {
				t.Maps[i].Elems = append(t.Maps[i].Elems, netstate.NftElem{Link: b.link, Chain: b.chain})
			}
			continue
		}
		t.Maps[i].Elems = intervals(found)
		r.foreign = r.foreign || !sameBounds(found, t.Maps[i].Elems)
	}
	return nil
}

// noteUnknown adds what stands in a table without a field, once: there may be a
// million elements of a kind.
func noteUnknown(t *netstate.NftTable, format, name string) {
	if note := fmt.Sprintf(format, name); !strings.Contains(t.Unknown, note) {
		t.Unknown += note
	}
}

// bound is an element as the kernel lists it: where an interval begins, or the
// first address behind one.
type bound struct {
	at    netip.Addr
	link  string // of a map of links, which has no intervals
	end   bool
	chain string
}

func (c *Conn) nftElements(ctx context.Context, t *netstate.NftTable, m *netstate.NftMap) (bounds []bound, err error) {
	body := putString(putString(inetHeader(), unix.NFTA_SET_ELEM_LIST_TABLE, t.Name), unix.NFTA_SET_ELEM_LIST_SET, m.Name)
	err = c.nftList(ctx, "elements", unix.NFT_MSG_GETSETELEM, unix.NFT_MSG_NEWSETELEM, body, func(a attrList) error {
		for _, e := range readAttrs(a.get(unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			attrs := readAttrs(e.data())
			key := attrs.value(unix.NFTA_SET_ELEM_KEY)
			at, ok := netip.AddrFromSlice(key)
			link := ""
			if m.Family == 0 {
				at, link, ok = netip.Addr{}, string(bytes.TrimRight(key, "\x00")), len(key) == unix.IFNAMSIZ
			}
			if !ok || netstate.FamilyOf(at) != m.Family {
				noteUnknown(t, "an element of another kind in %s; ", m.Name)
				continue
			}
			b := bound{at: at, link: link, end: attrs.be(unix.NFTA_SET_ELEM_FLAGS)&unix.NFT_SET_ELEM_INTERVAL_END != 0}
			v := readAttrs(readAttrs(attrs.get(unix.NFTA_SET_ELEM_DATA)).get(unix.NFTA_DATA_VERDICT))
			if b.chain = v.text(unix.NFTA_VERDICT_CHAIN); !b.end && int32(v.be(unix.NFTA_VERDICT_CODE)) != unix.NFT_GOTO {
				noteUnknown(t, "an element of %s that is no goto; ", m.Name)
			}
			bounds = append(bounds, b)
		}
		return nil
	})
	slices.SortFunc(bounds, compareBounds)
	return bounds, err
}

func compareBounds(a, b bound) int {
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.link, b.link), cmp.Compare(order(a.end), order(b.end)))
}

// boundsOf is how viarule writes an interval: an element where it begins, and one
// for the first address behind it. One that reaches the last address of the family
// has no end.
func boundsOf(e *netstate.NftElem) []bound {
	out := []bound{{at: e.First, link: e.Link, chain: e.Chain}}
	if e.Link != "" {
		return out
	}
	if next := e.Last.Next(); next.IsValid() {
		out = append(out, bound{at: next, end: true})
	}
	return out
}

// sameBounds says whether found, in order, are the bounds that viarule writes for
// the intervals.
func sameBounds(found []bound, elems []netstate.NftElem) bool {
	for i := range elems {
		for _, b := range boundsOf(&elems[i]) {
			if len(found) == 0 || found[0] != b {
				return false
			}
			found = found[1:]
		}
	}
	return len(found) == 0
}

// intervals puts bounds, which are in order, together. nft puts an end in front of all, which ends
// nothing; and one begin behind the other ends the first.
func intervals(bounds []bound) []netstate.NftElem {
	var out []netstate.NftElem
	open := false
	for _, b := range bounds {
		if open {
			out[len(out)-1].Last = b.at.Prev()
		}
		if open = !b.end; open {
			out = append(out, netstate.NftElem{First: b.at, Chain: b.chain})
		}
	}
	if open {
		last := &out[len(out)-1]
		full := bytes.Repeat([]byte{0xff}, last.First.BitLen()/8)
		last.Last, _ = netip.AddrFromSlice(full)
	}
	return out
}

// order puts an end before a begin at the same address.
func order(end bool) int {
	if end {
		return 0
	}
	return 1
}

func decodeChain(a attrList) netstate.NftChain {
	c := netstate.NftChain{Name: a.text(unix.NFTA_CHAIN_NAME)}
	hook := a.get(unix.NFTA_CHAIN_HOOK)
	if hook == nil {
		return c
	}
	h := readAttrs(hook)
	c.Hook = netstate.NftHook{Type: a.text(unix.NFTA_CHAIN_TYPE), Priority: int32(h.be(unix.NFTA_HOOK_PRIORITY))}
	c.Hook.Hook = fmt.Sprint(h.be(unix.NFTA_HOOK_HOOKNUM))
	list := hooks
	// A chain of several links has none by that name.
	if c.Hook.Device = h.text(unix.NFTA_HOOK_DEV); c.Hook.Device != "" {
		list = linkHooks
	}
	if n := int(h.be(unix.NFTA_HOOK_HOOKNUM)); n < len(list) {
		c.Hook.Hook = list[n]
	}
	if p := a.get(unix.NFTA_CHAIN_POLICY); len(p) == 4 && binary.BigEndian.Uint32(p) != nfAccept {
		c.Hook.Type += " with another policy" // never a wanted one
	}
	return c
}

func decodeNftRule(a attrList) netstate.NftRule {
	var list []expression
	for _, e := range readAttrs(a.get(unix.NFTA_RULE_EXPRESSIONS)) {
		attrs := readAttrs(e.data())
		list = append(list, expression{attrs.text(unix.NFTA_EXPR_NAME), attrs.get(unix.NFTA_EXPR_DATA)})
	}
	var r netstate.NftRule
	for len(list) > 0 {
		s, n := decodeStmt(list)
		r, list = append(r, s), list[n:]
	}
	return r
}
