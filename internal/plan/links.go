package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// linkDiff works out the writes to the links that viarule makes. What makes them
// different from rules and routes:
//
//   - A link takes along what is on it: its addresses, the routes by it, whoever
//     made them, its sysctls, and the links that stand on it. So it is removed
//     behind everything else, and only where all that stands on it goes too.
//   - The kernel changes neither the parent nor the id of a VLAN. A link that is
//     to have another one is removed and made anew, before everything else, and
//     so is one that stands in the way of a new link (of one parent and id there
//     can be only one). They are away for the rest of the plan: it puts back
//     the routes and the sysctls that are wanted.
//   - What can be changed in place is whose the link is, and that it is up.
type linkDiff struct {
	p       *Plan
	s       *stages
	state   *netstate.State
	have    map[string]*netstate.Link
	want    map[string]*desired.Link
	spare   map[string]bool // left as they are, and not spoken of
	mayDrop func(*netstate.Link) bool

	// away has the links that go before everything else, and why.
	away map[string]string
}

// diffLinks adds to s what leads from the links of have to want. It returns the
// names of those that go before everything else.
func diffLinks(p *Plan, s *stages, want []desired.Link, have *netstate.State, spare map[string]bool, mayDrop func(*netstate.Link) bool) map[string]string {
	if len(want) == 0 && !slices.ContainsFunc(have.Links, func(l netstate.Link) bool { return oursLink(&l) }) {
		return nil
	}
	d := linkDiff{p: p, s: s, state: have, spare: spare, mayDrop: mayDrop,
		have: make(map[string]*netstate.Link, len(have.Links)), want: make(map[string]*desired.Link, len(want)), away: map[string]string{}}
	for i := range have.Links {
		d.have[have.Links[i].Name] = &have.Links[i]
	}
	var wanted []*desired.Link // one of each name, parents before what stands on them
	for i := range want {
		w := &want[i]
		if other := d.want[w.Name]; other == nil {
			d.want[w.Name] = w
			wanted = append(wanted, w)
		} else if !sameLink(&other.Link, &w.Link) {
			d.conflict(w, &other.Link, "another object wants a different link of the same name")
		}
	}
	byDepth(wanted, func(w *desired.Link) (string, int) { return w.Name, d.depth(w.Parent, d.wantedParent) })
	d.findAway(wanted)
	for _, w := range wanted {
		d.make(w)
	}
	d.drop()
	return d.away
}

// oursLink says whether a link's alias is one that viarule gives to the links
// that it makes for objects. (Those of pods have aliases of other kinds, and are
// the plugins' matter.)
func oursLink(l *netstate.Link) bool {
	return strings.HasPrefix(l.Alias, "viarule:"+spec.KindExternalNetwork+"/")
}

// sameLink says whether the two are one in what cannot be changed.
func sameLink(a, b *netstate.Link) bool { return a.Kind == b.Kind && onSameWire(a, b) }

func onSameWire(a, b *netstate.Link) bool { return a.Parent == b.Parent && a.VLAN == b.VLAN }

// madeLink is what viarule gives to a link; the rest is the kernel's, or others'.
func madeLink(l *netstate.Link) *netstate.Link {
	return &netstate.Link{Name: l.Name, Kind: l.Kind, Parent: l.Parent, VLAN: l.VLAN, Alias: l.Alias, Up: l.Up}
}

// findAway finds the links that go before everything else.
func (d *linkDiff) findAway(wanted []*desired.Link) {
	for _, w := range wanted {
		h := d.have[w.Name]
		switch {
		case h == nil:
			d.clearWire(w)
		case oursLink(h) && !sameLink(h, &w.Link):
			if d.takeAway(h, fmt.Sprintf("it is on %s and shall be on %s", wire(h), wire(&w.Link)), w) {
				d.clearWire(w)
			}
		}
	}
}

// wire says on what a link stands.
func wire(l *netstate.Link) string {
	if l.Kind == "vlan" {
		return fmt.Sprintf("VLAN %d of %s", l.VLAN, l.Parent)
	}
	return l.Parent
}

// clearWire takes away a link of ours that nobody wants, where it holds the VLAN
// of a new one.
func (d *linkDiff) clearWire(w *desired.Link) {
	if h := d.holder(&w.Link); h != nil && oursLink(h) && d.want[h.Name] == nil && d.mayDrop(h) {
		d.takeAway(h, w.Name+" takes its place", w)
	}
}

