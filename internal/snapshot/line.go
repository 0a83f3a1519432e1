package snapshot

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/viarule/viarule/internal/netstate"
)

var errUnprintable = errors.New("a character that cannot be printed: no name in a snapshot may have one")

// checkLine refuses a line that holds, as it stands or behind a quote's backslash, a
// character that is not for people to see. A terminal obeys control characters, and
// what a stranger's snapshot holds is printed.
func checkLine(line string) error {
	plain, escapes := true, false
	for i := range len(line) {
		plain = plain && ' ' <= line[i] && line[i] < 0x7f
		escapes = escapes || line[i] == '\\'
	}
	if !plain && !printable(line) {
		return errUnprintable
	}
	if !escapes {
		return nil
	}
	words, err := netstate.SplitWords(line)
	if err != nil {
		return err
	}
	for _, w := range words {
		if !printable(w) {
			return errUnprintable
		}
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' })
}

// limits bound a file, for who reads one as for who writes one. The one for
// nftables is of its own, since a word there takes more memory than any other.
type limits struct {
	size  int // bytes
	line  int // bytes of a line
	lines int // and next hops of routes
	nft   int // bytes of all lines of nftables
}

// fileLimits hold 2 million routes, and what viarule holds of them. A line holds a
// route with all the next hops that a message of the kernel has room for.
var fileLimits = limits{size: 256 << 20, line: 1 << 20, lines: 4_000_000, nft: 16 << 20}

// usage is how much of the limits lines have taken.
type usage struct {
	max              limits
	size, lines, nft int
}

// add takes in a line, and says what is wrong with it.
func (u *usage) add(line string) error {
	u.size += len(line) + 1
	// Each next hop of a route counts as a line: it takes as little text as any.
	u.lines += 1 + strings.Count(line, " nexthop")
	if strings.HasPrefix(line, nftPrefix) || strings.HasPrefix(line, forwardPrefix) {
		u.nft += len(line) + 1
	}
	switch {
	case len(line) > u.max.line:
		return fmt.Errorf("it has more than %d bytes", u.max.line)
	case u.size > u.max.size:
		return errSize(u.max)
	case u.lines > u.max.lines:
		return fmt.Errorf("the snapshot has more than %d lines and next hops", u.max.lines)
	case u.nft > u.max.nft:
		return fmt.Errorf("the snapshot has more than %d bytes of nftables", u.max.nft)
	}
	return checkLine(line)
}

func errSize(max limits) error { return fmt.Errorf("the snapshot has more than %d MiB", max.size>>20) }
