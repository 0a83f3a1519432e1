package kernel

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// What others write is read more freely than what viarule writes (decodeStmt): a
// counter more changes nothing, iptables-nft compares names in fewer bytes than nft,
// and nobody will write such a rule again.

// NFTA_MATCH_* and NFTA_TARGET_*: iptables' own matches and targets in nftables.
const (
	nftaCompatName = 1
	nftaCompatRev  = 2
	nftaCompatInfo = 3
)

// udataComment is NFTNL_UDATA_RULE_COMMENT: what nft keeps in a rule's user data.
const udataComment = 0

// decodeForeignRule reads a rule of somebody else's. What decides nothing is left out;
// statements that are not known go by the names of their expressions.
func decodeForeignRule(a attrList) netstate.ForwardRule {
	r := netstate.ForwardRule{Comment: userComment(a.get(unix.NFTA_RULE_USERDATA))}
	var list []expression
	for _, e := range readAttrs(a.get(unix.NFTA_RULE_EXPRESSIONS)) {
		attrs := readAttrs(e.data())
		x := expression{attrs.text(unix.NFTA_EXPR_NAME), attrs.get(unix.NFTA_EXPR_DATA)}
		switch kind := compatName(x); {
		case x.name == "counter", x.name == "log", kind == "target LOG", kind == "target NFLOG":
		case kind == "match comment":
			if info := readAttrs(x.data).get(nftaCompatInfo); r.Comment == "" {
				text, _, _ := bytes.Cut(info, []byte{0})
				r.Comment = string(text)
			}
		default:
			list = append(list, x)
		}
	}
	for len(list) > 0 {
		s, n := foreignStmt(list)
		r.Rule, list = append(r.Rule, s), list[n:]
	}
	return r
}

// compatName names one of iptables' matches and targets, as "match comment"; empty:
// the expression is none.
func compatName(e expression) string {
	if e.name != "match" && e.name != "target" {
		return ""
	}
	return e.name + " " + readAttrs(e.data).text(nftaCompatName)
}

// foreignStmt reads the statement that expressions begin with, and says how many it
// took.
func foreignStmt(e []expression) (netstate.NftStmt, int) {
	unknown := netstate.NftStmt{Unknown: e[0].name + "\x00"}
	if name := compatName(e[0]); name == "target REJECT" {
		return netstate.NftStmt{Op: netstate.NftReject}, 1
	} else if name != "" {
		unknown.Unknown = name + "\x00"
	}
	attrs := readAttrs(e[0].data)
	switch e[0].name {
	case "match":
		if s, ok := compatState(attrs); ok {
			return s, 1
		}
	case "ct":
		if len(e) > 2 && e[1].name == "bitwise" && e[2].name == "cmp" {
			if s, ok := foreignState(attrs, readAttrs(e[1].data), readAttrs(e[2].data)); ok {
				return s, 3
			}
		}
	case "reject":
		return netstate.NftStmt{Op: netstate.NftReject}, 1
	case "immediate":
		if attrs.be(unix.NFTA_IMMEDIATE_DREG) != unix.NFT_REG_VERDICT {
			break
		}
		v := readAttrs(readAttrs(attrs.get(unix.NFTA_IMMEDIATE_DATA)).get(unix.NFTA_DATA_VERDICT))
		if s, ok := foreignVerdict(v); ok {
			return s, 1
		}
	case "meta":
		if len(e) > 1 && e[1].name == "cmp" {
			if s, ok := foreignLink(attrs, readAttrs(e[1].data)); ok {
				return s, 2
			}
		}
	}
	return unknown, 1
}

func foreignVerdict(v attrList) (netstate.NftStmt, bool) {
	s := netstate.NftStmt{}
	if v.get(unix.NFTA_VERDICT_CODE) == nil {
		return s, false
	}
	switch int32(v.be(unix.NFTA_VERDICT_CODE)) {
	case nfAccept:
		s.Op = netstate.NftAccept
	case nfDrop:
		s.Op = netstate.NftDrop
	case unix.NFT_RETURN:
		s.Op = netstate.NftReturn
	case unix.NFT_JUMP:
		s.Op, s.Name = netstate.NftJump, v.text(unix.NFTA_VERDICT_CHAIN)
	case unix.NFT_GOTO:
		s.Op, s.Name = netstate.NftGoto, v.text(unix.NFTA_VERDICT_CHAIN)
	}
	return s, s.Op != netstate.NftUnknown
}

const knownStates = netstate.CtInvalid | netstate.CtEstablished | netstate.CtRelated | netstate.CtNew | netstate.CtUntracked

