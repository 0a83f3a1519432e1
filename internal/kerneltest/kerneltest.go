// Package kerneltest is the contract that kernel.Conn and kernelfake.Kernel both
// keep, as tests. What a test of another package learns from the fake is then
// true of a kernel.
//
// Most of it is scripts: changes in netstate's text form, one a line, with the
// errno that is expected in front of those that must fail, and the state that is
// left.
package kerneltest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/netstate/netstatetest"
)

// Kernel is what is tested.
type Kernel interface {
	Snapshot(ctx context.Context) (netstate.State, error)
	Apply(ctx context.Context, changes []netstate.Change) (attempted int, failed []*netstate.ChangeError)
	ReadSysctl(key string) (string, error)
	Cookie() (uint64, error)
}

// Release is a Linux release. Tests of what came later expect it to be refused.
type Release struct{ Major, Minor int }

// AtLeast compares releases.
func (r Release) AtLeast(major, minor int) bool {
	return r.Major > major || r.Major == major && r.Minor >= minor
}

// Options say how to make what is tested.
type Options struct {
	// Open makes a namespace that holds what Fixture says, for one test.
	Open func(t *testing.T) Kernel
	// DeleteLink removes a link of a namespace that Open made.
	DeleteLink func(t *testing.T, k Kernel, name string)
	// Forward adds what ForwardFixture says to a namespace that Open made.
	Forward func(t *testing.T, k Kernel)
	// NoVRF says that the namespace's kernel has no VRFs.
	NoVRF bool
	// Release is what the namespace's kernel is, or imitates.
	Release Release
}

// Fixture is what every namespace of Open must hold besides what a new one has by
// itself. v2 is down.
const Fixture = `
link 1 lo mac 00:00:00:00:00:00 mtu 65536 up carrier loopback
link 10 v0 kind veth mtu 1500 up carrier
link 11 v1 kind veth mtu 1500 up carrier
link 12 v2 kind veth mtu 1500
addr 127.0.0.1/8 dev lo scope host
addr 10.1.0.1/24 dev v0
addr 10.2.0.1/24 dev v1
addr 10.3.0.1/24 dev v2
addr ::1/128 dev lo scope host
addr 2001:db8:1::1/64 dev v0 flags 0x2
addr 2001:db8:2::1/64 dev v1 flags 0x2
addr 2001:db8:3::1/64 dev v2 flags 0x2
`

// Run runs the contract.
func Run(t *testing.T, o Options) {
	t.Run("rules", o.rules)
	t.Run("routes", o.routes)
	t.Run("nexthops", o.nexthops)
	t.Run("links", o.links)
	t.Run("own links", o.ownLinks)
	t.Run("ports", o.ports)
	t.Run("addresses", o.addresses)
	t.Run("own nftables", o.ownNft)
	t.Run("accepts in chains of others", o.accepts)
	t.Run("one apply of everything", o.everything)
	t.Run("batches", o.batches)
	t.Run("malformed", o.malformed)
	t.Run("sysctls", o.sysctls)
	t.Run("laws", o.laws)
}

// script is a list of changes and what is left after them.
type script struct {
	name  string
	since Release // the release that has what is used; older ones must refuse it
	steps string
	want  string
}

func (o Options) runScripts(t *testing.T, list []script) {
	for _, s := range list {
		t.Run(s.name, func(t *testing.T) {
			if !o.Release.AtLeast(s.since.Major, s.since.Minor) {
				t.Skipf("skipped: needs Linux %d.%d", s.since.Major, s.since.Minor)
			}
			k := o.Open(t)
			for line := range strings.Lines(s.steps) {
				if line = strings.TrimSpace(line); line != "" {
					step(t, k, line)
				}
			}
			if got, want := ours(t, k), canonicalText(t, s.want); got != want {
				t.Errorf("after\n%s\ngot:\n%s\nwant:\n%s", s.steps, got, want)
			}
		})
	}
}

