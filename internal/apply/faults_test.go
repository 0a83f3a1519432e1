package apply

import (
	"context"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
)

// faulty is a Kernel around another one that lets single operations fail, and
// runs hooks before them. Operations count from 0 over all calls.
type faulty struct {
	Kernel
	seen int // operations so far
	// fail gives the error for operation i; nil: none.
	fail func(i int, c *netstate.Change) error
	// before has what runs before operation i reaches the kernel.
	before map[int]func()
	// together is how the kernel treats the operations of one send: the others
	// are carried out also behind a failed one. Otherwise a send has one.
	together bool
	// look runs before snapshot i, from 0.
	look func(i int)
	// torn is how many snapshots fail.
	torn      int
	snapshots int
}

func (f *faulty) Snapshot(ctx context.Context) (netstate.State, error) {
	f.snapshots++
	if f.look != nil {
		f.look(f.snapshots - 1)
	}
	if f.torn > 0 {
		f.torn--
		return netstate.State{}, errTorn
	}
	return f.Kernel.Snapshot(ctx)
}

type faultError string

func (e faultError) Error() string { return string(e) }

const (
	errTorn    = faultError("the dump was interrupted")
	errRefused = faultError("invalid argument")
)

func (f *faulty) Apply(ctx context.Context, changes []netstate.Change) (attempted int, failed []*netstate.ChangeError) {
	const send = 512
	for start := 0; start < len(changes) && len(failed) == 0; start += send {
		n := f.batch(ctx, changes, start, min(start+send, len(changes)), &failed)
		attempted = n
		if ctx.Err() != nil {
			break
		}
	}
	return attempted, failed
}

// batch sends changes[from:to] and returns how far it came.
func (f *faulty) batch(ctx context.Context, changes []netstate.Change, from, to int, failed *[]*netstate.ChangeError) int {
	next := from // what was not passed on yet
	flush := func(end int) bool {
		if next >= end {
			return true
		}
		n, errs := f.Kernel.Apply(ctx, changes[next:end])
		for _, e := range errs {
			e.Index += next
			*failed = append(*failed, e)
		}
		next += n
		return len(errs) == 0 && next == end
	}
	for i := from; i < to; i++ {
		if hook := f.before[f.seen]; hook != nil {
			if !flush(i) {
				return next
			}
			hook()
		}
		f.seen++
		if f.fail == nil {
			continue
		}
		if err := f.fail(f.seen-1, &changes[i]); err != nil {
			if !flush(i) {
				return next
			}
			*failed = append(*failed, &netstate.ChangeError{Index: i, Err: err, Msg: "Nexthop has invalid gateway"})
			next = i + 1
			if !f.together {
				return next
			}
		}
	}
	flush(to)
	return next
}

// failOnce refuses operation at, the first time only: an undo that repeats it
// gets through.
func failOnce(at int) func(int, *netstate.Change) error {
	return func(i int, _ *netstate.Change) error {
		if i == at {
			return errRefused
		}
		return nil
	}
}

// memory is a Kernel that keeps rules, routes and sysctls in lists: enough for
// what Run itself does. How a kernel behaves is tested with the real one.
type memory struct {
	state   netstate.State
	sysctls map[string]string
	calls   []string // the changes of each call, in text
}

func (m *memory) Snapshot(ctx context.Context) (netstate.State, error) {
	s := m.state
	s.Rules, s.Routes = slices.Clone(s.Rules), slices.Clone(s.Routes)
	return s, ctx.Err()
}

func (m *memory) ReadSysctl(key string) (string, error) {
	if v, ok := m.sysctls[key]; ok {
		return v, nil
	}
	return "", errRefused
}

func (m *memory) Apply(ctx context.Context, changes []netstate.Change) (attempted int, failed []*netstate.ChangeError) {
	var call strings.Builder
	defer func() { m.calls = append(m.calls, call.String()) }()
	for i := range changes {
		if ctx.Err() != nil {
			return i, nil
		}
		c := &changes[i]
		call.WriteString(c.String() + "\n")
		switch {
		case c.Sysctl != nil:
			m.sysctls[c.Sysctl.Key] = c.Sysctl.Value
		case c.Rule != nil && c.Verb == netstate.Add:
			at := len(m.state.Rules)
			for at > 0 && m.state.Rules[at-1].Priority > c.Rule.Priority {
				at--
			}
			m.state.Rules = slices.Insert(m.state.Rules, at, *c.Rule)
		case c.Rule != nil:
			at := slices.Index(m.state.Rules, *c.Rule)
			if at < 0 {
				return i + 1, []*netstate.ChangeError{{Index: i, Err: faultError("no such file or directory")}}
			}
			m.state.Rules = slices.Delete(m.state.Rules, at, at+1)
		case c.Route != nil:
			at := slices.IndexFunc(m.state.Routes, func(r netstate.Route) bool { return r.Key() == c.Route.Key() })
			switch {
			case c.Verb == netstate.Delete && at >= 0:
				m.state.Routes = slices.Delete(m.state.Routes, at, at+1)
			case c.Verb == netstate.Replace && at >= 0:
				m.state.Routes[at] = *c.Route
			case c.Verb == netstate.Add && at < 0:
				m.state.Routes = append(m.state.Routes, *c.Route)
			default:
				return i + 1, []*netstate.ChangeError{{Index: i, Err: faultError("file exists")}}
			}
		}
	}
	return len(changes), nil
}
