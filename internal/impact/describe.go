package impact

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// Selector says which packets are in a class, in the words of rules. What is empty
// is not asked for. Of prefixes the longest one that holds an address counts.
type Selector struct {
	Family     string   `json:"family"` // IPv4, IPv6
	From       []string `json:"from,omitempty"`
	FromExcept []string `json:"fromExcept,omitempty"`
	NoSource   bool     `json:"noSource,omitempty"` // packets made here by sockets that have not chosen a source
	To         []string `json:"to,omitempty"`
	ToExcept   []string `json:"toExcept,omitempty"`
	MadeHere   bool     `json:"madeHere,omitempty"` // by sockets that are not bound to a link
	OIF        []string `json:"oif,omitempty"`      // made here, by sockets that are bound to one of these
	IIF        []string `json:"iif,omitempty"`
	AnyIIF     bool     `json:"anyIif,omitempty"` // all links by which packets come in; IIF is empty
	FwMark     []string `json:"fwmark,omitempty"` // all of them
	IPProto    []string `json:"ipproto,omitempty"`
	SPort      []string `json:"sport,omitempty"`
	DPort      []string `json:"dport,omitempty"`
	DSField    []string `json:"tos,omitempty"`
	UID        []string `json:"uid,omitempty"`
	TunID      []string `json:"tunId,omitempty"`

	others []string // in the text: prefixes of FromExcept that people want to see
	apart  []string // and of ToExcept
	anyOIF bool     // OIF is all links
}

// rank is 0 for ordinary packets: without marks, from sockets that are not bound, and
// from and to addresses that most packets have.
func (c *Class) rank() int {
	r := 0
	for _, s := range []set{c.box[axisFrom], c.box[axisTo]} {
		if !slices.ContainsFunc(s, func(n int32) bool { return int(n) == len(c.space.kinds.list) || !c.space.kinds.list[n].strange() }) {
			r |= 8
		}
	}
	for i := range c.space.axes.fields {
		if !c.box[axisMark+i].has(0) {
			r |= 4
		}
	}
	if c.Answer {
		r |= 2
	}
	places := c.space.places
	if int(c.box[axisPlace][0]) > len(places.links) {
		r |= 1 // only from sockets that are bound
	}
	return r
}

// kinds is how many pairs of kinds of addresses the class has.
func (c *Class) kinds() int { return len(c.box[axisFrom]) * len(c.box[axisTo]) }

func flagInt(b bool) int { return int(flag(b)) }

// Selector describes the class.
func (c *Class) Selector() Selector {
	s := Selector{Family: c.space.family.String()}
	k := c.space.kinds
	incoming := c.place(&s)
	made := s.MadeHere && len(s.IIF) == 0 && !s.AnyIIF
	from := c.box[axisFrom]
	s.NoSource = from.has(len(k.list))
	if n := len(from); n < len(k.list)+1 && (n < len(k.list) || s.NoSource || !incoming) && !(made && s.NoSource && c.anyOfHost()) {
		s.From, s.FromExcept, s.others = c.prefixes(from)
	}
	if len(c.box[axisTo]) < len(k.list) {
		s.To, s.ToExcept, s.apart = c.prefixes(c.box[axisTo])
	}
	if len(s.From) == 0 && len(from) > 1 {
		s.NoSource = false // no source is asked for
	}
	c.others(&s)
	return s
}

// anyOfHost says whether the sources are all that sockets here may have that leave
// this host.
func (c *Class) anyOfHost() bool {
	for i := range c.space.kinds.list {
		if k := &c.space.kinds.list[i]; k.host && !k.odd && !c.box[axisFrom].has(i) {
			return false
		}
	}
	return true
}

// prefixes describes kinds of addresses; worth is what of except is not of this host
// or nobody's.
func (c *Class) prefixes(s set) (prefixes, except, worth []string) {
	k := c.space.kinds
	begin, end := k.forest.describe(s.has)
	nodes := k.forest.nodes
	byLength := func(i, j int) int {
		return cmp.Or(cmp.Compare(nodes[i].Bits(), nodes[j].Bits()), nodes[i].Addr().Compare(nodes[j].Addr()))
	}
	slices.SortFunc(begin, byLength)
	slices.SortFunc(end, byLength)
	for _, i := range begin {
		prefixes = append(prefixes, prefixText(nodes[i].Prefix))
	}
	for _, i := range end {
		p := prefixText(nodes[i].Prefix)
		except = append(except, p)
		own := func(n node) bool { return n.kind == dead || k.list[n.kind].own }
		if nodes[i].kind == dead && slices.IndexFunc(nodes[i:nodes[i].end], func(n node) bool { return !own(n) }) < 0 || nodes[i].kind != dead && own(nodes[i]) {
			continue
		}
		worth = append(worth, p)
	}
	return prefixes, except, worth
}

// prefixText is a prefix as ip prints it.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// place describes where the packets come from, and says whether all come in.
func (c *Class) place(s *Selector) (incoming bool) {
	p := c.space.places
	incoming = true
	all := 0
	for n, in := range p.in {
		all += flagInt(in)
		if c.box[axisPlace].has(1 + n) {
			s.IIF = append(s.IIF, p.links[n])
		}
		if c.box[axisPlace].has(1 + len(p.links) + n) {
			s.OIF = append(s.OIF, p.links[n])
		}
	}
	s.MadeHere = c.box[axisPlace].has(0)
	s.anyOIF = len(p.links) > 1 && len(s.OIF) == len(p.links)
	if all > 1 && len(s.IIF) == all {
		s.IIF, s.AnyIIF = nil, true
	}
	return !s.MadeHere && len(s.OIF) == 0
}

