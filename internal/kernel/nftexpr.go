package kernel

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// The expressions of nftables (include/uapi/linux/netfilter/nf_tables.h). All
// numbers in their attributes are in network byte order; what registers hold, and
// so what they are compared with, is in the order of the header field or, for
// marks, in the host's.
const (
	nftMetaMark    = unix.NFT_META_MARK
	nftMetaIIFName = unix.NFT_META_IIFNAME
	nftMetaOIFName = unix.NFT_META_OIFNAME
	nftMetaNFProto = unix.NFT_META_NFPROTO
	// nftMetaProtocol is that of the frame, as Ethernet has it.
	nftMetaProtocol = unix.NFT_META_PROTOCOL
	nftCtDirection  = unix.NFT_CT_DIRECTION
	nftCtMark       = unix.NFT_CT_MARK
	// NFT_CT_DST_IP and NFT_CT_DST_IP6 (Linux 4.17) say the family that they are
	// of, which NFT_CT_DST in a table inet cannot.
	nftCtDstIP  = 20
	nftCtDstIP6 = 22

	nftRegister = unix.NFT_REG_1

	nftFibMissing = unix.NFTA_FIB_F_SADDR | unix.NFTA_FIB_F_MARK | unix.NFTA_FIB_F_IIF | unix.NFTA_FIB_F_PRESENT
)

// Offsets of the addresses in the two headers.
const (
	offsetSrc4 = 12
	offsetDst4 = 16
	offsetSrc6 = 8
	offsetDst6 = 24
	// offsetARPSender is where ARP over Ethernet has the sender's address of IPv4 (RFC 826).
	offsetARPSender = 14
)

