// Package specjson reads rules and routes from JSON, in the words that
// RoutingPolicy has for them in YAML (package specfile, which says what they
// mean), for programs that must start fast and be small.
//
// It reads as strictly: each key is known and written once, each value has the
// type that the custom resource definition gives it, numbers are whole and in
// plain decimal digits, and the whole must pass what spec.Validate demands of
// each rule and route. A key that is null is not a key that was left out. Only
// two things may be left out that RoutingPolicy wants: a rule's action, and a
// route's dev. Nothing that the text contains makes it panic.
//
//	rules, problems := specjson.Rules("rules", []byte(`[{"from": ["192.0.2.0/24"], "priority": 300}]`))
package specjson

import (
	"fmt"

	"github.com/viarule/viarule/internal/jsontext"
	"github.com/viarule/viarule/internal/spec"
)

// Most is how many rules or routes a list may have; the other limits are those
// of the custom resource definition.
const Most = 256

// Problem is something wrong with what was read.
type Problem struct {
	Path string // rules[2].dport
	What string // what is wrong, without the path
	Do   string // what to do; may be empty
	// Type says that the text is not JSON, or that a value is of another type
	// than its key wants. Otherwise a value, or a key, is wrong or missing.
	Type bool
}

// String is `path: what; do`.
func (p Problem) String() string {
	s := p.Path + ": " + p.What
	if p.Do != "" {
		s += "; " + p.Do
	}
	return s
}

// Rules reads a list of rules, as spec.rules has them; path names it in the
// problems. Those without an action have Action 0. Where there is a problem,
// there are no rules. Positions are not set.
func Rules(path string, data []byte) ([]spec.Rule, []Problem) {
	return read(path, data, (*reader).rule, spec.ValidateRules)
}

// Routes reads a list of routes, as spec.tables[].routes has them; path names
// it in the problems. Dev is empty where it was left out: those for which
// TakesDev holds need the caller's to be right. Two routes to one destination
// with one metric are a problem. Where there is a problem, there are no routes.
// Positions are not set.
func Routes(path string, data []byte) ([]spec.Route, []Problem) {
	return read(path, data, (*reader).route, spec.ValidateRoutes)
}

func limits() spec.Limits {
	l := spec.ClusterLimits()
	l.Rules, l.Routes = Most, Most
	return l
}

// read reads a list of things, and checks their meaning where all could be read.
func read[T any](path string, data []byte, each func(*reader, jsontext.Value) T, validate func(string, []T, spec.Limits) []spec.Problem) ([]T, []Problem) {
	r := &reader{path: path}
	// Once all of it is known to be JSON, no part of it can fail to be.
	all, err := jsontext.Parse(data)
	if err != nil {
		r.typed("not JSON: "+err.Error(), "")
		return nil, r.done()
	}
	var list []T
	more := false
	r.list(all, func(e jsontext.Value) bool {
		if more = len(list) == Most; !more {
			list = append(list, each(r, e))
		}
		return !more
	})
	if more {
		r.fail(fmt.Sprintf("there are more than %d", Most), "leave some out")
	}
	if r.faults > 0 {
		return nil, r.done()
	}
	for _, p := range validate(path, list, limits()) {
		r.add(Problem{Path: p.Path, What: p.What, Do: p.Do})
	}
	if r.faults > 0 {
		return nil, r.done()
	}
	return list, nil
}
