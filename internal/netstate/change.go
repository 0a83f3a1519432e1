package netstate

// Verb is what a Change does.
type Verb uint8

// The verbs. Add fails where an equal key is there already (rules excepted: the
// kernel takes duplicates and puts the new one behind all of its priority).
// Replace, for routes, swaps the route of the same key in one step. Delete names
// the object by all of its attributes.
const (
	Add Verb = iota + 1
	Replace
	Delete
)

// Change is one write to the kernel. Exactly one of the pointers is set. For a
// Sysctl the only verb is Replace.
type Change struct {
	Verb    Verb
	Rule    *Rule
	Route   *Route
	Nexthop *Nexthop
	Sysctl  *Sysctl
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
