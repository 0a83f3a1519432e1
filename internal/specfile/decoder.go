package specfile

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/spec"
)

// decoder turns nodes into objects and keeps what is wrong.
type decoder struct {
	file     string
	problems []spec.Problem
	faults   int // problems of severity Error, kept or not

	before int32 // lines of the file before the document
	object spec.Ref
	path   []step
	key    spec.Pos          // in the file, of the key whose value is about to be read
	names  map[string]string // the few strings of a file, each kept once

	runs     []run // of the document, in its order
	runsUsed int
	line     lineTree
}

// step is one part of a path: a key, or an index where key is empty.
type step struct {
	key   string
	index int
}

func (d *decoder) enter(key string) { d.path = append(d.path, step{key: key}) }
func (d *decoder) enterIndex(i int) { d.path = append(d.path, step{index: i}) }
func (d *decoder) leave()           { d.path = d.path[:len(d.path)-1] }
func (d *decoder) pos(n *yaml.Node) spec.Pos {
	return spec.Pos{Line: int32(n.Line), Col: int32(n.Column)}
}

// place is a position in the file; pos is one in the document.
func (d *decoder) place(n *yaml.Node) spec.Pos {
	p := d.pos(n)
	p.Line += d.before
	return p
}

func (d *decoder) pathString() string {
	var b strings.Builder
	for _, s := range d.path {
		switch {
		case s.key == "":
			fmt.Fprintf(&b, "[%d]", s.index)
		case b.Len() > 0:
			b.WriteString("." + s.key)
		default:
			b.WriteString(s.key)
		}
	}
	return b.String()
}

// fail notes an error at a node.
func (d *decoder) fail(n *yaml.Node, what, do string) {
	d.problem(d.pos(n), what, do)
}

// failValue notes the error of one of spec's Parse functions.
func (d *decoder) failValue(n *yaml.Node, err error) {
	if v, ok := err.(*spec.ValueError); ok {
		d.fail(n, v.What, v.Do)
		return
	}
	d.fail(n, err.Error(), "")
}

// problem notes an error at a position of the document.
func (d *decoder) problem(at spec.Pos, what, do string) {
	d.faults++
	if len(d.problems) >= MaxProblems {
		return
	}
	if at.Line > 0 {
		at.Line += d.before
	}
	d.problems = append(d.problems, spec.Problem{Object: d.object, File: d.file, Pos: at, Path: d.pathString(), What: what, Do: do})
}

// done gives the problems, with the count of those that were not kept.
func (d *decoder) done() []spec.Problem {
	if d.faults == 0 {
		return nil
	}
	if more := d.faults - len(d.problems); more > 0 {
		d.problems = append(d.problems, spec.Problem{File: d.file, What: fmt.Sprintf("%d more problems are not shown", more), Do: "mend these first"})
	}
	return d.problems
}

// field is a key of a mapping and what reads its value.
type field[T any] struct {
	key  string
	read func(d *decoder, n *yaml.Node, into *T)
}

// mapping reads the fields of a mapping, which may have up to 64. It returns
// which of them were there, bit i for fields[i], and whether n was a mapping at
// all.
func mapping[T any](d *decoder, n *yaml.Node, into *T, fields []field[T]) (seen uint64, ok bool) {
	if !d.plainNode(n) {
		return 0, false
	}
	if n.Kind != yaml.MappingNode {
		d.fail(n, "this is "+describe(n)+", not a mapping", "write `key: value` pairs")
		return 0, false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !d.plainNode(key) {
			continue
		}
		if key.Kind != yaml.ScalarNode {
			d.fail(key, "a key is "+describe(key), "")
			continue
		}
		f := fieldIndex(fields, key.Value)
		if f < 0 {
			d.unknownKey(key, fieldNames(fields))
			continue
		}
		if seen&(1<<f) != 0 {
			d.enter(key.Value)
			d.fail(key, "the key is written twice", "leave one of them out")
			d.leave()
			continue
		}
		seen |= 1 << f
		d.enter(fields[f].key)
		d.key = d.place(key)
		if d.plainNode(value) {
			fields[f].read(d, value, into)
		}
		d.leave()
	}
	return seen, true
}

func fieldIndex[T any](fields []field[T], key string) int {
	for i := range fields {
		if fields[i].key == key {
			return i
		}
	}
	return -1
}

func fieldNames[T any](fields []field[T]) []string {
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].key
	}
	return names
}

func (d *decoder) unknownKey(key *yaml.Node, known []string) {
	if len(d.problems) >= MaxProblems {
		d.faults++ // nobody sees what it might have been
		return
	}
	if key.Value == "<<" {
		d.fail(key, "merge keys are not supported", "write the keys out")
		return
	}
	d.failValue(key, spec.UnknownKey(key.Value, known))
}

