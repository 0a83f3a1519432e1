package specfile

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// A run is a stretch of list elements of one indentation, each `- {key: value, …}`
// on a line or `- key: value` with a line for each further key, that was cut out
// of a document before the YAML library saw it. In its place stands one element
// with runTag (and empty lines, to keep the count), which the decoder finds in
// the list and replaces by the elements of the run.
type run struct {
	line  int32 // of the document, from 1
	count int   // of elements
	text  string
}

const (
	// runTag marks the place of a run. Tags are refused elsewhere; that a user
	// wrote this one is no danger, since only the lines of runs are looked up.
	runTag = "!run"
	// minRun is the number of elements below which cutting is not worth it.
	minRun = 16
)

// cutRuns returns the document without its runs, and the runs; nothing where
// there are none.
func cutRuns(doc string) ([]byte, []run) {
	var out []byte
	var runs []run
	copied := 0
	for at, line := 0, int32(1); at < len(doc); {
		first := measure(doc[at:])
		if first.bytes == 0 {
			at = next(doc, at)
			line++
			continue
		}
		end, count, lines := at, 0, 0
		for e := first; e.bytes > 0 && e.indent == first.indent; e = measure(doc[end:]) {
			end += e.bytes
			lines += e.lines
			count++
		}
		if count >= minRun {
			out = append(out, doc[copied:at]...)
			out = append(out, doc[at:at+first.indent]...)
			out = append(out, "- "+runTag+" \"\""...)
			out = append(out, strings.Repeat("\n", lines)...)
			runs = append(runs, run{line: line, count: count, text: doc[at:end]})
			copied = end
		}
		at = end
		line += int32(lines)
	}
	if len(runs) == 0 {
		return nil, nil
	}
	return append(out, doc[copied:]...), runs
}

// next is the beginning of the line after the one that holds at.
func next(doc string, at int) int {
	if n := strings.IndexByte(doc[at:], '\n'); n >= 0 {
		return at + n + 1
	}
	return len(doc)
}

// maxLineDepth bounds the nesting within a line: a list of next hops has 3.
const maxLineDepth = 4

// extent is the size of an element that a run may have; bytes (with the last
// line feed) is 0 where it is another one.
type extent struct{ indent, bytes, lines int }

// measure looks at the element that begins with the first line of text.
func measure(text string) extent {
	indent := 0
	for indent < len(text) && text[indent] == ' ' {
		indent++
	}
	p := lineParser{text: text, at: indent}
	if !p.element(indent) {
		return extent{}
	}
	return extent{indent, p.at, p.lines}
}

// lineParser recognises the plain part of YAML that runs are made of. It knows
// no escapes, no comments but at the end of a line, no values over several
// lines, and only scalars that are the same in every context: what it does not
// know is left to the library.
type lineParser struct {
	text  string
	at    int
	lines int       // that have ended
	start int       // of the line
	tree  *lineTree // nil: only look
}

// element reads an element with the lines that belong to it.
func (p *lineParser) element(indent int) bool {
	if !p.skip("- ") || p.at == len(p.text) {
		return false
	}
	if p.text[p.at] == '{' {
		return p.value(1) && p.endLine()
	}
	p.node(yaml.MappingNode, 0, p.at, p.at)
	for {
		if !p.key() || !p.value(2) || !p.endLine() {
			return false
		}
		deeper := 0
		for p.at+deeper < len(p.text) && p.text[p.at+deeper] == ' ' {
			deeper++
		}
		switch {
		case deeper == indent+len("- "):
			p.at += deeper
		case deeper > indent:
			return false // something else that belongs to the element
		default:
			p.close()
			return true
		}
	}
}

// endLine reads spaces, perhaps a comment, and the end of the line.
func (p *lineParser) endLine() bool {
	p.spaces()
	if p.at < len(p.text) && p.text[p.at] == '#' && p.text[p.at-1] == ' ' {
		for p.at < len(p.text) && p.text[p.at] >= ' ' && p.text[p.at] < 0x7f {
			p.at++
		}
	}
	if p.at < len(p.text) {
		if p.text[p.at] != '\n' {
			return false
		}
		p.at++
	}
	p.lines++
	p.start = p.at
	return true
}

