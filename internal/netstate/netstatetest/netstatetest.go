// Package netstatetest helps tests of every package that handles netstate's
// types: it reads states, rules and routes from text, and has rapid generators
// for every kind.
//
// The generators give objects in canonical form that a kernel could hold, with
// numbers and prefixes drawn from small pools, so that objects meet (overlapping
// prefixes, shared tables and priorities) far more often than chance would have
// it. They shrink towards plain IPv4 objects.
package netstatetest

import (
	"testing"

	"github.com/viarule/viarule/internal/netstate"
)

// ParseState parses a state's text form and stops the test where it is wrong.
func ParseState(tb testing.TB, text string) netstate.State {
	tb.Helper()
	return must(tb, netstate.ParseState, text)
}

// ParseRule parses a rule's text form and stops the test where it is wrong.
func ParseRule(tb testing.TB, text string) netstate.Rule {
	tb.Helper()
	return must(tb, netstate.ParseRule, text)
}

// ParseRoute parses a route's text form and stops the test where it is wrong.
func ParseRoute(tb testing.TB, text string) netstate.Route {
	tb.Helper()
	return must(tb, netstate.ParseRoute, text)
}

// ParseChange parses a change's text form and stops the test where it is wrong.
func ParseChange(tb testing.TB, text string) netstate.Change {
	tb.Helper()
	return must(tb, netstate.ParseChange, text)
}

func must[T any](tb testing.TB, parse func(string) (T, error), text string) T {
	tb.Helper()
	v, err := parse(text)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}
