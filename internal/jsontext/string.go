package jsontext

import (
	"unicode/utf16"
	"unicode/utf8"
)

// unescape reads the inside of a string.
func unescape(in []byte) string {
	out := make([]byte, 0, len(in))
	for i := 0; i < len(in); {
		switch c := in[i]; {
		case c == '\\':
			i++
			switch c := in[i]; c {
			case 'u':
				r, size := escaped(in[i:])
				out = utf8.AppendRune(out, r)
				i += size
				continue
			case 'b':
				out = append(out, '\b')
			case 'f':
				out = append(out, '\f')
			case 'n':
				out = append(out, '\n')
			case 'r':
				out = append(out, '\r')
			case 't':
				out = append(out, '\t')
			default:
				out = append(out, c)
			}
			i++
		case c < utf8.RuneSelf:
			out = append(out, c)
			i++
		default:
			r, size := utf8.DecodeRune(in[i:])
			out = utf8.AppendRune(out, r)
			i += size
		}
	}
	return string(out)
}

// escaped reads uXXXX, or the two of a surrogate pair.
func escaped(in []byte) (r rune, size int) {
	r, size = hex4(in[1:]), len("uXXXX")
	if !utf16.IsSurrogate(r) {
		return r, size
	}
	if rest := in[size:]; len(rest) >= len(`\uXXXX`) && rest[0] == '\\' && rest[1] == 'u' {
		if pair := utf16.DecodeRune(r, hex4(rest[2:])); pair != utf8.RuneError {
			return pair, size + len(`\uXXXX`)
		}
	}
	return utf8.RuneError, size
}

func hex4(in []byte) (r rune) {
	for _, c := range in[:4] {
		switch {
		case c <= '9':
			c -= '0'
		case c <= 'F':
			c -= 'A' - 10
		default:
			c -= 'a' - 10
		}
		r = r<<4 | rune(c)
	}
	return r
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string, as encoding/json does: what HTML or
// JavaScript could take for its own is escaped, and bytes that are no UTF-8 become
// U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		plain := i
		for i < len(s) && isPlain[s[i]] {
			i++
		}
		if b = append(b, s[plain:i]...); i == len(s) {
			break
		}
		c := s[i]
		if c >= utf8.RuneSelf {
			switch r, size := utf8.DecodeRuneInString(s[i:]); {
			case r == utf8.RuneError && size == 1:
				b = append(b, `\ufffd`...)
				i++
			case r == '\u2028' || r == '\u2029':
				b = append(b, `\u202`...)
				b = append(b, hexDigits[r&0xf])
				i += size
			default:
				b = append(b, s[i:i+size]...)
				i += size
			}
			continue
		}
		i++
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\b':
			b = append(b, `\b`...)
		case c == '\f':
			b = append(b, `\f`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&0xf])
		}
	}
	return append(b, '"')
}

// isPlain says which bytes stand for themselves in a JSON string.
var isPlain = func() (plain [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		plain[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return plain
}()
