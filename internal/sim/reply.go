package sim

import "github.com/viarule/viarule/internal/fib"

// Reply gives the packet that answers p, of which a is the fate, and what connection
// tracking knows of it. The answer of a socket of this host is made here; that of
// somebody else comes back by the link by which p left. why says why there is none.
func (w *World) Reply(p Packet, a *Answer) (answer Packet, c Conn, why string) {
	verdict := a.Verdict
	if verdict == Unknown {
		verdict = a.Otherwise
	}
	if verdict == Unknown || verdict == Dropped {
		return answer, c, "the packet does not arrive"
	}
	from := p.From
	if !from.IsValid() || from.IsUnspecified() && p.IIF == "" {
		from = a.Way.Source
	}
	if !from.IsValid() {
		return answer, c, "it is not known which source address the packet has"
	}
	answer = Packet{Flow: fib.Flow{From: p.To, To: from, TOS: p.TOS, Proto: p.Proto, SPort: p.DPort, DPort: p.SPort}}
	if icmp(p.Proto) {
		answer.SPort, answer.DPort = 0, 0
	}
	c = a.Conn
	c.Reply = true
	if verdict == Forwarded || verdict == Sent {
		answer.IIF = a.Dev
	} else if vrf := w.vrf(p.IIF); vrf != "" {
		// A socket that may answer packets of a VRF is bound to it, unless
		// tcp_l3mdev_accept lets others in; those are bound by the request.
		answer.OIF = vrf
	}
	return answer, c, ""
}

func icmp(proto uint8) bool { return proto == 1 || proto == 58 }
