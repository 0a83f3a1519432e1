package lab

import (
	"fmt"
	"net/netip"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// validate judges what only the whole file shows, and fills in what follows from
// it: the server of each check, and the host of a place that names only a link.
func (l *Lab) validate(r *reader) {
	if len(l.Hosts) == 0 {
		r.problemAt(spec.Pos{Line: 1}, "spec.hosts", "", "a lab has at least one host")
	}
	hosts := map[string]bool{}
	for i := range l.Hosts {
		h := &l.Hosts[i]
		if hosts[h.Name] {
			r.problemAt(h.Pos, fmt.Sprintf("spec.hosts[%d].name", i), "", "there are two hosts "+h.Name)
		}
		hosts[h.Name] = true
	}
	l.validateLinks(r)
	if len(r.problems) > 0 {
		return // what follows would only repeat them
	}
	for i := range l.Hosts {
		l.validateHost(r, i)
	}
	names := map[string]bool{}
	for i := range l.Checks {
		c := &l.Checks[i]
		path := fmt.Sprintf("spec.checks[%d]", i)
		if names[c.Name] {
			r.problemAt(c.Pos, path+".name", "", fmt.Sprintf("there are two checks %q", c.Name))
		}
		names[c.Name] = true
		l.validateCheck(r, c, path)
	}
}

func (l *Lab) validateLinks(r *reader) {
	made := map[Place]bool{}
	for i := range l.Links {
		for j := range l.Links[i].Ends {
			e := &l.Links[i].Ends[j]
			path := fmt.Sprintf("spec.links[%d]", i)
			if l.Links[i].Kind == Veth {
				path += fmt.Sprintf(".ends[%d]", j)
			}
			at := Place{e.Host, e.Name}
			if l.host(e.Host) == nil {
				r.problemAt(e.Pos, path+".host", "", "there is no host "+quoted(e.Host))
			} else if made[at] {
				r.problemAt(e.Pos, path+".name", "", fmt.Sprintf("host %s has two links %s", e.Host, e.Name))
			}
			made[at] = true
			seen := map[netip.Addr]bool{}
			for _, a := range e.Addresses {
				if seen[a.Addr()] {
					r.problemAt(e.Pos, path+".addresses", "", fmt.Sprintf("%s is here twice", a.Addr()))
				}
				seen[a.Addr()] = true
			}
		}
	}
	master := map[Place]string{}
	for i := range l.Links {
		k := &l.Links[i]
		path := fmt.Sprintf("spec.links[%d]", i)
		if k.Kind == VLAN && !l.madeBefore(Place{k.Ends[0].Host, k.Parent}, i) {
			r.problemAt(k.Pos, path+".parent", "make it a link that stands before this one",
				fmt.Sprintf("host %s has no link %s here", k.Ends[0].Host, quoted(k.Parent)))
		}
		if len(k.Ports) == 0 && (k.Kind == Bridge || k.Kind == VRF) {
			r.problemAt(k.Pos, path+".ports", "", "a "+string(k.Kind)+" has at least one port")
		}
		for _, p := range k.Ports {
			at := Place{k.Ends[0].Host, p}
			switch {
			case !made[at]:
				r.problemAt(k.Pos, path+".ports", "", fmt.Sprintf("host %s has no link %s", at.Host, quoted(p)))
			case p == k.Ends[0].Name:
				r.problemAt(k.Pos, path+".ports", "", "a link cannot be a port of itself")
			case master[at] != "":
				r.problemAt(k.Pos, path+".ports", "", fmt.Sprintf("%s is a port of %s already", p, master[at]))
			}
			master[at] = k.Ends[0].Name
		}
	}
}

// madeBefore says whether a link is there when the i-th is made: veth pairs are
// made first, the others in written order.
func (l *Lab) madeBefore(p Place, i int) bool {
	for j := range l.Links {
		if l.Links[j].Kind != Veth && j >= i {
			continue
		}
		for _, e := range l.Links[j].Ends {
			if e.Host == p.Host && e.Name == p.Link {
				return true
			}
		}
	}
	return false
}

func (l *Lab) validateHost(r *reader, i int) {
	h := &l.Hosts[i]
	path := fmt.Sprintf("spec.hosts[%d]", i)
	link := func(at, name string) {
		if name != "" && !l.willHaveLink(h.Name, name) {
			r.problemAt(h.Pos, path+at, "", fmt.Sprintf("host %s has no link %s", h.Name, name))
		}
	}
	keys := map[netstate.RouteKey]bool{}
	for j := range h.Routes {
		at := fmt.Sprintf(".routes[%d]", j)
		if dev := h.Routes[j].Hop.Dev; dev != "" && !l.hasLink(h.Name, dev) { // before the objects
			r.problemAt(h.Pos, path+at+".dev", "", fmt.Sprintf("host %s has no link %s", h.Name, dev))
		}
		if keys[h.Routes[j].Key()] {
			r.problemAt(h.Pos, path+at, "", fmt.Sprintf("there are two routes to %s with the same table and metric", h.Routes[j].To))
		}
		keys[h.Routes[j].Key()] = true
	}
	for _, n := range h.Firewall.Masquerade {
		link(".firewall.masquerade", n)
	}
	for j, d := range h.Firewall.DNAT {
		link(fmt.Sprintf(".firewall.dnat[%d].in", j), d.In)
	}
	if h.Firewall.Forward != nil {
		for _, n := range h.Firewall.Forward.NewFrom {
			link(".firewall.forward.newFrom", n)
		}
		if !h.Forwarding {
			r.problemAt(h.Pos, path+".firewall.forward", "add forwarding: true", "host "+h.Name+" forwards nothing")
		}
	}
}

func (l *Lab) validateCheck(r *reader, c *Check, path string) {
	if l.host(c.From) == nil {
		r.problemAt(c.Pos, path+".from", "", "there is no host "+quoted(c.From))
		return
	}
	if c.When == AfterObjects && !l.hasObjects() {
		r.problemAt(c.Pos, path+".when", "give a host objects", "no host has objects to apply")
	}
	if c.Source.IsValid() && !l.hasAddr(c.From, c.Source) {
		r.problemAt(c.Pos, path+".source", "", fmt.Sprintf("host %s does not have the address %s", c.From, c.Source))
	}
	if c.Server.Host == "" {
		switch with := l.hostsWith(c.To); len(with) {
		case 0:
		case 1:
			c.Server.Host = with[0]
		default:
			r.problemAt(c.Pos, path+".to", "name one with server: {host, address}", fmt.Sprintf("several hosts have the address %s", c.To))
			return
		}
		c.Server.Addr = c.To
	} else if l.host(c.Server.Host) == nil {
		r.problemAt(c.Pos, path+".server.host", "", "there is no host "+quoted(c.Server.Host))
		return
	} else if !l.hasAddr(c.Server.Host, c.Server.Addr) {
		r.problemAt(c.Pos, path+".server.address", "", fmt.Sprintf("host %s does not have the address %s", c.Server.Host, c.Server.Addr))
	}
	if c.Server.Port == 0 {
		c.Server.Port = c.Port
	}
	c.vrf, c.Server.vrf = l.vrfOf(c.From, c.Source), l.vrfOf(c.Server.Host, c.Server.Addr)
	switch {
	case c.Server.Host == "" && c.Expect == Answer:
		r.problemAt(c.Pos, path+".to", "give a host the address, or name the server", fmt.Sprintf("no host has the address %s, so nobody can answer", c.To))
	case c.Server.Host == "" && c.SeenAs.IsValid():
		r.problemAt(c.Pos, path+".seenAs", "", fmt.Sprintf("no host has the address %s, so nobody sees the request", c.To))
	}
	for _, p := range []struct {
		place *Place
		key   string
	}{{&c.Enters, ".enters"}, {&c.Leaves, ".answerLeaves"}} {
		if p.place.Link == "" {
			continue
		}
		if p.place.Host == "" {
			p.place.Host = c.Server.Host
		}
		switch {
		case p.place.Host == "":
			r.problemAt(c.Pos, path+p.key, "write {host, link}", "nobody has the address "+c.To.String()+", so it is not clear whose link this is")
		case !l.willHaveLink(p.place.Host, p.place.Link):
			r.problemAt(c.Pos, path+p.key, "", fmt.Sprintf("host %s has no link %s", quoted(p.place.Host), p.place.Link))
		}
	}
}
