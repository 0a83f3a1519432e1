package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/spec"
)

// runCheck makes one check on a lab that is up. An error says that it could not
// be made; a check that was made and did not pass is no error.
func (l *Lab) runCheck(ctx context.Context, c *Check, objects bool) (Result, error) {
	res := Result{Name: c.Name, Objects: objects}
	token := make([]byte, tokenSize)
	rand.Read(token) // never fails (crypto/rand)

	var caps []*capture
	for _, host := range c.watched() {
		cp, err := openCapture(l.Namespace(host), host)
		if err != nil {
			return res, err
		}
		defer cp.close()
		caps = append(caps, cp)
	}
	srv, err := serve(ctx, l.Namespace(c.Server.Host), c, token)
	if err != nil {
		return res, err
	}
	re, err := request(ctx, l.Namespace(c.From), c, token)
	saw := srv.close()
	if err != nil {
		return res, err
	}

	var enters, leaves []string
	seenAs := saw.Addr()
	for _, cp := range caps {
		packets, err := cp.drain()
		if err != nil {
			return res, err
		}
		for _, p := range packets {
			asks, answers := c.belongs(&p, token, re.port, saw.Port())
			at := Place{cp.host, p.link}.String()
			switch {
			case asks && !p.out:
				enters = appendNew(enters, at)
				if cp.host == c.Server.Host && !seenAs.IsValid() {
					seenAs = p.src
				}
			case answers && p.out:
				leaves = appendNew(leaves, at)
			}
		}
	}
	c.judge(&res, re, enters, leaves, seenAs, l.related)
	return res, nil
}

// watched gives the hosts whose packets a check looks at.
func (c *Check) watched() []string {
	var out []string
	for _, h := range []string{c.Server.Host, c.Enters.Host, c.Leaves.Host} {
		if h != "" {
			out = appendNew(out, h)
		}
	}
	return out
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// belongs says whether a packet is the request of the check, or the answer.
// Addresses may be translated on the way, on either side: the server has the
// check's address or its own, and the client is told by its port or the token.
func (c *Check) belongs(p *packet, token []byte, ports ...uint16) (asks, answers bool) {
	served := func(a netip.Addr) bool { return a == c.To || a == c.Server.Addr }
	switch c.Proto {
	case ICMP:
		if !bytes.HasPrefix(p.payload, token) {
			return false, false
		}
		if p.proto == unix.IPPROTO_ICMPV6 {
			return p.echo == echo6 && served(p.dst), p.echo == echoReply6 && served(p.src)
		}
		return p.echo == echo4 && served(p.dst), p.echo == echoReply4 && served(p.src)
	case UDP:
		if p.proto != unix.IPPROTO_UDP || !bytes.HasPrefix(p.payload, token) {
			return false, false
		}
	case TCP:
		if p.proto != unix.IPPROTO_TCP {
			return false, false
		}
	}
	port := func(n uint16) bool { return n != 0 && (n == c.Port || n == c.Server.Port) }
	mine := func(n uint16) bool { return c.Proto == UDP || n != 0 && slices.Contains(ports, n) }
	return served(p.dst) && port(p.dport) && mine(p.sport), served(p.src) && port(p.sport) && mine(p.dport)
}

// related gives the links that the same packets are seen at as at p: the ports of
// a bridge or VRF and the parent of a VLAN, and the other way round.
func (l *Lab) related(p Place) []string {
	var out []string
	links := l.Links
	if h := l.host(p.Host); h != nil {
		links = slices.Concat(links, h.Made)
	}
	for i := range links {
		k := &links[i]
		if k.Kind == Veth || k.Ends[0].Host != p.Host {
			continue
		}
		parts := k.Ports
		if k.Parent != "" {
			parts = []string{k.Parent}
		}
		switch {
		case k.Ends[0].Name == p.Link:
			for _, n := range parts {
				out = append(out, Place{p.Host, n}.String())
			}
		case slices.Contains(parts, p.Link):
			out = append(out, Place{p.Host, k.Ends[0].Name}.String())
		}
	}
	return out
}

// choose gives the checks of the given names; without names, those that hold at
// the lab's present state. A name that there is not is an InputError.
func (l *Lab) choose(names []string, objects bool) ([]*Check, error) {
	var out []*Check
	for _, n := range names {
		i := slices.IndexFunc(l.Checks, func(c Check) bool { return c.Name == n })
		if i < 0 {
			return nil, &InputError{[]spec.Problem{{
				File: l.File, What: "there is no check " + quoted(n), Do: "there are: " + l.checkNames(),
			}}}
		}
		out = append(out, &l.Checks[i])
	}
	if len(names) > 0 {
		return out, nil
	}
	for i := range l.Checks {
		if w := l.Checks[i].When; w == Always || (w == AfterObjects) == objects {
			out = append(out, &l.Checks[i])
		}
	}
	return out, nil
}

func (l *Lab) checkNames() string {
	s := ""
	for i := range l.Checks {
		if i > 0 {
			s += ", "
		}
		s += quoted(l.Checks[i].Name)
	}
	return s
}
