package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// The CNI plugins share a table of nftables in each of the families inet and netdev, into
// which each adds what it needs. Nobody puts it in place as a whole: another plugin's process
// may be adding to it.
//
// In the family netdev each chain has the name of the link that it is of. With the link it
// goes by itself up to Linux 6.15 (nf_tables_netdev_event); from 6.16 on it stays, and is of
// the next link of that name.

// AddNftCNI adds to the tables of the CNI plugins, in one transaction that needs no look
// before: the chains are made, or rewritten where they are there; maps are made, and
// elements added, where they are missing. The rest stays. The error is ENOENT where the
// family netdev has no such table yet: then other links may lack their chains too.
func (c *Conn) AddNftCNI(ctx context.Context, tables ...netstate.NftTable) error {
	return c.addNftCNI(ctx, false, tables)
}

// StartNftCNI is AddNftCNI where the family netdev has no such table yet, and EEXIST where
// it has.
func (c *Conn) StartNftCNI(ctx context.Context, tables ...netstate.NftTable) error {
	return c.addNftCNI(ctx, true, tables)
}

func (c *Conn) addNftCNI(ctx context.Context, start bool, tables []netstate.NftTable) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &nftBatch{}
	m.begin(0)
	for i := range tables {
		m.netdev = tables[i].Netdev
		if start && m.netdev {
			m.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
			m.b = putString(m.b, unix.NFTA_TABLE_NAME, netstate.NftTableCNI)
			m.close()
		}
		if err := m.addCNI(&tables[i]); err != nil {
			return err
		}
	}
	return c.nftCNI(ctx, "add to", m)
}

