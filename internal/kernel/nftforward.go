package kernel

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// forwardFamilies are those of whose chains packets of IP that are forwarded meet.
var forwardFamilies = map[string]uint8{"ip": unix.NFPROTO_IPV4, "ip6": unix.NFPROTO_IPV6, "inet": unix.NFPROTO_INET}

func nftHeader(family uint8) []byte { return []byte{family, 0, 0, 0} }

// forward reads the forward chains of others. A host without any costs one question.
func (c *Conn) forward(ctx context.Context) ([]netstate.ForwardChain, error) {
	n, err := c.openNft()
	if nftAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer n.drop()
	list, err := n.forwardBases(ctx)
	switch {
	case nftAbsent(err), err == nil && len(list) == 0:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the forward chains of nftables: %w", err)
	}
	for range tornRetries {
		before, err := n.generation(ctx)
		if err != nil {
			return nil, err
		}
		if list, err = n.forwardBases(ctx); err == nil {
			err = n.forwardTables(ctx, list)
		}
		if err != nil {
			return nil, fmt.Errorf("read the forward chains of nftables: %w", err)
		}
		for i := range list {
			if err := n.forwardRules(ctx, &list[i]); err != nil {
				return nil, fmt.Errorf("read the rules of the chain %s of nftables: %w", list[i].NftName, err)
			}
		}
		after, err := n.generation(ctx)
		if err != nil {
			return nil, err
		}
		if before == after {
			return list, nil
		}
	}
	return nil, fmt.Errorf("read the forward chains of nftables: %w", ErrTornDump)
}

// forwardBases lists the base chains at the hook forward without their rules.
func (c *Conn) forwardBases(ctx context.Context) ([]netstate.ForwardChain, error) {
	var list []netstate.ForwardChain
	err := c.nftListAll(ctx, "chains", unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_NEWCHAIN, func(family uint8, a attrList) error {
		f := decodeForward(family, a)
		if f != nil && !(f.Family == "inet" && ownTable(f.Table)) {
			list = append(list, *f)
		}
		return nil
	})
	slices.SortFunc(list, func(a, b netstate.ForwardChain) int {
		return cmp.Or(strings.Compare(a.Family, b.Family), strings.Compare(a.Table, b.Table), strings.Compare(a.Chain, b.Chain))
	})
	return list, err
}

// NFT_TABLE_F_OWNER, Linux 5.12.
const nftTableOwner = 2

// forwardTables adds what the flags of the chains' tables say.
func (c *Conn) forwardTables(ctx context.Context, list []netstate.ForwardChain) error {
	return c.nftListAll(ctx, "tables", unix.NFT_MSG_GETTABLE, unix.NFT_MSG_NEWTABLE, func(family uint8, a attrList) error {
		flags := a.be(unix.NFTA_TABLE_FLAGS)
		for i := range list {
			if f := &list[i]; f.Family == nftFamily(family) && f.Table == a.text(unix.NFTA_TABLE_NAME) {
				f.Dormant, f.Owned = flags&unix.NFT_TABLE_F_DORMANT != 0, flags&nftTableOwner != 0
			}
		}
		return nil
	})
}

// decodeForward reads a chain; nil where it is no base chain at the hook forward that
// IP meets.
func decodeForward(family uint8, a attrList) *netstate.ForwardChain {
	hook := readAttrs(a.get(unix.NFTA_CHAIN_HOOK))
	name := nftFamily(family)
	if _, ok := forwardFamilies[name]; !ok || hook == nil || hook.be(unix.NFTA_HOOK_HOOKNUM) != unix.NF_INET_FORWARD {
		return nil
	}
	policy := a.get(unix.NFTA_CHAIN_POLICY)
	return &netstate.ForwardChain{
		NftName:  netstate.NftName{Family: name, Table: a.text(unix.NFTA_CHAIN_TABLE), Chain: a.text(unix.NFTA_CHAIN_NAME)},
		Priority: int32(hook.be(unix.NFTA_HOOK_PRIORITY)),
		Drop:     len(policy) == 4 && a.be(unix.NFTA_CHAIN_POLICY) == nfDrop,
	}
}

