package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// struct fib_rule_hdr and the rule attributes, as linux/fib_rules.h has them.
const (
	ruleHeader = 12

	fraGoto       = 4
	fraDSCP       = 25                   // Linux 6.12
	fraFlowLabel  = 26                   // 6.13
	fraSPortMask  = 28                   // 6.15
	fraDPortMask  = 29                   // 6.15
	fraDSCPMask   = 30                   // 6.15
	fraLastInLTS  = unix.FRA_DPORT_RANGE // the newest that 5.10 knows
	noLimit       = 0xffffffff           // FRA_SUPPRESS_*: not set
	fullPortMask  = 0xffff
	fullDSCPMask  = 0x3f
	ruleInvert    = 0x2
	compatMaximum = 255 // tables above do not fit a header
)

// ignoredRuleFlags are FIB_RULE_UNRESOLVED, _IIF_DETACHED and _OIF_DETACHED: the
// kernel sets them from the rules and links that there are.
const ignoredRuleFlags = 0x4 | 0x8 | 0x10

// decodeRule reads the body of RTM_NEWRULE. The table of a rule that does not
// look into one is dropped: the kernel stores it and never reads it
// (fib_rules_lookup), and some programs fill it in, some do not.
func (d *decoder) decodeRule(r *netstate.Rule, b []byte) error {
	if len(b) < ruleHeader {
		return fmt.Errorf("rule: %w", errShort)
	}
	family, dstLen, srcLen := b[0], b[1], b[2]
	flags := native.Uint32(b[8:])
	*r = netstate.Rule{
		Family: netstate.Family(family),
		TOS:    b[3],
		Table:  uint32(b[4]),
		Action: netstate.Action(b[7]),
		Not:    flags&ruleInvert != 0,
	}
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return fmt.Errorf("rule of family %d", family)
	}
	var (
		left      unknown
		from, to  netip.Addr
		mark      uint32
		mask      uint32
		markAttr  attr
		maskAttr  attr
		gotoAttr  attr
		size      = addrSize(family)
		portMasks [2]attr // looked at when the ranges are known
		dscpMask  attr
	)
	left.header(flags &^ (ruleInvert | ignoredRuleFlags))
	for rest := b[ruleHeader:]; ; {
		a, r2, ok, err := next(rest)
		if err != nil {
			return fmt.Errorf("rule: %w", err)
		}
		if !ok {
			break
		}
		rest = r2
		known := true
		switch a.typ {
		case unix.FRA_DST:
			known = a.addr(&to, size)
		case unix.FRA_SRC:
			known = a.addr(&from, size)
		case unix.FRA_IIFNAME:
			r.IIF = d.word(a.text())
		case unix.FRA_OIFNAME:
			r.OIF = d.word(a.text())
		case fraGoto:
			if known = a.u32(&r.Goto); known {
				gotoAttr = a
			}
		case unix.FRA_PRIORITY:
			known = a.u32(&r.Priority)
		case unix.FRA_FWMARK:
			if known = a.u32(&mark); known {
				markAttr = a
			}
		case unix.FRA_FWMASK:
			if known = a.u32(&mask); known {
				maskAttr = a
			}
		case unix.FRA_FLOW:
			known = a.u32(&r.Realms)
		case unix.FRA_TUN_ID:
			if known = len(a.data()) == 8; known {
				r.TunID = binary.BigEndian.Uint64(a.data())
			}
		case unix.FRA_SUPPRESS_IFGROUP:
			known = optional(a, &r.SuppressIfGroup)
		case unix.FRA_SUPPRESS_PREFIXLEN:
			known = optional(a, &r.SuppressPrefixLength)
		case unix.FRA_TABLE:
			known = a.u32(&r.Table)
		case unix.FRA_PAD: // aligns the next one, holds nothing
		case unix.FRA_L3MDEV:
			var v uint8
			if known = a.u8(&v) && v == 1; known {
				r.L3MDev = true
			}
		case unix.FRA_UID_RANGE:
			if known = len(a.data()) == 8; known {
				r.UID = netstate.UIDRange{Set: true, Lo: native.Uint32(a.data()), Hi: native.Uint32(a.data()[4:])}
			}
		case unix.FRA_PROTOCOL:
			known = a.u8(&r.Protocol)
		case unix.FRA_IP_PROTO:
			known = a.u8(&r.Proto)
		case unix.FRA_SPORT_RANGE:
			known = portRange(a, &r.SPort)
		case unix.FRA_DPORT_RANGE:
			known = portRange(a, &r.DPort)
		case fraDSCP:
			var v uint8
			if known = a.u8(&v); known {
				r.DSCP = netstate.Some(uint32(v))
			}
		case fraSPortMask:
			portMasks[0] = a
		case fraDPortMask:
			portMasks[1] = a
		case fraDSCPMask:
			dscpMask = a
		default:
			known = false
		}
		if !known {
			left.add(a)
		}
	}
	var err error
	if srcLen != 0 {
		if r.From, err = prefix(from, srcLen, family); err != nil {
			return fmt.Errorf("rule: %w", err)
		}
	}
	if dstLen != 0 {
		if r.To, err = prefix(to, dstLen, family); err != nil {
			return fmt.Errorf("rule: %w", err)
		}
	}
	switch {
	case mark != 0 && maskAttr.raw == nil:
		r.Mark = netstate.Mark{Value: mark, Mask: noLimit}
	case mark != 0 && mask == 0:
		// Selects everything. Mark has no such value: a zero mask means a full one.
		left.add(markAttr)
		left.add(maskAttr)
	default:
		r.Mark = netstate.Mark{Value: mark, Mask: mask}
	}
	if r.Action != netstate.Goto && gotoAttr.raw != nil {
		r.Goto = 0
		left.add(gotoAttr)
	}
	if r.Action != netstate.ToTable {
		r.Table = 0
	}
	// Since 6.15 the kernel tells the masks of every port and DSCP. The full mask
	// is what leaving it out means.
	for i, p := range []netstate.PortRange{r.SPort, r.DPort} {
		var v uint16
		if m := portMasks[i]; m.raw != nil && !(m.u16(&v) && v == fullPortMask && p.Lo == p.Hi && p.Lo != 0) {
			left.add(m)
		}
	}
	var v uint8
	if dscpMask.raw != nil && !(dscpMask.u8(&v) && v == fullDSCPMask && r.DSCP.Set) {
		left.add(dscpMask)
	}
	r.Unknown = left.String()
	return nil
}

