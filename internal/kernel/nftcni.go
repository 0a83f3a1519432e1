package kernel

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// The CNI plugins share one table of nftables, into which each adds what it needs.
// Nobody puts it in place as a whole: another plugin's process may be adding to it.

// AddNftCNI adds to the table of the CNI plugins, in one transaction that needs no look
// before: the chains of t are made, or rewritten where they are there; maps are made, and
// elements added, where they are missing. The rest stays.
func (c *Conn) AddNftCNI(ctx context.Context, t *netstate.NftTable) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &nftBatch{}
	m.begin(0)
	m.table(unix.NFT_MSG_NEWTABLE, netstate.NftTableCNI)
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
	return c.nftCNI(ctx, "add to", m)
}

// DeleteNftCNIElems deletes the elements of m. The error is ENOENT where one is missing.
func (c *Conn) DeleteNftCNIElems(ctx context.Context, m *netstate.NftMap) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &nftBatch{}
	b.begin(0)
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
		return fmt.Errorf("%s the table inet %s of nftables: %w", what, netstate.NftTableCNI, err)
	}
	return nil
}

// DeleteNftCNIChain deletes a chain. The error is EBUSY where something leads to it.
func (c *Conn) DeleteNftCNIChain(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &nftBatch{}
	m.begin(0)
	m.flush(netstate.NftTableCNI, name)
	m.add(unix.NFT_MSG_DELCHAIN, 0)
	m.b = putString(putString(m.b, unix.NFTA_CHAIN_TABLE, netstate.NftTableCNI), unix.NFTA_CHAIN_NAME, name)
	m.close()
	return c.nftCNI(ctx, "delete a chain of", m)
}

// NftCNIRules reads the rules of one chain of the table of the CNI plugins: one question,
// whatever else there is in nftables. There are none where the chain is missing.
func (c *Conn) NftCNIRules(ctx context.Context, chain string) (rules []netstate.NftRule, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.openNft()
	if err != nil {
		return nil, err
	}
	defer n.drop()
	body := putString(putString(inetHeader(), unix.NFTA_RULE_TABLE, netstate.NftTableCNI), unix.NFTA_RULE_CHAIN, chain)
	err = n.nftList(ctx, "rules", unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, body, func(a attrList) error {
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

// NftCNI reads the table of the CNI plugins; nil: there is none.
func (c *Conn) NftCNI(ctx context.Context) (*netstate.NftTable, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.nftThere(ctx, netstate.NftTableCNI)
	if r == nil || err != nil {
		return nil, err
	}
	return &r.table, nil
}
