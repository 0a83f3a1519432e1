package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/spec"
)

// Change is what an apply or a delete does to the records.
type Change struct {
	Put    []Object   // new, or in place of the ones of the same Ref
	Remove []spec.Ref // those that are not there do not matter
	// Present holds the values, as they are before the kernel is changed, of
	// every sysctl that Put asks for and that Sysctls lists.
	Present map[string]string
	// Path is how the namespace was opened, a path; empty: it is the one of
	// this process. See Store.Tables for what it is good for.
	Path string
}

// Stage records c before the kernel is changed: from now on List gives the
// objects of c, and Claims those from before too. It happens at one instant; a
// process killed on the way leaves the old records.
//
// A change that was staged earlier and came to no end is not lost: its objects
// stay claimed until a Commit, and it is the state that Rollback leads to.
func (l *Lock) Stage(c Change) error {
	n := l.ns
	x, err := n.load()
	if err != nil {
		return err
	}
	if err := n.sweep(x); err != nil {
		return err
	}
	netns, err := identify(c.Path)
	if err != nil {
		return err
	}
	entries, err := n.write(x, c.Put)
	if err != nil {
		return errors.Join(err, n.sweep(x))
	}
	next, err := x.Now.with(c, entries)
	if err != nil {
		return errors.Join(err, n.sweep(x))
	}
	if x.Before != nil {
		x.claim(x.Before.Objects)
	}
	before := x.Now
	x.Version, x.Netns, x.Before, x.Now = formatVersion, netns, &before, next
	return n.save(x)
}

// Commit says that the kernel holds what is wanted, and nothing else of
// viarule's: what stood for the objects from before is no longer claimed.
func (l *Lock) Commit() error {
	x, err := l.ns.load()
	if err != nil {
		return err
	}
	if x.Before == nil && len(x.Claimed) == 0 {
		return nil
	}
	x.Before, x.Claimed = nil, nil
	x.Now.Sysctls = settled(x.Now.Sysctls)
	return l.ns.saveAndSweep(x)
}

// Rollback makes the objects from before the last Stage the wanted ones again.
// leftovers says that the kernel was not put back altogether: then what stood
// for the objects of the failed change stays claimed, so that the next plan
// removes it. Without a staged change nothing happens.
func (l *Lock) Rollback(leftovers bool) error {
	x, err := l.ns.load()
	if err != nil {
		return err
	}
	if x.Before == nil {
		return nil
	}
	failed := x.Now
	x.Now, x.Before = *x.Before, nil
	if leftovers {
		x.claim(failed.Objects)
		x.Now.Sysctls = merged(x.Now.Sysctls, failed.Sysctls)
	}
	return l.ns.saveAndSweep(x)
}

// claim keeps a claim on entries that are going to be wanted no more.
func (x *index) claim(entries []entry) {
	has := make(map[place]bool)
	for _, list := range [][]entry{x.Now.Objects, x.Claimed} {
		for i := range list {
			has[list[i].place()] = true
		}
	}
	for _, e := range entries {
		if !has[e.place()] {
			x.Claimed = append(x.Claimed, e)
		}
	}
}

// with gives the set after c. entries are those of c.Put; nil stands for entries
// without data, for looking ahead.
func (s set) with(c Change, entries []entry) (set, error) {
	gone := make(map[spec.Ref]bool, len(c.Remove))
	for _, ref := range c.Remove {
		gone[ref] = true
	}
	next := set{Objects: make([]entry, 0, len(s.Objects)+len(c.Put))}
	at := make(map[spec.Ref]int, len(s.Objects)+len(c.Put))
	for _, e := range s.Objects {
		if ref := e.ref(); !gone[ref] {
			at[ref] = len(next.Objects)
			next.Objects = append(next.Objects, e)
		}
	}
	seen := make(map[spec.Ref]bool, len(c.Put))
	for i := range c.Put {
		o := &c.Put[i]
		if o.Ref.Kind == "" || o.Ref.Name == "" {
			return set{}, fmt.Errorf("record %q: an object needs a kind and a name", o.Ref)
		}
		if seen[o.Ref] {
			return set{}, fmt.Errorf("record %s: it is given twice", o.Ref)
		}
		seen[o.Ref] = true
		e := newEntry(o)
		if entries != nil {
			e = entries[i]
		}
		if old, ok := at[o.Ref]; ok {
			next.Objects[old] = e
		} else {
			next.Objects = append(next.Objects, e)
		}
	}
	var err error
	next.Sysctls, err = ledger(s.Sysctls, next.Objects, c.Present)
	return next, err
}

func newEntry(o *Object) entry {
	e := entry{Kind: o.Ref.Kind, Name: o.Ref.Name, File: o.File, Line: o.Line, Policy: o.DeletionPolicy,
		Tables: o.Tables, Links: o.Links, LinkSysctls: o.LinkSysctls, Nft: o.Nft, Text: int64(len(o.Text)), Rules: len(o.Rules), Routes: len(o.Routes)}
	for _, s := range o.Sysctls {
		if e.Sysctls == nil {
			e.Sysctls = make(map[string]string, len(o.Sysctls))
		}
		e.Sysctls[s.Key] = s.Value
	}
	return e
}

// write puts objects into a data file of their own.
func (n Namespace) write(x *index, objects []Object) ([]entry, error) {
	entries := make([]entry, len(objects))
	if len(objects) == 0 {
		return entries, nil
	}
	name := dataName + strconv.FormatUint(x.Next, 10)
	x.Next++
	for i := range objects {
		entries[i] = newEntry(&objects[i])
		entries[i].Data = name
	}
	return entries, writeData(filepath.Join(n.Dir(), name), objects, entries)
}

func (n Namespace) saveAndSweep(x *index) error {
	if err := n.save(x); err != nil {
		return err
	}
	return n.sweep(x)
}

// sweep removes the data files that the index does not name: of objects that
// went, and of processes that were killed before they could name theirs.
func (n Namespace) sweep(x *index) error {
	list, err := os.ReadDir(n.Dir())
	if err != nil {
		return &Error{n.Dir(), err, ""}
	}
	named := make(map[string]bool)
	for _, e := range x.all() {
		named[e.Data] = true
	}
	for _, f := range list {
		if strings.HasPrefix(f.Name(), dataName) && !named[f.Name()] {
			path := filepath.Join(n.Dir(), f.Name())
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return &Error{path, err, ""}
			}
		}
	}
	return nil
}