func optional(a attr, v *netstate.Opt) bool {
	var n uint32
	if !a.u32(&n) {
		return false
	}
	*v = netstate.Opt{}
	if n != noLimit {
		*v = netstate.Some(n)
	}
	return true
}

func portRange(a attr, v *netstate.PortRange) bool {
	if len(a.data()) != 4 {
		return false
	}
	*v = netstate.PortRange{Lo: native.Uint16(a.data()), Hi: native.Uint16(a.data()[2:])}
	return true
}

// appendRule appends the body of RTM_NEWRULE or RTM_DELRULE with every attribute
// of r, the protocol included: a delete takes what is absent for a wildcard.
func appendRule(b []byte, r *netstate.Rule) ([]byte, error) {
	family := uint8(r.Family)
	if r.Family != netstate.IPv4 && r.Family != netstate.IPv6 {
		return b, fmt.Errorf("rule of family %d: %w", family, unix.EAFNOSUPPORT)
	}
	if r.Action == netstate.ToTable && r.Table == 0 && !r.L3MDev {
		return b, fmt.Errorf("a look-up needs a table: %w", unix.EINVAL) // IPv4 would pick an empty one
	}
	if err := checkFamily("from", r.From.Addr(), family); err != nil {
		return b, err
	}
	if err := checkFamily("to", r.To.Addr(), family); err != nil {
		return b, err
	}
	for _, name := range []string{r.IIF, r.OIF} {
		if len(name) >= unix.IFNAMSIZ {
			return b, fmt.Errorf("link name %q is longer than %d bytes: %w", name, unix.IFNAMSIZ-1, unix.EINVAL)
		}
	}
	left, header, err := parseUnknown(r.Unknown)
	if err != nil {
		return b, fmt.Errorf("rule: %w", err)
	}
	if r.Not {
		header |= ruleInvert
	}
	var table uint8 // RT_TABLE_UNSPEC: see FRA_TABLE
	if r.Table <= compatMaximum {
		table = uint8(r.Table)
	}
	b = append(b, family, length(r.To), length(r.From), r.TOS, table, 0, 0, uint8(r.Action))
	b = native.AppendUint32(b, header)
	if length(r.To) != 0 {
		b = putAddr(b, unix.FRA_DST, r.To.Addr())
	}
	if length(r.From) != 0 {
		b = putAddr(b, unix.FRA_SRC, r.From.Addr())
	}
	if r.IIF != "" {
		b = putString(b, unix.FRA_IIFNAME, r.IIF)
	}
	if r.OIF != "" {
		b = putString(b, unix.FRA_OIFNAME, r.OIF)
	}
	// Always sent: without one, a kernel picks a free priority for a new rule.
	b = putU32(b, unix.FRA_PRIORITY, r.Priority)
	if r.Action == netstate.Goto {
		b = putU32(b, fraGoto, r.Goto)
	}
	if r.Table > compatMaximum {
		b = putU32(b, unix.FRA_TABLE, r.Table)
	}
	if r.Mark != (netstate.Mark{}) {
		mask := r.Mark.Mask
		if mask == 0 {
			mask = noLimit
		}
		b = putU32(b, unix.FRA_FWMARK, r.Mark.Value)
		b = putU32(b, unix.FRA_FWMASK, mask)
	}
	if r.Realms != 0 {
		b = putU32(b, unix.FRA_FLOW, r.Realms)
	}
	if r.TunID != 0 {
		b = binary.BigEndian.AppendUint64(putHeader(b, unix.FRA_TUN_ID, 8), r.TunID)
	}
	if r.SuppressIfGroup.Set {
		b = putU32(b, unix.FRA_SUPPRESS_IFGROUP, r.SuppressIfGroup.Val)
	}
	if r.SuppressPrefixLength.Set {
		b = putU32(b, unix.FRA_SUPPRESS_PREFIXLEN, r.SuppressPrefixLength.Val)
	}
	if r.L3MDev {
		b = putU8(b, unix.FRA_L3MDEV, 1)
	}
	if r.UID.Set {
		b = putHeader(b, unix.FRA_UID_RANGE, 8)
		b = native.AppendUint32(native.AppendUint32(b, r.UID.Lo), r.UID.Hi)
	}
	if r.Proto != 0 {
		b = putU8(b, unix.FRA_IP_PROTO, r.Proto)
	}
	b = putPorts(b, unix.FRA_SPORT_RANGE, r.SPort)
	b = putPorts(b, unix.FRA_DPORT_RANGE, r.DPort)
	if r.DSCP.Set {
		if r.DSCP.Val > 0xff {
			return b, fmt.Errorf("DSCP %d: %w", r.DSCP.Val, unix.ERANGE)
		}
		b = putU8(b, fraDSCP, uint8(r.DSCP.Val))
	}
	b = putU8(b, unix.FRA_PROTOCOL, r.Protocol)
	return left.append(b), nil
}

func putPorts(b []byte, typ uint16, p netstate.PortRange) []byte {
	if p == (netstate.PortRange{}) {
		return b
	}
	return native.AppendUint16(native.AppendUint16(putHeader(b, typ, 4), p.Lo), p.Hi)
}

// length is a prefix's length as headers have it; 0 for the zero Prefix.
func length(p netip.Prefix) uint8 {
	if !p.IsValid() {
		return 0
	}
	return uint8(p.Bits())
}
