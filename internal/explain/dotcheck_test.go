package explain_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// A value of an attribute: a word, a string in quotes that ends where it began, or a
// label in Graphviz's HTML, which encoding/xml checks.
const dotValue = `(?:[a-zA-Z0-9.]+|"(?:[^"\\\n]|\\["\\nN])*"|<[^\n]*>)`

var (
	dotAttrs = regexp.MustCompile(`^([a-z]+)=(` + dotValue + `)(?:, )?`)
	dotNode  = regexp.MustCompile(`^  ([a-z]+[0-9_a-z]*) \[(.*)\];$`)
	dotEdge  = regexp.MustCompile(`^  ([a-z]+[0-9_a-z]*)(:r[0-9]+)? -> ([a-z]+[0-9_a-z]*) \[(.*)\];$`)
	dotRow   = regexp.MustCompile(`^  \{rank=same; [a-z0-9_]+( -> [a-z0-9_]+)* \[style=invis\]\}$`)
)

// checkDot reads a drawing: every line is well formed, every edge joins nodes that
// there are, and every way goes on until its end.
func checkDot(text string) error {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if n := len(lines); n < 2 || lines[0] != "digraph viarule {" || lines[n-1] != "}" {
		return errors.New("not a graph")
	}
	nodes := map[string]string{}
	ways := map[string]map[string][]string{}
	for _, line := range lines[1 : len(lines)-1] {
		if m := dotEdge.FindStringSubmatch(line); m != nil {
			attrs, err := parseAttrs(m[4])
			if err != nil {
				return fmt.Errorf("%w: %s", err, line)
			}
			label, ok := nodes[m[1]]
			if _, found := nodes[m[3]]; !ok || !found {
				return fmt.Errorf("a node is missing: %s", line)
			}
			if m[2] != "" && !strings.Contains(label, `port="`+m[2][1:]+`"`) {
				return fmt.Errorf("a port is missing: %s", line)
			}
			if c := attrs["class"]; c != "" {
				if ways[c] == nil {
					ways[c] = map[string][]string{}
				}
				ways[c][m[1]] = append(ways[c][m[1]], m[3])
			}
			continue
		}
		if dotRow.MatchString(line) {
			continue
		}
		m := dotNode.FindStringSubmatch(line)
		if m == nil {
			return fmt.Errorf("neither node nor edge: %s", line)
		}
		attrs, err := parseAttrs(m[2])
		if err != nil {
			return fmt.Errorf("%w: %s", err, line)
		}
		nodes[m[1]] = attrs["label"]
	}
	if ways[`"packet"`] == nil {
		return errors.New("no way of the packet")
	}
	for class, next := range ways {
		if err := checkWay(strings.Trim(class, `"`), next); err != nil {
			return err
		}
	}
	return nil
}

// checkWay follows a way: from each node that it comes to it goes on, but from its end.
func checkWay(name string, next map[string][]string) error {
	seen := map[string]bool{name: true}
	todo := []string{name}
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		if len(next[n]) == 0 && n != name+"_end" {
			return fmt.Errorf("the way of the %s stops at %s", name, n)
		}
		for _, to := range next[n] {
			if !seen[to] {
				seen[to] = true
				todo = append(todo, to)
			}
		}
	}
	if !seen[name+"_end"] {
		return fmt.Errorf("the way of the %s does not come to its end", name)
	}
	for from := range next {
		if !seen[from] {
			return fmt.Errorf("the way of the %s has a part of its own at %s", name, from)
		}
	}
	return nil
}

func parseAttrs(s string) (map[string]string, error) {
	attrs := map[string]string{}
	for s != "" {
		m := dotAttrs.FindStringSubmatch(s)
		if m == nil {
			return nil, fmt.Errorf("not an attribute: %s", s)
		}
		if m[2][0] == '<' {
			if err := checkLabel(m[2][1 : len(m[2])-1]); err != nil {
				return nil, err
			}
		}
		attrs[m[1]] = m[2]
		s = s[len(m[0]):]
	}
	return attrs, nil
}

// checkLabel reads a label in HTML: the elements that Graphviz has, none of them from
// a name.
func checkLabel(s string) error {
	d := xml.NewDecoder(strings.NewReader(s))
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := t.(type) {
		case xml.StartElement:
			if !slices.Contains([]string{"table", "tr", "td", "b", "br"}, e.Name.Local) {
				return fmt.Errorf("an element %s", e.Name.Local)
			}
		case xml.CharData, xml.EndElement:
		default:
			return fmt.Errorf("%T", t)
		}
	}
}
