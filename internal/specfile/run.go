package specfile

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// A run is a stretch of lines `- {key: value, …}` of one indentation, that was
// cut out of a document before the YAML library saw it. In its place stands
// one element with runTag (and empty lines, to keep the count), which the
// decoder finds in the list and replaces by the elements of the run.
type run struct {
	line  int32 // of the document, from 1
	count int
	text  string // its lines
}

const (
	// runTag marks the place of a run. Tags are refused elsewhere; that a user
	// wrote this one is no danger, since only the lines of runs are looked up.
	runTag = "!run"
	// minRun is the number of lines below which cutting is not worth it.
	minRun = 16
)

// cutRuns returns the document without its runs, and the runs; nothing where
// there are none.
func cutRuns(doc string) ([]byte, []run) {
	var out []byte
	var runs []run
	copied := 0
	for at, line := 0, int32(1); at < len(doc); {
		indent, n := measure(doc[at:])
		if n == 0 {
			at = next(doc, at)
			line++
			continue
		}
		end, count := at+n, 1
		for end < len(doc) {
			i, n := measure(doc[end:])
			if n == 0 || i != indent {
				break
			}
			end += n
			count++
		}
		if count >= minRun {
			out = append(out, doc[copied:at]...)
			out = append(out, doc[at:at+indent]...)
			out = append(out, "- "+runTag+" \"\""...)
			out = append(out, strings.Repeat("\n", count)...)
			runs = append(runs, run{line: line, count: count, text: doc[at:end]})
			copied = end
		}
		at = end
		line += int32(count)
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

// measure says how many bytes (with the line feed) the first line of text has,
// and its indentation, where it is one that a run may have; else n is 0.
func measure(text string) (indent, n int) {
	for indent < len(text) && text[indent] == ' ' {
		indent++
	}
	p := lineParser{text: text, at: indent}
	if !p.skip("- {") {
		return 0, 0
	}
	p.at--
	if !p.value(1) {
		return 0, 0
	}
	p.spaces()
	if p.at < len(text) && text[p.at] == '#' && text[p.at-1] == ' ' {
		for p.at < len(text) && text[p.at] >= ' ' && text[p.at] < 0x7f {
			p.at++
		}
	}
	if p.at == len(text) {
		return indent, p.at
	}
	if text[p.at] != '\n' {
		return 0, 0
	}
	return indent, p.at + 1
}

// lineParser recognises the plain part of YAML's flow style that runs are made
// of. It knows no escapes, no comments between values, no line ends, and only
// scalars that are the same in every context: what it does not know is left to
// the library.
type lineParser struct {
	text string
	at   int
	tree *lineTree // nil: only look
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
			if p.tree != nil {
				p.tree.open = p.tree.open[:len(p.tree.open)-1]
			}
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
		p.tree.add(kind, style, p.text, from, to)
	}
}

// lineTree builds the nodes of one line of a run. They are used again for the
// next line: nothing may keep one. The zero value is ready.
type lineTree struct {
	nodes []*yaml.Node
	used  int
	open  []*yaml.Node // containers that have not ended
	line  int
}

// read gives the node of the element on the line that text begins with, and the
// rest of text. The line is one that measure has accepted.
func (t *lineTree) read(text string, line int) (*yaml.Node, string) {
	t.used, t.line, t.open = 0, line, t.open[:0]
	p := lineParser{text: text, tree: t}
	p.spaces()
	p.at += len("- ")
	p.value(1)
	return t.nodes[0], text[next(text, p.at):]
}

func (t *lineTree) add(kind yaml.Kind, style yaml.Style, text string, from, to int) {
	if t.used == len(t.nodes) {
		t.nodes = append(t.nodes, new(yaml.Node))
	}
	n := t.nodes[t.used]
	t.used++
	n.Kind, n.Style, n.Value, n.Line, n.Column, n.Content = kind, style, text[from:to], t.line, from+1, n.Content[:0]
	if len(t.open) > 0 {
		top := t.open[len(t.open)-1]
		top.Content = append(top.Content, n)
	}
	if kind != yaml.ScalarNode {
		t.open = append(t.open, n)
	}
}
