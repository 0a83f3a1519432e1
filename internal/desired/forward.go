package desired

import (
	"fmt"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// Forward asks that what comes in and goes out by links is forwarded, though a chain
// of somebody else's drops by its policy what no rule of it accepts. What to do about
// it follows from the chains that there are.
type Forward struct {
	Links  string // the beginning of their names and a *: "via*"
	Origin Origin
}

// Accept is a wanted accept in a chain of somebody else's.
type Accept struct {
	netstate.Accept
	Origin Origin
}

// buildAccepts works out which chains need an accept: a base chain whose policy is to
// drop, unless a rule accepts everything before. It says of each chain that loses
// packets in spite of it which rule does so.
func (b *builder) buildAccepts() {
	for _, f := range b.want.Forward {
		comment := netstate.AcceptComment(f.Origin.Object.Ref.String())
		for i := range b.facts.State.Forward {
			c := &b.facts.State.Forward[i]
			if end, ok := c.Ends(len(c.Rules)); !c.Drop || ok && end.Op == netstate.NftAccept {
				continue
			}
			if len(comment) > netstate.MaxAcceptComment {
				b.fail(part{obj: f.Origin.Object, pos: f.Origin.Pos, path: "metadata.name"},
					fmt.Sprintf("the chain %s drops forwarded packets by its policy, and the name of the object is too long for the comment of a rule there", c.NftName),
					fmt.Sprintf("give it a name of %d characters at most", netstate.MaxAcceptComment-len(comment)+len(f.Origin.Object.Name)))
				break
			}
			b.want.Accepts = append(b.want.Accepts,
				Accept{netstate.Accept{NftName: c.NftName, In: f.Links, Comment: comment}, f.Origin},
				Accept{netstate.Accept{NftName: c.NftName, Out: f.Links, Comment: comment}, f.Origin})
		}
		b.noteLegacy(&f)
	}
}

// noteLegacy says what to type where the old iptables drops forwarded packets:
// viarule writes nothing there.
func (b *builder) noteLegacy(f *Forward) {
	comment := netstate.AcceptComment(f.Origin.Object.Ref.String())
	pattern := strings.TrimSuffix(f.Links, "*") + "+"
	for _, l := range b.facts.Around.LegacyForward {
		program := "iptables-legacy"
		if l.Family == netstate.IPv6 {
			program = "ip6tables-legacy"
		}
		var lines []string
		for _, side := range []struct {
			option string
			there  []string
		}{{"-i", l.In}, {"-o", l.Out}} {
			if !slices.Contains(side.there, f.Links) {
				lines = append(lines, fmt.Sprintf("`%s -A FORWARD %s %s -m comment --comment %q -j ACCEPT`", program, side.option, pattern, comment))
			}
		}
		if len(lines) == 0 || l.Known && !l.Drop {
			continue
		}
		what := "drops by its policy what it does not accept"
		if !l.Known {
			what = "could not be read, and may drop by its policy what it does not accept"
		}
		b.want.Notes = append(b.want.Notes, Note{f.Origin.Object.Ref, fmt.Sprintf(
			"the chain FORWARD of the old iptables (%s) %s; viarule changes nothing there: type %s", program, what, strings.Join(lines, " and "))})
	}
}
