package record

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
)

// Sysctl says what viarule did to one sysctl. The kernel cannot mark a sysctl as
// ours, so the value that was found is kept from before the first change until
// the last user goes.
type Sysctl struct {
	Key   string `json:"key"` // with slashes, as netstate.Sysctl
	Found string `json:"found"`
	// Ours are the values that viarule may have written: the one that is wanted
	// last; while a change is not committed the earlier ones as well.
	Ours  []string `json:"ours"`
	Users []User   `json:"users,omitempty"` // none: it is to be put back
}

// User is an object that wants a sysctl.
type User struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// Sysctls lists, by key, the sysctls that viarule changed and has not put back.
func (n Namespace) Sysctls() ([]Sysctl, error) {
	x, err := n.load()
	if err != nil {
		return nil, err
	}
	return x.Now.Sysctls, nil
}

// Restore says what a plan for c has to put back: the sysctls that nobody wants
// any more and that still have a value of ours. One that was changed since by
// somebody else is left as it is. Nothing is written.
func (n Namespace) Restore(c Change) ([]netstate.Sysctl, error) {
	x, err := n.load()
	if err != nil {
		return nil, err
	}
	next, err := x.Now.with(c, nil)
	if err != nil {
		return nil, err
	}
	var out []netstate.Sysctl
	for _, s := range next.Sysctls {
		now, ok := c.Present[s.Key]
		if ok && len(s.Users) == 0 && now != s.Found && slices.Contains(s.Ours, now) {
			out = append(out, netstate.Sysctl{Key: s.Key, Value: s.Found})
		}
	}
	return out, nil
}

// ledger works out the sysctls from the objects: found values are kept from old,
// and taken from present where a sysctl gets its first user.
func ledger(old []Sysctl, objects []entry, present map[string]string) ([]Sysctl, error) {
	byKey := make(map[string]*Sysctl, len(old))
	for i := range old {
		s := old[i]
		s.Ours, s.Users = slices.Clone(s.Ours), nil
		byKey[s.Key] = &s
	}
	for i := range objects {
		e := &objects[i]
		for key, value := range e.Sysctls {
			s := byKey[key]
			if s == nil {
				found, ok := present[key]
				if !ok {
					return nil, fmt.Errorf("record %s: the value of sysctl %s was not read before its change", e.ref(), key)
				}
				s = &Sysctl{Key: key, Found: found}
				byKey[key] = s
			}
			s.Ours = append(slices.DeleteFunc(s.Ours, func(v string) bool { return v == value }), value)
			s.Users = append(s.Users, User{e.Kind, e.Name})
		}
	}
	out := make([]Sysctl, 0, len(byKey))
	for _, s := range byKey {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b Sysctl) int { return cmp.Compare(a.Key, b.Key) })
	return out, nil
}

// settled is the ledger once the kernel holds what is wanted: what had to be put
// back is, and only the last value is ours.
func settled(list []Sysctl) []Sysctl {
	var out []Sysctl
	for _, s := range list {
		if len(s.Users) > 0 {
			s.Ours = s.Ours[max(0, len(s.Ours)-1):]
			out = append(out, s)
		}
	}
	return out
}

// merged is old with what a failed undo may have left of failed: values of ours,
// and sysctls that are to be put back at the next change.
func merged(old, failed []Sysctl) []Sysctl {
	out := slices.Clone(old)
	for _, f := range failed {
		i := slices.IndexFunc(out, func(s Sysctl) bool { return s.Key == f.Key })
		if i < 0 {
			f.Users = nil
			out = append(out, f)
			continue
		}
		ours := slices.Clone(f.Ours)
		for _, v := range out[i].Ours { // the wanted value stays the last
			ours = append(slices.DeleteFunc(ours, func(o string) bool { return o == v }), v)
		}
		out[i].Ours = ours
	}
	slices.SortFunc(out, func(a, b Sysctl) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

func sortedSysctls(m map[string]string) []netstate.Sysctl {
	var out []netstate.Sysctl
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, netstate.Sysctl{Key: key, Value: m[key]})
	}
	return out
}