// expression is one expression of a rule.
type expression struct {
	name string
	data []byte // its attributes
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func putBE(b []byte, typ uint16, v uint32) []byte { return put(b, typ, be32(v)) }

// nested is the type of an attribute that holds others.
func nested(typ uint16) uint16 { return typ | unix.NLA_F_NESTED }

// value appends an attribute with a struct of NFTA_DATA_VALUE in it.
func putValue(b []byte, typ uint16, v []byte) []byte {
	return nest(b, nested(typ), func(b []byte) []byte { return put(b, unix.NFTA_DATA_VALUE, v) })
}

func metaLoad(key uint32) expression {
	return expression{"meta", putBE(putBE(nil, unix.NFTA_META_DREG, nftRegister), unix.NFTA_META_KEY, key)}
}

func metaSet(key uint32) expression {
	return expression{"meta", putBE(putBE(nil, unix.NFTA_META_KEY, key), unix.NFTA_META_SREG, nftRegister)}
}

func ctLoad(key uint32) expression {
	return expression{"ct", putBE(putBE(nil, unix.NFTA_CT_DREG, nftRegister), unix.NFTA_CT_KEY, key)}
}

func ctSet(key uint32) expression {
	return expression{"ct", putBE(putBE(nil, unix.NFTA_CT_KEY, key), unix.NFTA_CT_SREG, nftRegister)}
}

// ctOriginal loads an address of a connection's first packet.
func ctOriginal(key uint32) expression {
	e := ctLoad(key)
	e.data = putU8(e.data, unix.NFTA_CT_DIRECTION, 0) // IP_CT_DIR_ORIGINAL
	return e
}

func compare(op uint32, v []byte) expression {
	b := putBE(putBE(nil, unix.NFTA_CMP_SREG, nftRegister), unix.NFTA_CMP_OP, op)
	return expression{"cmp", putValue(b, unix.NFTA_CMP_DATA, v)}
}

func bitwise(mask, xor uint32) expression {
	return bitwiseBytes(native.AppendUint32(nil, mask), native.AppendUint32(nil, xor))
}

func bitwiseBytes(mask, xor []byte) expression {
	b := putBE(putBE(putBE(nil, unix.NFTA_BITWISE_SREG, nftRegister), unix.NFTA_BITWISE_DREG, nftRegister), unix.NFTA_BITWISE_LEN, uint32(len(mask)))
	b = putValue(b, unix.NFTA_BITWISE_MASK, mask)
	return expression{"bitwise", putValue(b, unix.NFTA_BITWISE_XOR, xor)}
}

// inPrefix compares the destination address.
func inPrefix(p netip.Prefix) []expression {
	if !p.IsValid() {
		return nil
	}
	addr := p.Masked().Addr().AsSlice()
	mask := make([]byte, len(addr))
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	f := netstate.FamilyOf(p.Addr())
	return []expression{metaLoad(nftMetaNFProto), compare(unix.NFT_CMP_EQ, []byte{uint8(f)}), dstAddr(f), bitwiseBytes(mask, make([]byte, len(addr))), compare(unix.NFT_CMP_EQ, addr)}
}

// etherAddr compares an address of a packet of a protocol of Ethernet: the family netdev sees
// all of them.
func etherAddr(protocol uint16, offset uint32, a netip.Addr) []expression {
	return []expression{metaLoad(nftMetaProtocol), compare(unix.NFT_CMP_EQ, binary.BigEndian.AppendUint16(nil, protocol)),
		payload(offset, uint32(a.BitLen()/8)), compare(unix.NFT_CMP_EQ, a.AsSlice())}
}

func dstAddr(f netstate.Family) expression {
	if f == netstate.IPv4 {
		return payload(offsetDst4, 4)
	}
	return payload(offsetDst6, 16)
}

func payload(offset, size uint32) expression {
	b := putBE(putBE(nil, unix.NFTA_PAYLOAD_DREG, nftRegister), unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER)
	return expression{"payload", putBE(putBE(b, unix.NFTA_PAYLOAD_OFFSET, offset), unix.NFTA_PAYLOAD_LEN, size)}
}

// lookup finds a verdict in a map.
func lookup(name string) expression {
	b := putString(nil, unix.NFTA_LOOKUP_SET, name)
	return expression{"lookup", putBE(putBE(b, unix.NFTA_LOOKUP_SREG, nftRegister), unix.NFTA_LOOKUP_DREG, unix.NFT_REG_VERDICT)}
}

// fibNone is what fib gives where there is no route: 32 bits, as nft compares it. One byte
// would do for the kernel, but nft prints that as missing/8, which it does not read.
var fibNone = be32(0)

func fib(flags uint32) expression {
	b := putBE(putBE(nil, unix.NFTA_FIB_DREG, nftRegister), unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_OIF)
	return expression{"fib", putBE(b, unix.NFTA_FIB_FLAGS, flags)}
}

// verdict ends a rule; chain is empty but for jumps.
func verdict(code int32, chain string) expression {
	b := putBE(nil, unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
	return expression{"immediate", nest(b, nested(unix.NFTA_IMMEDIATE_DATA), func(b []byte) []byte { return putVerdict(b, code, chain) })}
}

func putVerdict(b []byte, code int32, chain string) []byte {
	return nest(b, nested(unix.NFTA_DATA_VERDICT), func(b []byte) []byte {
		b = putBE(b, unix.NFTA_VERDICT_CODE, uint32(code))
		if chain != "" {
			b = putString(b, unix.NFTA_VERDICT_CHAIN, chain)
		}
		return b
	})
}

// linkWord is a link's name as nftables compares it.
func linkWord(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// expressions gives what a statement is to the kernel; nil for one that it cannot
// be told.
func expressions(s *netstate.NftStmt) []expression {
	v4 := s.Family == netstate.IPv4
	proto := compare(unix.NFT_CMP_EQ, []byte{uint8(s.Family)}) // NFPROTO_IPV4 and _IPV6 are AF_INET and _INET6
	mark := func(load expression, op uint32) []expression {
		return []expression{load, bitwise(s.Mark.Mask, 0), compare(op, native.AppendUint32(nil, s.Mark.Value))}
	}
	set := bitwise(^s.Mark.Mask, s.Mark.Value)
	switch s.Op {
	case netstate.NftIIFName:
		return []expression{metaLoad(nftMetaIIFName), compare(unix.NFT_CMP_EQ, linkWord(s.Link))}
	case netstate.NftNotIIF:
		return []expression{metaLoad(nftMetaIIFName), compare(unix.NFT_CMP_NEQ, linkWord(s.Link))}
	case netstate.NftOIFName:
		return []expression{metaLoad(nftMetaOIFName), compare(unix.NFT_CMP_EQ, linkWord(s.Link))}
	case netstate.NftNotOIF:
		return []expression{metaLoad(nftMetaOIFName), compare(unix.NFT_CMP_NEQ, linkWord(s.Link))}
	case netstate.NftIIFPrefix:
		return []expression{metaLoad(nftMetaIIFName), compare(unix.NFT_CMP_EQ, []byte(s.Link))}
	case netstate.NftOIFPrefix:
		return []expression{metaLoad(nftMetaOIFName), compare(unix.NFT_CMP_EQ, []byte(s.Link))}
	case netstate.NftIIFMap:
		return []expression{metaLoad(nftMetaIIFName), lookup(s.Name)}
	case netstate.NftDAddr:
		return inPrefix(s.Prefix)
	case netstate.NftSAddr:
		if a := s.Prefix.Addr(); a.Is4() {
			return etherAddr(unix.ETH_P_IP, offsetSrc4, a)
		} else if a.Is6() {
			return etherAddr(unix.ETH_P_IPV6, offsetSrc6, a)
		}
	case netstate.NftARPSAddr:
		if a := s.Prefix.Addr(); a.Is4() {
			return etherAddr(unix.ETH_P_ARP, offsetARPSender, a)
		}
	case netstate.NftDAddrMap:
		return []expression{metaLoad(nftMetaNFProto), proto, dstAddr(s.Family), lookup(s.Name)}
	case netstate.NftSAddrMap:
		addr := payload(offsetSrc6, 16)
		if v4 {
			addr = payload(offsetSrc4, 4)
		}
		return []expression{metaLoad(nftMetaNFProto), proto, addr, lookup(s.Name)}
	case netstate.NftOrigMap:
		if v4 {
			return []expression{ctOriginal(nftCtDstIP), lookup(s.Name)}
		}
		return []expression{ctOriginal(nftCtDstIP6), lookup(s.Name)}
	case netstate.NftOriginal:
		return []expression{ctLoad(nftCtDirection), compare(unix.NFT_CMP_EQ, []byte{0})}
	case netstate.NftReply:
		return []expression{ctLoad(nftCtDirection), compare(unix.NFT_CMP_EQ, []byte{1})}
	case netstate.NftIfCtMark:
		return mark(ctLoad(nftCtMark), unix.NFT_CMP_EQ)
	case netstate.NftIfNotCtMark:
		return mark(ctLoad(nftCtMark), unix.NFT_CMP_NEQ)
	case netstate.NftIfMark:
		return mark(metaLoad(nftMetaMark), unix.NFT_CMP_EQ)
	case netstate.NftIfNotMark:
		return mark(metaLoad(nftMetaMark), unix.NFT_CMP_NEQ)
	case netstate.NftSetCtMark:
		return []expression{ctLoad(nftCtMark), set, ctSet(nftCtMark)}
	case netstate.NftSetMark:
		return []expression{metaLoad(nftMetaMark), set, metaSet(nftMetaMark)}
	case netstate.NftFibMissing:
		check := []expression{fib(nftFibMissing), compare(unix.NFT_CMP_EQ, fibNone)}
		if s.Family != 0 {
			check = append([]expression{metaLoad(nftMetaNFProto), proto}, check...)
		}
		return check
	case netstate.NftMasquerade:
		return []expression{{"masq", nil}}
	case netstate.NftJump:
		return []expression{verdict(unix.NFT_JUMP, s.Name)}
	case netstate.NftReturn:
		return []expression{verdict(unix.NFT_RETURN, "")}
	case netstate.NftDrop:
		return []expression{verdict(nfDrop, "")}
	case netstate.NftAccept:
		return []expression{verdict(nfAccept, "")}
	case netstate.NftGoto:
		return []expression{verdict(unix.NFT_GOTO, s.Name)}
	}
	return nil
}

const nfDrop = 0 // NF_DROP

// decodeStmt reads the statement that a rule's expressions begin with, and says
// how many it took. Whatever is not just what viarule writes is NftUnknown.
func decodeStmt(e []expression) (netstate.NftStmt, int) {
	for n := min(len(e), maxExpressions); n > 0; n-- {
		guess := guessStmt(e[:n])
		want := expressions(&guess)
		if len(want) == n && sameExpressions(want, e[:n]) {
			return guess, n
		}
	}
	return netstate.NftStmt{Unknown: e[0].name + "\x00" + string(e[0].data)}, 1
}

// maxExpressions is the most that a statement has.
const maxExpressions = 5

// guessStmt gives the statement that n expressions would be if they were one of
// ours; decodeStmt proves it by writing it again. So each value is read where it
// would stand, and nothing else is looked at.
func guessStmt(e []expression) netstate.NftStmt {
	first, last := readAttrs(e[0].data), readAttrs(e[len(e)-1].data)
	var s netstate.NftStmt
	key := first.be(unix.NFTA_META_KEY)
	switch {
	case e[0].name == "immediate":
		s, _ = foreignVerdict(readAttrs(readAttrs(first.get(unix.NFTA_IMMEDIATE_DATA)).get(unix.NFTA_DATA_VERDICT)))
	case e[0].name == "masq":
		s.Op = netstate.NftMasquerade
	case e[0].name == "fib":
		s.Op = netstate.NftFibMissing
	case e[0].name == "meta" && key == nftMetaIIFName && e[len(e)-1].name == "lookup":
		s.Op, s.Name = netstate.NftIIFMap, last.text(unix.NFTA_LOOKUP_SET)
	case e[0].name == "meta" && (key == nftMetaIIFName || key == nftMetaOIFName):
		s, _ = foreignLink(first, last)
	case e[0].name == "meta" && key == nftMetaProtocol && len(e) == 4:
		s.Op = netstate.NftSAddr
		if readAttrs(e[2].data).be(unix.NFTA_PAYLOAD_OFFSET) == offsetARPSender {
			s.Op = netstate.NftARPSAddr
		}
		if addr, ok := netip.AddrFromSlice(last.value(unix.NFTA_CMP_DATA)); ok {
			s.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
	case e[0].name == "meta" && key == nftMetaNFProto && len(e) == 4:
		if v := readAttrs(e[1].data).value(unix.NFTA_CMP_DATA); len(v) == 1 {
			s.Family = netstate.Family(v[0])
		}
		if s.Op = netstate.NftFibMissing; e[3].name == "lookup" {
			s.Op, s.Name = netstate.NftDAddrMap, last.text(unix.NFTA_LOOKUP_SET)
			if at := readAttrs(e[2].data).be(unix.NFTA_PAYLOAD_OFFSET); at == offsetSrc4 || at == offsetSrc6 {
				s.Op = netstate.NftSAddrMap
			}
		}
	case e[0].name == "meta" && key == nftMetaNFProto && len(e) == maxExpressions:
		s.Op = netstate.NftDAddr
		if addr, ok := netip.AddrFromSlice(last.value(unix.NFTA_CMP_DATA)); ok {
			ones := 0
			for _, m := range readAttrs(e[3].data).value(unix.NFTA_BITWISE_MASK) {
				ones += bits.OnesCount8(m)
			}
			s.Prefix = netip.PrefixFrom(addr, min(ones, addr.BitLen()))
		}
	case e[0].name == "ct" && key == nftCtDirection:
		if s.Op = netstate.NftOriginal; bytes.Equal(last.value(unix.NFTA_CMP_DATA), []byte{1}) {
			s.Op = netstate.NftReply
		}
	case e[0].name == "ct" && (key == nftCtDstIP || key == nftCtDstIP6):
		s.Op, s.Family, s.Name = netstate.NftOrigMap, netstate.IPv4, last.text(unix.NFTA_LOOKUP_SET)
		if key == nftCtDstIP6 {
			s.Family = netstate.IPv6
		}
	case len(e) == 3:
		s = guessMark(e[0].name == "ct", readAttrs(e[1].data), e[2].name, last)
	}
	return s
}

// guessMark reads a statement about a mark.
func guessMark(ct bool, bits attrList, name string, last attrList) netstate.NftStmt {
	var s netstate.NftStmt
	s.Mark.Mask = native32(bits.value(unix.NFTA_BITWISE_MASK))
	switch {
	case name != "cmp":
		s.Op = netstate.NftSetMark
		s.Mark = netstate.Mark{Value: native32(bits.value(unix.NFTA_BITWISE_XOR)), Mask: ^s.Mark.Mask}
	case last.be(unix.NFTA_CMP_OP) == unix.NFT_CMP_NEQ:
		s.Op = netstate.NftIfNotMark
	default:
		s.Op = netstate.NftIfMark
	}
	if name == "cmp" {
		s.Mark.Value = native32(last.value(unix.NFTA_CMP_DATA))
	}
	if ct {
		s.Op = map[netstate.NftOp]netstate.NftOp{
			netstate.NftSetMark: netstate.NftSetCtMark, netstate.NftIfMark: netstate.NftIfCtMark, netstate.NftIfNotMark: netstate.NftIfNotCtMark,
		}[s.Op]
	}
	return s
}

// sameExpressions compares what viarule would write with what the kernel says.
// The kernel adds attributes that have their default: those of ours must all be
// there, and the others must be among the harmless ones.
func sameExpressions(ours, theirs []expression) bool {
	for i := range ours {
		if ours[i].name != theirs[i].name || !sameAttrs(ours[i].name, readAttrs(ours[i].data), readAttrs(theirs[i].data)) {
			return false
		}
	}
	return true
}

func sameAttrs(name string, ours, theirs attrList) bool {
	for _, a := range theirs {
		mine := ours.get(a.typ)
		switch {
		case bytes.Equal(mine, a.data()):
		case mine == nil && isDefault(name, a):
		case mine != nil && holdsAttrs(name, a.typ) && sameAttrs(name+".", readAttrs(mine), readAttrs(a.data())):
		default:
			return false
		}
	}
	for _, a := range ours {
		if theirs.get(a.typ) == nil {
			return false
		}
	}
	return true
}

// holdsAttrs says whether an attribute of an expression holds others: the flag
// that says so is not always set by the kernel.
func holdsAttrs(name string, typ uint16) bool {
	switch name {
	case "cmp":
		return typ == unix.NFTA_CMP_DATA
	case "bitwise":
		return typ == unix.NFTA_BITWISE_MASK || typ == unix.NFTA_BITWISE_XOR
	case "immediate":
		return typ == unix.NFTA_IMMEDIATE_DATA
	case "immediate.":
		return typ == unix.NFTA_DATA_VERDICT
	}
	return false
}

// isDefault knows the attributes that the kernel adds, with the values that they
// have where nobody sets them.
func isDefault(name string, a attr) bool {
	zero := bytes.Equal(a.data(), be32(0))
	switch name {
	case "bitwise":
		return a.typ == nftaBitwiseOp && zero // NFT_BITWISE_MASK_XOR
	case "lookup":
		return a.typ == unix.NFTA_LOOKUP_FLAGS && zero
	}
	return false
}

const nftaBitwiseOp = 6 // NFTA_BITWISE_OP, Linux 5.6

// attrList is a run of attributes.
type attrList []attr

// readAttrs splits b; what is not well formed is no attribute.
func readAttrs(b []byte) attrList {
	list, err := parseAttrs(b)
	if err != nil {
		return nil
	}
	return attrList(list)
}

// get gives the payload of an attribute, nil where there is none.
func (l attrList) get(typ uint16) []byte {
	for _, a := range l {
		if a.typ == typ {
			return a.data()
		}
	}
	return nil
}

func (l attrList) be(typ uint16) uint32 {
	if b := l.get(typ); len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (l attrList) text(typ uint16) string {
	b, _, _ := bytes.Cut(l.get(typ), []byte{0})
	return string(b)
}

func (l attrList) value(typ uint16) []byte { return readAttrs(l.get(typ)).get(unix.NFTA_DATA_VALUE) }

func native32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return native.Uint32(b)
}
