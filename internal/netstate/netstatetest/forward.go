package netstatetest

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/viarule/viarule/internal/netstate"
)

// ForwardChains draws forward chains of others with distinct names, in order.
func ForwardChains() *rapid.Generator[[]netstate.ForwardChain] {
	return rapid.Custom(func(t *rapid.T) []netstate.ForwardChain {
		var out []netstate.ForwardChain
		for _, name := range []netstate.NftName{{Family: "inet", Table: "a b", Chain: "c"}, {Family: "ip", Table: "filter", Chain: "FORWARD"}, {Family: "ip6", Table: "filter", Chain: "FORWARD"}} {
			if !rapid.Bool().Draw(t, "chain") {
				continue
			}
			c := netstate.ForwardChain{NftName: name, Priority: rapid.Int32Range(-400, 400).Draw(t, "priority"), Drop: rapid.Bool().Draw(t, "drop"), Rules: forwardRules(t),
				Dormant: rapid.IntRange(0, 5).Draw(t, "dormant") == 5, Owned: rapid.IntRange(0, 5).Draw(t, "owned") == 5}
			for i := range rapid.IntRange(0, 3).Draw(t, "subs") {
				c.Subs = append(c.Subs, netstate.ForwardSub{Name: fmt.Sprintf("SUB%d", i), Rules: forwardRules(t)})
			}
			out = append(out, c)
		}
		return out
	})
}

func forwardRules(t *rapid.T) []netstate.ForwardRule {
	var out []netstate.ForwardRule
	for range rapid.IntRange(0, 5).Draw(t, "rules") {
		r := netstate.ForwardRule{Comment: rapid.SampledFrom([]string{"", netstate.AcceptComment("PodNetwork/pods"), "it's \"mine\""}).Draw(t, "comment")}
		for range rapid.IntRange(0, 2).Draw(t, "conditions") {
			op := rapid.SampledFrom([]netstate.NftOp{netstate.NftUnknown, netstate.NftIIFName, netstate.NftNotIIF, netstate.NftOIFName, netstate.NftNotOIF, netstate.NftIIFPrefix, netstate.NftOIFPrefix, netstate.NftCtState}).Draw(t, "op")
			s := netstate.NftStmt{Op: op}
			switch op {
			case netstate.NftUnknown:
				s.Unknown = rapid.SampledFrom([]string{"ct", "match conntrack"}).Draw(t, "expression") + "\x00"
			case netstate.NftCtState:
				s.Mark.Mask = rapid.SampledFrom([]uint32{netstate.CtNew, netstate.CtEstablished | netstate.CtRelated, netstate.CtInvalid | netstate.CtNew}).Draw(t, "states")
			default:
				s.Link = rapid.SampledFrom([]string{"eth0", "via", "veth", "v*"}).Draw(t, "link")
			}
			r.Rule = append(r.Rule, s)
		}
		verdict := netstate.NftStmt{Op: rapid.SampledFrom([]netstate.NftOp{netstate.NftAccept, netstate.NftDrop, netstate.NftReject, netstate.NftReturn, netstate.NftJump, netstate.NftGoto}).Draw(t, "verdict")}
		if verdict.Op == netstate.NftJump || verdict.Op == netstate.NftGoto {
			verdict.Name = fmt.Sprintf("SUB%d", rapid.IntRange(0, 2).Draw(t, "to"))
		}
		out = append(out, netstate.ForwardRule{Rule: append(r.Rule, verdict), Comment: r.Comment})
	}
	return out
}
