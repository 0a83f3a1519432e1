package kernelfake

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netstate"
)

// FailNext makes a change fail with errno and do nothing: the next one for n = 0,
// the one after for n = 1, and so on.
func (k *Kernel) FailNext(n int, errno unix.Errno) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.faults[k.changes+n]
	f.err = errno
	k.faults[k.changes+n] = f
}

// LoseNext makes a change happen but be reported as ErrLostAnswers; n counts as
// for FailNext.
func (k *Kernel) LoseNext(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.faults[k.changes+n]
	f.err, f.done = ErrLostAnswers, true
	k.faults[k.changes+n] = f
}

// TornDump makes the next n snapshots fail with ErrTornDump.
func (k *Kernel) TornDump(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.torn = n
}

// LinkGone removes a link now, and with it what the kernel removes: its
// addresses, the routes and the next hop objects by it, its sysctls, and the links
// that are made on it.
func (k *Kernel) LinkGone(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.linkGone(name)
}

// Other is somebody else who changes the namespace: what a Kernel offers to the
// function of BeforeNext.
type Other struct{ k *Kernel }

// Change does one change that is not recorded. It fails as Apply would.
func (o Other) Change(ch netstate.Change) error { return o.k.change(ch) }

// LinkGone is Kernel.LinkGone.
func (o Other) LinkGone(name string) { o.k.linkGone(name) }

// BeforeNext lets somebody else act right before a change is tried; n counts as
// for FailNext.
func (k *Kernel) BeforeNext(n int, f func(Other)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.faults[k.changes+n]
	at.before = func() { f(Other{k}) }
	k.faults[k.changes+n] = at
}

func (k *Kernel) linkGone(name string) {
	for _, l := range slices.Clone(k.links) {
		if l.Parent == name && slices.Contains(above, l.Kind) {
			k.linkGone(l.Name)
		}
	}
	for i := range k.links {
		if l := &k.links[i]; l.Master == name {
			_ = k.setMaster(l, "") // to none: nothing can be wrong with it
		}
	}
	k.links = slices.DeleteFunc(k.links, func(l netstate.Link) bool { return l.Name == name })
	k.addrs = slices.DeleteFunc(k.addrs, func(a netstate.Addr) bool { return a.Dev == name })
	k.dropRoutes(name)
	for key := range k.sysctls {
		if strings.Contains(key, "/"+name+"/") {
			delete(k.sysctls, key)
		}
	}
}

// dropRoutes removes what leads to a link: routes and next hop objects.
func (k *Kernel) dropRoutes(link string) {
	for id, n := range k.nexthops {
		if n.Hop.Dev == link {
			k.dropNexthop(id)
		}
	}
	for g, list := range k.routes {
		var kept []netstate.Route
		for _, r := range list {
			if r, ok := withoutLink(r, link); ok {
				kept = append(kept, r)
			}
		}
		k.setRoutes(g, kept)
	}
}

// withoutLink is what is left of a route when a link goes: of IPv4 nothing, even
// if it has other next hops (fib_sync_down_dev), of IPv6 those.
func withoutLink(r netstate.Route, name string) (netstate.Route, bool) {
	if r.Hop.Dev == name {
		return r, false
	}
	var others []netstate.Hop
	for _, h := range r.Hops {
		if h.Dev != name {
			others = append(others, h)
		}
	}
	switch {
	case len(others) == len(r.Hops):
		return r, true
	case r.Family == netstate.IPv4 || len(others) == 0:
		return r, false
	}
	r.Hops = others
	return netstate.CanonicalRoute(r), true
}
