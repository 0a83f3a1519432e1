// Package kernelfake is a network namespace in memory, with the methods of
// kernel.Conn and the kernel's real semantics, the sharp edges included: rules
// may be duplicates and stand behind their equals; a delete takes what it does
// not say for a wildcard and hits the first match; replacing a route makes a
// foreign one ours; deleting a next hop object takes its routes along. It is
// strict where the kernel is. package kerneltest proves it against one.
//
// It does less than a kernel in one point: it looks for a gateway in the route's own
// table and in main, where a kernel walks the rules, so that a rule of the host may
// make a gateway invalid.
//
// A Kernel holds what it is given and nothing more: no rules or routes appear by
// themselves, as a new namespace's do.
//
// Faults are a closed list: FailNext, LoseNext, TornDump, LinkGone and
// BeforeNext. Every change that reached it is recorded; see Calls.
package kernelfake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

var (
	// ErrTornDump is the error of a Snapshot under TornDump.
	ErrTornDump = errors.New("the list changed each time while it was being read")
	// ErrLostAnswers is the error of a change under LoseNext.
	ErrLostAnswers = errors.New("the kernel's answer was lost")
)

// maxBatch is kernel.Conn's: so many changes are tried before a failure stops
// Apply.
const maxBatch = 512

// Kernel is a fake namespace. It is safe for concurrent use.
type Kernel struct {
	mu       sync.Mutex
	cookie   uint64
	links    []netstate.Link
	addrs    []netstate.Addr
	rules    map[netstate.Family][]netstate.Rule
	routes   map[group][]netstate.Route
	nexthops map[uint32]netstate.Nexthop
	sysctls  map[string]string
	nft      map[string]netstate.NftTable // by name
	forward  []netstate.ForwardChain      // of others
	others   []netstate.NftName           // other chains of others

	calls   []Call
	torn    int
	faults  map[int]fault // by the number of the change from now on
	changes int           // tried so far
}

// Call is a change that reached the kernel, and what came of it.
type Call struct {
	Change netstate.Change
	Err    error // nil: done
}

type fault struct {
	err    error
	done   bool // the change is done all the same
	before func()
}

// New makes a namespace that holds s. Rules are brought into the order of their
// priorities, equal ones staying as they are.
func New(s netstate.State) *Kernel {
	k := &Kernel{
		cookie:   1,
		links:    slices.Clone(s.Links),
		addrs:    slices.Clone(s.Addrs),
		rules:    map[netstate.Family][]netstate.Rule{},
		routes:   map[group][]netstate.Route{},
		nexthops: map[uint32]netstate.Nexthop{},
		sysctls:  map[string]string{},
		nft:      map[string]netstate.NftTable{},
		faults:   map[int]fault{},
		forward:  cloneForward(s.Forward),
	}
	for _, r := range s.Rules {
		k.insertRule(r)
	}
	for _, r := range s.Routes {
		k.insertRoute(cloneRoute(r))
	}
	for _, n := range s.Nexthops {
		k.nexthops[n.ID] = cloneNexthop(n)
	}
	for _, t := range s.Nft {
		k.nft[t.Name] = netstate.CanonicalNft(t)
	}
	return k
}

// Snapshot returns what the namespace holds, as the kernel lists it: rules in
// their order; routes, of which the kernel promises no order, by their keys.
func (k *Kernel) Snapshot(ctx context.Context) (netstate.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return netstate.State{}, fmt.Errorf("read the namespace: %w", err)
	}
	if k.torn > 0 {
		k.torn--
		return netstate.State{}, fmt.Errorf("read the namespace: list IPv4 routes: %w", ErrTornDump)
	}
	s := netstate.State{Links: slices.Clone(k.links), Addrs: slices.Clone(k.addrs)}
	for i := range s.Links {
		s.Links[i].AltNames = slices.Clone(s.Links[i].AltNames)
	}
	for _, f := range netstate.Families {
		s.Rules = append(s.Rules, k.rules[f]...)
	}
	for _, list := range k.routes {
		for _, r := range list {
			s.Routes = append(s.Routes, k.resolved(cloneRoute(r)))
		}
	}
	netstate.SortRoutes(s.Routes)
	for _, id := range slices.Sorted(maps.Keys(k.nexthops)) {
		s.Nexthops = append(s.Nexthops, cloneNexthop(k.nexthops[id]))
	}
	for _, name := range slices.Sorted(maps.Keys(k.nft)) {
		s.Nft = append(s.Nft, netstate.CanonicalNft(k.nft[name]))
	}
	s.Forward = cloneForward(k.forward)
	return s, nil
}

// Apply writes changes with the contract of kernel.Conn.Apply: batches of 512,
// sysctls one by one, an end after the first batch with a failure.
func (k *Kernel) Apply(ctx context.Context, changes []netstate.Change) (attempted int, failed []*netstate.ChangeError) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for attempted < len(changes) && len(failed) == 0 && ctx.Err() == nil {
		n, errs := k.batch(changes[attempted:])
		for _, e := range errs {
			e.Index += attempted
		}
		attempted, failed = attempted+n, errs
	}
	return attempted, failed
}

