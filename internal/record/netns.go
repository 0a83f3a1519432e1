package record

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Netns says by what a namespace may be found again. A cookie cannot be looked
// up, so each Stage notes the path and the inode as well.
type Netns struct {
	Path  string `json:"path,omitempty"`
	Dev   uint64 `json:"dev,omitempty"`
	Inode uint64 `json:"inode,omitempty"`
}

// ownNetns is the calling thread's: a program that moved one thread to a
// namespace means that one.
const ownNetns = "/proc/thread-self/ns/net"

// identify looks a namespace up by the path it was opened by.
func identify(path string) (Netns, error) {
	look := path
	if look == "" {
		look = ownNetns
	}
	dev, ino, err := inode(look)
	if err != nil {
		return Netns{}, fmt.Errorf("look at namespace %s: %w", look, err)
	}
	return Netns{path, dev, ino}, nil
}

func inode(path string) (dev, ino uint64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, err
	}
	return st.Dev, st.Ino, nil
}

// living finds out which namespaces may still be there.
type living struct {
	inodes map[uint64]bool
	sure   bool // every process could be looked at
}

// findLiving collects the inodes of the namespaces that a process is in or that
// are mounted, as `ip netns` and container runtimes do. A namespace that only an
// open file descriptor holds, or that lives in a process this one cannot see,
// is missed.
func findLiving() living {
	l := living{inodes: make(map[uint64]bool), sure: true}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return living{}
	}
	for _, p := range procs {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		// A process may end in between. One may have capabilities that this
		// one lacks, as init outside of a container has, and hide its namespace.
		_, ino, err := inode(filepath.Join("/proc", p.Name(), "ns/net"))
		if err == nil {
			l.inodes[ino] = true
		} else if os.IsPermission(err) {
			l.sure = false
		}
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return living{}
	}
	for line := range strings.Lines(string(mounts)) {
		// 417 27 0:4 net:[4026532281] /run/netns/blue rw shared:5 - nsfs nsfs rw
		if f := strings.Fields(line); len(f) > 3 {
			number, _ := strings.CutPrefix(f[3], "net:[")
			if ino, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64); err == nil {
				l.inodes[ino] = true
			}
		}
	}
	return l
}

// has says whether ns may still be there. Inodes are used again, so that a dead
// namespace may be taken for a living one; the other way round only as
// findLiving says.
func (l *living) has(ns Netns) bool {
	if ns.Inode == 0 || l.inodes[ns.Inode] {
		return true
	}
	path := ns.Path
	if path == "" {
		path = ownNetns
	}
	if _, ino, err := inode(path); err == nil && ino == ns.Inode {
		return true
	}
	// One that was opened by a path is gone with it. One that was some
	// process's own may be that of a process that cannot be looked at.
	return ns.Path == "" && !l.sure
}

// Tables is which tables the records of a host's namespaces use.
type Tables struct {
	Names   map[string]uint32 // what rt_tables.d/viarule.conf has to say
	Numbers map[uint32]bool   // not to be allocated for another name
}

// Tables collects the tables of every object of every namespace, those of
// unfinished changes included.
//
// Records of namespaces that are gone stay (nothing proves that a namespace is
// gone, and without its records its rules would be orphans), until the reboot
// that empties /run. So that they do not hold on to names for ever, a namespace
// that no process is in, that is mounted nowhere and that is not at the path it
// was opened by does not count. Where that was wrong, `ip` prints a number in
// place of a name until the next change there.
//
// Where two namespaces give one name two numbers the smaller one counts.
func (s Store) Tables() (Tables, error) {
	return s.tables(func(Namespace) bool { return true })
}

// TablesOfOthers is Tables without what only the namespace with this cookie
// uses: what an object there must not give another meaning.
func (s Store) TablesOfOthers(cookie uint64) (Tables, error) {
	return s.tables(func(n Namespace) bool { return n.cookie != cookie })
}

func (s Store) tables(of func(Namespace) bool) (Tables, error) {
	t := Tables{make(map[string]uint32), make(map[uint32]bool)}
	list, err := s.Namespaces()
	if err != nil {
		return Tables{}, err
	}
	var alive living
	looked := false
	for _, n := range list {
		if !of(n) {
			continue
		}
		x, err := n.load()
		if err != nil {
			return Tables{}, err
		}
		entries := x.all()
		if len(entries) == 0 {
			continue
		}
		if !looked {
			alive, looked = findLiving(), true
		}
		if !alive.has(x.Netns) {
			continue
		}
		for _, e := range entries {
			for name, id := range e.Tables {
				t.Numbers[id] = true
				if old, ok := t.Names[name]; !ok || id < old {
					t.Names[name] = id
				}
			}
		}
	}
	return t, nil
}
