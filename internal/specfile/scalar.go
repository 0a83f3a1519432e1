package specfile

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

type scalar uint8

const (
	stringScalar scalar = iota
	nullScalar
	boolScalar
	intScalar // a decimal number without leading zeros, or 0x and hexadecimal digits
	oddNumber // what else some YAML reader takes for a number, or for a date
)

// scalarKind says what a plain scalar is to YAML readers. The API server reads
// YAML 1.1 (yes, on and 010 are not strings there), this file's library mostly
// 1.2: what any of them takes for something else than a string is none here, so
// that nothing changes its meaning between a file and a cluster.
func scalarKind(n *yaml.Node) scalar {
	if n.Style&quoted != 0 {
		return stringScalar
	}
	s := n.Value
	if s == "" {
		return nullScalar
	}
	switch c := s[0]; {
	case c >= '0' && c <= '9':
		return digitsKind(s)
	case c == '-' || c == '+' || c == '.':
		if len(s) > 1 && (s[1] >= '0' && s[1] <= '9' || s[1] == '.' && c != '.') || isWord(s[1:], "inf", "nan") || isWord(s, ".inf", ".nan") {
			return oddNumber
		}
		return stringScalar
	case c == '~':
		if s == "~" {
			return nullScalar
		}
		return stringScalar
	}
	if len(s) > len("false") {
		return stringScalar
	}
	switch {
	case isWord(s, "null"):
		return nullScalar
	case isWord(s, "true", "false", "yes", "no", "on", "off", "y", "n"):
		return boolScalar
	}
	return stringScalar
}

// digitsKind is for scalars that begin with a digit: numbers, but also
// addresses, prefixes and ranges.
func digitsKind(s string) scalar {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	if digits == len(s) {
		if s[0] == '0' && len(s) > 1 {
			return oddNumber
		}
		return intScalar
	}
	if rest, ok := strings.CutPrefix(s, "0x"); ok {
		if rest != "" && strings.Trim(rest, "0123456789abcdefABCDEF") == "" {
			return intScalar
		}
		return hexLike(rest)
	}
	// Floats (1.5, 1e3), other bases (0b1, 0o7), digits with underscores, and
	// dates (2026-11-23). Two dots or a colon make it an address, "/" a prefix.
	if strings.ContainsAny(s, ":/") && !strings.ContainsAny(s, " T") || strings.Count(s, ".") > 1 {
		return stringScalar
	}
	if s[digits] == '-' {
		if strings.Count(s, "-") == 2 {
			return oddNumber
		}
		return stringScalar
	}
	if strings.Trim(s, "0123456789._eE+-boBO") == "" || strings.Trim(s, "0123456789-:.TtZz +") == "" {
		return oddNumber
	}
	return stringScalar
}

func hexLike(rest string) scalar {
	if strings.Trim(rest, "0123456789abcdefABCDEF_") == "" {
		return oddNumber
	}
	return stringScalar
}

func isWord(s string, words ...string) bool {
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return true
		}
	}
	return false
}