// step does one line of a script: a change, or the errno that it must fail with
// and the change.
func step(t *testing.T, k Kernel, line string) {
	t.Helper()
	want, text := syscall.Errno(0), line
	if word, rest, _ := strings.Cut(line, " "); strings.HasPrefix(word, "E") {
		e, ok := errnos[word]
		if !ok {
			t.Fatalf("%s: unknown errno", line)
		}
		want, text = e, strings.TrimSpace(rest)
	}
	ch := netstatetest.ParseChange(t, text)
	n, failed := k.Apply(context.Background(), []netstate.Change{ch})
	if n != 1 {
		t.Fatalf("%s: attempted %d", line, n)
	}
	var got syscall.Errno
	if len(failed) > 0 {
		if len(failed) != 1 || failed[0].Index != 0 {
			t.Fatalf("%s: failures %v", line, failed)
		}
		if e := failed[0]; !asErrno(e, &got) {
			t.Fatalf("%s: %v is no errno", line, e)
		}
	}
	if got != want {
		t.Errorf("%s: got errno %d (%v), want %d", line, got, failed, want)
	}
}

var errnos = map[string]syscall.Errno{
	"EEXIST": syscall.EEXIST, "ENOENT": syscall.ENOENT, "ESRCH": syscall.ESRCH, "EINVAL": syscall.EINVAL,
	"ENODEV": syscall.ENODEV, "ENETDOWN": syscall.ENETDOWN, "ENETUNREACH": syscall.ENETUNREACH,
	"EHOSTUNREACH": syscall.EHOSTUNREACH, "EOPNOTSUPP": syscall.EOPNOTSUPP, "ERANGE": syscall.ERANGE,
	"EPERM": syscall.EPERM, "EADDRNOTAVAIL": syscall.EADDRNOTAVAIL, "EAFNOSUPPORT": syscall.EAFNOSUPPORT,
}

// asErrno finds an errno that an error is or wraps, of those that scripts name.
func asErrno(err error, to *syscall.Errno) bool {
	for _, e := range errnos {
		if isErrno(err, e) {
			*to = e
			return true
		}
	}
	return false
}

// ours is the state that scripts make: rules that the kernel did not make itself,
// routes of the tables from 1000, next hop objects.
func ours(t testing.TB, k Kernel) string {
	t.Helper()
	s, err := k.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return text(s)
}

const kernelProtocol = 2 // RTPROT_KERNEL

func text(s netstate.State) string {
	s.Links, s.Addrs = nil, nil
	s.Rules = slices.DeleteFunc(slices.Clone(s.Rules), func(r netstate.Rule) bool { return initialRule(&r) })
	s.Routes = slices.DeleteFunc(slices.Clone(s.Routes), func(r netstate.Route) bool { return r.Table < 1000 })
	netstate.SortRoutes(s.Routes)
	return s.String()
}

// initialRule says whether r is one that a new namespace has. Old kernels do not
// say that they made it.
func initialRule(r *netstate.Rule) bool {
	initial := r.Priority == 0 || r.Priority >= 32766
	return initial && (r.Protocol == kernelProtocol || r.Protocol == 0)
}

func canonicalText(t testing.TB, block string) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(block) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return text(netstatetest.ParseState(t, strings.Join(lines, "\n")))
}

// apply does changes that must all succeed.
func apply(t testing.TB, k Kernel, changes ...netstate.Change) {
	t.Helper()
	n, failed := k.Apply(context.Background(), changes)
	if n != len(changes) || len(failed) > 0 {
		t.Fatalf("%d of %d changes tried, %s", n, len(changes), failures(failed, changes))
	}
}

func failures(failed []*netstate.ChangeError, changes []netstate.Change) string {
	list := make(map[int]string)
	for _, e := range failed {
		list[e.Index] = fmt.Sprintf("%s: %v", changes[e.Index], e)
	}
	var b strings.Builder
	for _, i := range slices.Sorted(maps.Keys(list)) {
		fmt.Fprintf(&b, "\n%d: %s", i, list[i])
	}
	return b.String()
}
