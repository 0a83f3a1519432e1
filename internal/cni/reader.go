package cni

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/jsontext"
)

// reader reads values of the types that a result has, and keeps the first error. As for
// encoding/json a null is as good as no key, and a key may be in other case where
// none is as it should be.
type reader struct {
	err error
	// path leads to what is being read. It is put into words only for an error.
	path  [8]step
	depth int
}

// step is a key, or the index of an element where key is empty.
type step struct {
	key   string
	index int
}

func (r *reader) at() string {
	var b []byte
	for i, s := range r.path[:r.depth] {
		switch {
		case s.key == "":
			b = append(strconv.AppendInt(append(b, '['), int64(s.index), 10), ']')
		case i > 0:
			b = append(append(b, '.'), s.key...)
		default:
			b = append(b, s.key...)
		}
	}
	return string(b)
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = errors.New(strings.TrimPrefix(r.at()+": ", ": ") + what)
	}
}

// in calls f one step further.
func (r *reader) in(s step, f func()) {
	r.path[r.depth] = s
	r.depth++
	f()
	r.depth--
}

// is says whether v is of a kind; null is none, and no error.
func (r *reader) is(v jsontext.Value, want jsontext.Kind) bool {
	switch k := v.Kind(); k {
	case want:
		return true
	case jsontext.Null:
	default:
		r.fail("it is " + k.String() + ", not " + want.String())
	}
	return false
}

func (r *reader) object(v jsontext.Value, names []string, field func(i int, v jsontext.Value)) {
	if !r.is(v, jsontext.Object) {
		return
	}
	v.Each(func(key string, value jsontext.Value) bool {
		if i := find(names, key); i >= 0 {
			r.in(step{key: names[i]}, func() { field(i, value) })
		}
		return r.err == nil
	})
}

func find(names []string, key string) int {
	for i, n := range names {
		if n == key {
			return i
		}
	}
	for i, n := range names {
		if strings.EqualFold(n, key) {
			return i
		}
	}
	return -1
}

func (r *reader) list(v jsontext.Value, element func(v jsontext.Value)) {
	if !r.is(v, jsontext.List) {
		return
	}
	i := 0
	v.Each(func(_ string, e jsontext.Value) bool {
		r.in(step{index: i}, func() { element(e) })
		i++
		return r.err == nil
	})
}

func (r *reader) text(v jsontext.Value) string {
	if !r.is(v, jsontext.String) {
		return ""
	}
	return v.Text()
}

func (r *reader) texts(v jsontext.Value) (all []string) {
	r.list(v, func(e jsontext.Value) { all = append(all, r.text(e)) })
	return all
}

func (r *reader) int(v jsontext.Value) int {
	if !r.is(v, jsontext.Number) {
		return 0
	}
	n, ok := v.Int()
	if !ok {
		r.fail(short(v) + " is no whole number, or too large a one")
	}
	return n
}

// maybe reads a number of which 0 is another than none.
func (r *reader) maybe(v jsontext.Value) *int {
	if v.Kind() == jsontext.Null {
		return nil
	}
	n := r.int(v)
	return &n
}

// prefix reads an address with the length of its network. The length may begin with
// zeros, as for net.ParseCIDR.
func (r *reader) prefix(v jsontext.Value) netip.Prefix {
	s := r.text(v)
	if v.Kind() != jsontext.String || r.err != nil {
		return netip.Prefix{}
	}
	addr, length, _ := strings.Cut(s, "/")
	a, err := netip.ParseAddr(addr)
	n, nerr := strconv.ParseUint(length, 10, 8)
	p := netip.PrefixFrom(a, int(n))
	if err != nil || nerr != nil || length[0] == '+' || a.Zone() != "" || !p.IsValid() {
		r.fail(strconv.Quote(clip(s)) + " is no address with the length of its network")
		return netip.Prefix{}
	}
	return p
}

// addr reads an address; an empty one is none.
func (r *reader) addr(v jsontext.Value) netip.Addr {
	s := r.text(v)
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		r.fail(strconv.Quote(clip(s)) + " is no address")
	}
	return a.Unmap()
}

// clip bounds what a message repeats of hostile input.
func clip(s string) string {
	if len(s) > 64 {
		return s[:61] + "..."
	}
	return s
}
