package sbr

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/cni"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/srcroute"
	"github.com/viarule/viarule/internal/standing"
)

func (p *plugin) add(c *config, call *cni.Call) (did string, err error) {
	if err := p.readAll(c, call.IfName); err != nil {
		return "", err
	}
	a := srcroute.Attachment{Dev: call.IfName, Addrs: c.addrs}
	err = p.inside(call.Netns, func(s *session) error {
		did, err = s.add(c, &a, p.key(c, call))
		return err
	})
	if err != nil {
		return "", cni.Failed(fmt.Sprintf("route %s by source", call.IfName), err)
	}
	p.sweep()
	return did, nil
}

// add does what an attachment wants, or nothing.
func (s *session) add(c *config, a *srcroute.Attachment, key record.AttachmentKey) (did string, err error) {
	if err := s.look(); err != nil {
		return "", err
	}
	if s.view.Link(a.Dev) == nil {
		return "", fmt.Errorf("the interface %s of prevResult is not in the namespace", a.Dev)
	}
	if old := s.records.Get(key); old != nil {
		// A killed ADD left it: a runtime gives an attachment but once.
		if err := s.undo(old); err != nil {
			return "", err
		}
		s.records.Remove(key)
		if err := s.lock.SaveAttachments(s.records); err != nil {
			return "", err // before anything else fails: what is undone must not be undone again
		}
		if err := s.look(); err != nil {
			return "", err
		}
	}
	facts, err := s.facts(c, a)
	if err != nil {
		return "", err
	}
	want, err := srcroute.Build(&c.Config, a, facts)
	if err != nil {
		return "", c.wrong(err)
	}
	steps, err := s.steps(&c.Config, a.Dev, want)
	if err != nil {
		return "", err
	}
	done := record.Attachment{AttachmentKey: key, Tables: want.Tables, VRF: c.VRF, Steps: steps}
	s.records.Put(done)
	if err := s.lock.SaveAttachments(s.records); err != nil {
		return "", err
	}
	made, err := s.do(steps)
	if err == nil && len(made) < len(steps) {
		done.Steps = made
		s.records.Put(done)
		err = s.lock.SaveAttachments(s.records)
	}
	if err != nil {
		defer s.moreTime()()
		undone := s.undo(&record.Attachment{AttachmentKey: key, VRF: c.VRF, Steps: made})
		if undone == nil {
			s.records.Remove(key)
			undone = s.lock.SaveAttachments(s.records)
		}
		return "", errors.Join(err, undone)
	}
	return fmt.Sprintf("tables %v, %d rules, %d routes", want.Tables, len(want.Rules), len(want.Routes)), nil
}

// do writes the steps in their order, and gives those that may be done. Where it fails,
// a rule or route that the kernel refused, since there is one already, is another's. A
// source that the kernel refuses to a route of main is no failure: everything leaves by
// its way without it. That can be where another route came between that one and its
// gateway since it was made.
func (s *session) do(steps []record.Step) (made []record.Step, err error) {
	changes := make([]netstate.Change, len(steps))
	for i := range steps {
		changes[i] = steps[i].Do
	}
	for from := 0; from < len(changes) && err == nil; {
		n, failed := s.write(changes[from:])
		refused := map[int]bool{}
		for _, f := range failed {
			ch := &changes[from+f.Index]
			_, said := f.Err.(unix.Errno)
			refused[f.Index] = said && (ch.Rule != nil || ch.Route != nil)
			if source := ch.Route != nil && ch.Verb == netstate.Replace; err == nil && !(source && said) {
				err = fmt.Errorf("%s: %w", ch.String(), f)
			}
		}
		for i := range n {
			if !refused[i] {
				made = append(made, steps[from+i])
			}
		}
		if from += n; n == 0 {
			err = s.ctx.Err()
		}
	}
	return made, err
}

// facts reads what Build has to know.
func (s *session) facts(c *config, a *srcroute.Attachment) (*srcroute.Facts, error) {
	f := &srcroute.Facts{Link: s.view.Link(a.Dev)}
	if c.VRF != "" {
		f.VRF = s.view.Link(c.VRF)
	}
	if c.StrictRP {
		f.LooseForAll = standing.Loose(s.conn.ReadSysctl) != ""
	}
	used, err := s.rulesAround(f)
	if err != nil {
		return nil, err
	}
	if f.Free, err = s.freeTables(c, c.Fills(a, f.VRF), used); err != nil {
		return nil, err
	}
	if c.Table != 0 && len(c.Routes) == 0 && c.VRF == "" {
		return f, nil // main stays as it is
	}
	if c.Own || c.SourceHints || c.VRF != "" {
		if f.Addrs, err = s.view.Addrs(s.ctx, a.Dev); err != nil {
			return nil, err
		}
		f.Sources = sources(f.Addrs, c.VRF != "")
	}
	for _, family := range netstate.Families {
		routes, err := s.view.Routes(s.ctx, family, netstate.TableMain, a.Dev)
		if err != nil {
			return nil, err
		}
		f.Main = append(f.Main, routes...)
		if table := vrfTable(c, f); table != 0 {
			there, err := s.view.Routes(s.ctx, family, table, "")
			if err != nil {
				return nil, err
			}
			f.InVRF = append(f.InVRF, there...)
		}
		hinted := slices.ContainsFunc(routes, func(r netstate.Route) bool { return srcroute.Hintable(&r) })
		if c.VRF != "" || !(c.Own && hinted || c.SourceHints) {
			continue
		}
		all, err := s.view.Routes(s.ctx, family, netstate.TableMain, "")
		if err != nil {
			return nil, err
		}
		if f.Shared == nil {
			f.Shared = map[netstate.RouteKey]bool{}
		}
		seen := map[netstate.RouteKey]bool{}
		for i := range all {
			key := all[i].Key()
			if all[i].Hop.Dev != a.Dev || seen[key] {
				f.Shared[key] = true
			}
			seen[key] = true
		}
	}
	return f, nil
}

// vrfTable is the table of the VRF to enter, where it may have routes already; else 0.
func vrfTable(c *config, f *srcroute.Facts) uint32 {
	switch {
	case f.VRF != nil:
		return f.VRF.VRFTable
	case c.VRF != "":
		return c.Table
	}
	return 0
}

// sources are the addresses of a link that a route may have as its source: the kernel
// refuses one for which duplicate address detection has not ended (ipv6_chk_addr). A
// port gets them back without it.
func sources(addrs []netstate.Addr, port bool) map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	for i := range addrs {
		a := &addrs[i]
		if port {
			all[a.Prefix.Addr()] = a.Flags&netstate.AddrPermanent != 0
		} else {
			all[a.Prefix.Addr()] = !a.Checking()
		}
	}
	return all
}
