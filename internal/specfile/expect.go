package specfile

import (
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/spec"
)

// expectations reads the key that every object's spec has.
func expectations(d *decoder, n *yaml.Node, into *[]spec.Expectation) {
	d.list(n, func(size int) { *into = slices.Grow(*into, min(size, spec.MaxExpectations)) }, func(e *yaml.Node) {
		x := spec.Expectation{Pos: d.place(e)}
		faults := d.faults
		// Where something is wrong, a key that seems to be missing may be misspelt.
		if seen, ok := mapping(d, e, &x, expectationFields); ok && d.faults == faults {
			if seen&1 == 0 {
				d.fail(e, "the name is missing", "write `name: …`")
			}
			if seen&2 == 0 {
				d.fail(e, "it does not say where the packet goes", "write `to: ADDRESS`")
			}
		}
		*into = append(*into, x)
	})
}

// The first two are needed.
var expectationFields = []field[spec.Expectation]{
	{"name", func(d *decoder, n *yaml.Node, e *spec.Expectation) {
		s, ok := d.str(n)
		if err := spec.CheckExpectationName(s); ok && err != nil {
			d.failValue(n, err)
			return
		}
		e.Name = s
	}},
	{"to", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.To = value(d, n, spec.ParseAddr) }},
	{"from", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.From = value(d, n, spec.ParseAddr) }},
	{"iif", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.IIF = d.link(n) }},
	{"ipproto", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.Proto = value(d, n, spec.ParseIPProto) }},
	{"sport", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.SPort = uint16(d.integer(n, 1, 1<<16-1)) }},
	{"dport", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.DPort = uint16(d.integer(n, 1, 1<<16-1)) }},
	{"fwmark", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.Mark = value(d, n, spec.ParseExpectedMark) }},
	{"uid", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.UID = uint32(d.integer(n, 0, 1<<32-2)) }},
	{"tos", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.TOS = value(d, n, spec.ParseExpectedTOS) }},
	{"leaves", func(d *decoder, n *yaml.Node, e *spec.Expectation) {
		if _, ok := mapping(d, n, &e.Leaves, leavesFields); ok && len(n.Content) == 0 {
			d.fail(n, "it does not say by which way", "write dev, via or both")
		}
	}},
	{"verdict", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.Verdict = enum(d, n, spec.VerdictWords) }},
	{"source", func(d *decoder, n *yaml.Node, e *spec.Expectation) { e.Source = value(d, n, spec.ParseAddr) }},
}

var leavesFields = []field[spec.Leaves]{
	{"dev", func(d *decoder, n *yaml.Node, l *spec.Leaves) { l.Dev = d.link(n) }},
	{"via", func(d *decoder, n *yaml.Node, l *spec.Leaves) { l.Via = value(d, n, spec.ParseAddr) }},
}
