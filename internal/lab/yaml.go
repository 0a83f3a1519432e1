package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/viarule/viarule/internal/spec"
)

// maxProblems ends the reading of a file that has nothing right in it.
const maxProblems = 50

// reader collects what is wrong while a file is read.
type reader struct {
	file     string
	ref      spec.Ref
	problems []spec.Problem
}

// value is a node of the file with its path. The zero node stands for a value
// that is not there or that was complained about: reading it gives zero values
// and no further complaint.
type value struct {
	r    *reader
	n    *yaml.Node
	path string
}

func pos(n *yaml.Node) spec.Pos {
	if n == nil {
		return spec.Pos{}
	}
	return spec.Pos{Line: int32(n.Line), Col: int32(n.Column)}
}

// bad notes a problem; do says what to do and may be empty.
func (v value) bad(do, format string, args ...any) {
	if len(v.r.problems) < maxProblems {
		v.r.problems = append(v.r.problems, spec.Problem{
			Object: v.r.ref, File: v.r.file, Pos: pos(v.n), Path: v.path, What: fmt.Sprintf(format, args...), Do: do,
		})
	}
}

func (v value) there() bool { return v.n != nil }

// quoted gives a part of the file for an error message: short, without control
// characters.
func quoted(s string) string {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return strconv.QuoteToASCII(s)
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.Tag == "!!null" {
		return "nothing"
	}
	return quoted(n.Value)
}

// fields reads a mapping and complains of keys that are not known or there twice.
func (v value) fields(known ...string) map[string]value {
	if !v.there() {
		return map[string]value{}
	}
	if v.n.Kind != yaml.MappingNode {
		v.bad("keys here are "+strings.Join(known, ", "), "a mapping is wanted here, not %s", kindOf(v.n))
		return map[string]value{}
	}
	out := make(map[string]value, len(v.n.Content)/2)
	for i := 0; i+1 < len(v.n.Content); i += 2 {
		key, val := v.n.Content[i], v.n.Content[i+1]
		at := value{v.r, key, v.path}
		_, twice := out[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value):
			at.bad("keys here are "+strings.Join(known, ", "), "unknown key %s", kindOf(key))
		case twice:
			at.bad("", "the key %s is here twice", key.Value)
		default:
			out[key.Value] = value{v.r, val, join(v.path, key.Value)}
		}
	}
	// What is absent knows its parent, to say where it is missed.
	for _, k := range known {
		if _, ok := out[k]; !ok {
			out[k] = value{r: v.r, path: join(v.path, k)}
		}
	}
	return out
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// need complains, at v, of keys that are missing among f.
func (v value) need(f map[string]value, keys ...string) {
	if !v.there() || v.n.Kind != yaml.MappingNode {
		return
	}
	for _, k := range keys {
		if !f[k].there() {
			v.bad("", "%s is missing", k)
		}
	}
}

// list reads a sequence of at most limit items.
func (v value) list(limit int) []value {
	if !v.there() {
		return nil
	}
	if v.n.Kind != yaml.SequenceNode {
		v.bad("", "a list is wanted here, not %s", kindOf(v.n))
		return nil
	}
	if len(v.n.Content) > limit {
		v.bad("", "%d items are too many; the limit is %d", len(v.n.Content), limit)
		return nil
	}
	out := make([]value, len(v.n.Content))
	for i, n := range v.n.Content {
		out[i] = value{v.r, n, fmt.Sprintf("%s[%d]", v.path, i)}
	}
	return out
}

// text reads a scalar as it is written.
func (v value) text() string {
	if !v.there() {
		return ""
	}
	if v.n.Kind != yaml.ScalarNode || v.n.Tag == "!!null" {
		v.bad("", "a value is wanted here, not %s", kindOf(v.n))
		return ""
	}
	return v.n.Value
}

// name reads a scalar that ok accepts; rule says what that is.
func (v value) name(ok func(string) bool, rule string) string {
	if !v.there() {
		return ""
	}
	n := len(v.r.problems)
	s := v.text()
	if len(v.r.problems) > n {
		return ""
	}
	if !ok(s) {
		v.bad(rule, "%s cannot be a name here", quoted(s))
		return ""
	}
	return s
}

// oneOf reads one of the given words, and gives def where nothing stands.
func (v value) oneOf(def string, words ...string) string {
	if !v.there() {
		return def
	}
	s := v.text()
	if !slices.Contains(words, s) {
		v.bad("write one of "+strings.Join(words, ", "), "%s is not known here", quoted(s))
		return def
	}
	return s
}

func (v value) number(lo, hi uint64) uint64 {
	if !v.there() {
		return 0
	}
	n, err := strconv.ParseUint(v.text(), 0, 64)
	if err != nil || n < lo || n > hi {
		v.bad("", "a number from %d to %d is wanted here, not %s", lo, hi, kindOf(v.n))
		return 0
	}
	return n
}

func (v value) boolean() bool {
	if !v.there() {
		return false
	}
	switch {
	case v.n.Kind != yaml.ScalarNode:
	case v.n.Value == "true":
		return true
	case v.n.Value == "false":
		return false
	}
	v.bad("", "true or false is wanted here, not %s", kindOf(v.n))
	return false
}

// parsed reads a scalar in the way of one of spec's Parse functions.
func parsed[T any](v value, parse func(string) (T, error)) T {
	var zero T
	if !v.there() {
		return zero
	}
	n := len(v.r.problems)
	s := v.text()
	if len(v.r.problems) > n {
		return zero
	}
	out, err := parse(s)
	if err == nil {
		return out
	}
	var e *spec.ValueError
	if errors.As(err, &e) {
		v.bad(e.Do, "%s", e.What)
	} else {
		v.bad("", "%v", err)
	}
	return zero
}

// addr reads an address; the zero Addr where nothing stands.
func (v value) addr() netip.Addr { return parsed(v, spec.ParseAddr) }

// prefix reads a prefix; a bare address stands for itself.
func (v value) prefix() netip.Prefix { return parsed(v, spec.ParsePrefix) }

// ifaceAddr reads an address with the length of its subnet.
func (v value) ifaceAddr() netip.Prefix {
	if !v.there() {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(v.text())
	if err != nil || p.Addr().Is4In6() || p.Addr().IsUnspecified() || p.Addr().IsMulticast() {
		v.bad("", "an address with its subnet's length is wanted here, as 192.0.2.1/24, not %s", kindOf(v.n))
		return netip.Prefix{}
	}
	return p
}
