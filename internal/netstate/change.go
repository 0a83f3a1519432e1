package netstate

// Verb is what a Change does.
type Verb uint8

// The verbs. Add fails where an equal key is there already (rules excepted: the
// kernel takes duplicates and puts the new one behind all of its priority).
// Replace, for routes, swaps the route of the same key in one step. Delete names
// the object by all of its attributes. Append, for routes only, puts one behind those of
// its key that are there, and fails where it is one of them; IPv6 makes a next hop of one
// by a gateway.
const (
	Add Verb = iota + 1
	Replace
	Delete
	Append
)

// Change is one write to the kernel. Exactly one of the pointers is set. For a
// Sysctl the only verb is Replace.
//
// A Link is one that viarule makes: a VLAN, with its alias, set up (Add), given
// another alias or set up or down (Replace), or taken away again (Delete). Where a
// link of its name has another alias, the Delete fails: it is not ours. What an Add
// that was killed left on its way goes with a Delete too.
//
// A Link without an alias is somebody else's, and the only change is a Replace: it
// becomes a port of Master, or of none. Nothing else of it may be named.
//
// An Addr is one of IPv6: with a link's state the kernel takes those away, and leaves
// the ones of IPv4. Replace also adds.
//
// An Nft table is put in the place of what has its name, in one transaction
// (Replace), or removed (Delete).
//
// An Accept is appended to its chain (Add), or the last rule there that is it, comment
// and all, is removed (Delete). Neither touches any other rule.
type Change struct {
	Verb    Verb
	Rule    *Rule
	Route   *Route
	Nexthop *Nexthop
	Sysctl  *Sysctl
	Link    *Link
	Addr    *Addr
	Nft     *NftTable
	Accept  *Accept
}

// Objects counts the pointers that are set: of a change that is well formed, one.
func (c *Change) Objects() int {
	n := 0
	for _, set := range [...]bool{c.Rule != nil, c.Route != nil, c.Nexthop != nil, c.Sysctl != nil, c.Link != nil, c.Addr != nil, c.Nft != nil, c.Accept != nil} {
		if set {
			n++
		}
	}
	return n
}

// ChangeError is the kernel's refusal of one Change.
type ChangeError struct {
	Index int    // of the Change in the list that was given
	Err   error  // the errno, or what stood before it (no such link, ...)
	Msg   string // the kernel's own words (extended acknowledgement); may be empty
}

// Error gives the errno and the kernel's words.
func (e *ChangeError) Error() string {
	if e.Msg == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + " (kernel: \"" + e.Msg + "\")"
}

// Unwrap gives the errno to errors.Is.
func (e *ChangeError) Unwrap() error { return e.Err }