// list calls each for the elements of a list; size is told the number of them
// before, at least.
func (d *decoder) list(n *yaml.Node, size func(int), each func(*yaml.Node)) {
	if n.Kind != yaml.SequenceNode {
		d.fail(n, "this is "+describe(n)+", not a list", "write `[…]`, or one `- …` a line")
		return
	}
	size(len(n.Content))
	i := 0
	element := func(e *yaml.Node) {
		d.enterIndex(i)
		if d.plainNode(e) {
			each(e)
		}
		d.leave()
		i++
	}
	for _, e := range n.Content {
		if e.Tag != runTag || d.runsUsed == len(d.runs) || d.runs[d.runsUsed].line != int32(e.Line) {
			element(e)
			continue
		}
		r := &d.runs[d.runsUsed]
		d.runsUsed++
		size(i + r.count)
		text, line, lines := r.text, int(r.line), 0
		for range r.count {
			e, text, lines = d.line.read(text, line)
			element(e)
			line += lines
		}
	}
}

// fullList is a list for which an empty one would say something else than its
// absence seems to: `from: []` is not every source.
func (d *decoder) fullList(n *yaml.Node, size func(int), each func(*yaml.Node)) {
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.fail(n, "the list is empty", "leave the key out")
		return
	}
	d.list(n, size, each)
}

// plainNode refuses what lets one part of a file change the meaning of another,
// or a reader's mind decide about it.
func (d *decoder) plainNode(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.fail(n, "aliases are not supported", "write the value out")
	case n.Anchor != "":
		d.fail(n, "anchors are not supported", "leave out &"+clip(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		d.fail(n, "tags are not supported", "leave out "+clip(n.Tag))
	default:
		return true
	}
	return false
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch scalarKind(n) {
	case nullScalar:
		return "empty"
	case boolScalar:
		return "a boolean"
	case intScalar, oddNumber:
		return "a number"
	}
	return "a string"
}

// clip bounds what a message repeats of hostile input.
func clip(s string) string {
	if len(s) > 64 {
		return s[:61] + "..."
	}
	return s
}

// intern returns s, kept once, so that the nodes' text can be freed.
func (d *decoder) intern(s string) string {
	if t, ok := d.names[s]; ok {
		return t
	}
	if len(d.names) < 4096 {
		s = strings.Clone(s)
		d.names[s] = s
		return s
	}
	return strings.Clone(s)
}

// str reads a string.
func (d *decoder) str(n *yaml.Node) (string, bool) {
	if n.Kind == yaml.ScalarNode {
		switch scalarKind(n) {
		case stringScalar:
			return n.Value, true
		case nullScalar:
			d.fail(n, "the value is empty", "write one, or leave the key out")
			return "", false
		}
	}
	if n.Kind == yaml.ScalarNode {
		d.fail(n, fmt.Sprintf("%s is %s, not a string", clip(n.Value), describe(n)), "write it in quotes")
		return "", false
	}
	d.fail(n, "this is "+describe(n)+", not a string", "")
	return "", false
}

// integer reads a whole number from least to most.
func (d *decoder) integer(n *yaml.Node, least, most uint64) uint64 {
	if n.Kind == yaml.ScalarNode && scalarKind(n) == intScalar {
		if v, err := strconv.ParseUint(n.Value, 0, 64); err == nil && v >= least && v <= most {
			return v
		}
		d.fail(n, clip(n.Value)+" is out of range", fmt.Sprintf("write a number from %d to %d", least, most))
		return 0
	}
	d.notNumber(n, fmt.Sprintf("write a number from %d to %d", least, most))
	return 0
}

func (d *decoder) notNumber(n *yaml.Node, do string) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(n, "this is "+describe(n)+", not a number", do)
	case scalarKind(n) == nullScalar:
		d.fail(n, "the value is empty", do)
	case scalarKind(n) == stringScalar:
		d.fail(n, fmt.Sprintf("%q is a string, not a number", clip(n.Value)), do)
	case scalarKind(n) == oddNumber:
		d.fail(n, clip(n.Value)+" is written in a way that readers of YAML disagree about", do+", in plain decimal digits")
	default:
		d.fail(n, clip(n.Value)+" is not a number", do)
	}
}

// numberOrString reads what the custom resource has as IntOrString; numbers
// come back as their decimal digits.
func (d *decoder) numberOrString(n *yaml.Node) (string, bool) {
	if n.Kind == yaml.ScalarNode {
		switch scalarKind(n) {
		case stringScalar:
			return n.Value, true
		case intScalar:
			if v, err := strconv.ParseUint(n.Value, 0, 64); err == nil {
				return strconv.FormatUint(v, 10), true
			}
		}
	}
	if n.Kind == yaml.ScalarNode && scalarKind(n) == boolScalar {
		d.fail(n, clip(n.Value)+" is a boolean", "write a number, or a name in quotes")
		return "", false
	}
	d.notNumber(n, "write a number or a string")
	return "", false
}

// boolean reads true or false, in this spelling.
func (d *decoder) boolean(n *yaml.Node) bool {
	if n.Kind == yaml.ScalarNode && n.Style&quoted == 0 {
		switch n.Value {
		case "true":
			return true
		case "false":
			return false
		}
	}
	d.fail(n, "this is "+describe(n)+", not true or false", "write true, or leave the key out")
	return false
}