func (m *nftBatch) addCNI(t *netstate.NftTable) error {
	if !m.netdev {
		m.table(unix.NFT_MSG_NEWTABLE, netstate.NftTableCNI)
	}
	for i := range t.Chains {
		if err := m.chain(netstate.NftTableCNI, &t.Chains[i]); err != nil {
			return err
		}
		m.flush(netstate.NftTableCNI, t.Chains[i].Name)
	}
	for i := range t.Maps {
		if err := m.set(netstate.NftTableCNI, &t.Maps[i]); err != nil {
			return err
		}
	}
	for i := range t.Chains {
		for _, r := range t.Chains[i].Rules {
			if err := m.rule(netstate.NftTableCNI, t.Chains[i].Name, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteNftCNI deletes the chains of links, and the elements of m, whichever are there. Where
// there is no nftables there are none.
//
// It takes until nobody looks at them any more, which may be some 20 ms: the socket's end
// waits for that, and all other changes of nftables with it (nft_rcv_nl_event).
func (c *Conn) DeleteNftCNI(ctx context.Context, links []string, m *netstate.NftMap) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropNftCNI(ctx, links, m)
}

func (c *Conn) dropNftCNI(ctx context.Context, links []string, m *netstate.NftMap) error {
	if len(links)+len(m.Elems) == 0 {
		return nil
	}
	err := c.tryDropNftCNI(ctx, links, m)
	if errors.Is(err, ErrNotSupported) {
		return nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if len(links)+len(m.Elems) == 1 {
		return nil
	}
	err = nil
	for i := range links {
		err = errors.Join(err, c.dropNftCNI(ctx, links[i:i+1], &netstate.NftMap{}))
	}
	for i := range m.Elems {
		err = errors.Join(err, c.dropNftCNI(ctx, nil, &netstate.NftMap{Name: m.Name, Elems: m.Elems[i : i+1]}))
	}
	return err
}

// tryDropNftCNI is one transaction, which fails where something is missing.
func (c *Conn) tryDropNftCNI(ctx context.Context, links []string, m *netstate.NftMap) error {
	b := &nftBatch{netdev: true}
	b.begin(0)
	for _, link := range links {
		b.deleteCNI(link)
	}
	b.netdev = false
	if err := b.elements(unix.NFT_MSG_DELSETELEM, netstate.NftTableCNI, m, m.Elems, 0); err != nil {
		return err
	}
	return c.nftCNI(ctx, "delete from", b)
}

func (c *Conn) nftCNI(ctx context.Context, what string, m *nftBatch) error {
	err := ctx.Err()
	if err == nil {
		err = c.sendNft(m)
	}
	if err != nil {
		return fmt.Errorf("%s the table %s of nftables: %w", what, netstate.NftTableCNI, err)
	}
	return nil
}

// DeleteNftCNIChain deletes a chain of the family inet. The error is EBUSY where something
// leads to it, and ENOENT where it is missing.
func (c *Conn) DeleteNftCNIChain(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &nftBatch{}
	m.begin(0)
	m.deleteCNI(name)
	return c.nftCNI(ctx, "delete a chain of", m)
}

// deleteCNI deletes a chain with its rules.
func (m *nftBatch) deleteCNI(chain string) {
	m.flush(netstate.NftTableCNI, chain)
	m.add(unix.NFT_MSG_DELCHAIN, 0)
	m.b = putString(putString(m.b, unix.NFTA_CHAIN_TABLE, netstate.NftTableCNI), unix.NFTA_CHAIN_NAME, chain)
	m.close()
}

// NftCNIRules reads the rules of one chain of the family inet: one question, whatever else
// there is in nftables. There are none where the chain is missing.
func (c *Conn) NftCNIRules(ctx context.Context, chain string) ([]netstate.NftRule, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.openNft()
	if err != nil {
		return nil, err
	}
	defer n.drop()
	return n.nftCNIRules(ctx, inetHeader(), chain)
}

func (c *Conn) nftCNIRules(ctx context.Context, header []byte, chain string) (rules []netstate.NftRule, err error) {
	body := putString(putString(header, unix.NFTA_RULE_TABLE, netstate.NftTableCNI), unix.NFTA_RULE_CHAIN, chain)
	err = c.nftList(ctx, "rules", unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, body, func(a attrList) error {
		if a.text(unix.NFTA_RULE_TABLE) == netstate.NftTableCNI && a.text(unix.NFTA_RULE_CHAIN) == chain {
			rules = append(rules, decodeNftRule(a))
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return rules, err
}

// NftCNILink reads the chain of a link; nil: there is none.
func (c *Conn) NftCNILink(ctx context.Context, link string) (*netstate.NftChain, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.openNft()
	if err != nil {
		return nil, err
	}
	defer n.drop()
	body := putString(putString(netdevHeader(), unix.NFTA_CHAIN_TABLE, netstate.NftTableCNI), unix.NFTA_CHAIN_NAME, link)
	b, err := n.ask(ctx, nftSubsystem|unix.NFT_MSG_GETCHAIN, 0, body)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b) < genHeader {
		return nil, errShort
	}
	chain := decodeChain(readAttrs(b[genHeader:]))
	chain.Rules, err = n.nftCNIRules(ctx, netdevHeader(), link)
	return &chain, err
}

// NftCNILinks gives the names of the chains of links. Where there is no nftables there are
// none.
func (c *Conn) NftCNILinks(ctx context.Context) (links []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.openNft()
	if nftAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer n.drop()
	err = n.nftList(ctx, "chains", unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_NEWCHAIN, netdevHeader(), func(a attrList) error {
		if a.text(unix.NFTA_CHAIN_TABLE) == netstate.NftTableCNI {
			links = append(links, a.text(unix.NFTA_CHAIN_NAME))
		}
		return nil
	})
	return links, err
}

// NftCNI reads the table of the family inet; nil: there is none.
func (c *Conn) NftCNI(ctx context.Context) (*netstate.NftTable, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.nftThere(ctx, netstate.NftTableCNI)
	if r == nil || err != nil {
		return nil, err
	}
	return &r.table, nil
}
