package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

const (
	nftSubsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	batchBegin   = 0x10 // NFNL_MSG_BATCH_BEGIN
	batchEnd     = 0x11
	batchGenID   = 1 // NFNL_BATCH_GENID
	genHeader    = 4 // struct nfgenmsg
	// maxElems bounds the elements of one message: an attribute's length has 16 bits.
	maxElems = 60 << 10
	// nftTypeIPv4 and nftTypeIPv6 are nft's numbers for the types of keys; the
	// kernel keeps them for nft and looks only at the length.
	nftTypeIPv4, nftTypeIPv6, nftTypeLink = 7, 8, 41
)

// writeNft writes a table of viarule's, in one transaction.
func (c *Conn) writeNft(ctx context.Context, ch *netstate.Change) error {
	if ch.Objects() != 1 {
		return fmt.Errorf("a change of a table of nftables must be of nothing else: %w", unix.EINVAL)
	}
	if !ownTable(ch.Nft.Name) {
		return fmt.Errorf("table inet %s: not one of viarule's: %w", ch.Nft.Name, unix.EPERM)
	}
	switch ch.Verb {
	case netstate.Delete:
		m := &nftBatch{}
		m.begin(0)
		m.table(unix.NFT_MSG_DELTABLE, ch.Nft.Name)
		return c.sendNft(m)
	case netstate.Replace:
		return c.replaceNft(ctx, ch.Nft)
	}
	return fmt.Errorf("a change of a table of nftables with the verb %d: %w", ch.Verb, unix.EINVAL)
}

// replaceNft writes what the table differs by from the one that there is. To
// delete the old table and make the new one in one transaction is not the same for
// packets that are under way at that moment: they still run through the old
// chains, but look into the old maps with the new generation's eyes, to which
// those are empty (nft_set_elem_active with nft_genmask_cur at each lookup, while
// nft_do_chain chose its rules at entry), or find no chain at all (base chains of
// a removed table are taken off their hooks, net/netfilter/nf_tables_api.c). Some
// 3 % of the changes lost a datagram of a steady flow so.
func (c *Conn) replaceNft(ctx context.Context, t *netstate.NftTable) error {
	var err error
	for range tornRetries {
		m := &nftBatch{}
		var there *nftReading
		if there, err = c.nftThere(ctx, t.Name); err != nil {
			return err
		}
		if there != nil && there.edits(t) {
			m.begin(there.generation)
			err = m.difference(&there.table, t)
		} else {
			// Made first, so that there is one to delete.
			m.begin(0)
			m.table(unix.NFT_MSG_NEWTABLE, t.Name)
			m.table(unix.NFT_MSG_DELTABLE, t.Name)
			err = m.whole(t)
		}
		if err != nil || m.at == 0 {
			return err // m.at is 0 where nothing differs
		}
		// nfnetlink refuses a transaction whose generation has passed.
		if err = c.sendNft(m); !errors.Is(err, unix.ERESTART) {
			return err
		}
	}
	return err
}

// nftThere reads the table that there is; nil where there is none.
func (c *Conn) nftThere(ctx context.Context, name string) (*nftReading, error) {
	n, err := c.openNft()
	if err != nil {
		return nil, err
	}
	defer n.drop()
	r, err := n.nftTable(ctx, name)
	if errors.Is(err, unix.ENOENT) || nftAbsent(err) {
		return nil, nil // what cannot be read shows its error when it is written
	}
	return r, err
}

// nftBatch is a transaction that is being put together.
type nftBatch struct {
	b     []byte
	seq   uint32
	at    int // where the last message that the kernel answers begins
	open  int // where the message under way begins
	setID uint32
	// netdev says that what follows is about a table of the family netdev, not inet.
	netdev bool
}

func (m *nftBatch) message(typ, flags uint16, family uint8, resource uint16) {
	m.seq++
	m.open = len(m.b)
	m.b = startMessage(m.b, typ, flags, m.seq)
	m.b = append(m.b, family, 0, byte(resource>>8), byte(resource))
}

func (m *nftBatch) close() { endMessage(m.b, m.open) }

// add begins a message of the transaction about one of viarule's tables.
func (m *nftBatch) add(typ uint16, flags uint16) { m.addOf(familyNumber(m.netdev), typ, flags) }

func familyNumber(netdev bool) uint8 {
	if netdev {
		return unix.NFPROTO_NETDEV
	}
	return unix.NFPROTO_INET
}

func (m *nftBatch) addOf(family uint8, typ, flags uint16) {
	m.message(nftSubsystem|typ, flags, family, 0)
	m.at = m.open
}

