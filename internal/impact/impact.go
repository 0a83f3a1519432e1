package impact

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// Found is what Find found.
type Found struct {
	// Classes do not overlap, as far as the packets themselves or the answers to
	// them are concerned. Those of ordinary packets, without marks, come first.
	Classes []Class
	// Left is how many pairs of kinds of addresses were not tried, since that would
	// have taken too long: packets between them may change their way too.
	Left int
}

// Class is packets that meet the same change.
type Class struct {
	Example sim.Packet
	// Answer says that it is the answers to these packets that change their way,
	// and not the packets.
	Answer bool

	space *space
	box   box
}

// Holds says whether a packet is in the class.
func (c *Class) Holds(p *sim.Packet) bool { return c.space.holds(c.box, p) }

// Effort is enough for all that hosts need, and takes some seconds at most.
const Effort = 400_000

// Find works out which packets take another way in the world after than in the
// one before. It simulates at most so many packets as effort says, rounded up to the
// next pair of addresses.
func Find(before, after *sim.World, effort int) Found {
	var out Found
	w := [2]*sim.World{before, after}
	nft := [2]*nftView{newNftView(before.Input().State.Nft), newNftView(after.Input().State.Nft)}
	for _, f := range netstate.Families {
		e := newExplorer(w, nft, f, &effort)
		out.Left += e.explore()
		out.Classes = append(out.Classes, e.classes()...)
	}
	slices.SortStableFunc(out.Classes, func(a, b Class) int { return cmp.Compare(a.rank(), b.rank()) })
	return out
}

// space is the packets of one family.
type space struct {
	family netstate.Family
	kinds  *kinds
	places *places
	axes   *axes
}

func (s *space) holds(b box, p *sim.Packet) bool {
	to, from := p.To.Unmap().WithZone(""), p.From.Unmap().WithZone("")
	if netstate.FamilyOf(to) != s.family || from.IsValid() && netstate.FamilyOf(from) != s.family {
		return false
	}
	place := s.places.find(p)
	if place < 0 || !b[axisPlace].has(place) || !b[axisTo].has(s.kinds.of(to)) || !b[axisFrom].has(s.from(p.IIF, from)) {
		return false
	}
	for axis := axisPlace + 1; axis < s.axes.count(); axis++ {
		if !b[axis].has(s.axes.atom(&p.Flow, axis)) {
			return false
		}
	}
	return true
}

// from is the atom of a source.
func (s *space) from(iif string, a netip.Addr) int {
	if iif == "" && unspecified(a) {
		return len(s.kinds.list)
	}
	if !a.IsValid() {
		return dead
	}
	return s.kinds.of(a)
}

// explorer tries packets of one family.
type explorer struct {
	space
	w      [2]*sim.World
	nft    bool            // viarule's own nftables may mark packets
	tracks bool            // also such as have to do with no address in its maps
	marks  uses            // that they look at
	all    bool            // any packet may meet a difference
	at     map[string]bool // packets that come in by these links may
	only   map[int]set     // see narrow
	effort *int
	found  map[change][]find

	// Of the pair and place that are being tried:
	narrowed map[int]set
	answers  bool // whether answers are tried
	grouped  map[string][]group
}

// change is what classes have in common.
type change struct {
	before, after outcome
	answer        bool
}

// find is combinations of atoms whose packets change their way, and one of them.
type find struct {
	box     box
	example sim.Packet
}

