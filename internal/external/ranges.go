package external

import (
	"net/netip"

	"github.com/viarule/viarule/internal/spec"
)

// prefixesOf gives the prefixes that together are just the addresses.
func prefixesOf(list []spec.Addresses) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range list {
		out = append(out, a.Prefixes()...)
	}
	return out
}

// within says whether all of the addresses are in the prefix.
func within(a spec.Addresses, p netip.Prefix) bool { return p.Contains(a.First) && p.Contains(a.Last) }
