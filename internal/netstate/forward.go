package netstate

import (
	"fmt"
	"slices"
	"strings"
)

// ForwardChain is a chain of somebody else's that forwarded packets meet: a base
// chain of nftables at the hook forward, of the family ip, ip6 or inet. The chain
// FORWARD of iptables-nft is one: ip filter FORWARD. Each base chain must let a
// packet pass, so that an accept in one is of no use in another.
type ForwardChain struct {
	NftName
	Priority int32
	Drop     bool // its policy is drop, not accept
	Dormant  bool // its table is switched off (flags dormant): no packet meets it
	// Owned says that the table belongs to a process that runs (flags owner): the
	// kernel lets nobody else write there.
	Owned bool
	Rules []ForwardRule
	// Subs are the chains that the rules lead to by a jump or goto without any
	// condition, directly or by one of them, sorted by name. Those behind a
	// condition are not read.
	Subs []ForwardSub
}

// ForwardSub is a chain that a ForwardChain leads to.
type ForwardSub struct {
	Name  string
	Rules []ForwardRule
}

// ForwardRule is a rule of such a chain. What decides nothing (a counter, a log) is
// left out of Rule, and a statement that viarule does not know goes by its name.
type ForwardRule struct {
	Rule    NftRule
	Comment string // of nftables, or of iptables' match comment
}

// Accept is a rule of viarule's in a chain of somebody else's: what comes in, or what
// goes out, by a link whose name begins so is accepted there. It is a comparison with
// the beginning of the name and nothing else, as `iptables -i via+` makes one: a set
// would be lost in iptables-save, and the rule would accept everything.
type Accept struct {
	NftName        // of the ForwardChain
	In, Out string // "via*"; one of them is empty
	Comment string // AcceptComment: whose it is
}

// acceptOwner begins the comments of viarule's rules in chains of others.
const acceptOwner = "viarule "

// MaxAcceptComment bounds a comment: nft takes 127 bytes (NFTNL_UDATA_COMMENT_MAXLEN).
const MaxAcceptComment = 127

// AcceptComment is the comment that says whose an Accept is; object is KIND/NAME.
func AcceptComment(object string) string { return acceptOwner + object }

// Object is the object that the comment names, as KIND/NAME; empty: it is not one of
// viarule's.
func (a *Accept) Object() string { return commentObject(a.Comment) }

// Object is the object of viarule's that the rule's comment names, as KIND/NAME;
// empty: none.
func (r *ForwardRule) Object() string { return commentObject(r.Comment) }

func commentObject(comment string) string {
	object, ok := strings.CutPrefix(comment, acceptOwner)
	kind, name, cut := strings.Cut(object, "/")
	if !ok || !cut || kind == "" || name == "" || strings.Trim(kind, letters) != "" || strings.Trim(name, lower+"0123456789.-") != "" {
		return ""
	}
	return object
}

const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	letters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// Check says what is wrong with an accept that is to be written.
func (a *Accept) Check() error {
	pattern := a.In + a.Out
	switch {
	case a.Family != "ip" && a.Family != "ip6" && a.Family != "inet" || a.Table == "" || a.Chain == "":
		return fmt.Errorf("accept in %q: not a chain of the family ip, ip6 or inet", a.NftName.String())
	case (a.In == "") == (a.Out == ""):
		return fmt.Errorf("accept in %s: it is of what comes in or of what goes out", a.NftName)
	case len(pattern) < 2 || len(pattern) > 15 || strings.IndexByte(pattern, '*') != len(pattern)-1 || strings.ContainsAny(pattern, "\\+/: \t\n\"") || !isPlain(pattern):
		return fmt.Errorf("accept in %s: %q is not the beginning of a link's name and a *", a.NftName, pattern)
	case a.Object() == "" || len(a.Comment) > MaxAcceptComment:
		return fmt.Errorf("accept in %s: the comment %q does not say whose it is", a.NftName, a.Comment)
	}
	return nil
}

// Rule is the rule that stands for the accept in its chain.
func (a *Accept) Rule() ForwardRule {
	s := NftStmt{Op: NftIIFPrefix, Link: strings.TrimSuffix(a.In, "*")}
	if a.Out != "" {
		s = NftStmt{Op: NftOIFPrefix, Link: strings.TrimSuffix(a.Out, "*")}
	}
	return ForwardRule{Rule: NftRule{s, {Op: NftAccept}}, Comment: a.Comment}
}

