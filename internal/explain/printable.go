package explain

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable shows what would not print, such as a change of the direction of writing
// in a table's name, as Go writes it. Names in an answer are anybody's.
func Printable(s string) string {
	var b strings.Builder
	for s != "" {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
		s = s[size:]
	}
	return b.String()
}
