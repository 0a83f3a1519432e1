package lab

import (
	"fmt"
	"strings"
)

// describe says what has been built.
func (l *Lab) describe(say func(string, ...any)) {
	say("lab %s: %d hosts, %d links", l.Name, len(l.Hosts), len(l.Links))
	for i := range l.Hosts {
		h := &l.Hosts[i]
		var notes []string
		if h.Forwarding {
			notes = append(notes, "forwards")
		}
		if f := h.Firewall.Forward; f != nil {
			from := "nowhere"
			if len(f.NewFrom) > 0 {
				from = strings.Join(f.NewFrom, " and ")
			}
			notes = append(notes, "stateful firewall: connections begin only from "+from+", the rest is dropped")
		}
		if len(h.Firewall.Masquerade) > 0 {
			notes = append(notes, "masquerades on "+strings.Join(h.Firewall.Masquerade, " and "))
		}
		for _, d := range h.Firewall.DNAT {
			to := fmt.Sprintf("sends %s on to %s", d.To, d.ToAddr)
			if d.Masquerade {
				to += " in its own name"
			}
			notes = append(notes, to)
		}
		text := "host " + h.Name + ", namespace " + l.Namespace(h.Name)
		if len(notes) > 0 {
			text += " (" + strings.Join(notes, "; ") + ")"
		}
		say("%s", text)
	}
	for i := range l.Links {
		k := &l.Links[i]
		text := k.Ends[0].text()
		switch k.Kind {
		case Veth:
			text += " <-> " + k.Ends[1].text()
		case VLAN:
			text += fmt.Sprintf(", VLAN %d on %s", k.ID, k.Parent)
		case VRF:
			text += fmt.Sprintf(", VRF of table %d with %s", k.Table, strings.Join(k.Ports, " "))
		case Bridge:
			text += ", bridge of " + strings.Join(k.Ports, " ")
		}
		say("link %s", text)
	}
}

func (e *End) text() string {
	s := e.Host + "/" + e.Name
	for _, a := range e.Addresses {
		s += " " + a.String()
	}
	return s
}
