package kernel

import "strconv"

// decoder turns messages into netstate values. It knows the namespace's links
// by number and hands out one string a name, however many routes use it.
type decoder struct {
	names map[int32]string
	words map[string]string
	// last is the link that was asked for last: most routes of a list use the
	// same one, and a map look-up is a fifth of the cost of decoding a route.
	last     int32
	lastName string
}

func newDecoder() *decoder {
	return &decoder{names: map[int32]string{}, words: map[string]string{}}
}

// link names a link. One that the link dump did not have yet, or that lives in
// another namespace, is "if7".
func (d *decoder) link(index int32) string {
	if index == 0 {
		return ""
	}
	if index == d.last {
		return d.lastName
	}
	name, ok := d.names[index]
	if !ok {
		name = "if" + strconv.FormatUint(uint64(uint32(index)), 10)
		d.names[index] = name
	}
	d.last, d.lastName = index, name
	return name
}

// word returns b as a string without allocating it twice.
func (d *decoder) word(b []byte) string {
	s, ok := d.words[string(b)]
	if !ok {
		s = string(b)
		d.words[s] = s
	}
	return s
}

// indexes turns link names into numbers for one run of Apply.
type indexes struct {
	lookup  func(name string) (int32, error)
	seen    *View // of which the links' numbers hold; nil: none
	known   map[string]int32
	last    string
	lastIdx int32
}

func newIndexes(lookup func(string) (int32, error)) *indexes {
	return &indexes{lookup: lookup, known: map[string]int32{}}
}

func (x *indexes) of(name string) (int32, error) {
	if name == "" {
		return 0, nil
	}
	if name == x.last {
		return x.lastIdx, nil
	}
	i, ok := x.known[name]
	if !ok && x.seen != nil {
		if l := x.seen.Link(name); l != nil {
			i, ok = int32(l.Index), true
		}
	}
	if !ok {
		var err error
		if i, err = x.lookup(name); err != nil {
			return 0, err
		}
		x.known[name] = i
	}
	x.last, x.lastIdx = name, i
	return i, nil
}

// forget drops what is known of links.
func (x *indexes) forget() {
	clear(x.known)
	x.last, x.seen = "", nil
}