// holder returns the link that has the VLAN of w by another name.
func (d *linkDiff) holder(w *netstate.Link) *netstate.Link {
	for i := range d.state.Links {
		h := &d.state.Links[i]
		if w.Kind == "vlan" && h.Kind == "vlan" && h.Name != w.Name && onSameWire(h, w) {
			return h
		}
	}
	return nil
}

// takeAway has h go before everything else, with all that stands on it, unless
// something of that must stay. It says whether that is so.
func (d *linkDiff) takeAway(h *netstate.Link, why string, w *desired.Link) bool {
	if on := d.holds(h); on != nil {
		d.conflict(w, on, fmt.Sprintf("it stands on %s, which has to be made anew: %s", h.Name, why))
		return false
	}
	d.away[h.Name] = why
	for _, up := range d.upon(h.Name) {
		d.away[up.Name] = "it stands on " + h.Name
	}
	return true
}

// holds returns a link above h that must stay: one of others, or one of ours of
// which no record says whose it is.
func (d *linkDiff) holds(h *netstate.Link) *netstate.Link {
	for _, up := range d.upon(h.Name) {
		if !oursLink(up) || d.want[up.Name] == nil && !d.mayDrop(up) {
			return up
		}
	}
	return nil
}

// upon lists the links that the kernel removes with one: its VLANs and macvlans,
// and theirs. (A veth's parent is the other end, which is no such link's.)
func (d *linkDiff) upon(name string) []*netstate.Link {
	var out []*netstate.Link
	seen := map[string]bool{name: true}
	for more := true; more; {
		more = false
		for i := range d.state.Links {
			if l := &d.state.Links[i]; seen[l.Parent] && !seen[l.Name] && l.Kind != "veth" {
				seen[l.Name], more = true, true
				out = append(out, l)
			}
		}
	}
	return out
}

// make decides on one wanted link.
func (d *linkDiff) make(w *desired.Link) {
	h := d.have[w.Name]
	why, away := d.away[w.Name]
	switch {
	case away:
		d.add(w, why)
	case h == nil:
		d.add(w, "new")
	case !oursLink(h) && sameLink(h, &w.Link):
		d.p.Satisfied = append(d.p.Satisfied, Finding{Link: h, Origin: w.Origin, What: "a link that somebody else made provides it"})
	case !oursLink(h):
		d.conflict(w, h, "a foreign link of this name is in the way")
	case !sameLink(h, &w.Link): // findAway has said why it stays as it is
	case h.Alias != w.Alias || h.Up != w.Up:
		d.change(w, h)
	}
}

func (d *linkDiff) add(w *desired.Link, reason string) {
	if h := d.holder(&w.Link); h != nil && d.away[h.Name] == "" {
		d.conflict(w, h, fmt.Sprintf("it holds %s, which can be there only once", wire(h)))
		return
	}
	d.s.add(stageLinks, Op{Change: netstate.Change{Verb: netstate.Add, Link: madeLink(&w.Link)}, Reason: reason, Origin: w.Origin})
}

// change gives a link that stands another owner, or sets it up. An undo may have
// to set one down: behind everything else, since its routes go by that.
func (d *linkDiff) change(w *desired.Link, h *netstate.Link) {
	reason, stage := "set up", stageLinks
	switch {
	case h.Up && !w.Up:
		reason, stage = "set down", stageOldLinks
	case h.Alias != w.Alias:
		reason = "it was made for " + strings.TrimPrefix(h.Alias, "viarule:")
	}
	d.s.add(stage, Op{Change: netstate.Change{Verb: netstate.Replace, Link: madeLink(&w.Link)}, BeforeLink: madeLink(h), Reason: reason, Origin: w.Origin})
}

// drop removes what is ours and not wanted, and what is away.
func (d *linkDiff) drop() {
	var first, last []*netstate.Link
	for i := range d.state.Links {
		h := &d.state.Links[i]
		switch _, away := d.away[h.Name]; {
		case away:
			first = append(first, h)
		case !oursLink(h) || d.want[h.Name] != nil || d.spare[h.Name]:
		case !d.mayDrop(h):
			d.p.Orphans = append(d.p.Orphans, Finding{Link: h, What: "no record says whose it is"})
		default:
			if on := d.holds(h); on != nil {
				d.p.Orphans = append(d.p.Orphans, Finding{Link: h, What: "it cannot be removed: " + on.Name + " stands on it"})
				continue
			}
			last = append(last, h)
		}
	}
	d.remove(stageLinksAway, first, func(h *netstate.Link) string { return d.away[h.Name] })
	d.remove(stageOldLinks, last, func(*netstate.Link) string { return "not wanted any more" })
}