func newExplorer(w [2]*sim.World, nft [2]*nftView, f netstate.Family, effort *int) *explorer {
	e := &explorer{w: w, effort: effort, found: map[change][]find{}, grouped: map[string][]group{}, at: map[string]bool{}}
	e.family = f
	states := [2]*netstate.State{&w[0].Input().State, &w[1].Input().State}
	var rules []*netstate.Rule
	var routes [2][]*netstate.Route
	for i, s := range states {
		for j := range s.Rules {
			if s.Rules[j].Family == f {
				rules = append(rules, &s.Rules[j])
			}
		}
		routes[i] = routesOf(s, f)
	}
	e.axes = newAxes(rules, slices.Concat(routes[0], routes[1]), nft[:])
	e.nft = len(nft[0].base)+len(nft[1].base) > 0
	e.tracks = nft[0].tracks() || nft[1].tracks()
	e.marks = e.axes.usedByMask(nft[0].asked() | nft[1].asked())

	touch := touchOf(nft[0], nft[1])
	e.all = touch.all
	maps.Copy(e.at, touch.links)
	named := map[string]bool{}
	lost := e.links(states)
	e.surroundings(states)
	for i := range w {
		nameLinks(named, states[i], f, w[i].Input().Opaque)
	}
	e.places = newPlaces(w, named)
	for i, above := range e.places.above {
		if slices.ContainsFunc(above, func(master string) bool { return e.at[master] }) {
			e.at[e.places.links[i]] = true // sim looks at the master's sysctls
		}
	}
	numbers := map[netstate.Rule]uint32{}
	k := &kinds{maps: touch.maps, lost: func(link string) bool { return lost[link] }}
	var cuts []netip.Prefix
	for i := range w {
		k.worlds[i] = newHalf(states[i], f, routes[i], nft[i], e.axes, numbers)
		cuts = append(cuts, k.worlds[i].cuts(f)...)
	}
	output := func(r baseRule) bool { return r.hook == "output" && !answersOnly(r.rule) }
	k.reroutes = slices.ContainsFunc(nft[0].base, output) || slices.ContainsFunc(nft[1].base, output)
	e.only = narrow([2]*ruleList{k.worlds[0].rules, k.worlds[1].rules}, nft, e.axes)
	k.custom = f == netstate.IPv4 && w[0].Modes().Custom != w[1].Modes().Custom
	k.forest = newForest(f, cuts)
	k.sort(f)
	e.kinds = k
	return e
}

// links compares the links, and gives those that only one world has. All other
// differences concern all packets.
func (e *explorer) links(s [2]*netstate.State) map[string]bool {
	lost := map[string]bool{}
	for i := range s {
		for j := range s[i].Links {
			l := &s[i].Links[j]
			o := e.w[1-i].Link(l.Name)
			if o == nil {
				lost[l.Name] = true
				e.all = e.all || l.Kind == "vrf" || slices.ContainsFunc(s[i].Links, func(p netstate.Link) bool { return p.Master == l.Name })
				continue
			}
			e.all = e.all || l.Up != o.Up || l.Kind != o.Kind || l.Master != o.Master || l.Group != o.Group || l.VRFTable != o.VRFTable || l.Loopback != o.Loopback
		}
	}
	return lost
}

// surroundings compares what else concerns all packets, or those of a link.
func (e *explorer) surroundings(s [2]*netstate.State) {
	in := [2]*sim.Input{e.w[0].Input(), e.w[1].Input()}
	e.all = e.all || !slices.Equal(s[0].Addrs, s[1].Addrs) || !slices.Equal(in[0].Opaque, in[1].Opaque) ||
		forwardText(s[0], e.family) != forwardText(s[1], e.family) ||
		!maps.Equal(namedVRFs(s[0]), namedVRFs(s[1])) // sim doubts what old kernels make of such rules
	if e.family == netstate.IPv4 {
		a, b := e.w[0].Modes(), e.w[1].Modes()
		e.all = e.all || a.Dissect != b.Dissect || a.Realms != b.Realms
	}
	other := map[netstate.Family]string{netstate.IPv4: "ipv6/", netstate.IPv6: "ipv4/"}[e.family]
	var values [2]map[string]string
	for i := range in {
		values[i] = map[string]string{}
		for _, v := range in[i].Sysctls {
			values[i][v.Key] = v.Value
		}
	}
	for i := range in {
		for key, v := range values[i] {
			if o, there := values[1-i][key]; there && o == v || len(key) > 9 && key[4:9] == other {
				continue
			}
			if link, _ := sysctlLink(key); link != "" {
				e.at[link] = true
			} else {
				e.all = true
			}
		}
	}
}

// namedVRFs are the VRFs that rules ask for by name.
func namedVRFs(s *netstate.State) map[string]bool {
	vrfs, out := map[string]bool{}, map[string]bool{}
	for i := range s.Links {
		vrfs[s.Links[i].Name] = s.Links[i].Kind == "vrf"
	}
	for i := range s.Rules {
		for _, name := range []string{s.Rules[i].IIF, s.Rules[i].OIF} {
			if vrfs[name] {
				out[name] = true
			}
		}
	}
	return out
}

// nameLinks notes which links somebody asks for by name.
func nameLinks(named map[string]bool, s *netstate.State, f netstate.Family, opaque []netstate.Opaque) {
	for i := range s.Rules {
		if r := &s.Rules[i]; r.Family == f {
			named[r.IIF], named[r.OIF] = true, true
		}
	}
	for i := range s.Nft {
		for j := range s.Nft[i].Chains {
			for _, r := range s.Nft[i].Chains[j].Rules {
				for k := range r {
					named[r[k].Link] = true
				}
			}
		}
	}
	nameForward(named, s)
	for i := range opaque {
		named[opaque[i].Dev] = true
	}
}