// Accept reads rule i as an Accept, whoever made it: ok is false where it does more,
// or less.
func (c *ForwardChain) Accept(i int) (a Accept, ok bool) {
	r := &c.Rules[i]
	if len(r.Rule) != 2 || r.Rule[1] != (NftStmt{Op: NftAccept}) {
		return Accept{}, false
	}
	a = Accept{NftName: c.NftName, Comment: r.Comment}
	switch s := &r.Rule[0]; s.Op {
	case NftIIFPrefix:
		a.In = s.Link + "*"
	case NftOIFPrefix:
		a.Out = s.Link + "*"
	default:
		return Accept{}, false
	}
	return a, true
}

// equal says whether the two rules are the same.
func (r *ForwardRule) equal(o *ForwardRule) bool {
	return r.Comment == o.Comment && slices.Equal(r.Rule, o.Rule)
}

// Find gives the place of the last rule that is the accept; -1: there is none.
func (c *ForwardChain) Find(a *Accept) int {
	want := a.Rule()
	for i := len(c.Rules) - 1; i >= 0; i-- {
		if c.Rules[i].equal(&want) {
			return i
		}
	}
	return -1
}

// ForwardChainOf finds a chain by its name; nil where there is none.
func ForwardChainOf(chains []ForwardChain, name NftName) *ForwardChain {
	for i := range chains {
		if chains[i].NftName == name {
			return &chains[i]
		}
	}
	return nil
}

// Ending is a rule that no packet gets past.
type Ending struct {
	Rule int // its place in Rules
	// Op is what becomes of every packet that gets there: NftAccept, NftDrop,
	// NftReject, or NftReturn, which leaves it to the policy.
	Op NftOp
	// Where names the rule, and the one behind its jump that decides.
	Where string
}

// Loses says whether what gets to the ending does not pass the chain.
func (e *Ending) Loses(c *ForwardChain) bool {
	return e.Op == NftDrop || e.Op == NftReject || e.Op == NftReturn && c.Drop
}

// Ends finds the first of the rules before place n that ends the chain for every
// packet that gets to it. A rule that has any condition ends it for none.
func (c *ForwardChain) Ends(n int) (e Ending, ok bool) {
	subs := endings{c: c, of: map[string]ending{}}
	for i := range c.Rules[:min(n, len(c.Rules))] {
		if in := subs.rule(&c.Rules[i]); in.op != 0 {
			return Ending{i, in.op, fmt.Sprintf("rule %d of the chain %s (%s)", i+1, c.NftName, in.where)}, true
		}
	}
	return Ending{}, false
}

// ending says what becomes of every packet that gets to a rule, or into a chain, and
// which rule does that; op is 0 where it may go on.
type ending struct {
	op    NftOp
	where string
}

// endings remembers those of the chains that a chain leads to: many rules may lead to
// one, and who wrote a snapshot by hand may have them lead in circles.
type endings struct {
	c  *ForwardChain
	of map[string]ending
}

func (e *endings) rule(r *ForwardRule) ending {
	if len(r.Rule) != 1 {
		return ending{}
	}
	s := &r.Rule[0]
	switch s.Op {
	case NftAccept, NftDrop, NftReject, NftReturn:
		return ending{s.Op, r.Rule.String()}
	case NftJump, NftGoto:
	default:
		return ending{}
	}
	in, known := e.chain(s.Name)
	switch {
	case !known:
		return ending{} // not read: it may do anything
	case in.op != 0 && in.op != NftReturn:
		return ending{in.op, fmt.Sprintf("%s, where %s", s, in.where)}
	case s.Op == NftGoto:
		// It does not come back here, but to where a jump led away from.
		return ending{NftReturn, s.String()}
	}
	return ending{}
}

func (e *endings) chain(name string) (ending, bool) {
	if in, seen := e.of[name]; seen {
		return in, true
	}
	i := slices.IndexFunc(e.c.Subs, func(f ForwardSub) bool { return f.Name == name })
	if i < 0 {
		return ending{}, false
	}
	e.of[name] = ending{} // in a circle nothing ends
	for j := range e.c.Subs[i].Rules {
		if in := e.rule(&e.c.Subs[i].Rules[j]); in.op != 0 {
			in.where = fmt.Sprintf("rule %d is %s", j+1, in.where)
			e.of[name] = in
			break
		}
	}
	return e.of[name], true
}

// changeForward appends an accept to its chain, or takes the last copy of it away.
func changeForward(chains []ForwardChain, v Verb, a *Accept) {
	c := ForwardChainOf(chains, a.NftName)
	if c == nil {
		return
	}
	if v == Add {
		c.Rules = append(slices.Clip(c.Rules), a.Rule())
		return
	}
	if i := c.Find(a); i >= 0 {
		c.Rules = slices.Delete(slices.Clone(c.Rules), i, i+1)
	}
}
