package desired

import (
	"cmp"
	"slices"
	"sort"
)

// span is an inclusive range of priorities.
type span struct{ first, last uint32 }

// spans are ranges of priorities that are taken, sorted and apart.
type spans []span

// makeSpans sorts and joins; it keeps nothing of list.
func makeSpans(list ...[]span) spans {
	var all spans
	for _, l := range list {
		all = append(all, l...)
	}
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	out := all[:0]
	for _, s := range all {
		if n := len(out); n > 0 && s.first <= out[n-1].last {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// meets returns the first taken range that has a priority of s.
func (t spans) meets(s span) (span, bool) {
	i := sort.Search(len(t), func(i int) bool { return t[i].last >= s.first })
	if i < len(t) && t[i].first <= s.last {
		return t[i], true
	}
	return span{}, false
}

// free finds the first size free priorities in a row within s.
func (t spans) free(s span, size uint32) (uint32, bool) {
	p := s.first
	for size > 0 && p <= s.last && s.last-p >= size-1 {
		taken, ok := t.meets(span{p, p + size - 1})
		if !ok {
			return p, true
		}
		if taken.last == ^uint32(0) {
			break
		}
		p = taken.last + 1
	}
	return 0, false
}

// widest is the longest row of free priorities within s; of equal ones the first.
func (t spans) widest(s span) (best span, ok bool) {
	size := uint64(0)
	try := func(first, last uint64) {
		if last >= first && last-first+1 > size {
			best, ok, size = span{uint32(first), uint32(last)}, true, last-first+1
		}
	}
	next := uint64(s.first)
	for _, taken := range t {
		if taken.last < s.first {
			continue
		}
		if taken.first > s.last {
			break
		}
		if uint64(taken.first) > next {
			try(next, uint64(taken.first)-1)
		}
		next = max(next, uint64(taken.last)+1)
	}
	try(next, uint64(s.last))
	return best, ok
}
