package impact

import (
	"slices"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/sim"
	"github.com/viarule/viarule/internal/snapshot"
)

// Report is what a change does to packets, in words.
type Report struct {
	Classes []Line `json:"classes"`
	More    int    `json:"more,omitempty"`     // classes that are not listed
	Left    int    `json:"notTried,omitempty"` // see Found.Left
}

// Line is a class, and what becomes of its packets.
type Line struct {
	Packets  string   `json:"packets"` // which, in words
	Selector Selector `json:"selector"`
	Example  string   `json:"example"`
	Question Question `json:"question"` // the example: of an answer, the packet that it answers
	Before   string   `json:"before"`   // what becomes of the example now
	After    string   `json:"after"`
	// Answer says that it is the answers to these packets that go another way.
	Answer bool `json:"answer,omitempty"`
}

// Question is a packet as explain --batch takes it. It has no key for the tunnel that a
// packet came out of: the example of a class of those is the same packet without one.
type Question struct {
	From    string `json:"from,omitempty"`
	To      string `json:"to"`
	IIF     string `json:"iif,omitempty"`
	OIF     string `json:"oif,omitempty"`
	IPProto uint8  `json:"ipproto,omitempty"`
	SPort   uint16 `json:"sport,omitempty"`
	DPort   uint16 `json:"dport,omitempty"`
	FwMark  uint32 `json:"fwmark,omitempty"`
	UID     uint32 `json:"uid,omitempty"`
	TOS     uint8  `json:"tos,omitempty"`
}

// maxLines bounds how many classes a report lists.
const maxLines = 200

// Compare reports the classes of packets whose way differs between two snapshots of a
// host.
func Compare(before, after *snapshot.Snapshot) Report {
	e := [2]*explain.Explainer{explain.New(before), explain.New(after)}
	found := Find(e[0].World(), e[1].World(), Effort)
	found.Classes = slices.DeleteFunc(found.Classes, func(c Class) bool { _, ok := c.sample(); return !ok })
	out := Report{Classes: []Line{}, Left: found.Left, More: max(len(found.Classes)-maxLines, 0)}
	for i := range found.Classes[:len(found.Classes)-out.More] {
		out.Classes = append(out.Classes, line(e, &found.Classes[i]))
	}
	return out
}

// sample is a packet of the class as somebody may send it, and so as explain takes it: a
// port goes with a protocol that has ports. Find tries all combinations; where the class
// has no such packet, nobody sends one.
func (c *Class) sample() (p sim.Packet, ok bool) {
	p = c.Example
	if p.SPort == 0 && p.DPort == 0 || explain.HasPorts(p.Proto) {
		return p, true
	}
	a := c.space.axes
	for _, proto := range explain.Ported {
		if c.box[axisProto].has(slices.Index(a.protos, proto) + 1) {
			p.Proto = proto
			return p, true
		}
	}
	for axis, port := range map[int]*uint16{axisSPort: &p.SPort, axisDPort: &p.DPort} {
		if c.box[axis].has(0) {
			*port = a.ports[0]
		}
	}
	return p, p.SPort == 0 && p.DPort == 0
}

func line(e [2]*explain.Explainer, c *Class) Line {
	p, _ := c.sample()
	l := Line{Selector: c.Selector(), Answer: c.Answer, Question: question(&p)}
	l.Packets = l.Selector.String()
	if c.Answer {
		l.Packets = "answers to " + l.Packets
	}
	for i, says := range []*string{&l.Before, &l.After} {
		a, err := e[i].Explain(p, explain.Options{Reply: c.Answer})
		if err != nil {
			*says = err.Error() // no packet of a class is one that explain does not take
			continue
		}
		if c.Answer {
			a = a.Reply
		}
		*says, l.Example = a.Summary, a.Packet
	}
	return l
}

func question(p *sim.Packet) Question {
	q := Question{To: p.To.String(), IIF: p.IIF, OIF: p.OIF, IPProto: p.Proto, SPort: p.SPort, DPort: p.DPort, FwMark: p.Mark, UID: p.UID, TOS: p.TOS}
	if p.From.IsValid() {
		q.From = p.From.String()
	}
	return q
}
