package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// Surroundings tells by names, and of the old iptables' chain FORWARD by more, what other programs hold in nftables, in the old
// iptables and in IPVS. What the kernel does not have, or this process may not see,
// is not there.
func (c *Conn) Surroundings(ctx context.Context) (s netstate.Surroundings, err error) {
	if s.Chains, err = c.foreignChains(ctx); err != nil {
		return s, fmt.Errorf("list the chains of nftables: %w", err)
	}
	err = inNamespace(c.ns, func() error {
		for i, name := range []string{"ip_tables_names", "ip6_tables_names"} {
			b, err := readNet(name)
			if err != nil {
				return err
			}
			names := strings.Fields(string(b))
			s.Legacy = append(s.Legacy, names...)
			if slices.Contains(names, "filter") {
				s.LegacyForward = append(s.LegacyForward, legacyForward(&iptLayouts[i]))
			}
		}
		b, err := readNet("ip_vs")
		// Three lines of heading, then the services.
		s.IPVS = bytes.Count(b, []byte("\n")) > 3
		return err
	})
	if err != nil {
		return s, fmt.Errorf("look for iptables and IPVS: %w", err)
	}
	slices.Sort(s.Legacy)
	s.Legacy = slices.Compact(s.Legacy)
	return s, nil
}

// netFiles is the folder with files of the thread's namespace.
const netFiles = "/proc/thread-self/net/"

// readNet reads a file of the thread's namespace; one that is not there is empty.
func readNet(name string) ([]byte, error) {
	b, err := os.ReadFile(netFiles + name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	return b, err
}

// nftFamily is the name of a family of nftables; empty: it has none.
func nftFamily(number uint8) string {
	switch number {
	case unix.NFPROTO_INET:
		return "inet"
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_ARP:
		return "arp"
	case unix.NFPROTO_NETDEV:
		return "netdev"
	case unix.NFPROTO_BRIDGE:
		return "bridge"
	}
	return ""
}

func (c *Conn) foreignChains(ctx context.Context) ([]netstate.NftName, error) {
	n, err := c.openNft()
	if nftAbsent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer n.drop()
	var out []netstate.NftName
	add := func(get, answer uint16, read func(attrList) (table, chain string)) error {
		err := n.nftListAll(ctx, "names", get, answer, func(family uint8, a attrList) error {
			name := netstate.NftName{Family: nftFamily(family)}
			name.Table, name.Chain = read(a)
			if !(name.Family == "inet" && ownTable(name.Table)) {
				out = append(out, name)
			}
			return nil
		})
		if nftAbsent(err) {
			return nil
		}
		return err
	}
	err = errors.Join(
		add(unix.NFT_MSG_GETTABLE, unix.NFT_MSG_NEWTABLE, func(a attrList) (string, string) { return a.text(unix.NFTA_TABLE_NAME), "" }),
		add(unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_NEWCHAIN, func(a attrList) (string, string) {
			return a.text(unix.NFTA_CHAIN_TABLE), a.text(unix.NFTA_CHAIN_NAME)
		}),
	)
	return out, err
}
