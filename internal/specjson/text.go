package specjson

import (
	"bytes"
	"encoding/json"
)

// What is here takes apart text that is known to be JSON, so that only the ends
// of things have to be found. json.Decoder, which would find them and tell keys
// that are written twice, takes several times as long.

// kind is the type of a value.
type kind uint8

const (
	null kind = iota
	boolean
	number
	text
	list
	object
)

func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "a list", "an object"}[k]
}

// kindOf takes a value without space around it.
func kindOf(v json.RawMessage) kind {
	switch v[0] {
	case '{':
		return object
	case '[':
		return list
	case '"':
		return text
	case 't', 'f':
		return boolean
	case 'n':
		return null
	}
	return number
}

// each gives the elements of an object or of a list (with the key ""), until f
// says no.
func each(v json.RawMessage, f func(key string, value json.RawMessage) bool) {
	at := skipSpace(v, 1)
	for v[at] != '}' && v[at] != ']' {
		key := ""
		if v[0] == '{' {
			end := skipValue(v, at)
			key = unquote(v[at:end])
			at = skipSpace(v, skipSpace(v, end)+len(":"))
		}
		end := skipValue(v, at)
		if !f(key, v[at:end]) {
			return
		}
		if at = skipSpace(v, end); v[at] == ',' {
			at = skipSpace(v, at+1)
		}
	}
}

func skipSpace(v json.RawMessage, at int) int {
	for v[at] == ' ' || v[at] == '\t' || v[at] == '\n' || v[at] == '\r' {
		at++
	}
	return at
}

// skipValue gives the end of the value that begins at at.
func skipValue(v json.RawMessage, at int) int {
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

// unquote gives what a string stands for; bytes that are no UTF-8, and halves of
// surrogate pairs, become U+FFFD, which no value may contain.
func unquote(v json.RawMessage) string {
	inner := v[1 : len(v)-1]
	plain := true
	for _, c := range inner {
		plain = plain && c < 0x80 && c != '\\'
	}
	if plain {
		return string(inner)
	}
	var s string
	_ = json.Unmarshal(v, &s) // it is a string in JSON
	return s
}