// batch tries what kernel.Conn would send at once.
func (k *Kernel) batch(changes []netstate.Change) (n int, failed []*netstate.ChangeError) {
	if alone(&changes[0]) {
		if err := k.try(changes[0]); err != nil {
			failed = append(failed, err)
		}
		return 1, failed
	}
	sysctl := changes[0].Sysctl != nil
	for n < len(changes) && n < maxBatch && (changes[n].Sysctl != nil) == sysctl && !alone(&changes[n]) {
		unsayable := k.sayable(&changes[n])
		if unsayable != nil && len(failed) > 0 {
			break // the messages before it were sent, and one was refused
		}
		if err := k.try(changes[n]); err != nil {
			err.Index = n
			failed = append(failed, err)
		}
		n++
		if unsayable != nil || sysctl && len(failed) > 0 {
			break
		}
	}
	return n, failed
}

// try does one change under the faults that were set.
func (k *Kernel) try(ch netstate.Change) *netstate.ChangeError {
	f := k.faults[k.changes]
	delete(k.faults, k.changes)
	k.changes++
	if f.before != nil {
		f.before()
	}
	var err error
	if f.err == nil || f.done {
		err = k.change(ch)
	}
	if f.err != nil {
		err = f.err
	}
	k.calls = append(k.calls, Call{Change: cloneChange(ch), Err: err})
	if err == nil {
		return nil
	}
	e := &netstate.ChangeError{Err: err}
	if r := (*refusal)(nil); errors.As(err, &r) {
		e.Err, e.Msg = r.errno, r.msg
	}
	return e
}

// refusal is an errno with the kernel's words.
type refusal struct {
	errno unix.Errno
	msg   string
}

func (r *refusal) Error() string { return fmt.Sprintf("%v (kernel: %q)", r.errno, r.msg) }

func (r *refusal) Unwrap() error { return r.errno }

func refuse(errno unix.Errno, msg string) error { return &refusal{errno, msg} }

// change does one change or says why not.
func (k *Kernel) change(ch netstate.Change) error {
	if err := k.sayable(&ch); err != nil {
		return err
	}
	switch {
	case ch.Rule != nil && ch.Verb == netstate.Add:
		return k.addRule(*ch.Rule)
	case ch.Rule != nil:
		return k.deleteRule(*ch.Rule)
	case ch.Route != nil && ch.Verb == netstate.Delete:
		return k.deleteRoute(*ch.Route)
	case ch.Route != nil:
		return k.addRoute(*ch.Route, ch.Verb == netstate.Replace)
	case ch.Nexthop != nil && ch.Verb == netstate.Delete:
		return k.deleteNexthop(ch.Nexthop.ID)
	case ch.Nexthop != nil:
		return k.addNexthop(*ch.Nexthop, ch.Verb == netstate.Replace)
	case ch.Link != nil:
		return k.changeLink(ch.Verb, *ch.Link)
	case ch.Addr != nil:
		return k.changeAddr(ch.Verb, *ch.Addr)
	case ch.Nft != nil:
		return k.changeNft(ch.Verb, *ch.Nft)
	case ch.Accept != nil:
		return k.changeAccept(ch.Verb, ch.Accept)
	}
	return k.writeSysctl(*ch.Sysctl)
}

func (k *Kernel) writeSysctl(s netstate.Sysctl) error {
	old, ok := k.sysctls[s.Key]
	switch {
	case !ok:
		return fmt.Errorf("sysctl %s: %w", s.Key, fs.ErrNotExist)
	case isNumber(old) && !isNumber(s.Value):
		return fmt.Errorf("sysctl %s: %w", s.Key, unix.EINVAL)
	}
	k.sysctls[s.Key] = s.Value
	return nil
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(strings.TrimPrefix(s, "-"), "0123456789") == ""
}

// ReadSysctl returns a value that SetSysctl or a change gave; fs.ErrNotExist where
// there is none.
func (k *Kernel) ReadSysctl(key string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.sysctls[key]
	if !ok {
		return "", fmt.Errorf("sysctl %s: %w", key, fs.ErrNotExist)
	}
	return v, nil
}

// SetSysctl makes a sysctl exist, with a value.
func (k *Kernel) SetSysctl(key, value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sysctls[key] = value
}

// Cookie returns the namespace's, which is 1 unless SetCookie changed it.
func (k *Kernel) Cookie() (uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.cookie, nil
}

// SetCookie makes the namespace another one.
func (k *Kernel) SetCookie(c uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cookie = c
}

// Calls lists the changes that were tried, in order.
func (k *Kernel) Calls() []Call {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.calls)
}
