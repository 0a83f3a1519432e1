package impact

import (
	"encoding/binary"
	"slices"
)

// set is a set of small numbers, in ascending order. Most sets hold one number, and
// the numbers may go to a hundred thousand.
type set []int32

func one(n int) set { return set{int32(n)} }

// upTo holds 0 to n-1.
func upTo(n int) set {
	s := make(set, n)
	for i := range s {
		s[i] = int32(i)
	}
	return s
}

func (s set) has(n int) bool {
	_, found := slices.BinarySearch(s, int32(n))
	return found
}

// box is a set of packets: those whose atom of each axis is in the axis' set.
type box []set

// key tells boxes apart that differ on other axes than skip.
func (b box) key(buf []byte, skip int) []byte {
	for i, s := range b {
		if i == skip {
			continue
		}
		buf = binary.AppendUvarint(buf, uint64(len(s)))
		for _, n := range s {
			buf = binary.AppendUvarint(buf, uint64(n))
		}
	}
	return buf
}

// part is a box and the packet that stands for it.
type part struct {
	box
	example int // index of the find that it began with: of two that merge, the smaller one
}

// merge makes as few boxes of the parts as it can by joining those that differ on
// one axis only, and takes the axes in the given order. Nothing is gained or lost:
// the boxes together hold the same packets as before.
func merge(parts []part, axes []int) []part {
	for changed := true; changed; {
		changed = false
		for _, axis := range axes {
			n := len(parts)
			parts = mergeAlong(parts, axis)
			changed = changed || len(parts) < n
		}
	}
	return parts
}

func mergeAlong(parts []part, axis int) []part {
	at := make(map[string]int, len(parts))
	joined := make(map[int][]set)
	out := parts[:0]
	var buf []byte
	for _, p := range parts {
		buf = p.key(buf[:0], axis)
		i, there := at[string(buf)]
		if !there {
			at[string(buf)] = len(out)
			out = append(out, p)
			continue
		}
		joined[i] = append(joined[i], p.box[axis])
		out[i].example = min(out[i].example, p.example)
	}
	for i, sets := range joined {
		all := slices.Concat(append(sets, out[i].box[axis])...)
		slices.Sort(all)
		b := slices.Clone(out[i].box)
		b[axis] = slices.Compact(all)
		out[i].box = b
	}
	return out
}