// foreignState reads `ct state a,b`: the bit of the packet's state is one of some.
func foreignState(ct, bits, cmp attrList) (netstate.NftStmt, bool) {
	register := ct.get(unix.NFTA_CT_DREG)
	mask := native32(bits.value(unix.NFTA_BITWISE_MASK))
	ok := ct.get(unix.NFTA_CT_KEY) != nil && ct.be(unix.NFTA_CT_KEY) == unix.NFT_CT_STATE && ct.get(unix.NFTA_CT_DIRECTION) == nil && register != nil &&
		bytes.Equal(register, bits.get(unix.NFTA_BITWISE_SREG)) && bytes.Equal(register, bits.get(unix.NFTA_BITWISE_DREG)) && bytes.Equal(register, cmp.get(unix.NFTA_CMP_SREG)) &&
		bits.be(nftaBitwiseOp) == 0 && bytes.Equal(bits.value(unix.NFTA_BITWISE_XOR), make([]byte, 4)) && mask != 0 && mask&^knownStates == 0 &&
		cmp.be(unix.NFTA_CMP_OP) == unix.NFT_CMP_NEQ && bytes.Equal(cmp.value(unix.NFTA_CMP_DATA), make([]byte, 4))
	return netstate.NftStmt{Op: netstate.NftCtState, Mark: netstate.Mark{Mask: mask}}, ok
}

// compatState reads iptables' `-m conntrack --ctstate A,B` and nothing more: struct
// xt_conntrack_mtinfo2 and 3 (include/uapi/linux/netfilter/xt_conntrack.h) say in
// match_flags what else is asked. It has nft's bits for the first four states only.
func compatState(match attrList) (netstate.NftStmt, bool) {
	const (
		flags, inverted, states = 146, 148, 150
		byState, alias          = 1, 1 << 13 // XT_CONNTRACK_STATE, and that -m state asked
		common                  = netstate.CtInvalid | netstate.CtEstablished | netstate.CtRelated | netstate.CtNew
	)
	info := match.get(nftaCompatInfo)
	if rev := match.be(nftaCompatRev); match.text(nftaCompatName) != "conntrack" || rev != 2 && rev != 3 || len(info) < states+2 {
		return netstate.NftStmt{}, false
	}
	mask := uint32(native.Uint16(info[states:]))
	ok := native.Uint16(info[flags:])&^alias == byState && native.Uint16(info[inverted:])&^alias == 0 && mask != 0 && mask&^common == 0
	return netstate.NftStmt{Op: netstate.NftCtState, Mark: netstate.Mark{Mask: mask}}, ok
}

// foreignLink reads a comparison with a link's name. A name that ends with a NUL is
// whole; one without is how the name begins (iptables' +, nft's *).
func foreignLink(meta, cmp attrList) (netstate.NftStmt, bool) {
	key := meta.be(unix.NFTA_META_KEY)
	name, op := cmp.value(unix.NFTA_CMP_DATA), cmp.be(unix.NFTA_CMP_OP)
	register := meta.get(unix.NFTA_META_DREG)
	if key != unix.NFT_META_IIFNAME && key != unix.NFT_META_OIFNAME || register == nil || !bytes.Equal(register, cmp.get(unix.NFTA_CMP_SREG)) || len(name) == 0 {
		return netstate.NftStmt{}, false
	}
	whole := name[len(name)-1] == 0
	link := string(bytes.TrimRight(name, "\x00"))
	// Of a name of 16 letters nobody has a link, and a \ before the end reads as an
	// escape in nft's notation.
	if link == "" || len(link) >= unix.IFNAMSIZ || bytes.ContainsAny(name, "\\\n") || bytes.IndexByte([]byte(link), 0) >= 0 {
		return netstate.NftStmt{}, false
	}
	in := key == unix.NFT_META_IIFNAME
	s := netstate.NftStmt{Link: link}
	switch {
	case whole && op == unix.NFT_CMP_EQ && in:
		s.Op = netstate.NftIIFName
	case whole && op == unix.NFT_CMP_EQ:
		s.Op = netstate.NftOIFName
	case whole && op == unix.NFT_CMP_NEQ && in:
		s.Op = netstate.NftNotIIF
	case whole && op == unix.NFT_CMP_NEQ:
		s.Op = netstate.NftNotOIF
	case !whole && op == unix.NFT_CMP_EQ && in:
		s.Op = netstate.NftIIFPrefix
	case !whole && op == unix.NFT_CMP_EQ:
		s.Op = netstate.NftOIFPrefix
	default:
		return netstate.NftStmt{}, false
	}
	return s, true
}

// userComment finds the comment in a rule's user data: a run of type, length and
// bytes. Other programs keep other things there.
func userComment(b []byte) string {
	for len(b) >= 2 {
		typ, n := b[0], int(b[1])
		if len(b) < 2+n {
			break
		}
		if typ == udataComment {
			text, _, _ := bytes.Cut(b[2:2+n], []byte{0})
			return string(text)
		}
		b = b[2+n:]
	}
	return ""
}

// putUserComment is userComment backwards.
func putUserComment(b []byte, comment string) []byte {
	data := append([]byte{udataComment, byte(len(comment) + 1)}, comment...)
	return put(b, unix.NFTA_RULE_USERDATA, append(data, 0))
}
