package lab

import (
	"time"

	"github.com/viarule/viarule/internal/spec"
)

func readLink(v value) Link {
	l := Link{Pos: pos(v.n)}
	all := v.fields("kind", "ends", "host", "name", "addresses", "mac", "mtu", "ports", "parent", "id", "table")
	v.need(all, "kind")
	l.Kind = LinkKind(all["kind"].oneOf("", string(Veth), string(Bridge), string(VLAN), string(VRF)))
	own := map[LinkKind][]string{
		Veth: {"ends"}, Bridge: {"ports", "mac"}, VLAN: {"parent", "id", "mac"}, VRF: {"ports", "table"},
	}[l.Kind]
	if own == nil {
		return l
	}
	keys := append([]string{"kind"}, own...)
	if l.Kind != Veth {
		keys = append(keys, "host", "name", "addresses", "mtu")
	}
	f := v.fields(keys...) // complains of a key that only another kind has
	v.need(f, map[LinkKind][]string{Veth: {"ends"}, Bridge: {"ports"}, VLAN: {"parent", "id"}, VRF: {"ports", "table"}}[l.Kind]...)

	if l.Kind == Veth {
		for _, e := range f["ends"].list(2) {
			l.Ends = append(l.Ends, readEnd(e, e.fields("host", "name", "addresses", "mac", "mtu")))
		}
		if f["ends"].there() && len(l.Ends) != 2 {
			f["ends"].bad("", "a veth has two ends")
		}
		return l
	}
	l.Ends = []End{readEnd(v, f)}
	for _, p := range f["ports"].list(maxLinks) {
		l.Ports = append(l.Ports, p.linkName())
	}
	l.Parent = f["parent"].linkName()
	l.ID = uint16(f["id"].number(1, 4094))
	l.Table = f["table"].table(0)
	return l
}

func readEnd(v value, f map[string]value) End {
	v.need(f, "host", "name")
	e := End{
		Host: f["host"].hostName(), Name: f["name"].linkName(), Addresses: f["addresses"].ifaceAddrs(),
		MAC: f["mac"].text(), MTU: uint32(f["mtu"].number(1280, 65535)), Pos: pos(v.n),
	}
	if f["mac"].there() && !validMAC(e.MAC) {
		f["mac"].bad("write it as 02:00:00:00:00:01", "%s is no unicast Ethernet address", quoted(e.MAC))
	}
	return e
}

func readCheck(v value) Check {
	f := v.fields("name", "from", "source", "to", "proto", "port", "server", "expect", "seenAs", "enters", "answerLeaves", "when", "timeout")
	v.need(f, "name", "from", "to", "expect")
	c := Check{
		Name: f["name"].checkName(), From: f["from"].hostName(), Source: f["source"].addr(), To: f["to"].addr(),
		Proto:  Proto(f["proto"].oneOf(string(TCP), string(TCP), string(UDP), string(ICMP))),
		Port:   uint16(f["port"].number(1, 65535)),
		Expect: Outcome(f["expect"].oneOf("", string(Answer), string(Silence), string(Refused))),
		SeenAs: f["seenAs"].addr(),
		When:   When(f["when"].oneOf(string(Always), string(Always), string(BeforeObjects), string(AfterObjects))),
		Enters: readPlace(f["enters"]), Leaves: readPlace(f["answerLeaves"]),
		Pos: pos(v.n),
	}
	if s := f["server"]; s.there() {
		g := s.fields("host", "address", "port")
		s.need(g, "host", "address")
		c.Server = Server{Host: g["host"].hostName(), Addr: g["address"].addr(), Port: uint16(g["port"].number(1, 65535))}
	}
	if c.Proto == ICMP {
		if f["port"].there() || c.Server.Port != 0 {
			v.bad("leave it out", "icmp has no port")
		}
	} else if !f["port"].there() {
		v.bad("", "port is missing")
	}
	for _, a := range []value{f["source"], f["seenAs"]} {
		if got := a.addr(); got.IsValid() && c.To.IsValid() && got.Is4() != c.To.Is4() {
			a.bad("", "%s and %s are of two families", got, c.To)
		}
	}
	c.Timeout = defaultTimeout(c.Expect)
	if t := f["timeout"]; t.there() {
		d, err := time.ParseDuration(t.text())
		if err != nil || d < minTimeout || d > maxTimeout {
			t.bad("write 2s or 500ms", "a time from %s to %s is wanted here, not %s", minTimeout, maxTimeout, kindOf(t.n))
		} else {
			c.Timeout = d
		}
	}
	return c
}

// defaultTimeout is long enough for a second attempt after one second, TCP's
// first retransmission, before silence counts as silence; and for a slow machine
// where an answer is on its way.
func defaultTimeout(o Outcome) time.Duration {
	if o == Silence {
		return 1300 * time.Millisecond
	}
	return 5 * time.Second
}

// readPlace reads LINK, which is one of the server's, or {host, link}.
func readPlace(v value) Place {
	if !v.there() {
		return Place{}
	}
	if kindOf(v.n) != "a mapping" {
		return Place{Link: v.anyLink()}
	}
	f := v.fields("host", "link")
	v.need(f, "host", "link")
	return Place{Host: f["host"].hostName(), Link: f["link"].anyLink()}
}

// checkName reads a name for people: one line of printable ASCII.
func (v value) checkName() string {
	return v.name(func(s string) bool {
		for _, c := range []byte(s) {
			if c < ' ' || c > '~' {
				return false
			}
		}
		return len(s) > 0 && len(s) <= 100
	}, "a check's name has up to 100 printable ASCII characters")
}

// problemAt notes a problem of what stands at p.
func (r *reader) problemAt(p spec.Pos, path, do, what string) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, spec.Problem{Object: r.ref, File: r.file, Pos: p, Path: path, What: what, Do: do})
	}
}