// begin opens the transaction, which only counts while the ruleset is of the
// generation; 0: whatever it is.
func (m *nftBatch) begin(generation uint32) {
	m.message(batchBegin, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	if generation != 0 {
		m.b = putBE(m.b, batchGenID, generation)
	}
	m.close()
}

// end asks for an answer to the last message, and closes the transaction.
func (m *nftBatch) end() {
	native.PutUint16(m.b[m.at+6:], native.Uint16(m.b[m.at+6:])|unix.NLM_F_ACK)
	m.message(batchEnd, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	m.close()
}

func (m *nftBatch) table(typ uint16, name string) {
	flags := uint16(0)
	if typ == unix.NFT_MSG_NEWTABLE {
		flags = unix.NLM_F_CREATE
	}
	m.add(typ, flags)
	m.b = putString(m.b, unix.NFTA_TABLE_NAME, name)
	m.close()
}

// whole makes the table with all that is in it: chains first, since maps and rules
// name them.
func (m *nftBatch) whole(t *netstate.NftTable) error {
	m.table(unix.NFT_MSG_NEWTABLE, t.Name)
	for i := range t.Chains {
		if err := m.chain(t.Name, &t.Chains[i]); err != nil {
			return err
		}
	}
	for i := range t.Maps {
		if err := m.set(t.Name, &t.Maps[i]); err != nil {
			return err
		}
	}
	for i := range t.Chains {
		for j := range t.Chains[i].Rules {
			if err := m.rule(t.Name, t.Chains[i].Name, t.Chains[i].Rules[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// hooks are netfilter's, by their numbers (NF_INET_*).
var hooks = []string{"prerouting", "input", "forward", "output", "postrouting"}

// linkHooks are those of one link (NF_NETDEV_*).
var linkHooks = []string{"ingress"}

func (m *nftBatch) chain(table string, c *netstate.NftChain) error {
	m.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	m.b = putString(putString(m.b, unix.NFTA_CHAIN_TABLE, table), unix.NFTA_CHAIN_NAME, c.Name)
	if c.Hook != (netstate.NftHook{}) {
		hook := slices.Index(hooks, c.Hook.Hook)
		if m.netdev {
			hook = slices.Index(linkHooks, c.Hook.Hook)
		}
		if hook < 0 || m.netdev != (linkName(c.Hook.Device) == nil) {
			return fmt.Errorf("chain %s: no hook %q: %w", c.Name, c.Hook.Hook, unix.EINVAL)
		}
		m.b = nest(m.b, nested(unix.NFTA_CHAIN_HOOK), func(b []byte) []byte {
			b = putBE(putBE(b, unix.NFTA_HOOK_HOOKNUM, uint32(hook)), unix.NFTA_HOOK_PRIORITY, uint32(c.Hook.Priority))
			if m.netdev {
				b = putString(b, unix.NFTA_HOOK_DEV, c.Hook.Device)
			}
			return b
		})
		m.b = putBE(m.b, unix.NFTA_CHAIN_POLICY, nfAccept)
		m.b = putString(m.b, unix.NFTA_CHAIN_TYPE, c.Hook.Type)
	}
	m.close()
	return nil
}

const nfAccept = 1 // NF_ACCEPT

func (m *nftBatch) set(table string, s *netstate.NftMap) error {
	m.setID++
	typ, size, flags := keyOf(s.Family)
	m.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	m.b = putString(putString(m.b, unix.NFTA_SET_TABLE, table), unix.NFTA_SET_NAME, s.Name)
	m.b = putBE(m.b, unix.NFTA_SET_FLAGS, flags)
	m.b = putBE(putBE(m.b, unix.NFTA_SET_KEY_TYPE, typ), unix.NFTA_SET_KEY_LEN, size)
	m.b = putBE(putBE(m.b, unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT), unix.NFTA_SET_DATA_LEN, 0)
	m.b = putBE(m.b, unix.NFTA_SET_ID, m.setID)
	if s.Family == 0 {
		m.b = put(m.b, unix.NFTA_SET_USERDATA, hostOrder)
	}
	m.close()
	return m.elements(unix.NFT_MSG_NEWSETELEM, table, s, s.Elems, m.setID)
}

// hostOrder is a note for nft, without which it prints the names of links as empty: the
// keys are in the host's byte order (libnftnl's NFTNL_UDATA_SET_KEYBYTEORDER, nft's
// BYTEORDER_HOST_ENDIAN).
var hostOrder = append([]byte{0, 4}, native.AppendUint32(nil, 1)...)

// keyOf gives the type of a map's keys, their length, and the map's flags.
func keyOf(f netstate.Family) (typ, size, flags uint32) {
	switch f {
	case netstate.IPv4:
		return nftTypeIPv4, 4, unix.NFT_SET_INTERVAL | unix.NFT_SET_MAP
	case netstate.IPv6:
		return nftTypeIPv6, 16, unix.NFT_SET_INTERVAL | unix.NFT_SET_MAP
	}
	return nftTypeLink, unix.IFNAMSIZ, unix.NFT_SET_MAP
}

// elements adds or deletes elements.
func (m *nftBatch) elements(typ uint16, table string, s *netstate.NftMap, elems []netstate.NftElem, setID uint32) error {
	var list []byte
	flush := func() {
		if len(list) == 0 {
			return
		}
		m.add(typ, unix.NLM_F_CREATE)
		m.b = putString(putString(m.b, unix.NFTA_SET_ELEM_LIST_TABLE, table), unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		if setID != 0 {
			m.b = putBE(m.b, unix.NFTA_SET_ELEM_LIST_SET_ID, setID)
		}
		m.b = nest(m.b, nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(b []byte) []byte { return append(b, list...) })
		m.close()
		list = list[:0]
	}
	for i := range elems {
		e := &elems[i]
		if netstate.FamilyOf(e.First) != s.Family || netstate.FamilyOf(e.Last) != s.Family || e.Last.Less(e.First) || (s.Family == 0) != (linkName(e.Link) == nil) {
			return fmt.Errorf("map %s: %s is no element of its type: %w", s.Name, e, unix.EINVAL)
		}
		for _, bound := range boundsOf(e) {
			list = nest(list, nested(unix.NFTA_LIST_ELEM), func(b []byte) []byte {
				b = putValue(b, unix.NFTA_SET_ELEM_KEY, bound.key())
				if bound.end {
					return putBE(b, unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
				}
				if typ == unix.NFT_MSG_DELSETELEM {
					return b
				}
				return nest(b, nested(unix.NFTA_SET_ELEM_DATA), func(b []byte) []byte { return putVerdict(b, unix.NFT_GOTO, bound.chain) })
			})
		}
		if len(list) > maxElems {
			flush()
		}
	}
	flush()
	return nil
}

func (b *bound) key() []byte {
	if b.link != "" {
		return linkWord(b.link)
	}
	return b.at.AsSlice()
}

func (m *nftBatch) rule(table, chain string, r netstate.NftRule) error {
	return m.ruleOf(familyNumber(m.netdev), netstate.NftName{Table: table, Chain: chain}, r, "")
}

// ruleOf appends a rule to a chain of any table; the comment may be empty.
func (m *nftBatch) ruleOf(family uint8, at netstate.NftName, r netstate.NftRule, comment string) error {
	m.addOf(family, unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	m.b = putString(putString(m.b, unix.NFTA_RULE_TABLE, at.Table), unix.NFTA_RULE_CHAIN, at.Chain)
	if comment != "" {
		m.b = putUserComment(m.b, comment)
	}
	var err error
	m.b = nest(m.b, nested(unix.NFTA_RULE_EXPRESSIONS), func(b []byte) []byte {
		for i := range r {
			list := expressions(&r[i])
			if list == nil {
				err = fmt.Errorf("chain %s: %q cannot be written: %w", at.Chain, r[i], unix.EINVAL)
			}
			for _, e := range list {
				b = nest(b, nested(unix.NFTA_LIST_ELEM), func(b []byte) []byte {
					return put(putString(b, unix.NFTA_EXPR_NAME, e.name), nested(unix.NFTA_EXPR_DATA), e.data)
				})
			}
		}
		return b
	})
	m.close()
	return err
}

// sendNft closes and sends a transaction, and gives the first of its refusals.
func (c *Conn) sendNft(m *nftBatch) error {
	m.end()
	n, err := c.openNft()
	if err != nil {
		return err
	}
	defer n.drop()
	s := n.t.(*socket)
	// The kernel takes a transaction in one send only.
	if err := s.sendBuffer(max(sendBuffer, 2*len(m.b))); err != nil {
		return fmt.Errorf("make room for a transaction of nftables: %w", err)
	}
	last := native.Uint32(m.b[m.at+8:])
	if err := s.send(m.b); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	var first *answer
	for {
		size, err := s.receive(n.buf)
		if err != nil {
			return err
		}
		for r := n.buf[:size]; len(r) > 0; {
			var msg message
			if msg, r, err = nextMessage(r); err != nil {
				return err
			}
			if msg.typ != unix.NLMSG_ERROR {
				continue
			}
			a, err := parseAnswer(msg)
			if err != nil {
				return err
			}
			if first == nil && a != nil {
				first = a
			}
			// What is refused as a whole is refused at its first message.
			if msg.seq == last || msg.seq == 1 {
				return nftRefusal(first)
			}
		}
	}
}

func nftRefusal(a *answer) error {
	switch {
	case a == nil:
		return nil
	case errors.Is(a, unix.EPROTONOSUPPORT), errors.Is(a, unix.EOPNOTSUPP), errors.Is(a, unix.ENOSYS):
		return &FeatureError{Name: "nftables, or one of its expressions ct, fib, lookup and masq (CONFIG_NF_TABLES_INET, NF_TABLES_NETDEV, NFT_CT, NFT_FIB_INET, NFT_MASQ)"}
	}
	return a
}