// remove removes links, each before the one that it stands on.
func (d *linkDiff) remove(stage int, list []*netstate.Link, reason func(*netstate.Link) string) {
	byDepth(list, func(l *netstate.Link) (string, int) { return l.Name, -d.depth(l.Parent, d.parent) })
	for _, h := range list {
		d.s.add(stage, Op{Change: netstate.Change{Verb: netstate.Delete, Link: madeLink(h)}, BeforeLink: madeLink(h), Reason: reason(h) + d.cost(h)})
	}
}

// cost says what of others goes with a link.
func (d *linkDiff) cost(h *netstate.Link) string {
	addrs, routes := 0, 0
	for i := range d.state.Addrs {
		if a := &d.state.Addrs[i]; a.Dev == h.Name && a.Scope != netstate.ScopeLink {
			addrs++
		}
	}
	for i := range d.state.Routes {
		if r := &d.state.Routes[i]; !ours(r.Protocol) && r.Protocol != netstate.ProtocolKernel && goesBy(r, func(dev string) bool { return dev == h.Name }) {
			routes++
		}
	}
	var lost []string
	if addrs == 1 {
		lost = append(lost, "1 address")
	} else if addrs > 1 {
		lost = append(lost, fmt.Sprintf("%d addresses", addrs))
	}
	if routes > 0 {
		lost = append(lost, plural(routes, "route"))
	}
	if len(lost) == 0 {
		return ""
	}
	return "; what others gave it goes with it: " + strings.Join(lost, ", ")
}

func (d *linkDiff) conflict(w *desired.Link, with *netstate.Link, what string) {
	d.p.Conflicts = append(d.p.Conflicts, Finding{Link: with, Origin: w.Origin, What: what})
}

// depth counts how many links stand below a link whose parent is given.
func (d *linkDiff) depth(parent string, below func(string) (string, bool)) int {
	n := 0
	for ok := true; ok && n < maxDepth; n++ {
		parent, ok = below(parent)
	}
	return n
}

// maxDepth is more than the kernel stacks (MAX_NEST_DEV); two links that have
// each other for parent, in different namespaces, must not loop.
const maxDepth = 16

func (d *linkDiff) parent(name string) (string, bool) {
	l := d.have[name]
	if l == nil {
		return "", false
	}
	return l.Parent, true
}

func (d *linkDiff) wantedParent(name string) (string, bool) {
	l := d.want[name]
	if l == nil {
		return "", false
	}
	return l.Parent, true
}

// byDepth sorts by depth, and by name where that is the same.
func byDepth[T any](list []*T, key func(*T) (name string, depth int)) {
	slices.SortFunc(list, func(a, b *T) int {
		an, ad := key(a)
		bn, bd := key(b)
		return cmp.Or(cmp.Compare(ad, bd), cmp.Compare(an, bn))
	})
}

// goesBy says whether a route has a next hop on one of the links.
func goesBy(r *netstate.Route, on func(dev string) bool) bool {
	return r.Hop.Dev != "" && on(r.Hop.Dev) || slices.ContainsFunc(r.Hops, func(h netstate.Hop) bool { return on(h.Dev) })
}

// withoutLinks is what is left of the routes when links go: of an IPv4 route
// nothing, also where it has next hops on other links (fib_sync_down_dev), of an
// IPv6 one those.
func withoutLinks(s *netstate.State, away map[string]string) []netstate.Route {
	if len(away) == 0 {
		return s.Routes
	}
	gone := func(dev string) bool { _, ok := away[dev]; return ok }
	out := make([]netstate.Route, 0, len(s.Routes))
	for _, r := range s.Routes {
		if goesBy(&r, gone) {
			if r.Family == netstate.IPv4 || len(r.Hops) == 0 {
				continue
			}
			r.Hops = slices.DeleteFunc(slices.Clone(r.Hops), func(h netstate.Hop) bool { return gone(h.Dev) })
			if len(r.Hops) == 0 {
				continue
			}
			r = netstate.CanonicalRoute(r)
		}
		out = append(out, r)
	}
	return out
}

// sysctlLink is the link that a sysctl is of (net/ipv4/conf/LINK/...), or "".
func sysctlLink(key string) string {
	parts := strings.Split(key, "/")
	if len(parts) == 5 && parts[0] == "net" && (parts[2] == "conf" || parts[2] == "neigh") {
		return parts[3]
	}
	return ""
}
