package specfile

import (
	"fmt"

	"github.com/viarule/viarule/internal/spec"
)

// expectations writes the key that every object's spec has, one packet a line.
func (w *writer) expectations(list []spec.Expectation) {
	if len(list) > 0 {
		w.line("  expect:")
	}
	for i := range list {
		e := &list[i]
		w.text("name", e.Name)
		w.addr("from", e.From)
		w.addr("to", e.To)
		w.text("iif", e.IIF)
		if e.Proto != 0 {
			w.pair("ipproto", spec.FormatIPProto(e.Proto))
		}
		w.number("sport", uint32(e.SPort))
		w.number("dport", uint32(e.DPort))
		if e.Mark != 0 {
			w.pair("fwmark", fmt.Sprintf("0x%x", e.Mark))
		}
		w.number("uid", e.UID)
		if e.TOS != 0 {
			w.pair("tos", fmt.Sprintf("0x%02x", e.TOS))
		}
		if e.Leaves != (spec.Leaves{}) {
			var inner writer
			inner.text("dev", e.Leaves.Dev)
			inner.addr("via", e.Leaves.Via)
			w.pair("leaves", "{"+string(inner.pairs)+"}")
		}
		w.text("verdict", string(e.Verdict))
		w.addr("source", e.Source)
		w.flow("  - ")
	}
}
