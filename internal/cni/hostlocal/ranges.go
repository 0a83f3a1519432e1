package hostlocal

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/viarule/viarule/internal/cni"
)

// set is a set of ranges, of which an attachment gets one address.
type set struct {
	key    string // where the configuration has it
	ranges []oneRange
}

// oneRange is addresses of a subnet. Both ends belong to it; the gateway is not given out.
type oneRange struct {
	subnet              netip.Prefix
	start, end, gateway netip.Addr
}

func (r *oneRange) String() string { return r.start.String() + "-" + r.end.String() }

func (s *set) String() string {
	out := make([]string, len(s.ranges))
	for i := range s.ranges {
		out[i] = s.ranges[i].String()
	}
	return strings.Join(out, ",")
}

// contains says that an address is in a range, of which the ends may not be known yet.
func (r *oneRange) contains(a netip.Addr) bool {
	return r.subnet.Contains(a) && (!r.start.IsValid() || !a.Less(r.start)) &&
		(!r.end.IsValid() || r.end.Is4() != a.Is4() || !r.end.Less(a))
}

// find gives the range that contains an address, nil where none does.
func (s *set) find(a netip.Addr) *oneRange {
	for i := range s.ranges {
		if s.ranges[i].contains(a) {
			return &s.ranges[i]
		}
	}
	return nil
}

func (r *oneRange) overlaps(o *oneRange) bool {
	return r.contains(o.start) || r.contains(o.end) || o.contains(r.start) || o.contains(r.end)
}

func (s *set) overlaps(o *set) bool {
	for i := range s.ranges {
		for j := range o.ranges {
			if s.ranges[i].overlaps(&o.ranges[j]) {
				return true
			}
		}
	}
	return false
}

// canonical fills in what the configuration leaves out, and refuses what the reference
// refuses, in its words.
func canonical(sets []set) error {
	if len(sets) == 0 {
		return cni.Wrong("ipam.ranges", "no IP ranges specified", `such as [[{"subnet": "10.1.0.0/24"}]]`)
	}
	if len(sets) > most {
		return tooMany("ipam.ranges")
	}
	ranges := 0
	for i := range sets {
		ranges += len(sets[i].ranges)
	}
	if ranges > mostRanges {
		return cni.Wrong("ipam.ranges", fmt.Sprintf("all sets together have %d ranges, more than %d", ranges, mostRanges), "")
	}
	for i := range sets {
		if err := sets[i].canonical(); err != nil {
			return cni.Wrong(sets[i].key, fmt.Sprintf("invalid range set %d: %v", i, err), "")
		}
	}
	for i := range sets {
		for j := i + 1; j < len(sets); j++ {
			if sets[i].overlaps(&sets[j]) {
				return cni.Wrong(sets[i].key, fmt.Sprintf("range set %d overlaps with %d, which is %s", i, j, sets[j].key), "")
			}
		}
	}
	return nil
}

func (s *set) canonical() error {
	if len(s.ranges) == 0 {
		return errors.New("empty range set")
	}
	for i := range s.ranges {
		if err := s.ranges[i].canonical(); err != nil {
			return err
		}
		if s.ranges[i].start.Is4() != s.ranges[0].start.Is4() {
			return errors.New("mixed address families")
		}
	}
	for i := range s.ranges {
		for j := i + 1; j < len(s.ranges); j++ {
			if s.ranges[i].overlaps(&s.ranges[j]) {
				return fmt.Errorf("subnets %s and %s overlap", &s.ranges[i], &s.ranges[j])
			}
		}
	}
	return nil
}

func (r *oneRange) canonical() error {
	if !r.subnet.IsValid() {
		return errors.New("a range has no subnet")
	}
	first := r.subnet.Masked()
	if r.subnet.Bits() > first.Addr().BitLen()-2 {
		return fmt.Errorf("network %s too small to allocate from", r.subnet)
	}
	if first != r.subnet {
		return fmt.Errorf("network has host bits set. For a subnet mask of length %d the network address is %s", r.subnet.Bits(), first.Addr())
	}
	if !r.gateway.IsValid() {
		r.gateway = first.Addr().Next()
	} else if !r.subnet.Contains(r.gateway) {
		return fmt.Errorf("gateway %s not in network %s", r.gateway, r.subnet)
	}
	if !r.start.IsValid() {
		r.start = first.Addr().Next()
	} else if !r.contains(r.start) {
		return fmt.Errorf("RangeStart %s not in network %s", r.start, r.subnet)
	}
	if !r.end.IsValid() {
		r.end = highest(r.subnet)
	} else if !r.contains(r.end) {
		return fmt.Errorf("RangeEnd %s not in network %s", r.end, r.subnet)
	}
	if r.end.Less(r.start) {
		return fmt.Errorf("RangeStart %s is after RangeEnd %s in network %s", r.start, r.end, r.subnet)
	}
	return nil
}

// highest is the last address of a subnet that may be given out: not IPv4's broadcast.
func highest(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for i := p.Bits(); i < len(bytes)*8; i++ {
		bytes[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(bytes)
	if a.Is4() {
		return a.Prev()
	}
	return a
}

// next gives the addresses of a set in the order in which they are tried: round robin,
// from the one behind the address that was given out last. It passes each address once.
func (s *set) next(after netip.Addr, yield func(a netip.Addr, r *oneRange) bool) {
	at, a := 0, s.ranges[0].start
	if after.IsValid() {
		for i := range s.ranges {
			if s.ranges[i].contains(after) {
				at, a = s.step(i, after)
				break
			}
		}
	}
	for first := a; ; {
		r := &s.ranges[at]
		if a != r.gateway && !yield(a, r) {
			return
		}
		if at, a = s.step(at, a); a == first {
			return
		}
	}
}

// step is the address behind one, and its range.
func (s *set) step(at int, a netip.Addr) (int, netip.Addr) {
	if a != s.ranges[at].end {
		return at, a.Next()
	}
	at = (at + 1) % len(s.ranges)
	return at, s.ranges[at].start
}
