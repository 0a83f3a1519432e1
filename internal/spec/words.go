package spec

import (
	"fmt"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// Word is a word that a user writes and what it means.
type Word[T any] struct {
	Text  string
	Value T
}

// The words of the keys that take one of a few.
var (
	FamilyWords    = []Word[netstate.Family]{{"IPv4", netstate.IPv4}, {"IPv6", netstate.IPv6}}
	ScopeWords     = []Word[netstate.Scope]{{"Global", netstate.ScopeGlobal}, {"Site", netstate.ScopeSite}, {"Link", netstate.ScopeLink}, {"Host", netstate.ScopeHost}}
	RouteTypeWords = []Word[netstate.RouteType]{
		{"Unicast", netstate.RouteUnicast}, {"Blackhole", netstate.RouteBlackhole}, {"Unreachable", netstate.RouteUnreachable},
		{"Prohibit", netstate.RouteProhibit}, {"Local", netstate.RouteLocal}, {"Throw", netstate.RouteThrow},
	}
	DeletionWords     = []Word[DeletionPolicy]{{"Delete", DeletePolicy}, {"Orphan", OrphanPolicy}}
	ReturnPathWords   = []Word[ReturnPath]{{"Auto", ReturnAuto}, {"SourceRule", ReturnSourceRule}, {"ConnectionMark", ReturnConnectionMark}}
	FilterWords       = []Word[ReversePathFilter]{{"Keep", FilterKeep}, {"Loose", FilterLoose}, {"Disabled", FilterDisabled}, {"Exempt", FilterExempt}}
	InterconnectWords = []Word[Interconnect]{{"Static", InterconnectStatic}, {"BGP", InterconnectBGP}}
	ForwardingWords   = []Word[Forwarding]{{"Allow", ForwardingAllow}, {"Keep", ForwardingKeep}}
	MasqueradeWords   = []Word[Masquerade]{{"None", MasqueradeNone}, {"Outside", MasqueradeOutside}}
	VerdictWords      = []Word[ExpectedVerdict]{{"Forwarded", ExpectForwarded}, {"Delivered", ExpectDelivered}, {"Sent", ExpectSent}, {"Dropped", ExpectDropped}}
)

// ParseWord reads one of the words.
func ParseWord[T any](s string, words []Word[T]) (T, error) {
	names := make([]string, len(words))
	for i, w := range words {
		if w.Text == s {
			return w.Value, nil
		}
		names[i] = w.Text
	}
	var zero T
	return zero, valueErrorf(instead(s, names, "write one of "), "%q is not known", clip(s))
}

// FormatWord is what ParseWord reads.
func FormatWord[T comparable](v T, words []Word[T]) string {
	for _, w := range words {
		if w.Value == v {
			return w.Text
		}
	}
	return fmt.Sprint(v)
}

// UnknownKey is the error of a key that is none of the known ones.
func UnknownKey(key string, known []string) *ValueError {
	return valueErrorf(instead(key, known, "known are "), "unknown key %q", clip(key))
}

// instead says what may be written in place of a word that is not known.
func instead(word string, known []string, all string) string {
	if like := similar(word, known); like != "" {
		return "did you mean " + like + "?"
	}
	return all + strings.Join(known, ", ")
}
