package impact

import (
	"math/bits"
	"slices"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// The axes. Behind them stand those of the mark's fields.
const (
	axisFrom = iota
	axisTo
	axisPlace
	axisTOS
	axisProto
	axisSPort
	axisDPort
	axisUID
	axisTun
	axisMark
)

func use(axis int) uses { return 1 << axis }

// axes cuts all that a packet has besides its addresses and its place: into atoms,
// numbered from 0, between which no rule, route or chain tells a difference. Atom 0
// of each is the one of an ordinary packet.
type axes struct {
	dsfields [][]uint8 // values of the DS field by atom, the ECN bits aside
	protos   []uint8   // atom n+1 is protos[n], 0 all others
	ports    []uint16  // the first of each atom
	uids     []uint32  // the first of each atom
	tunnels  []uint64  // atom n+1 is tunnels[n], 0 all others
	fields   []field
}

// field is some bits of the mark that are always looked at, and set, together.
type field struct {
	mask   uint32
	values []uint32 // by atom; where other is set, the last stands for all others too
	other  bool
}

func (f *field) find(mark uint32) int {
	if n := slices.Index(f.values, mark&f.mask); n >= 0 {
		return n
	}
	return len(f.values) - 1
}

func newAxes(rules []*netstate.Rule, routes []*netstate.Route, nft []*nftView) *axes {
	a := &axes{ports: []uint16{0}, uids: []uint32{0}}
	var marks []netstate.Mark
	var tests []func(uint8) bool // of the DS field
	for _, r := range rules {
		if r.Mark.Mask != 0 {
			marks = append(marks, r.Mark)
		}
		if r.TOS != 0 {
			tests = append(tests, func(v uint8) bool {
				if r.Family == netstate.IPv4 {
					v &= legacyTOS
				}
				return v == r.TOS
			})
		}
		if r.DSCP.Set {
			tests = append(tests, func(v uint8) bool { return uint32(v>>2) == r.DSCP.Val })
		}
		if r.Proto != 0 {
			a.protos = append(a.protos, r.Proto)
		}
		for _, p := range []netstate.PortRange{r.SPort, r.DPort} {
			if p != (netstate.PortRange{}) {
				a.ports = append(a.ports, p.Lo, p.Hi+1) // behind the last comes 0 again
			}
		}
		if r.UID.Set {
			a.uids = append(a.uids, r.UID.Lo, r.UID.Hi+1)
		}
		if r.TunID != 0 {
			a.tunnels = append(a.tunnels, r.TunID)
		}
	}
	seen := map[uint8]bool{}
	for _, r := range routes {
		if r.TOS != 0 && !seen[r.TOS] {
			seen[r.TOS] = true
			tests = append(tests, func(v uint8) bool { return v&legacyTOS == r.TOS })
		}
	}
	for _, v := range nft {
		marks = append(marks, v.marks()...)
		if len(v.base) > 0 && len(a.ports) > 1 {
			a.protos = append(a.protos, portless[:]...)
		}
	}
	a.cutDSField(tests)
	a.protos, a.tunnels = distinct(a.protos), distinct(a.tunnels)
	a.ports, a.uids = distinct(a.ports), distinct(a.uids)
	a.cutMark(marks)
	return a
}

// portless are the protocols whose answers have no ports in package sim, whatever the
// packets had: ICMP and that of IPv6. Rules for ports then tell protocols apart too.
var portless = [...]uint8{1, 58}

func distinct[T uint8 | uint16 | uint32 | uint64](list []T) []T {
	slices.Sort(list)
	return slices.Compact(list)
}

// legacyTOS is what TOS selectors of IPv4 see of the DS field: INET_DSCP_LEGACY_TOS_MASK.
const legacyTOS = 0x1c

func (a *axes) cutDSField(tests []func(uint8) bool) {
	at := map[string]int{}
	for v := 0; v < 256; v += 4 {
		said := make([]byte, len(tests))
		for i, t := range tests {
			said[i] = byte(flag(t(uint8(v))))
		}
		n, there := at[string(said)]
		if !there {
			n = len(a.dsfields)
			at[string(said)] = n
			a.dsfields = append(a.dsfields, nil)
		}
		a.dsfields[n] = append(a.dsfields[n], uint8(v))
	}
}

// cutMark finds the fields of the mark and the values that are asked for or set.
func (a *axes) cutMark(marks []netstate.Mark) {
	var whose [32][]byte // for each bit, which masks have it
	for b := range whose {
		for _, m := range marks {
			whose[b] = append(whose[b], byte(m.Mask>>b&1))
		}
	}
	for b := range whose {
		if !slices.Contains(whose[b], 1) {
			continue
		}
		i := slices.IndexFunc(a.fields, func(f field) bool {
			return slices.Equal(whose[bits.TrailingZeros32(f.mask)], whose[b])
		})
		if i < 0 {
			i = len(a.fields)
			a.fields = append(a.fields, field{})
		}
		a.fields[i].mask |= 1 << b
	}
	for i := range a.fields {
		f := &a.fields[i]
		f.values = []uint32{0}
		for _, m := range marks {
			if m.Mask&f.mask != 0 {
				f.values = append(f.values, m.Value&f.mask)
			}
		}
		f.values = distinct(f.values)
		for n := uint32(1); n < uint32(len(f.values)+1); n++ {
			v := deposit(n, f.mask)
			if v == 0 {
				break // the field has no more values
			}
			if !slices.Contains(f.values, v) {
				f.values, f.other = append(f.values, v), true
				break
			}
		}
	}
}

// deposit puts the low bits of n where mask has bits; 0 where n does not fit.
func deposit(n, mask uint32) (v uint32) {
	for ; mask != 0; mask &= mask - 1 {
		if n&1 != 0 {
			v |= mask & -mask
		}
		n >>= 1
	}
	if n != 0 {
		return 0
	}
	return v
}

func (a *axes) count() int { return axisMark + len(a.fields) }

// size is the number of atoms of an axis, addresses and place aside.
func (a *axes) size(axis int) int {
	switch axis {
	case axisTOS:
		return len(a.dsfields)
	case axisProto:
		return len(a.protos) + 1
	case axisSPort, axisDPort:
		return len(a.ports)
	case axisUID:
		return len(a.uids)
	case axisTun:
		return len(a.tunnels) + 1
	}
	return len(a.fields[axis-axisMark].values)
}

func (a *axes) usedBy(r *netstate.Rule) uses {
	var u uses
	add := func(axis int, yes bool) {
		if yes {
			u |= use(axis)
		}
	}
	add(axisTOS, r.TOS != 0 || r.DSCP.Set)
	add(axisProto, r.Proto != 0)
	add(axisSPort, r.SPort != netstate.PortRange{})
	add(axisDPort, r.DPort != netstate.PortRange{})
	add(axisUID, r.UID.Set)
	add(axisTun, r.TunID != 0)
	return u | a.usedByMask(r.Mark.Mask)
}

func (a *axes) usedByMask(mask uint32) (u uses) {
	for i := range a.fields {
		if a.fields[i].mask&mask != 0 {
			u |= use(axisMark + i)
		}
	}
	return u
}

// back is the axes of a packet that the check of its source looks at, where a packet
// the other way looks at u.
func (u uses) back() uses {
	out := u &^ (use(axisSPort) | use(axisDPort) | use(axisUID) | use(axisTun))
	if u&use(axisSPort) != 0 {
		out |= use(axisDPort)
	}
	if u&use(axisDPort) != 0 {
		out |= use(axisSPort)
	}
	return out
}

// fill gives a packet the example of an atom.
func (a *axes) fill(p *sim.Packet, axis, atom int) {
	switch axis {
	case axisTOS:
		p.TOS = a.dsfields[atom][0]
	case axisProto:
		p.Proto = a.proto(atom)
	case axisSPort:
		p.SPort = a.ports[atom]
	case axisDPort:
		p.DPort = a.ports[atom]
	case axisUID:
		p.UID = a.uids[atom]
	case axisTun:
		if p.TunID = 0; atom > 0 {
			p.TunID = a.tunnels[atom-1]
		}
	default:
		f := &a.fields[axis-axisMark]
		p.Mark = p.Mark&^f.mask | f.values[atom]
	}
}

func (a *axes) proto(atom int) uint8 {
	if atom > 0 {
		return a.protos[atom-1]
	}
	return 0
}

// atom tells to which atom of an axis a packet belongs.
func (a *axes) atom(p *fib.Flow, axis int) int {
	switch axis {
	case axisTOS:
		return slices.IndexFunc(a.dsfields, func(list []uint8) bool { return slices.Contains(list, p.TOS&^3) })
	case axisProto:
		return slices.Index(a.protos, p.Proto) + 1
	case axisSPort:
		return cutAt(a.ports, p.SPort)
	case axisDPort:
		return cutAt(a.ports, p.DPort)
	case axisUID:
		return cutAt(a.uids, p.UID)
	case axisTun:
		return slices.Index(a.tunnels, p.TunID) + 1
	}
	return a.fields[axis-axisMark].find(p.Mark)
}

// cutAt finds the atom that v is in; the first begins at 0.
func cutAt[T uint16 | uint32](firsts []T, v T) int {
	n, found := slices.BinarySearch(firsts, v)
	if found {
		return n
	}
	return n - 1
}
