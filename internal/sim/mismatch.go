package sim

import (
	"fmt"
	"net/netip"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// mismatch says why a selector of a rule does not fit a packet: what it asks for,
// and what the packet has.
func mismatch(r *netstate.Rule, f *fib.Flow, selector string) string {
	has := func(want, packet string) string {
		return fmt.Sprintf("%s %s, the packet has %s", selector, want, packet)
	}
	switch selector {
	case "from":
		return notIn(selector, r.From, f.From)
	case "to":
		return notIn(selector, r.To, f.To)
	case "iif":
		if f.IIF == "" {
			return has(r.IIF, "lo (it is made here)")
		}
		return has(r.IIF, f.IIF)
	case "oif":
		if f.OIF == "" {
			return has(r.OIF, "none (its socket is not bound to a link)")
		}
		return has(r.OIF, f.OIF)
	case "fwmark":
		return has(fmt.Sprintf("0x%x/0x%x", r.Mark.Value, r.Mark.Mask), fmt.Sprintf("0x%x", f.Mark))
	case "ipproto":
		return has(fmt.Sprint(r.Proto), fmt.Sprint(f.Proto))
	case "sport":
		return has(portText(r.SPort), fmt.Sprint(f.SPort))
	case "dport":
		return has(portText(r.DPort), fmt.Sprint(f.DPort))
	case "uidrange":
		return has(fmt.Sprintf("%d-%d", r.UID.Lo, r.UID.Hi), fmt.Sprint(f.UID))
	case "tos":
		return has(fmt.Sprintf("0x%x", r.TOS), fmt.Sprintf("0x%x", f.TOS))
	case "dscp":
		return has(fmt.Sprint(r.DSCP.Val), fmt.Sprint(f.TOS>>2))
	case "tun_id":
		return has(fmt.Sprint(r.TunID), fmt.Sprint(f.TunID))
	case "l3mdev":
		return "l3mdev: the packet is of no VRF"
	}
	return selector
}

func notIn(selector string, p netip.Prefix, a netip.Addr) string {
	if !a.IsValid() {
		return fmt.Sprintf("%s %s, the packet has no address yet", selector, p)
	}
	return fmt.Sprintf("%s %s does not hold %s", selector, p, a)
}

func portText(p netstate.PortRange) string {
	if p.Lo == p.Hi {
		return fmt.Sprint(p.Lo)
	}
	return fmt.Sprintf("%d-%d", p.Lo, p.Hi)
}
