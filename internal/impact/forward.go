package impact

import (
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// forwardText is what the forward chains of others, which packets of a family meet,
// hold.
func forwardText(s *netstate.State, f netstate.Family) string {
	var of netstate.State
	for i := range s.Forward {
		if name := s.Forward[i].Family; name == "inet" || (name == "ip6") == (f == netstate.IPv6) {
			of.Forward = append(of.Forward, s.Forward[i])
		}
	}
	return of.String()
}

// forwardLinks shows every comparison with a link's name in the forward chains of
// others.
func forwardLinks(s *netstate.State, show func(*netstate.NftStmt)) {
	rules := func(list []netstate.ForwardRule) {
		for i := range list {
			for j := range list[i].Rule {
				if s := &list[i].Rule[j]; s.Link != "" {
					show(s)
				}
			}
		}
	}
	for i := range s.Forward {
		rules(s.Forward[i].Rules)
		for j := range s.Forward[i].Subs {
			rules(s.Forward[i].Subs[j].Rules)
		}
	}
}

// nameForward notes the links that those chains ask for by their whole name.
func nameForward(named map[string]bool, s *netstate.State) {
	forwardLinks(s, func(c *netstate.NftStmt) {
		if c.Op != netstate.NftIIFPrefix && c.Op != netstate.NftOIFPrefix {
			named[c.Link] = true
		}
	})
}

// beginnings are what those chains compare the beginnings of names with, and begun
// says by which of them a name begins: links that differ in that are not alike.
func beginnings(s *netstate.State) (list []string) {
	seen := map[string]bool{}
	forwardLinks(s, func(c *netstate.NftStmt) {
		if (c.Op == netstate.NftIIFPrefix || c.Op == netstate.NftOIFPrefix) && !seen[c.Link] {
			seen[c.Link] = true
			list = append(list, c.Link)
		}
	})
	return list
}

func begun(name string, list []string) string {
	b := make([]byte, len(list))
	for i, s := range list {
		b[i] = '0'
		if strings.HasPrefix(name, s) {
			b[i] = '1'
		}
	}
	return string(b)
}
