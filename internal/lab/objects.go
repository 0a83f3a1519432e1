package lab

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// readObjects reads one item of a host's objects: the name of a file beside the
// lab file, or an object written out in it. What is wrong in the objects is wrong
// in the lab; warnings are left to whoever applies them. It also gives the links
// that the objects will make.
func readObjects(v value, host string, text []byte, dir *os.Root) (Objects, []Link, bool) {
	var o Objects
	switch {
	case v.n.Kind == yaml.MappingNode:
		o = Objects{File: v.r.file, Text: cut(text, v.n)}
	default:
		name := v.name(fileName.MatchString, "objects are in the lab file or in a file beside it, named without a path")
		if name == "" {
			return o, nil, false
		}
		if dir == nil {
			v.bad("write the object itself here", "a lab that is not read from a file has no files beside it")
			return o, nil, false
		}
		body, err := readBeside(dir, name)
		if err != nil {
			v.bad("", "cannot read %s: %v", name, err)
			return o, nil, false
		}
		o = Objects{File: filepath.Join(dir.Name(), name), Text: body}
	}
	list, problems := specfile.Parse(o.File, o.Text)
	for i := range problems {
		if problems[i].Severity == spec.Error && len(v.r.problems) < maxProblems {
			v.r.problems = append(v.r.problems, problems[i])
		}
	}
	return o, madeBy(list, host), true
}

// madeBy gives the links that objects make.
func madeBy(objects []spec.Object, host string) []Link {
	var out []Link
	for i := range objects {
		if x := objects[i].External; x != nil && x.Interface.VLAN != nil {
			v := x.Interface.VLAN
			out = append(out, Link{Kind: VLAN, Ends: []End{{Host: host, Name: x.Interface.Name}}, Parent: v.Parent, ID: v.ID})
		}
	}
	return out
}

// readBeside reads a file of the lab's folder; os.Root sees to it that a
// symbolic link does not lead out of it.
func readBeside(dir *os.Root, name string) ([]byte, error) {
	// Not an open FIFO that blocks, nor a device.
	info, err := dir.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, os.ErrInvalid
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f)
}

// cut gives the part of text that node stands for as a document of its own, with
// every line where it was, so that what is said of it later names the lab file's
// lines.
func cut(text []byte, node *yaml.Node) []byte {
	lines := bytes.Split(text, []byte("\n"))
	indent := node.Column - 1
	var out bytes.Buffer
	for i := 1; i < node.Line; i++ {
		out.WriteByte('\n')
	}
	for i := node.Line - 1; i < len(lines); i++ {
		line := bytes.TrimRight(lines[i], "\r")
		inner := bytes.TrimLeft(line, " ")
		if i > node.Line-1 && len(line)-len(inner) < indent {
			if len(inner) > 0 && inner[0] != '#' {
				break // the parent goes on
			}
			line = nil
		}
		out.Write(line[min(indent, len(line)):])
		out.WriteByte('\n')
	}
	// An object in flow style, {...}, may not stand alone on its lines. Then the
	// library writes it anew: the line of its beginning is still right.
	var again, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(out.Bytes()))
	if dec.Decode(&again) == nil && len(again.Content) == 1 && same(again.Content[0], node) && errors.Is(dec.Decode(&more), io.EOF) {
		return out.Bytes()
	}
	out.Reset()
	for i := 1; i < node.Line; i++ {
		out.WriteByte('\n')
	}
	enc := yaml.NewEncoder(&out)
	if enc.Encode(node) != nil || enc.Close() != nil {
		return nil // a node that came from YAML can be written as YAML
	}
	return out.Bytes()
}

// same says whether two nodes hold the same values.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.Tag != b.Tag || a.Value != b.Value || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !same(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}
