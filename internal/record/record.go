// Package record keeps, below /run/viarule, what was asked and what stands for
// it: one folder a network namespace (by its cookie, since inodes and link
// numbers are reused), with the objects that were applied there and the sysctls
// that were changed. Records are written before the kernel is changed, and say
// whose the kernel's objects are; the kernel's own marks say that they are
// viarule's at all.
//
// # How a change is recorded
//
//	l, err := store.Namespace(cookie).Lock("apply uplinks.yaml")
//	defer l.Unlock()
//	err = l.Stage(record.Change{Put: objects})   // before the first write to the kernel
//	...                                          // the kernel is changed and verified
//	err = l.Commit()                             // or l.Rollback(false) after an undo
//
// From Stage to Commit a namespace has two sets of objects: those that are
// wanted now and those from before. List gives the former, Claims the union of
// what both say stands for them. So whatever point a process is killed at, the
// next one knows everything in the kernel that may be a left-over of either, and
// never takes it for an orphan. Commit and Rollback work as well in another
// process than the one that staged.
//
// # Files
//
// ns-COOKIE/index.json is the truth: it lists objects, sysctls and the names of
// the data files (o-NUMBER), and is replaced by rename. A data file holds, for
// each object of one Stage, the YAML text and, a line each in netstate's text
// form, the rules and routes that stand for it (links and the table of nftables
// are in the index: they are few); it never changes once it is
// written, and one that no index names is rubbish of a killed process, cleared
// at the next Stage.
// No file is named after an object. Everything is readable by root only.
//
// /run is empty after a reboot, and so is the kernel; nothing is synced to disk.
package record

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// Object is the record of one applied object.
type Object struct {
	Ref            spec.Ref
	File           string // where it was read from, for messages
	Line           int32
	DeletionPolicy spec.DeletionPolicy
	Text           []byte // the YAML document, as written
	Tables         map[string]uint32
	// Rules and Routes are what stands for the object in the kernel. List leaves
	// them out.
	Rules  []netstate.Rule
	Routes []netstate.RouteKey
	// Links are the names of the links that viarule made for the object, and
	// LinkSysctls the keys that it gave values to on them. They go with the link,
	// so nothing is put back.
	Links       []string
	LinkSysctls []string
	// Nft says that the object has a part in the table of nftables.
	Nft bool
	// Sysctls are the values that the object asks for, on what was there before.
	Sysctls []netstate.Sysctl
}

// Store is the folder of all records of a host. The zero Store is not usable;
// copies share nothing but the folder.
type Store struct {
	Dir string // normally DefaultDir
}

// DefaultDir is where records are, unless a test says otherwise.
const DefaultDir = "/run/viarule"

// Namespace is the records of one network namespace. Reading needs no lock: an
// index and the data files it names are never changed in place, and a reader who
// meets a change just reads the new index.
type Namespace struct {
	store  Store
	cookie uint64
}

// Namespace returns the records of the namespace with this cookie
// (SO_NETNS_COOKIE); there may be none yet. Cookies are never used twice between
// two boots.
func (s Store) Namespace(cookie uint64) Namespace { return Namespace{s, cookie} }

// NamespaceDir is the folder of a namespace's records. Files in it that this
// package does not know (the journal of an unconfirmed apply) are left alone,
// and keep the folder in being.
func (s Store) NamespaceDir(cookie uint64) string {
	return filepath.Join(s.Dir, nsPrefix+strconv.FormatUint(cookie, 10))
}

const nsPrefix = "ns-"

// Cookie is the namespace's cookie.
func (n Namespace) Cookie() uint64 { return n.cookie }

// Dir is the folder of the namespace's records.
func (n Namespace) Dir() string { return n.store.NamespaceDir(n.cookie) }

// Namespaces lists the namespaces that have a folder, by cookie; also those that
// are long gone.
func (s Store) Namespaces() ([]Namespace, error) {
	if err := s.checkDir(); err != nil {
		return nil, err
	}
	list, err := os.ReadDir(s.Dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("list the records: %w", err)
	}
	var out []Namespace
	for _, e := range list {
		digits, ok := strings.CutPrefix(e.Name(), nsPrefix)
		cookie, err := strconv.ParseUint(digits, 10, 64)
		if ok && err == nil && e.IsDir() {
			out = append(out, s.Namespace(cookie))
		}
	}
	slices.SortFunc(out, func(a, b Namespace) int {
		if a.cookie < b.cookie {
			return -1
		}
		return 1
	})
	return out, nil
}

// List returns the objects that are wanted, without Rules and Routes, in the
// order in which they were recorded first.
func (n Namespace) List() ([]Object, error) { return n.wanted((*dataReader).text) }

// Whole returns the objects that are wanted with all that stands for them, in the
// order in which they were recorded first.
func (n Namespace) Whole() ([]Object, error) { return n.wanted((*dataReader).whole) }

func (n Namespace) wanted(read func(*dataReader, *entry) (Object, error)) ([]Object, error) {
	var out []Object
	err := n.retry(func(x *index, d *dataReader) error {
		out = make([]Object, 0, len(x.Now.Objects))
		for i := range x.Now.Objects {
			o, err := read(d, &x.Now.Objects[i])
			if err != nil {
				return err
			}
			out = append(out, o)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Get returns the record of one wanted object, whole. ok says whether there is
// one.
func (n Namespace) Get(ref spec.Ref) (o Object, ok bool, err error) {
	err = n.retry(func(x *index, d *dataReader) error {
		e := x.Now.find(ref)
		if ok = e != nil; !ok {
			return nil
		}
		o, err = d.whole(e)
		return err
	})
	if err != nil {
		return Object{}, false, err
	}
	return o, ok, nil
}

// Claims is what records say stands for objects.
type Claims struct {
	Rules  map[netstate.Rule]bool
	Routes map[netstate.RouteKey]bool
	Links  map[string]bool
	Nft    bool // the table of nftables
	// Objects are those themselves.
	Objects map[spec.Ref]bool
}

// Claims returns the union of what stands for the objects that are wanted, for
// those that an unfinished change replaced or removed, and for what changes that
// never came to an end may have left. It reads all of it, 30 ms for 100,000
// routes: a caller who finds nothing of viarule's beyond what is wanted can do
// without.
func (n Namespace) Claims() (Claims, error) {
	var c Claims
	err := n.retry(func(x *index, d *dataReader) error {
		entries := x.all()
		rules, routes := 0, 0
		for i := range x.Now.Objects {
			rules, routes = rules+x.Now.Objects[i].Rules, routes+x.Now.Objects[i].Routes
		}
		// A damaged index must not make a large map.
		rules, routes = min(rules, 1<<20), min(routes, 1<<20)
		c = Claims{Rules: make(map[netstate.Rule]bool, rules), Routes: make(map[netstate.RouteKey]bool, routes), Links: map[string]bool{}, Objects: map[spec.Ref]bool{}}
		for _, e := range entries {
			c.Objects[e.ref()] = true
			for _, name := range e.Links {
				c.Links[name] = true
			}
			c.Nft = c.Nft || e.Nft
			err := d.stands(e,
				func(r netstate.Rule) { c.Rules[r] = true },
				func(k netstate.RouteKey) { c.Routes[k] = true })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Claims{}, err
	}
	return c, nil
}

// Pending says whether a change was staged and neither committed nor rolled
// back: it runs, it waits for its confirmation, or its process was killed.
func (n Namespace) Pending() (bool, error) {
	x, err := n.load()
	if err != nil {
		return false, err
	}
	return x.Before != nil || len(x.Claimed) > 0, nil
}
