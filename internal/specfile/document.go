package specfile

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/spec"
)

// Parse reads the objects of one file; name is for messages and Object.File.
// See Load for what is returned. The objects keep data.
func Parse(name string, data []byte) ([]spec.Object, []spec.Problem) {
	return parse(name, data, true)
}

// parse is Parse; fast allows the way around the YAML library for long lists.
func parse(name string, data []byte, fast bool) ([]spec.Object, []spec.Problem) {
	d := &decoder{file: name, names: map[string]string{}}
	if len(data) > MaxFile {
		d.problem(spec.Pos{}, fmt.Sprintf("the file is larger than %d MiB", MaxFile>>20), "split it")
		return nil, d.done()
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if at := invalidUTF8(data); at >= 0 {
		d.problem(spec.Pos{Line: 1 + int32(bytes.Count(data[:at], []byte("\n")))}, "the text is not UTF-8", "save the file as UTF-8")
		return nil, d.done()
	}
	var objs []spec.Object
	n := 0
	for doc := range documents(data) {
		if doc.empty() {
			continue
		}
		if n++; n > MaxObjects {
			d.before, d.object = doc.before, spec.Ref{}
			d.problem(spec.Pos{Line: 1}, fmt.Sprintf("the file has more than %d objects", MaxObjects), "split it")
			break
		}
		if o, ok := d.document(doc, fast); ok {
			objs = append(objs, o)
		}
	}
	if n == 0 {
		d.problem(spec.Pos{Line: 1}, "there is no object in it", "write one that begins with `apiVersion: "+APIVersion+"`")
	}
	return objs, d.done()
}

func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// document is a part of a file between document marks.
type document struct {
	text   []byte
	before int32 // lines of the file before it
}

// documents splits at the marks that YAML knows: a line that begins with "---"
// (a document begins; what follows on the line belongs to it) or "..." (it
// ends). YAML allows neither inside of any scalar. Doing this here gives each
// object its own text, and a fault in one document hides none in the next.
func documents(data []byte) func(yield func(document) bool) {
	return func(yield func(document) bool) {
		start, line, startLine := 0, int32(0), int32(0)
		for at := 0; at < len(data); {
			end := len(data)
			if n := bytes.IndexByte(data[at:], '\n'); n >= 0 {
				end = at + n + 1
			}
			if mark := markOf(data[at:end]); mark != noMark {
				if !yield(document{data[start:at], startLine}) {
					return
				}
				start, startLine = at, line
				if mark == bareMark {
					start, startLine = end, line+1
				}
			}
			at = end
			line++
		}
		yield(document{data[start:], startLine})
	}
}

type mark uint8

const (
	noMark   mark = iota
	bareMark      // the line is nothing but a mark and perhaps a comment
	fullMark      // content follows the mark
)

func markOf(line []byte) mark {
	if len(line) < 3 || string(line[:3]) != "---" && string(line[:3]) != "..." {
		return noMark
	}
	rest := line[3:]
	if len(rest) > 0 && !bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[0])) {
		return noMark
	}
	if rest = bytes.TrimSpace(rest); len(rest) == 0 || rest[0] == '#' {
		return bareMark
	}
	return fullMark
}

// empty says whether there are only blank lines and comments.
func (doc document) empty() bool {
	for line := range bytes.Lines(doc.text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// document decodes one document.
func (d *decoder) document(doc document, fast bool) (spec.Object, bool) {
	d.before, d.object, d.path = doc.before, spec.Ref{}, d.path[:0]
	kept, faults := len(d.problems), d.faults
	if fast {
		if text, runs := cutRuns(string(doc.text)); len(runs) > 0 {
			if root, err := decodeTree(text); err == nil {
				d.runs, d.runsUsed = runs, 0
				o := d.root(root, doc)
				d.runs = nil
				if d.runsUsed == len(runs) {
					return o, d.faults == faults
				}
			}
			// What looked like list elements was something else (lines of a
			// block scalar, say), or there is a fault in the rest: the library
			// reads it all, for the right message on the right line.
			d.problems, d.faults, d.object = d.problems[:kept], faults, spec.Ref{}
		}
	}
	root, err := decodeTree(doc.text)
	if err != nil {
		line, what := splitLine(err)
		d.problem(spec.Pos{Line: line}, what, "")
		return spec.Object{}, false
	}
	o := d.root(root, doc)
	return o, d.faults == faults
}

// decodeTree gives the root node of a document. It turns a panic of the library
// into an error: whatever a user feeds to viarule, it must end with a message.
func decodeTree(text []byte) (root *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, fmt.Errorf("the YAML library gives up: %v", r)
		}
	}()
	if len(text) > MaxTree {
		return nil, fmt.Errorf("more than %d MiB of YAML in one document; write each route and rule as one `- {…}` on a line, or split the object", MaxTree>>20)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var n yaml.Node
	if err := dec.Decode(&n); err != nil {
		return nil, err
	}
	if len(n.Content) != 1 {
		return nil, fmt.Errorf("there is no object")
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case err == nil:
		// A lone carriage return ends a line for YAML, but nowhere else.
		return nil, fmt.Errorf("a second document begins in the middle of a line; end lines with a line feed")
	case err != io.EOF:
		return nil, err
	}
	return n.Content[0], nil
}

var (
	yamlLine    = regexp.MustCompile(`^line (\d+): `)
	parserError = regexp.MustCompile(`^did not find expected (<|'-' indicator|key|node content|',' or)`)
)

// splitLine takes a message of the YAML library apart: "yaml: line 3: what".
func splitLine(err error) (int32, string) {
	what := strings.TrimPrefix(err.Error(), "yaml: ")
	line := int32(1)
	if m := yamlLine.FindStringSubmatch(what); m != nil {
		n, _ := strconv.ParseInt(m[1], 10, 32)
		line, what = int32(n), what[len(m[0]):]
		// The library counts the lines of its parser's errors from 0, those of
		// its scanner's from 1.
		if parserError.MatchString(what) {
			line++
		}
	}
	return line, "not YAML: " + what
}