// forwardRules reads the rules of a chain, and of those that they lead to without a
// condition.
func (c *Conn) forwardRules(ctx context.Context, f *netstate.ForwardChain) error {
	read := func(chain string) (rules []netstate.ForwardRule, err error) {
		name := f.NftName
		name.Chain = chain
		err = c.foreignRules(ctx, name, func(_ []byte, r netstate.ForwardRule) { rules = append(rules, r) })
		return rules, err
	}
	var err error
	if f.Rules, err = read(f.Chain); err != nil {
		return err
	}
	seen := map[string]bool{}
	for open := [][]netstate.ForwardRule{f.Rules}; len(open) > 0; open = open[1:] {
		for _, r := range open[0] {
			if len(r.Rule) != 1 || r.Rule[0].Op != netstate.NftJump && r.Rule[0].Op != netstate.NftGoto || seen[r.Rule[0].Name] {
				continue
			}
			name := r.Rule[0].Name
			seen[name] = true
			rules, err := read(name)
			if err != nil {
				return err
			}
			f.Subs = append(f.Subs, netstate.ForwardSub{Name: name, Rules: rules})
			open = append(open, rules)
		}
	}
	slices.SortFunc(f.Subs, func(a, b netstate.ForwardSub) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// foreignRules shows the rules of a chain in order, each with its handle.
func (c *Conn) foreignRules(ctx context.Context, name netstate.NftName, show func(handle []byte, r netstate.ForwardRule)) error {
	family := forwardFamilies[name.Family]
	body := putString(putString(nftHeader(family), unix.NFTA_RULE_TABLE, name.Table), unix.NFTA_RULE_CHAIN, name.Chain)
	return c.nftList(ctx, "rules", unix.NFT_MSG_GETRULE, unix.NFT_MSG_NEWRULE, body, func(a attrList) error {
		// A kernel that does not know the filter gives everything.
		if a.text(unix.NFTA_RULE_TABLE) == name.Table && a.text(unix.NFTA_RULE_CHAIN) == name.Chain {
			show(bytes.Clone(a.get(unix.NFTA_RULE_HANDLE)), decodeForeignRule(a))
		}
		return nil
	})
}

// writeAccept appends an accept to a forward chain of others, or takes it away by its
// handle.
func (c *Conn) writeAccept(ctx context.Context, ch *netstate.Change) error {
	if ch.Objects() != 1 {
		return fmt.Errorf("a change of an accept must be of nothing else: %w", unix.EINVAL)
	}
	if err := ch.Accept.Check(); err != nil {
		return fmt.Errorf("%w: %w", err, unix.EINVAL)
	}
	if ch.Accept.Family == "inet" && ownTable(ch.Accept.Table) {
		return fmt.Errorf("table inet %s is written as a whole: %w", ch.Accept.Table, unix.EPERM)
	}
	n, err := c.openNft()
	if err != nil {
		return err
	}
	defer n.drop()
	switch ch.Verb {
	case netstate.Add:
		return c.addAccept(ctx, n, ch.Accept)
	case netstate.Delete:
		return c.deleteAccept(ctx, n, ch.Accept)
	}
	return fmt.Errorf("a change of an accept with the verb %d: %w", ch.Verb, unix.EINVAL)
}

// addAccept looks first whether the chain is one that forwarded packets meet: in any
// other the rule would stand where nobody looks for it.
func (c *Conn) addAccept(ctx context.Context, n *Conn, a *netstate.Accept) error {
	family := forwardFamilies[a.Family]
	body := putString(putString(nftHeader(family), unix.NFTA_CHAIN_TABLE, a.Table), unix.NFTA_CHAIN_NAME, a.Chain)
	found, err := n.ask(ctx, nftSubsystem|unix.NFT_MSG_GETCHAIN, 0, body)
	switch {
	case err != nil:
		return fmt.Errorf("the chain %s: %w", a.NftName, err)
	case len(found) < genHeader:
		return errShort
	case decodeForward(family, readAttrs(found[genHeader:])) == nil:
		return fmt.Errorf("the chain %s is not at the hook forward: %w", a.NftName, unix.EINVAL)
	}
	rule := a.Rule()
	m := &nftBatch{}
	m.begin(0)
	if err := m.ruleOf(family, a.NftName, rule.Rule, rule.Comment); err != nil {
		return err
	}
	return c.sendNft(m)
}

func (c *Conn) deleteAccept(ctx context.Context, n *Conn, a *netstate.Accept) error {
	want := netstate.ForwardChain{NftName: a.NftName, Rules: []netstate.ForwardRule{{}}}
	var err error
	for range tornRetries {
		var generation uint32
		if generation, err = n.generation(ctx); err != nil {
			return err
		}
		var handle []byte
		err = n.foreignRules(ctx, a.NftName, func(h []byte, r netstate.ForwardRule) {
			want.Rules[0] = r
			if want.Find(a) == 0 {
				handle = h
			}
		})
		if err != nil {
			return err
		}
		if handle == nil {
			return fmt.Errorf("no such rule in the chain %s: %w", a.NftName, unix.ENOENT)
		}
		m := &nftBatch{}
		m.begin(generation)
		m.addOf(forwardFamilies[a.Family], unix.NFT_MSG_DELRULE, 0)
		m.b = putString(putString(m.b, unix.NFTA_RULE_TABLE, a.Table), unix.NFTA_RULE_CHAIN, a.Chain)
		m.b = put(m.b, unix.NFTA_RULE_HANDLE, handle)
		m.close()
		// nfnetlink refuses a transaction whose generation has passed.
		if err = c.sendNft(m); !errors.Is(err, unix.ERESTART) {
			return err
		}
	}
	return err
}
