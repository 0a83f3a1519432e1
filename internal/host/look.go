package host

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/viarule/viarule/internal/desired"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
	"github.com/viarule/viarule/internal/plan"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/rttables"
	"github.com/viarule/viarule/internal/spec"
	"github.com/viarule/viarule/internal/specfile"
)

// situation is all that planning looks at, read at one time.
type situation struct {
	state   netstate.State
	names   rttables.Names
	records []record.Object
	// attachments are what CNI plugins made here.
	attachments []record.Attachment
	facts       desired.Facts
}

func (h *Host) look(ctx context.Context) (*situation, error) {
	var s situation
	var err error
	if s.state, err = h.kernel.Snapshot(ctx); err != nil {
		return nil, err
	}
	if s.names, err = h.names.Tables(); err != nil {
		return nil, err
	}
	if s.records, err = h.records.List(); err != nil {
		return nil, err
	}
	attached, err := h.records.Attachments()
	if err != nil {
		return nil, err
	}
	s.attachments = attached.List
	return &s, h.gather(&s)
}

// gather makes what desired wants to know of the names of tables: which there
// are, and which of them only objects of this namespace gave.
func (h *Host) gather(s *situation) error {
	foreign, err := h.names.TablesOfOthers()
	if err != nil {
		return err
	}
	elsewhere, err := h.store.TablesOfOthers(h.records.Cookie())
	if err != nil {
		return err
	}
	f := desired.Facts{State: s.state, Names: map[string]uint32{}, OwnNames: map[string]bool{}, Used: elsewhere.Numbers, Attached: attachedTables(s.attachments), Neighbours: owner.MatchState(&s.state)}
	for i := range s.records {
		for name, id := range s.records[i].Tables {
			f.Names[name] = id
			f.Used[id] = true
		}
	}
	maps.Copy(f.Names, s.names.ByName)
	for name := range f.Names {
		_, theirs := foreign.ByName[name]
		_, used := elsewhere.Names[name]
		f.OwnNames[name] = !theirs && !used
	}
	s.facts = f
	return nil
}

// change is what a command wants to do to the set of applied objects.
type change struct {
	put          []spec.Object
	remove       []spec.Ref
	adopt, prune bool
	everything   bool // remove names all there is: nothing of viarule's shall stay
	// lenient leaves out what the host cannot hold now, with a warning: at boot
	// not every link is there yet, and the others must not wait for it.
	lenient bool
}

func (c *change) touches(ref spec.Ref) bool {
	return slices.Contains(c.remove, ref) || slices.ContainsFunc(c.put, func(o spec.Object) bool { return o.Ref == ref })
}

// draft is a plan and what it was made from.
type draft struct {
	change   change
	before   *situation
	objects  []spec.Object // that shall stand afterwards, by kind and name
	kept     []spec.Ref    // applied before, and not to be planned now: left as they are
	input    plan.Input
	plan     plan.Plan
	stands   map[spec.Ref]*record.Object // what stands for each of objects
	records  record.Change
	warnings []spec.Problem
}

// draft works out what a change does, and tells w how long it takes. It reads the
// kernel and changes nothing.
func (h *Host) draft(ctx context.Context, c change, w *stopwatch) (*draft, error) {
	s, err := h.look(ctx)
	if err != nil {
		return nil, err
	}
	w.lap("observe")
	d := &draft{change: c, before: s}
	for i := range s.records {
		if r := &s.records[i]; !c.touches(r.Ref) {
			o, err := parseRecord(r)
			if err != nil {
				return nil, err
			}
			d.objects = append(d.objects, o)
		}
	}
	if err := h.surround(ctx, s, slices.Concat(d.objects, c.put)); err != nil {
		return nil, err
	}
	if c.lenient {
		d.objects = append(d.objects, c.put...)
		d.setAsideBroken()
		d.change.put = slices.DeleteFunc(slices.Clone(c.put), func(o spec.Object) bool { return slices.Contains(d.kept, o.Ref) })
	} else {
		d.setAsideBroken()
		d.objects = append(d.objects, c.put...)
	}
	sortObjects(d.objects)

	want, problems := s.build(d.objects)
	if spec.Failed(problems) {
		return nil, &InputError{Problems: problems}
	}
	d.warnings = append(d.warnings, problems...)
	d.input = plan.Input{Want: want, Have: s.state, Adopt: c.adopt, Prune: c.prune}
	if err := h.draftRecords(d); err != nil {
		return nil, err
	}
	w.lap("build")
	if err := h.diff(d); err != nil {
		return nil, err
	}
	d.recordNeighbours()
	w.lap("diff")
	return d, nil
}

