package impact

import (
	"net/netip"
	"strings"

	"github.com/viarule/viarule/internal/sim"
)

// outcome is what becomes of a packet, as far as it counts as its way.
type outcome struct {
	verdict, otherwise sim.Verdict
	cause              sim.Cause // tells classes apart, but is no way
	ways               string
	sources            string // of packets made here that had none
}

func outcomeOf(p *sim.Packet, a *sim.Answer) outcome {
	o := outcome{verdict: a.Verdict, cause: a.Cause}
	goes := a.Verdict
	if a.Verdict == sim.Unknown {
		o.otherwise = a.Otherwise
		goes = a.Otherwise
	}
	if goes != sim.Forwarded && goes != sim.Sent && goes != sim.Unknown {
		return o
	}
	ways := a.Ways
	if ways == nil {
		ways = []sim.Way{a.Way}
	}
	var b, sources strings.Builder
	for _, w := range ways {
		b.WriteString(w.Dev)
		if w.Via.IsValid() {
			b.WriteString(" via " + w.Via.String())
		}
		b.WriteByte('\n')
		if p.IIF == "" && unspecified(p.From) {
			sources.WriteString(w.Source.String() + "\n")
		}
	}
	o.ways, o.sources = b.String(), sources.String()
	return o
}

// unspecified says whether a source is still to be chosen, for packets made here.
func unspecified(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }

// same says whether the packet meets no difference.
func (o outcome) same(p outcome) bool {
	return o.verdict == p.verdict && o.otherwise == p.otherwise && o.ways == p.ways && o.sources == p.sources
}

// changeOf is what two outcomes that differ have in common with those of other
// packets of a class. Where the packets leave by another way, a class does not tell
// apart which sources they get: those of IPv6 depend on each destination.
func changeOf(o [2]outcome, answer bool) change {
	if o[0].ways != o[1].ways {
		o[0].sources, o[1].sources = "", ""
	}
	return change{o[0], o[1], answer}
}

// answered is the answer to a packet, in one world.
type answered struct {
	packet  sim.Packet
	outcome outcome
	tracked bool // without connection tracking it would go another way
}

// answer follows the answer to a packet that came in, of which a is the fate.
func answer(w *sim.World, p *sim.Packet, a *sim.Answer) (answered, bool) {
	back, conn, none := w.Reply(*p, a)
	if none != "" {
		return answered{}, false
	}
	with, without := w.Run(back, conn), w.Run(back, sim.Conn{})
	out := answered{packet: back, outcome: outcomeOf(&back, &with)}
	out.tracked = !out.outcome.same(outcomeOf(&back, &without))
	return out, true
}

// answersDiffer compares the answers to a packet in both worlds. An answer that
// goes as any packet of its kind, or to a packet that itself changes its way, is not
// counted: the classes of packets tell of it.
func answersDiffer(w [2]*sim.World, p *sim.Packet, a [2]*sim.Answer) (o [2]outcome, differ bool) {
	before, ok := answer(w[0], p, a[0])
	if !ok {
		return o, false
	}
	after, ok := answer(w[1], p, a[1])
	if !ok || before.packet != after.packet || !before.tracked && !after.tracked {
		return o, false
	}
	o = [2]outcome{before.outcome, after.outcome}
	return o, !o[0].same(o[1])
}
