package host

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/rttables"
	"github.com/viarule/viarule/internal/spec"
)

// draftRecords works out the records that go with the draft, and which sysctls
// it has to read and to put back.
func (h *Host) draftRecords(d *draft) error {
	d.stands = whatStands(d)
	d.records = record.Change{Remove: d.change.remove, Path: h.netnsPath()}
	for i := range d.change.put {
		d.records.Put = append(d.records.Put, *d.stands[d.change.put[i].Ref])
	}
	present, err := h.presentSysctls(d)
	if err != nil {
		return err
	}
	d.records.Present, d.input.Sysctls = present, present
	d.input.Restore, err = h.records.Restore(d.records)
	return err
}

// recordNeighbours adds the records of the other objects that the plan moves (to
// another priority, say).
func (d *draft) recordNeighbours() {
	put := map[spec.Ref]bool{}
	for i := range d.records.Put {
		put[d.records.Put[i].Ref] = true
	}
	for i := range d.plan.Ops {
		for _, asker := range d.plan.Ops[i].Askers() {
			if ref := asker.Object.Ref; !put[ref] {
				put[ref] = true
				d.records.Put = append(d.records.Put, *d.stands[ref])
			}
		}
	}
}

// whatStands collects what stands for each object of the draft.
func whatStands(d *draft) map[spec.Ref]*record.Object {
	out := make(map[spec.Ref]*record.Object, len(d.objects))
	of := make(map[*spec.Object]*record.Object, len(d.objects))
	for i := range d.objects {
		o := &d.objects[i]
		out[o.Ref] = &record.Object{Ref: o.Ref, File: o.File, Line: o.Pos.Line, DeletionPolicy: o.DeletionPolicy, Text: o.Text}
		of[o] = out[o.Ref]
	}
	w := &d.input.Want
	for i := range w.Tables {
		r := of[w.Tables[i].Origin.Object]
		if r.Tables == nil {
			r.Tables = map[string]uint32{}
		}
		r.Tables[w.Tables[i].Name] = w.Tables[i].ID
	}
	rules, routes := make(map[*record.Object]int), make(map[*record.Object]int)
	for i := range w.Rules {
		rules[of[w.Rules[i].Origin.Object]]++
	}
	for i := range w.Routes {
		routes[of[w.Routes[i].Origin.Object]]++
	}
	for _, r := range of {
		r.Rules, r.Routes = make([]netstate.Rule, 0, rules[r]), make([]netstate.RouteKey, 0, routes[r])
	}
	for i := range w.Rules {
		r := of[w.Rules[i].Origin.Object]
		r.Rules = append(r.Rules, w.Rules[i].Rule)
	}
	for i := range w.Routes {
		r := of[w.Routes[i].Origin.Object]
		r.Routes = append(r.Routes, w.Routes[i].Key())
	}
	for i := range w.Sysctls {
		r := of[w.Sysctls[i].Origin.Object]
		if w.Sysctls[i].Made {
			r.LinkSysctls = append(r.LinkSysctls, w.Sysctls[i].Key)
			continue
		}
		r.Sysctls = append(r.Sysctls, w.Sysctls[i].Sysctl)
	}
	for i := range w.Links {
		r := of[w.Links[i].Origin.Object]
		r.Links = append(r.Links, w.Links[i].Name)
	}
	if w.Nft != nil {
		for _, o := range w.Nft.Origins {
			of[o.Object].Nft = true
		}
	}
	return out
}

// presentSysctls reads every sysctl that is wanted or that viarule has changed.
// One that is gone with its link, or of a link that is yet to be made, is left
// out: there is nothing to put back.
func (h *Host) presentSysctls(d *draft) (map[string]string, error) {
	present := map[string]string{}
	for _, s := range d.input.Want.Sysctls {
		v, err := h.kernel.ReadSysctl(s.Key)
		if s.Made && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		present[s.Key] = v
	}
	changed, err := h.records.Sysctls()
	if err != nil {
		return nil, err
	}
	read := func(key string) {
		if v, err := h.kernel.ReadSysctl(key); err == nil {
			present[key] = v
		}
	}
	for i := range changed {
		read(changed[i].Key)
	}
	for i := range d.before.records {
		for _, key := range d.before.records[i].LinkSysctls {
			read(key)
		}
	}
	return present, nil
}

// recordsStand says whether the records already say what the draft would write.
func recordsStand(d *draft) bool {
	if len(d.change.remove) > 0 {
		return false
	}
	for i := range d.change.put {
		o := &d.change.put[i]
		ok := slices.ContainsFunc(d.before.records, func(r record.Object) bool {
			return r.Ref == o.Ref && r.File == o.File && r.Line == o.Pos.Line && bytes.Equal(r.Text, o.Text)
		})
		if !ok {
			return false
		}
	}
	return true
}

// shareNames is writeNames for a caller without the host's lock.
func (h *Host) shareNames() error { return shareNames(h.store, h.names) }

// shareNames takes the host's lock, waiting for others who have it, and calls
// writeNames: without it two namespaces could lose each other's names.
func shareNames(store record.Store, dir rttables.Dir) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), namesLimit)
	defer cancel()
	unlock, err := store.LockHost(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return writeNames(store, dir)
}

// namesLimit bounds the wait for another viarule that has the host's lock. It is
// not the caller's to cut short: names must follow what was done.
const namesLimit = 30 * time.Second

// writeNames brings iproute2's files in line with the records of all namespaces.
// The caller has the host's lock.
func writeNames(store record.Store, dir rttables.Dir) error {
	used, err := store.Tables()
	if err != nil {
		return err
	}
	others, err := dir.TablesOfOthers()
	if err != nil {
		return err
	}
	own := maps.Clone(used.Names)
	maps.DeleteFunc(own, func(name string, _ uint32) bool { _, theirs := others.ByName[name]; return theirs })
	if _, err := dir.WriteTables(own); err != nil {
		return err
	}
	_, err = dir.WriteProtocols(len(used.Numbers) > 0)
	return err
}

// stage writes the records and the names of tables, before the kernel changes.
func (h *Host) stage(l *record.Lock, d *draft) error {
	if err := l.Stage(d.records); err != nil {
		return err
	}
	return writeNames(h.store, h.names)
}
