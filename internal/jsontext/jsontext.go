// Package jsontext reads and writes JSON as text, for programs that must start fast: a
// CNI plugin lives for two milliseconds, of which encoding/json with its reflection
// takes a fifth.
//
// What it takes for JSON is what encoding/json takes, and a string stands for the same:
// that package is the oracle of the tests. Parse checks a whole text, so that nothing of
// it can fail to be JSON later:
//
//	v, err := jsontext.Parse(data)
//	v.Each(func(key string, value jsontext.Value) bool { ... })
//
// Nothing that a text contains makes it panic, and no nesting makes it use much memory.
package jsontext

import (
	"bytes"
	"strconv"
)

// Value is the text of one JSON value, without space around it. The methods are for
// one that Parse gave, or that is part of such a one; a nil Value counts as null.
type Value []byte

// Kind is the type of a value.
type Kind uint8

// The types of values.
const (
	Null Kind = iota
	Boolean
	Number
	String
	List
	Object
)

// String names the type in a sentence.
func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// Kind is the type of v.
func (v Value) Kind() Kind {
	if len(v) == 0 {
		return Null
	}
	switch v[0] {
	case '{':
		return Object
	case '[':
		return List
	case '"':
		return String
	case 't', 'f':
		return Boolean
	case 'n':
		return Null
	}
	return Number
}

// Each shows the values of an object with their keys, in their order and also those
// whose key came before, or those of a list (with the key ""), until f says no.
func (v Value) Each(f func(key string, value Value) bool) {
	at := skipSpace(v, 1)
	for v[at] != '}' && v[at] != ']' {
		key := ""
		if v[0] == '{' {
			end := skipValue(v, at)
			key = v[at:end].Text()
			at = skipSpace(v, skipSpace(v, end)+len(":"))
		}
		end := skipValue(v, at)
		if !f(key, v[at:end:end]) {
			return
		}
		if at = skipSpace(v, end); v[at] == ',' {
			at = skipSpace(v, at+1)
		}
	}
}

func skipSpace(v Value, at int) int {
	for v[at] == ' ' || v[at] == '\t' || v[at] == '\n' || v[at] == '\r' {
		at++
	}
	return at
}

// skipValue gives the end of the value that begins at at.
func skipValue(v Value, at int) int {
	depth := 0
	for {
		switch v[at] {
		case '"':
			for at++; v[at] != '"'; at++ {
				if v[at] == '\\' {
					at++
				}
			}
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		default:
			if depth > 0 {
				break
			}
			if n := bytes.IndexAny(v[at:], ",]} \t\n\r"); n >= 0 {
				return at + n
			}
			return len(v)
		}
		if at++; depth == 0 {
			return at
		}
	}
}

// Text is what a string stands for. Bytes that are no UTF-8, and halves of surrogate
// pairs, become U+FFFD.
func (v Value) Text() string {
	inner := v[1 : len(v)-1]
	for _, c := range inner {
		if c >= 0x80 || c == '\\' {
			return unescape(inner)
		}
	}
	return string(inner)
}

// Int is what a number stands for, where it is written as a whole one that an int can
// hold: 1.0 and 1e3 are not.
func (v Value) Int() (int, bool) {
	n, err := strconv.Atoi(string(v))
	return n, err == nil
}
