package sbr

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/standing"
)

// undo takes back what stands of an attachment, in the opposite order, and nothing
// else: a rule or route that is not as ADD made it is not its own any more.
func (s *session) undo(a *record.Attachment) error {
	if err := s.readSteps(); err != nil {
		return err
	}
	if err := s.look(); err != nil {
		return err
	}
	have, err := s.around(a)
	if err != nil {
		return err
	}
	stands := standing.Of(a.Steps, have)
	for i := range s.records.List {
		if o := &s.records.List[i]; o.AttachmentKey != a.AttachmentKey {
			stands.Leave(o.Steps)
		}
	}
	var list []netstate.Change
	may := map[int]bool{} // of list: what may be impossible by now
	for i := len(a.Steps) - 1; i >= 0; i-- {
		step := &a.Steps[i]
		if back, takesBack := s.takesBack(a, step, stands); takesBack {
			may[len(list)] = back
			list = append(list, step.Undo)
		}
	}
	for i, err := range s.each(list) {
		if !gone(err) && !(may[i] && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EEXIST))) {
			return fmt.Errorf("%s: %w", list[i].String(), err)
		}
	}
	return nil
}

// takesBack says whether a step of an attachment is to be undone, and whether that puts
// back something of others. The way for that may be gone: a gateway's network with its
// address.
func (s *session) takesBack(a *record.Attachment, step *record.Step, stands *standing.Standing) (back, takesBack bool) {
	switch do := &step.Do; {
	case do.Sysctl != nil:
		now, err := s.conn.ReadSysctl(do.Sysctl.Key)
		return true, err == nil && now == do.Sysctl.Value
	case do.Rule != nil:
		return false, stands.TakeRule(do.Rule)
	case do.Link != nil && do.Link.Alias != "":
		return false, s.vrfGoes(a, do.Link)
	case do.Link != nil:
		now := s.view.Link(do.Link.Name)
		return false, now != nil && now.Master == do.Link.Master
	case do.Addr != nil && do.Verb == netstate.Delete:
		return true, s.view.Link(do.Addr.Dev) != nil
	case do.Addr != nil:
		return false, stands.Addr(do.Addr)
	case do.Verb == netstate.Delete:
		return true, s.knows(do.Route) && stands.Route(do.Route) == nil
	}
	now := stands.Route(step.Do.Route)
	return false, now != nil && now.Equal(step.Do.Route)
}

// vrfGoes says that a VRF goes with an attachment, which is the last one that has it.
// Where it is not there, what a killed ADD left of it goes. One that has ports of
// somebody else stays for them.
func (s *session) vrfGoes(a *record.Attachment, vrf *netstate.Link) bool {
	for i := range s.view.Links {
		l := &s.view.Links[i]
		if l.Name == vrf.Name && l.Alias != vrf.Alias || l.Master == vrf.Name && l.Name != a.Interface {
			return false
		}
	}
	for i := range s.records.List {
		if o := &s.records.List[i]; o.AttachmentKey != a.AttachmentKey && o.VRF == vrf.Name {
			return false
		}
	}
	return true
}

// gone says that there was nothing left to undo, or no link to put something back to.
func gone(err error) bool {
	for _, e := range []error{unix.ESRCH, unix.ENOENT, unix.ENODEV, unix.ENETDOWN, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL, fs.ErrNotExist} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// each writes changes in their order, whether or not one fails, and gives what failed.
func (s *session) each(changes []netstate.Change) map[int]error {
	failures := map[int]error{}
	for from := 0; from < len(changes); {
		n, failed := s.write(changes[from:])
		for _, f := range failed {
			failures[from+f.Index] = f
		}
		if n == 0 {
			failures[from] = errors.Join(s.ctx.Err(), failures[from])
			break
		}
		from += n
	}
	return failures
}

// knows says that the links of a route are there.
func (s *session) knows(r *netstate.Route) bool {
	ok := r.Hop.Dev == "" || s.view.Link(r.Hop.Dev) != nil
	for i := range r.Hops {
		ok = ok && s.view.Link(r.Hops[i].Dev) != nil
	}
	return ok
}

// around reads the part of the namespace that standing asks about for an attachment: the
// links, the addresses of those that its steps name and of its interface, and the rules
// and routes that have the place of one in the steps.
func (s *session) around(a *record.Attachment) (*netstate.State, error) {
	have := &netstate.State{Links: s.view.Links}
	type head struct {
		family   netstate.Family
		priority uint32
	}
	heads := map[head]bool{}
	type table struct {
		family netstate.Family
		id     uint32
		dev    string
	}
	tables := map[table]bool{}
	devs := map[string]bool{}
	for i := range a.Steps {
		switch do := &a.Steps[i].Do; {
		case do.Rule != nil:
			heads[head{do.Rule.Family, do.Rule.Priority}] = true
		case do.Addr != nil:
			devs[do.Addr.Dev] = true
		case do.Route != nil:
			tables[table{do.Route.Family, do.Route.Table, do.Route.Hop.Dev}] = true
		}
	}
	if a.VRF != "" {
		devs[a.Interface] = true
	}
	var err error
	if len(heads) > 0 {
		if have.Rules, err = s.view.Those(s.ctx, func(h *kernel.RuleHead) bool { return heads[head{h.Family, h.Priority}] }); err != nil {
			return nil, err
		}
	}
	for dev := range devs {
		if s.view.Link(dev) == nil {
			continue
		}
		addrs, err := s.view.Addrs(s.ctx, dev)
		if err != nil {
			return nil, err
		}
		have.Addrs = append(have.Addrs, addrs...)
	}
	for t := range tables {
		if t.dev != "" && s.view.Link(t.dev) == nil {
			continue
		}
		routes, err := s.view.Routes(s.ctx, t.family, t.id, t.dev)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if r.Hop.Dev == t.dev { // without one all of the table were read
				have.Routes = append(have.Routes, r)
			}
		}
	}
	return have, nil
}
