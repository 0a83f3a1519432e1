package spec

import (
	"cmp"
	"fmt"
	"slices"
)

// checkExternals holds the ExternalNetworks against each other and against the
// tables of the RoutingPolicies. All are judged as objects of one node, which
// those of a file are: in a cluster, the caller passes those that a node has.
func (v *validator) checkExternals() {
	var nets []*Object
	for i := range v.objs {
		if v.objs[i].External != nil {
			nets = append(nets, &v.objs[i])
		}
	}
	if len(nets) == 0 {
		return
	}
	v.checkOverlaps(nets)
	v.checkMarks(nets)
	v.checkOwnTables(nets)
	v.checkLinks(nets)
}

// checkOverlaps finds addresses that are in two places, of one object or of two.
func (v *validator) checkOverlaps(nets []*Object) {
	type interval struct {
		Addresses
		net, index int
	}
	var all []interval
	for n, o := range nets {
		for i, a := range o.External.Addresses {
			if a.First.IsValid() && a.Last.IsValid() {
				all = append(all, interval{a, n, i})
			}
		}
	}
	written := func(a, b interval) int { return cmp.Or(cmp.Compare(a.net, b.net), cmp.Compare(a.index, b.index)) }
	slices.SortFunc(all, func(a, b interval) int { return cmp.Or(a.First.Compare(b.First), written(a, b)) })
	type pair struct{ first, second interval }
	var found []pair
	for i, widest := 1, 0; i < len(all); i++ {
		a, b := all[widest], all[i]
		if a.overlaps(b.Addresses) {
			if written(b, a) < 0 {
				a, b = b, a
			}
			found = append(found, pair{a, b})
		}
		if all[widest].Last.Less(all[i].Last) {
			widest = i
		}
	}
	slices.SortStableFunc(found, func(a, b pair) int { return cmp.Or(written(a.second, b.second), written(a.first, b.first)) })
	for _, p := range found {
		first, second := addressSpot(nets[p.first.net], p.first.index), addressSpot(nets[p.second.net], p.second.index)
		what, do := fmt.Sprintf("%s and %s have addresses in common", p.second, p.first), "leave one out"
		if p.first.First == p.second.First && p.first.Last == p.second.Last {
			what = p.second.String() + " is there already"
		}
		if p.first.net != p.second.net {
			do = "an address is of one external network on a node: leave it out of one of them"
		}
		v.failAt(second, fmt.Sprintf("%s, in %s", what, first.seenFrom(second.obj)), do)
	}
}

// checkMarks: two masks have no bit in common, or they are the same and the
// values differ. With anything else, giving a packet the one mark would change
// what the other one selects.
func (v *validator) checkMarks(nets []*Object) {
	for i, o := range nets {
		m := o.External.Mark
		if m.Mask == 0 {
			continue
		}
		for _, other := range nets[:i] {
			n := other.External.Mark
			if m.Mask&n.Mask == 0 || m.Mask == n.Mask && m.Value != n.Value {
				continue
			}
			what := fmt.Sprintf("the mark %s cannot be told apart from %s", FormatOwnMark(m), FormatOwnMark(n))
			if m == n {
				what = fmt.Sprintf("the mark %s is taken", FormatOwnMark(m))
			}
			v.failAt(spotOf(o, "mark"), fmt.Sprintf("%s, in %s", what, spotOf(other, "mark").seenFrom(o)), "write masks without a bit in common, or one mask and different values, or leave mark out")
			break
		}
	}
}

// checkOwnTables: no two objects fill one table with default routes.
func (v *validator) checkOwnTables(nets []*Object) {
	policies := map[string]place{}
	for i := range v.objs {
		if p := v.objs[i].Policy; p != nil {
			for j := range p.Tables {
				for _, key := range v.tableKeys(TableRef{Name: p.Tables[j].Name, ID: p.Tables[j].ID}) {
					if _, there := policies[key]; !there {
						policies[key] = place{&v.objs[i], index(j), -1}
					}
				}
			}
		}
	}
	seen := map[string]spot{}
	for _, o := range nets {
		ref := v.ownTable(o)
		if ref == (TableRef{}) || wellKnown(v.tableKey(ref)) != 0 {
			continue
		}
		here, name, do := spotOf(o, "table"), o.External.Table, "leave table out, or write another"
		if name == (TableRef{}) {
			name, do = ref, "write `table: …` with another here, or call the other one otherwise"
		}
		for _, key := range v.tableKeys(ref) {
			if p, there := policies[key]; there {
				v.failAt(here, fmt.Sprintf("the table %s is that of %s", name, p.seenFrom(o)), "an external network needs one of its own, which rules of others may name: "+do)
				break
			}
			if s, there := seen[key]; there && s.obj.Name != o.Name { // two of one name are refused for that
				v.failAt(here, fmt.Sprintf("the table %s is that of another external network, in %s", name, s.seenFrom(o)), "an external network needs one of its own: "+do)
				break
			}
		}
		for _, key := range v.tableKeys(ref) {
			if _, there := seen[key]; !there {
				seen[key] = here
			}
		}
	}
}

// ownTable is the table of an external network, by the name that it will have
// where none is written; zero where it has none.
func (v *validator) ownTable(o *Object) TableRef {
	ref := o.External.Table
	if ref.Name != "" || len(o.External.Gateways) == 0 || wellKnown(v.tableKey(ref)) != 0 {
		return ref
	}
	for _, id := range v.known.Tables {
		if ref.ID != 0 && id == ref.ID {
			return ref // the host has a name for the number
		}
	}
	if _, named := v.names[ref.ID]; !named {
		ref.Name = OwnTableName(o.Name)
	}
	return ref
}

// tableKeys are the name and the number of a table, as far as the objects and
// the host say them.
func (v *validator) tableKeys(ref TableRef) []string {
	id := cmp.Or(ref.ID, v.tables[ref.Name], v.known.Tables[ref.Name])
	var keys []string
	if ref.Name != "" {
		keys = append(keys, ref.Name)
	}
	if id != 0 {
		keys = append(keys, TableRef{ID: id}.String())
	}
	return keys
}

// checkLinks: objects that are on one link that viarule makes ask for the same.
func (v *validator) checkLinks(nets []*Object) {
	type carrier struct {
		parent string
		id     uint16
	}
	byName, byVLAN := map[string]*Object{}, map[carrier]*Object{}
	for _, o := range nets {
		in := o.External.Interface
		if in.VLAN == nil || in.Name == "" {
			continue
		}
		c, here := carrier{in.VLAN.Parent, in.VLAN.ID}, spotOf(o, "interface.vlan")
		if first := byName[in.Name]; first == nil {
			byName[in.Name] = o
		} else if *first.External.Interface.VLAN != *in.VLAN {
			v.failAt(here, fmt.Sprintf("the link %s is another VLAN in %s", in.Name, spotOf(first, "interface.vlan").seenFrom(o)), "write the same, or another name")
			continue
		}
		if first := byVLAN[c]; first == nil {
			byVLAN[c] = o
		} else if name := first.External.Interface.Name; name != in.Name {
			v.failAt(here, fmt.Sprintf("the VLAN %d of %s is the link %s in %s", c.id, c.parent, name, spotOf(first, "interface.vlan").seenFrom(o)), "a link has each VLAN once: write the same name")
		}
	}
}
