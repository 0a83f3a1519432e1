package jsontext

import (
	"errors"
	"strconv"
)

// maxDepth is how deep values may be nested: encoding/json's limit.
const maxDepth = 10_000

var (
	errEnd   = errors.New("unexpected end of JSON input")
	errDepth = errors.New("exceeded max depth")
)

// Parse checks that data is one JSON value, with space around it or not. The value is
// part of data. Errors have encoding/json's words.
func Parse(data []byte) (Value, error) {
	p := parser{data: data}
	p.space()
	start := p.at
	if err := p.value(); err != nil {
		return nil, err
	}
	end := p.at
	if p.space(); p.at < len(data) {
		return nil, p.unexpected("after top-level value")
	}
	return data[start:end:end], nil
}

type parser struct {
	data []byte
	at   int
	open []byte // the brackets that are not closed yet
}

func (p *parser) space() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

func (p *parser) unexpected(where string) error {
	if p.at >= len(p.data) {
		return errEnd
	}
	return errors.New("invalid character " + quote(p.data[p.at]) + " " + where)
}

func quote(c byte) string {
	switch c {
	case '\'':
		return `'\''`
	case '"':
		return `'"'`
	}
	s := strconv.Quote(string(rune(c)))
	return "'" + s[1:len(s)-1] + "'"
}

// next steps over c, where it is what comes.
func (p *parser) next(c byte) bool {
	ok := p.at < len(p.data) && p.data[p.at] == c
	if ok {
		p.at++
	}
	return ok
}

// value steps over a value. What is open is kept in a list, and not in calls of itself:
// a text of brackets alone must not cost a stack.
func (p *parser) value() error {
	for {
		// A value begins here, or a list or object ends that has none.
		if p.at >= len(p.data) {
			return p.unexpected("looking for beginning of value")
		}
		switch c := p.data[p.at]; c {
		case '{', '[':
			p.at++
			if len(p.open) == maxDepth {
				return errDepth
			}
			p.open = append(p.open, c)
			p.space()
			if p.next(c + 2) { // the closing bracket of each, in ASCII
				p.open = p.open[:len(p.open)-1]
				break
			}
			if c == '{' {
				if err := p.key(); err != nil {
					return err
				}
			}
			continue
		default:
			if err := p.scalar(c); err != nil {
				return err
			}
		}
		// A value has ended here.
		for {
			if len(p.open) == 0 {
				return nil
			}
			p.space()
			c := p.open[len(p.open)-1]
			if p.next(',') {
				p.space()
				if c == '{' {
					if err := p.key(); err != nil {
						return err
					}
				}
				break
			}
			if !p.next(c + 2) {
				if c == '{' {
					return p.unexpected("after object key:value pair")
				}
				return p.unexpected("after array element")
			}
			p.open = p.open[:len(p.open)-1]
		}
	}
}

// key steps over a key and its colon.
func (p *parser) key() error {
	if p.at >= len(p.data) || p.data[p.at] != '"' {
		return p.unexpected("looking for beginning of object key string")
	}
	if err := p.text(); err != nil {
		return err
	}
	p.space()
	if !p.next(':') {
		return p.unexpected("after object key")
	}
	p.space()
	return nil
}

func (p *parser) scalar(c byte) error {
	switch {
	case c == '"':
		return p.text()
	case c == 't':
		return p.word("true")
	case c == 'f':
		return p.word("false")
	case c == 'n':
		return p.word("null")
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	return p.unexpected("looking for beginning of value")
}

func (p *parser) word(w string) error {
	for i := range len(w) {
		if !p.next(w[i]) {
			return p.unexpected("in literal " + w + " (expecting " + quote(w[i]) + ")")
		}
	}
	return nil
}

// text steps over a string.
func (p *parser) text() error {
	for p.at++; p.at < len(p.data); p.at++ {
		switch c := p.data[p.at]; {
		case c == '"':
			p.at++
			return nil
		case c < ' ':
			return p.unexpected("in string literal")
		case c == '\\':
			if err := p.escape(); err != nil {
				return err
			}
		}
	}
	return p.unexpected("in string literal")
}

// escape steps over a backslash and what belongs to it, but for the last byte.
func (p *parser) escape() error {
	if p.at++; p.at >= len(p.data) {
		return p.unexpected("in string escape code")
	}
	switch p.data[p.at] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		for range 4 {
			if p.at++; p.at >= len(p.data) || !isHex(p.data[p.at]) {
				return p.unexpected(`in \u hexadecimal character escape`)
			}
		}
		return nil
	}
	return p.unexpected("in string escape code")
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func (p *parser) digits() bool {
	start := p.at
	for p.at < len(p.data) && p.data[p.at] >= '0' && p.data[p.at] <= '9' {
		p.at++
	}
	return p.at > start
}

func (p *parser) number() error {
	p.next('-')
	if !p.next('0') && !p.digits() {
		return p.unexpected("in numeric literal")
	}
	if p.next('.') && !p.digits() {
		return p.unexpected("after decimal point in numeric literal")
	}
	if p.next('e') || p.next('E') {
		if !p.next('+') {
			p.next('-')
		}
		if !p.digits() {
			return p.unexpected("in exponent of numeric literal")
		}
	}
	return nil
}
