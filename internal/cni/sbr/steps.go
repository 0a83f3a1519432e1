package sbr

import (
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/srcroute"
)

// steps are the writes that lead to want: tables before the rules that look into them,
// and what goes from main last, so that packets never meet a gap. Into a VRF there is no
// way without one: the kernel sets the link down and up. What it takes away by that is
// taken away before, so that undoing the steps puts it back.
func (s *session) steps(c *srcroute.Config, dev string, want *srcroute.Want) ([]record.Step, error) {
	var list stepList
	if v := want.VRF; v != nil {
		verb := netstate.Add
		if s.view.Link(v.Name) != nil {
			verb = netstate.Replace
		}
		list.add(netstate.Change{Verb: verb, Link: v}, netstate.Change{Verb: netstate.Delete, Link: v})
	}
	if want.Enter {
		list.main(want.Main)
		list.enter(dev, c.VRF, want.Addrs)
	}
	for i := range want.Routes {
		r := &want.Routes[i]
		list.add(netstate.Change{Verb: netstate.Add, Route: r}, netstate.Change{Verb: netstate.Delete, Route: r})
	}
	for i := range want.Rules {
		r := &want.Rules[i]
		list.add(netstate.Change{Verb: netstate.Add, Rule: r}, netstate.Change{Verb: netstate.Delete, Rule: r})
	}
	if !want.Enter {
		list.main(want.Main)
	}
	for i := range want.Sysctls {
		set := &want.Sysctls[i]
		old, err := s.conn.ReadSysctl(set.Key)
		if err != nil {
			return nil, err
		}
		if old == set.Value {
			continue // somebody else's, and right
		}
		list.add(netstate.Change{Verb: netstate.Replace, Sysctl: set}, netstate.Change{Verb: netstate.Replace, Sysctl: &netstate.Sysctl{Key: set.Key, Value: old}})
	}
	return list, nil
}

type stepList []record.Step

func (l *stepList) add(do, undo netstate.Change) { *l = append(*l, record.Step{Do: do, Undo: undo}) }

func (l *stepList) main(edits []srcroute.Edit) {
	for _, e := range edits {
		switch {
		case e.Old == nil:
			l.add(netstate.Change{Verb: netstate.Add, Route: e.New}, netstate.Change{Verb: netstate.Delete, Route: e.New})
		case e.New == nil:
			// It may have stood beside another link's.
			l.add(netstate.Change{Verb: netstate.Delete, Route: e.Old}, netstate.Change{Verb: netstate.Append, Route: e.Old})
		default:
			l.add(netstate.Change{Verb: netstate.Replace, Route: e.New}, netstate.Change{Verb: netstate.Replace, Route: e.Old})
		}
	}
}

// enter makes the interface a port. Its addresses are deleted even where the kernel
// would keep them (keep_addr_on_down): it would look for duplicates of them anew.
func (l *stepList) enter(dev, vrf string, addrs []netstate.Addr) {
	for i := range addrs {
		l.add(netstate.Change{Verb: netstate.Delete, Addr: &addrs[i]}, netstate.Change{Verb: netstate.Replace, Addr: &addrs[i]})
	}
	l.add(netstate.Change{Verb: netstate.Replace, Link: &netstate.Link{Name: dev, Master: vrf}},
		netstate.Change{Verb: netstate.Replace, Link: &netstate.Link{Name: dev}})
	for i := range addrs {
		l.add(netstate.Change{Verb: netstate.Replace, Addr: &addrs[i]}, netstate.Change{Verb: netstate.Delete, Addr: &addrs[i]})
	}
}