// close ends a container.
func (p *lineParser) close() {
	if p.tree != nil {
		p.tree.open = p.tree.open[:len(p.tree.open)-1]
	}
}

func (p *lineParser) skip(s string) bool {
	if len(p.text)-p.at < len(s) || string(p.text[p.at:p.at+len(s)]) != s {
		return false
	}
	p.at += len(s)
	return true
}

func (p *lineParser) spaces() bool {
	from := p.at
	for p.at < len(p.text) && p.text[p.at] == ' ' {
		p.at++
	}
	return p.at > from
}

// value reads a mapping, a list or a scalar.
func (p *lineParser) value(depth int) bool {
	if p.at >= len(p.text) || depth > maxLineDepth {
		return false
	}
	switch p.text[p.at] {
	case '{':
		return p.container(depth, yaml.MappingNode, '}')
	case '[':
		return p.container(depth, yaml.SequenceNode, ']')
	}
	return p.scalar()
}

func (p *lineParser) container(depth int, kind yaml.Kind, last byte) bool {
	p.node(kind, yaml.FlowStyle, p.at, p.at)
	p.at++
	for {
		p.spaces()
		if kind == yaml.MappingNode {
			if !p.key() {
				return false
			}
		}
		if !p.value(depth + 1) {
			return false
		}
		p.spaces()
		if p.at >= len(p.text) {
			return false
		}
		switch p.text[p.at] {
		case last:
			p.at++
			p.close()
			return true
		case ',':
			p.at++
		default:
			return false
		}
	}
}

// key reads letters, a colon and a space.
func (p *lineParser) key() bool {
	from := p.at
	for p.at < len(p.text) && (p.text[p.at]|0x20 >= 'a' && p.text[p.at]|0x20 <= 'z') {
		p.at++
	}
	if p.at == from || p.at >= len(p.text) || p.text[p.at] != ':' {
		return false
	}
	p.node(yaml.ScalarNode, 0, from, p.at)
	p.at++
	return p.spaces()
}

func (p *lineParser) scalar() bool {
	from := p.at
	if p.text[from] == '"' {
		for p.at++; p.at < len(p.text) && p.text[p.at] != '"'; p.at++ {
			if c := p.text[p.at]; c < ' ' || c >= 0x7f || c == '\\' {
				return false
			}
		}
		if p.at >= len(p.text) {
			return false
		}
		p.node(yaml.ScalarNode, yaml.DoubleQuotedStyle, from+1, p.at)
		p.at++
		return true
	}
	for ; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' {
			continue
		}
		if p.at == from || c != '.' && c != '/' && c != ':' && c != '-' && c != '_' {
			break
		}
	}
	// A colon at the end would make it a key.
	if p.at == from || p.text[p.at-1] == ':' {
		return false
	}
	p.node(yaml.ScalarNode, 0, from, p.at)
	return true
}

func (p *lineParser) node(kind yaml.Kind, style yaml.Style, from, to int) {
	if p.tree != nil {
		p.tree.add(kind, style, p.text[from:to], p.lines, from-p.start)
	}
}

// lineTree builds the nodes of one element of a run. They are used again for
// the next one: nothing may keep one. The zero value is ready.
type lineTree struct {
	nodes []*yaml.Node
	used  int
	open  []*yaml.Node // containers that have not ended
	line  int
}

// read gives the node of the element that text begins with, the rest of text,
// and the number of lines that the element has. It is one that measure has
// accepted.
func (t *lineTree) read(text string, line int) (*yaml.Node, string, int) {
	t.used, t.line, t.open = 0, line, t.open[:0]
	p := lineParser{text: text, tree: t}
	p.spaces()
	p.element(p.at)
	return t.nodes[0], text[p.at:], p.lines
}

func (t *lineTree) add(kind yaml.Kind, style yaml.Style, value string, line, col int) {
	if t.used == len(t.nodes) {
		t.nodes = append(t.nodes, new(yaml.Node))
	}
	n := t.nodes[t.used]
	t.used++
	n.Kind, n.Style, n.Value, n.Line, n.Column, n.Content = kind, style, value, t.line+line, col+1, n.Content[:0]
	if len(t.open) > 0 {
		top := t.open[len(t.open)-1]
		top.Content = append(top.Content, n)
	}
	if kind != yaml.ScalarNode {
		t.open = append(t.open, n)
	}
}