// others describes the axes besides addresses and place.
func (c *Class) others(s *Selector) {
	a := c.space.axes
	for i := range a.fields {
		s.FwMark = append(s.FwMark, a.fields[i].text(c.box[axisMark+i])...)
	}
	s.IPProto = a.numbers(c.box[axisProto], len(a.protos), func(n int) string { return netstate.IPProtoName(a.protos[n]) })
	s.TunID = a.numbers(c.box[axisTun], len(a.tunnels), func(n int) string { return strconv.FormatUint(a.tunnels[n], 10) })
	s.SPort = ranges(a.ports, c.box[axisSPort])
	s.DPort = ranges(a.ports, c.box[axisDPort])
	s.UID = ranges(a.uids, c.box[axisUID])
	if len(c.box[axisTOS]) < len(a.dsfields) {
		for _, n := range c.box[axisTOS] {
			for _, v := range a.dsfields[n] {
				s.DSField = append(s.DSField, fmt.Sprintf("0x%x", v))
			}
		}
		slices.Sort(s.DSField)
	}
}

// text gives the values of a field that a set holds, or where it holds those that
// nobody asks for, the ones that it does not hold.
func (f *field) text(s set) []string {
	if len(s) == len(f.values) {
		return nil
	}
	word := func(n int) string {
		if f.mask == ^uint32(0) {
			return fmt.Sprintf("0x%x", f.values[n])
		}
		return fmt.Sprintf("0x%x/0x%x", f.values[n], f.mask)
	}
	var out []string
	if f.other && s.has(len(f.values)-1) {
		for n := range f.values {
			if !s.has(n) {
				out = append(out, "not "+word(n))
			}
		}
		return out
	}
	for _, n := range s {
		out = append(out, word(int(n)))
	}
	return []string{strings.Join(out, " or ")}
}

// numbers is text for an axis with an atom 0 of all that nobody asks for.
func (a *axes) numbers(s set, n int, word func(int) string) []string {
	var out []string
	if len(s) == n+1 {
		return nil
	}
	for i := range n {
		if s.has(0) != s.has(i+1) {
			out = append(out, word(i))
			if s.has(0) {
				out[len(out)-1] = "not " + out[len(out)-1]
			}
		}
	}
	return out
}

// ranges is text for an axis of ranges, of which firsts are the beginnings.
func ranges[T uint16 | uint32](firsts []T, s set) []string {
	if len(s) == len(firsts) {
		return nil
	}
	var out []string
	for i := 0; i < len(s); i++ {
		lo := firsts[s[i]]
		for i+1 < len(s) && s[i+1] == s[i]+1 {
			i++
		}
		hi := ^T(0)
		if n := int(s[i]) + 1; n < len(firsts) {
			hi = firsts[n] - 1
		}
		if lo == hi {
			out = append(out, fmt.Sprint(lo))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", lo, hi))
		}
	}
	return out
}

// String says which packets are meant: "packets from 10.10.10.10 made here".
// Exceptions that are addresses of the host, or nobody's, are left out.
func (s *Selector) String() string {
	var b strings.Builder
	from, to := addressText(s.From, s.others), addressText(s.To, s.apart)
	if from == "" && to == "" && !s.NoSource {
		b.WriteString(s.Family + " ")
	}
	b.WriteString("packets")
	if from != "" {
		b.WriteString(" from " + from)
	}
	if s.NoSource {
		if len(s.From) > 0 {
			b.WriteString(" or")
		}
		b.WriteString(" without a source yet")
	}
	if to != "" {
		b.WriteString(" to " + to)
	}
	if w := s.placeText(); w != "" {
		b.WriteString(" " + w)
	}
	for _, more := range []struct {
		word string
		list []string
		and  string
	}{
		{"fwmark", s.FwMark, " and "}, {"ipproto", s.IPProto, " or "}, {"sport", s.SPort, " or "}, {"dport", s.DPort, " or "},
		{"tos", s.DSField, " or "}, {"uid", s.UID, " or "}, {"tun_id", s.TunID, " or "},
	} {
		if len(more.list) == 0 {
			continue
		}
		and := more.and
		if strings.HasPrefix(more.list[0], "not ") {
			and = " and "
		}
		b.WriteString(", " + more.word + " " + few(more.list, and))
	}
	return b.String()
}

func (s *Selector) placeText() string {
	var parts []string
	switch {
	case s.MadeHere:
		parts = append(parts, "made here")
	case len(s.OIF) > 0:
		by := few(s.OIF, " or ")
		if s.anyOIF {
			by = "any link"
		}
		parts = append(parts, "made here and bound to "+by)
	}
	switch {
	case s.AnyIIF:
		parts = append(parts, "in by any link")
	case len(s.IIF) > 0:
		parts = append(parts, "in by "+few(s.IIF, " or "))
	}
	return strings.Join(parts, " or ")
}

// addressText is empty for all addresses, whatever of this host's is not among them.
func addressText(in, except []string) string {
	s := few(in, ", ")
	if len(in) == 1 && (in[0] == "0.0.0.0/0" || in[0] == "::/0") {
		if len(except) == 0 {
			return ""
		}
		s = "anywhere"
	}
	if len(except) > 0 {
		s += " but " + few(except, ", ")
	}
	return s
}

// many is how many words of a kind the text has at most.
const many = 4

func few(list []string, and string) string {
	if len(list) <= many {
		return strings.Join(list, and)
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:many-1], and), len(list)-many+1)
}
