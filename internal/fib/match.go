package fib

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// legacyTOS is INET_DSCP_LEGACY_TOS_MASK: the bits of the DS field that IPv4's
// TOS selectors of rules and routes look at.
const legacyTOS = 0x1c

// selects returns "" where all selectors fit that viarule knows, else the name
// of one that does not. It leaves not aside, and is fib_rule_match with
// fib4_rule_match and fib6_rule_match.
func (w *walk) selects(r *rule) string {
	if r.has&beforeFrom != 0 {
		if failed := w.selectsBefore(r); failed != "" {
			return failed
		}
	}
	if w.src.and(r.fromMask) != r.from {
		return "from"
	}
	if r.has&behindFrom != 0 {
		return w.selectsBehind(r)
	}
	return ""
}

// selectsBefore looks at the selectors that the kernel looks at before from.
func (w *walk) selectsBefore(r *rule) string {
	f := &w.flow
	switch {
	case r.has&hasIIF != 0 && !w.link(r.iif, w.in):
		return "iif"
	case r.has&hasOIF != 0 && !w.link(r.oif, w.out):
		return "oif"
	case (r.Mark.Value^f.Mark)&r.Mark.Mask != 0:
		return "fwmark"
	case r.TunID != 0 && r.TunID != f.TunID:
		return "tun_id"
	case r.L3MDev && !w.inVRF():
		return "l3mdev"
	case r.UID.Set && (f.UID < r.UID.Lo || f.UID > r.UID.Hi):
		return "uidrange"
	}
	return ""
}

// selectsBehind looks at the selectors that the kernel looks at after from.
func (w *walk) selectsBehind(r *rule) string {
	f := &w.flow
	switch {
	case w.dst.and(r.toMask) != r.to:
		return "to"
	case r.has&needsFrom != 0 && !f.From.IsValid():
		// IPv6 without a source: no prefix fits, not even one that holds ::.
		return "from"
	case r.DSCP.Set && r.DSCP.Val != uint32(f.TOS>>2):
		return "dscp"
	case r.TOS != 0 && r.TOS != w.tos():
		return "tos"
	case r.Proto != 0 && r.Proto != f.Proto:
		return "ipproto"
	case !inRange(r.SPort, f.SPort):
		return "sport"
	case !inRange(r.DPort, f.DPort):
		return "dport"
	}
	return ""
}

// link compares a rule's link with the packet's. A VRF stands for all of its
// ports.
func (w *walk) link(rule, packet *link) bool {
	if rule.isVRF() {
		return w.vrf == rule
	}
	return rule == packet
}

// tos is the part of the DS field that TOS selectors of rules see.
func (w *walk) tos() uint8 {
	if w.family == netstate.IPv6 {
		return w.flow.TOS &^ 3
	}
	return w.flow.TOS & legacyTOS
}

func inRange(r netstate.PortRange, p uint16) bool {
	return r == netstate.PortRange{} || r.Lo <= p && p <= r.Hi
}

// usesUnknown names the attributes of an Unknown field.
func usesUnknown(u string) string {
	types := attributeTypes(u)
	if len(types) == 0 {
		return "uses attributes that cannot be read"
	}
	s := make([]string, len(types))
	for i, t := range types {
		s[i] = fmt.Sprint(t)
	}
	word := "attribute "
	if len(s) > 1 {
		word = "attributes "
	}
	return "uses " + word + strings.Join(s, ", ")
}

// attributeTypes reads the types out of a run of netlink attributes.
func attributeTypes(u string) []uint16 {
	var types []uint16
	for b := []byte(u); len(b) >= 4; {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 {
			break
		}
		types = append(types, binary.NativeEndian.Uint16(b[2:])&0x3fff) // NLA_TYPE_MASK
		b = b[min((n+3)&^3, len(b)):]
	}
	return types
}

// harmless are attributes of a route (RTA_* of linux/rtnetlink.h) that do not
// change which way a packet goes: CACHEINFO, METRICS, EXPIRES, TTL_PROPAGATE.
var harmless = [...]uint16{12, 8, 23, 26}

// obstacle names the attributes of a chosen route or hop that keep us from
// knowing where packets go, "" where there are none.
func obstacle(unknown string) string {
	if unknown == "" {
		return ""
	}
	types := attributeTypes(unknown)
	for _, t := range types {
		known := false
		for _, h := range harmless {
			known = known || t == h
		}
		if !known {
			return usesUnknown(unknown)
		}
	}
	if len(types) == 0 {
		return usesUnknown(unknown)
	}
	return ""
}
