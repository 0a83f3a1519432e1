package impact

import (
	"cmp"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/sim"
)

// traits say which pairs of kinds may meet a difference: those where one is touched,
// and those between which rules have changed that may select packets from one to the
// other, or the check of the source, which looks the other way.
type traits struct {
	touched   bool
	ruleTouch [2]bool
}

func mayDiffer(from, to traits) bool {
	return from.touched || to.touched || from.ruleTouch[0] && to.ruleTouch[1] || to.ruleTouch[0] && from.ruleTouch[1]
}

// bundle is kinds that have the same traits; each member is one or several of them
// that are tried as one.
type bundle struct {
	traits
	members []set
}

func (e *explorer) bundles(members []set) []bundle {
	at := map[traits]int{}
	var out []bundle
	for _, m := range members {
		k := e.kind(m)
		t := traits{k.touched, k.ruleTouch}
		n, there := at[t]
		if !there {
			n = len(out)
			at[t] = n
			out = append(out, bundle{traits: t})
		}
		out[n].members = append(out[n].members, m)
	}
	return out
}

// kind is the kind that stands for a set; behind all others stands that of packets without a
// source.
func (e *explorer) kind(s set) *kind {
	if int(s[0]) == len(e.kinds.list) {
		return &e.kinds.none
	}
	if len(s) > 1 {
		return &e.kinds.list[e.kinds.first[s[0]]]
	}
	return &e.kinds.list[s[0]]
}

// explore tries one packet of every combination that may meet a difference, and
// gives the number of pairs for which there was no time.
func (e *explorer) explore() (left int) {
	type pair struct {
		from, to *bundle
		all      bool // else only what comes in by e.at
	}
	var pairs []pair
	add := func(froms, tos []bundle) {
		for i := range froms {
			for j := range tos {
				p := pair{&froms[i], &tos[j], e.all || mayDiffer(froms[i].traits, tos[j].traits)}
				if p.all || len(e.at) > 0 {
					pairs = append(pairs, p)
				}
			}
		}
	}
	coarse, each := e.bundles(e.kinds.coarse), make([]set, len(e.kinds.list))
	for i := range each {
		each[i] = one(i)
	}
	add(coarse, coarse)
	add(e.bundles([]set{one(len(each))}), e.bundles(each))
	// The few that a change concerns directly come before the many that it may.
	slices.SortStableFunc(pairs, func(a, b pair) int {
		return cmp.Compare(len(a.from.members)*len(a.to.members), len(b.from.members)*len(b.to.members))
	})
	for _, p := range pairs {
		done := 0
		for _, from := range p.from.members {
			for _, to := range p.to.members {
				if *e.effort > 0 {
					e.pair(from, to, p.all)
					done++
				}
			}
			if *e.effort <= 0 {
				break
			}
		}
		left += len(p.from.members)*len(p.to.members) - done
	}
	return left
}

// pair tries the packets from one kind to another, or some that are tried as one.
func (e *explorer) pair(from, to set, all bool) {
	kf, kt := e.kind(from), e.kind(to)
	u := e.marks | kf.uses[0]&kt.uses[1] | (kt.uses[0] & kf.uses[1]).back()
	if kf.dsfield || kt.dsfield {
		u |= use(axisTOS)
	}
	byRules := all && !e.all && !kf.touched && !kt.touched && !kf.inMap && !kt.inMap // nothing else differs
	e.answers = e.nft && (e.tracks || kf.inMap || kt.inMap)
	if e.answers && u&(use(axisSPort)|use(axisDPort)) != 0 {
		u |= use(axisProto) // see portless
	}
	refused := e.family == netstate.IPv4 && kf != &e.kinds.none && !kf.own && !kf.host // no socket here may have the source
	// Answers come in by the link by which the packet left.
	answersAt := e.answers && slices.ContainsFunc(kt.links, func(link string) bool { return e.at[link] })
	p := sim.Packet{}
	p.From, p.To = kf.a, kt.a
	if p.From == p.To {
		p.From = kf.b
	}
	var parts []found
	for _, g := range e.groups(kf, kt) {
		at := e.at[g.in] || answersAt && g.in != ""
		switch {
		case !all && !at:
			continue
		case g.in != "" && !p.From.IsValid(), g.in == "" && (p.From.IsUnspecified() || refused):
			continue // no such packets; made here, they have no source yet
		}
		p.IIF, p.OIF = g.in, g.oif
		if e.narrowed = nil; byRules && !at {
			e.narrowed = e.only
		}
		e.place(&parts, p, from, to, &g, u)
	}
	e.keep(parts)
}

// groups gives the places to try for two kinds.
func (e *explorer) groups(kf, kt *kind) []group {
	key := strings.Join(kf.links, "/") + "//" + strings.Join(kt.links, "/") // no link's name has a slash
	g, there := e.grouped[key]
	if !there {
		var by []string
		for _, l := range slices.Concat(kf.links, kt.links) {
			by = append(by, l)
			for _, w := range e.w {
				by = append(by, mastersOf(w, l)...)
			}
		}
		for l := range e.at {
			by = append(by, l)
		}
		g = e.places.groups(by)
		e.grouped[key] = g
	}
	return g
}

