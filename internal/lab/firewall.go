package lab

import (
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// nftTable is the table of a lab's firewall. viarule's own is called otherwise,
// so that to viarule this is somebody else's.
const nftTable = "lab"

// setFirewall loads the firewall of a host into its namespace, in one
// transaction.
func setFirewall(ns string, f *Firewall) error {
	if f.Forward == nil && len(f.Masquerade) == 0 && len(f.DNAT) == 0 {
		return nil
	}
	fd, err := os.Open(nsPath(ns))
	if err != nil {
		return fmt.Errorf("load the firewall into %s: %w", ns, err)
	}
	defer fd.Close()
	c, err := nftables.New(nftables.WithNetNSFd(int(fd.Fd())))
	if err != nil {
		return fmt.Errorf("load the firewall into %s: %w", ns, err)
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: nftTable})
	if f.Forward != nil {
		addForward(c, t, f.Forward)
	}
	addNAT(c, t, f)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("load the firewall into %s: %w", ns, err)
	}
	return nil
}

// kubeMark is the bit by which kube-proxy knows what it has to masquerade
// (--iptables-masquerade-bit 14). It stays on the packet: who writes another mark
// over it breaks this host.
const kubeMark = 0x4000

// addNAT makes the chains that translate addresses, as kube-proxy does: the
// destination before routing, the source behind it.
func addNAT(c *nftables.Conn, t *nftables.Table, f *Firewall) {
	chain := func(name string, hook *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: prio})
	}
	marked := slices.ContainsFunc(f.DNAT, func(d DNAT) bool { return d.Masquerade })
	if len(f.Masquerade) > 0 || marked {
		post := chain("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
		for _, link := range f.Masquerade {
			add(c, post, linkIs(expr.MetaKeyOIFNAME, link), []expr.Any{&expr.Masq{}})
		}
		if marked {
			add(c, post, markIs(kubeMark), []expr.Any{&expr.Masq{}})
		}
	}
	if len(f.DNAT) > 0 {
		pre := chain("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
		for _, d := range f.DNAT {
			var in []expr.Any
			if d.In != "" {
				in = linkIs(expr.MetaKeyIIFNAME, d.In)
			}
			add(c, pre, in, d.rule())
		}
	}
	if slices.ContainsFunc(f.DNAT, func(d DNAT) bool { return d.Output }) {
		out := chain("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
		for _, d := range f.DNAT {
			if d.Output {
				add(c, out, d.rule())
			}
		}
	}
}

// rule is the entry but for the link.
func (d *DNAT) rule() []expr.Any {
	parts := [][]expr.Any{destinationIs(d.To), portIs(d.Proto, d.Port)}
	if d.Masquerade {
		parts = append(parts, orMark(kubeMark))
	}
	return slices.Concat(append(parts, translate(d))...)
}

// addForward makes the chain
//
//	policy drop; ct state established,related accept; iifname X ct state new accept
func addForward(c *nftables.Conn, t *nftables.Table, f *Forward) {
	drop := nftables.ChainPolicyDrop
	chain := c.AddChain(&nftables.Chain{
		Name: "forward", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	add(c, chain, stateIs(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)
	for _, link := range f.NewFrom {
		add(c, chain, linkIs(expr.MetaKeyIIFNAME, link), stateIs(expr.CtStateBitNEW), accept)
	}
}

func add(c *nftables.Conn, chain *nftables.Chain, parts ...[]expr.Any) {
	r := &nftables.Rule{Table: chain.Table, Chain: chain}
	for _, p := range parts {
		r.Exprs = append(r.Exprs, p...)
	}
	c.AddRule(r)
}

func linkIs(key expr.MetaKey, name string) []expr.Any {
	data := make([]byte, unix.IFNAMSIZ)
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}}
}

func markIs(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// orMark sets bits of the packet's mark and leaves the others.
func orMark(bits uint32) []expr.Any {
	b := binaryutil.NativeEndian.PutUint32
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: b(^bits), Xor: b(bits)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

func stateIs(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// Offsets of the destination address in the two IP headers.
const (
	daddr4 = 16
	daddr6 = 24
)

func destinationIs(a netip.Addr) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(daddr4)
	if a.Is6() {
		family, offset = unix.NFPROTO_IPV6, daddr6
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(a.BitLen() / 8)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()},
	}
}

func portIs(p Proto, port uint16) []expr.Any {
	number := map[Proto]byte{TCP: unix.IPPROTO_TCP, UDP: unix.IPPROTO_UDP}[p]
	if number == 0 {
		return nil
	}
	out := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}}}
	if port != 0 {
		out = append(out,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, // TCP and UDP: destination port
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)})
	}
	return out
}

func translate(d *DNAT) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if d.ToAddr.Is6() {
		family = unix.NFPROTO_IPV6
	}
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1}
	out := []expr.Any{&expr.Immediate{Register: 1, Data: d.ToAddr.AsSlice()}}
	if d.ToPort != 0 {
		nat.RegProtoMin, nat.Specified = 2, true
		out = append(out, &expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(d.ToPort)})
	}
	return append(out, nat)
}
