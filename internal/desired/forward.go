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

// Blocked is something wanted that is of no use as long as somebody else's object
// stands as it does.
type Blocked struct {
	Object string // of the others, in words
	What   string // what it does, and what to do about it
	Origin Origin
}

// buildAccepts works out which chains need an accept: a base chain whose policy is to
// drop, unless a rule accepts everything before. It says of each chain that loses
// packets in spite of it which rule does so.
func (b *builder) buildAccepts() {
	for i := range b.want.Forward {
		f := &b.want.Forward[i]
		for j := range b.facts.State.Forward {
			if c := &b.facts.State.Forward[j]; !c.Dormant {
				b.acceptIn(f, c)
			}
		}
		for j := range b.facts.Around.LegacyForward {
			b.legacy(f, &b.facts.Around.LegacyForward[j])
		}
	}
}

func (b *builder) acceptIn(f *Forward, c *netstate.ForwardChain) {
	object := f.Origin.Object
	comment := netstate.AcceptComment(object.Ref.String())
	if over := len(comment) - netstate.MaxAcceptComment; c.Drop && over > 0 {
		b.fail(part{obj: object, pos: f.Origin.Pos, path: "metadata.name"},
			fmt.Sprintf("the chain %s drops by its policy what is forwarded, and the name of the object is too long for the comment of a rule there", c.NftName),
			fmt.Sprintf("give it a name of %d characters at most", len(object.Name)-over))
		return
	}
	sides := []netstate.Accept{
		{NftName: c.NftName, In: f.Links, Comment: comment},
		{NftName: c.NftName, Out: f.Links, Comment: comment},
	}
	blocked := false
	for _, a := range sides {
		place := placeOf(c, &a)
		end, ends := c.Ends(place)
		switch needed := c.Drop && !(ends && end.Op == netstate.NftAccept); {
		case needed && !c.Owned:
			b.want.Accepts = append(b.want.Accepts, Accept{a, f.Origin})
		case needed && place == len(c.Rules) && !blocked:
			blocked = true
			b.want.Blocked = append(b.want.Blocked, Blocked{Object: "chain " + c.NftName.String(), Origin: f.Origin, What: fmt.Sprintf(
				"it drops by its policy what is forwarded, and its table belongs to a program that runs (flags owner), so that only that one can write there: have it add `iifname %q accept` and `oifname %q accept`", f.Links, f.Links)})
		}
		if ends && end.Loses(c) && !blocked {
			blocked = true
			b.want.Blocked = append(b.want.Blocked, Blocked{Object: "chain " + c.NftName.String(), Origin: f.Origin, What: fmt.Sprintf(
				"%s ends the chain for all packets, so that no accept behind it counts: put `iifname %q accept` and `oifname %q accept` in front of it, or remove it", end.Where, f.Links, f.Links)})
		}
	}
}

// placeOf is the place in a chain of the first rule that accepts what a does, whoever
// made it, or that one of viarule's would get.
func placeOf(c *netstate.ForwardChain, a *netstate.Accept) int {
	for i := range c.Rules {
		if there, ok := c.Accept(i); ok && there.In == a.In && there.Out == a.Out {
			return i
		}
	}
	return len(c.Rules)
}

// legacy says what to type where the old iptables drops what is forwarded: viarule
// writes nothing there.
func (b *builder) legacy(f *Forward, l *netstate.LegacyForward) {
	program := "iptables-legacy"
	if l.Family == netstate.IPv6 {
		program = "ip6tables-legacy"
	}
	pattern := strings.TrimSuffix(f.Links, "*") + "+"
	comment := netstate.AcceptComment(f.Origin.Object.Ref.String())
	var lines []string
	for _, side := range []struct {
		option string
		there  []string
	}{{"-i", l.In}, {"-o", l.Out}} {
		if !slices.Contains(side.there, f.Links) {
			lines = append(lines, fmt.Sprintf("`%s -A FORWARD %s %s -m comment --comment %q -j ACCEPT`", program, side.option, pattern, comment))
		}
	}
	const kept = "viarule changes nothing there"
	do := strings.Join(lines, " and ")
	switch {
	case !l.Known:
		b.want.Notes = append(b.want.Notes, Note{f.Origin.Object.Ref, fmt.Sprintf(
			"the chain FORWARD of the old iptables could not be read (%s), and %s: if `%s -S FORWARD` says -P FORWARD DROP, type %s", program, kept, program, do)})
	case l.Drop && len(lines) > 0:
		b.want.Blocked = append(b.want.Blocked, Blocked{Object: program + " chain FORWARD", Origin: f.Origin,
			What: fmt.Sprintf("it drops by its policy what is forwarded, and %s: type %s", kept, do)})
	}
}