// found is a find and what it is one of.
type found struct {
	change
	find
}

// place tries the packets of a pair and a group of places, by all atoms of the axes
// in u.
func (e *explorer) place(parts *[]found, p sim.Packet, from, to set, g *group, u uses) {
	if g.in != "" {
		u &^= use(axisUID) // what comes in has no user,
	} else {
		u &^= use(axisTun) // and what is made here comes out of no tunnel
	}
	n := e.axes.count()
	var free []int // axes whose atoms are tried
	b := make(box, n)
	b[axisFrom], b[axisTo], b[axisPlace] = from, to, g.members
	for axis := axisPlace + 1; axis < n; axis++ {
		if u&use(axis) != 0 && e.axes.size(axis) > 1 {
			free = append(free, axis)
		} else {
			b[axis] = upTo(e.axes.size(axis))
		}
	}
	at := make([]int, len(free)) // places in atoms
	atoms := make([]set, len(free))
	for i, axis := range free {
		if atoms[i] = e.narrowed[axis]; atoms[i] == nil {
			atoms[i] = upTo(e.axes.size(axis))
		}
	}
	for {
		for i, axis := range free {
			e.axes.fill(&p, axis, int(atoms[i][at[i]]))
		}
		*e.effort--
		e.try(parts, p, g, func() box {
			c := slices.Clone(b)
			for i, axis := range free {
				c[axis] = set{atoms[i][at[i]]}
			}
			return c
		})
		i := 0
		for ; i < len(free); i++ {
			if at[i]++; at[i] < len(atoms[i]) {
				break
			}
			at[i] = 0
		}
		if i == len(free) {
			return
		}
	}
}

// try sends a packet through both worlds.
func (e *explorer) try(parts *[]found, p sim.Packet, g *group, where func() box) {
	var a [2]sim.Answer
	var o [2]outcome
	for i, w := range e.w {
		a[i] = w.Run(p, sim.Conn{})
		o[i] = outcomeOf(&p, &a[i])
	}
	if !o[0].same(o[1]) {
		if g.bound && len(g.members) > 1 {
			// Each leaves by its own link.
			for _, m := range g.members {
				alone := e.places.group(set{m})
				q := p
				q.OIF = alone.oif
				e.try(parts, q, &alone, func() box {
					b := where()
					b[axisPlace] = alone.members
					return b
				})
			}
			return
		}
		*parts = append(*parts, found{changeOf(o, false), find{where(), p}})
	}
	if e.answers && p.IIF != "" {
		if o, differ := answersDiffer(e.w, &p, [2]*sim.Answer{&a[0], &a[1]}); differ {
			*parts = append(*parts, found{changeOf(o, true), find{where(), p}})
		}
	}
}

// keep joins what was found for one pair.
func (e *explorer) keep(list []found) {
	if len(list) == 1 {
		e.found[list[0].change] = append(e.found[list[0].change], list[0].find)
		return
	}
	by := map[change][]part{}
	for i := range list {
		by[list[i].change] = append(by[list[i].change], part{list[i].box, i})
	}
	order := e.order()[axisPlace+1:]
	for c, parts := range by {
		for _, p := range merge(parts, order) {
			e.found[c] = append(e.found[c], find{p.box, list[p.example].example})
		}
	}
}

// order is that in which axes are joined: addresses first, so that sockets that are
// bound, or a filter on some link, do not split what is made here.
func (e *explorer) order() []int {
	out := []int{axisTo, axisFrom}
	for axis := axisPlace; axis < e.axes.count(); axis++ {
		out = append(out, axis)
	}
	return out
}

func (e *explorer) oddity(f *find) int {
	from := int(f.box[axisFrom][0])
	if f.example.IIF != "" || from == len(e.kinds.list) || e.kinds.list[from].host {
		return 0
	}
	return 1
}

// classes joins what was found for all pairs.
func (e *explorer) classes() []Class {
	var out []Class
	for c, list := range e.found {
		// Packets of sockets that have the choice, or chose an address of this host, are
		// better examples than others.
		slices.SortStableFunc(list, func(a, b find) int { return e.oddity(&a) - e.oddity(&b) })
		parts := make([]part, len(list))
		for i := range list {
			parts[i] = part{list[i].box, i}
		}
		for _, p := range merge(parts, e.order()) {
			out = append(out, Class{Example: list[p.example].example, Answer: c.answer, space: &e.space, box: p.box})
		}
	}
	slices.SortFunc(out, func(a, b Class) int {
		return cmp.Or(a.rank()-b.rank(), b.kinds()-a.kinds(), slices.CompareFunc(a.box, b.box, slices.Compare[set]), flagInt(a.Answer)-flagInt(b.Answer))
	})
	return out
}