// build gives what the objects want on this host, and what is wrong with them.
func (s *situation) build(objects []spec.Object) (desired.Want, []spec.Problem) {
	problems := spec.Validate(objects, known(s.facts.Names))
	if spec.Failed(problems) {
		return desired.Want{}, problems
	}
	want, more := desired.Build(objects, s.facts)
	return want, append(problems, more...)
}

// setAsideBroken takes out of the plan the objects that the host cannot hold (any
// more: their link is gone, say), so that they do not stand in the way of others.
// What is left of them in the kernel stays.
func (d *draft) setAsideBroken() {
	if len(d.objects) == 0 {
		return
	}
	_, problems := d.before.build(d.objects)
	for _, p := range problems {
		if p.Severity != spec.Error || slices.Contains(d.kept, p.Object) {
			continue
		}
		d.kept = append(d.kept, p.Object)
		p.Severity = spec.Warning
		p.What += " (the object is left out, and what stands of it as it is)"
		d.warnings = append(d.warnings, p)
	}
	d.objects = slices.DeleteFunc(d.objects, func(o spec.Object) bool { return slices.Contains(d.kept, o.Ref) })
}

// diff makes the plan. Claims are read only where something of ours stands that
// is not wanted: that takes a while where there are many.
func (h *Host) diff(d *draft) (err error) {
	if d.input.Spare, err = h.spare(d); err != nil {
		return err
	}
	if d.plan = plan.Diff(d.input); len(d.plan.Orphans) == 0 {
		return nil
	}
	claims, err := h.records.Claims()
	if err != nil {
		return err
	}
	d.input.Recorded = plan.Recorded{Rules: claims.Rules, Routes: claims.Routes, Links: claims.Links, Nft: claims.Nft, Objects: map[string]bool{}}
	for ref := range claims.Objects {
		d.input.Recorded.Objects[ref.String()] = true
	}
	d.plan = plan.Diff(d.input)
	return nil
}

// spare collects what the plan has to leave alone: what stands for objects that
// are kept as they are, or that are removed with deletionPolicy Orphan. What is
// wanted, too, by an object of the plan is not spared: Diff finds it there. The
// table of nftables is written as a whole, so it is spared only as long as no
// object of the plan has a part in it; the others' parts then go.
func (h *Host) spare(d *draft) (plan.Recorded, error) {
	out := plan.Recorded{Rules: map[netstate.Rule]bool{}, Routes: map[netstate.RouteKey]bool{}, Links: map[string]bool{}, Objects: map[string]bool{}}
	for i := range d.before.records {
		r := &d.before.records[i]
		orphaned := r.DeletionPolicy == spec.OrphanPolicy && slices.Contains(d.change.remove, r.Ref) && !d.change.everything
		if !orphaned && !slices.Contains(d.kept, r.Ref) {
			continue
		}
		whole, _, err := h.records.Get(r.Ref)
		if err != nil {
			return out, err
		}
		for _, rule := range whole.Rules {
			out.Rules[rule] = true
		}
		for _, key := range whole.Routes {
			out.Routes[key] = true
		}
		for _, name := range whole.Links {
			out.Links[name] = true
		}
		out.Nft = out.Nft || whole.Nft
		out.Objects[r.Ref.String()] = true
	}
	return out, nil
}

// parseRecord gives the object that a record holds. Its lines are those of the
// file that it came from.
func parseRecord(r *record.Object) (spec.Object, error) {
	text := append(bytes.Repeat([]byte("\n"), int(max(0, r.Line-1))), r.Text...)
	objects, problems := specfile.Parse(r.File, text)
	if spec.Failed(problems) || len(objects) != 1 || objects[0].Ref != r.Ref {
		return spec.Object{}, fmt.Errorf("read the record of %s: it does not hold that object any more; apply its file again", r.Ref)
	}
	objects[0].Text = r.Text
	return objects[0], nil
}

func sortObjects(objects []spec.Object) {
	slices.SortFunc(objects, func(a, b spec.Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
}
