package host

import (
	"fmt"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/record"
	"github.com/viarule/viarule/internal/snapshot"
	"github.com/viarule/viarule/internal/srcroute"
	"github.com/viarule/viarule/internal/standing"
)

// AttachmentStatus is how what a CNI plugin made for an interface of a pod is.
type AttachmentStatus struct {
	Network   string   `json:"network"`
	Container string   `json:"container"`
	Interface string   `json:"interface"`
	Plugin    string   `json:"plugin"` // by which of its names it was called
	Tables    []uint32 `json:"tables"`
	VRF       string   `json:"vrf,omitempty"`
	State     string   `json:"state"` // Applied or Drifted
	Summary   string   `json:"summary"`
	Details   []string `json:"details"` // what differs, as CHECK says it
	Listing   []string `json:"listing"` // its rules
}

// Name names the attachment as `viarule explain` does.
func (s *AttachmentStatus) Name() string {
	a := snapshot.Attachment{Network: s.Network, Interface: s.Interface, Plugin: s.Plugin}
	return a.String()
}

// CNIOrphan bears the mark of viarule's CNI plugins, and no record says whose it is.
type CNIOrphan struct {
	Object string `json:"object"`
	Remove string `json:"remove"` // the command that removes it
}

func attachmentOf(a *record.Attachment) *snapshot.Attachment {
	return &snapshot.Attachment{Network: a.Network, Interface: a.Interface, Plugin: a.Plugin}
}

// attachmentOwner says what bears the mark and stands for an attachment. What it changed
// of others, such as the sources of routes in main, is still theirs.
func attachmentOwner(a *record.Attachment) snapshot.Owner {
	o := snapshot.Owner{CNI: attachmentOf(a)}
	for i := range a.Steps {
		switch do := &a.Steps[i].Do; {
		case do.Verb == netstate.Delete:
		case do.Rule != nil:
			o.Rules = append(o.Rules, *do.Rule)
		case do.Route != nil && do.Route.Protocol == netstate.ProtocolCNI:
			o.Routes = append(o.Routes, do.Route.Key())
		case do.Link != nil && do.Link.Alias != "":
			o.Links = append(o.Links, do.Link.Name)
		case do.Sysctl != nil:
			o.Sysctls = append(o.Sysctls, do.Sysctl.Key)
		}
	}
	slices.Sort(o.Sysctls)
	return o
}

// attachedTables are the tables that attachments fill, each with whose it is.
func attachedTables(list []record.Attachment) map[uint32]string {
	out := map[uint32]string{}
	for i := range list {
		for _, id := range list[i].Tables {
			out[id] = attachmentOf(&list[i]).String()
		}
	}
	return out
}

// attachmentStatus compares an attachment with what the namespace holds.
func (h *Host) attachmentStatus(a *record.Attachment, s *situation, names Names) AttachmentStatus {
	out := AttachmentStatus{
		Network: a.Network, Container: a.Container, Interface: a.Interface, Plugin: a.Plugin, Tables: append([]uint32{}, a.Tables...), VRF: a.VRF,
		State: Applied, Details: append([]string{}, standing.Differs(a, &s.state, h.kernel.ReadSysctl)...), Listing: []string{},
	}
	if len(out.Details) > 0 {
		out.State = Drifted
	}
	routes := 0
	for i := range a.Steps {
		switch do := &a.Steps[i].Do; {
		case do.Verb == netstate.Delete:
		case do.Rule != nil:
			out.Listing = append(out.Listing, do.Rule.Format(names))
		case do.Route != nil:
			routes++
		}
	}
	parts := []string{"container " + a.Container, count(len(out.Listing), "rule"), count(routes, "route")}
	if a.VRF != "" {
		parts = append(parts, "VRF "+a.VRF)
	}
	if len(a.Tables) > 0 {
		ids := make([]string, len(a.Tables))
		for i, id := range a.Tables {
			ids[i] = fmt.Sprint(id)
		}
		word := "table "
		if len(ids) > 1 {
			word = "tables "
		}
		parts = append(parts, word+strings.Join(ids, " "))
	}
	out.Summary = strings.Join(parts, ", ")
	return out
}

// cniOrphans are what bears the mark of the CNI plugins and is in no record.
func (h *Host) cniOrphans(s *situation, names Names) []CNIOrphan {
	rules := map[netstate.Rule]bool{}
	routes := map[netstate.RouteKey][]string{} // the links by which recorded ones go
	vrfs := map[string]bool{}
	for i := range s.attachments {
		a := &s.attachments[i]
		vrfs[a.VRF] = true
		for j := range a.Steps {
			switch do := &a.Steps[j].Do; {
			case do.Rule != nil:
				rules[*do.Rule] = true
			case do.Route != nil:
				routes[do.Route.Key()] = append(routes[do.Route.Key()], do.Route.Hop.Dev)
			}
		}
	}
	pods := podLinks(&s.state)
	out := []CNIOrphan{}
	for i := range s.state.Rules {
		if r := &s.state.Rules[i]; r.Protocol == netstate.ProtocolCNI && !rules[*r] {
			out = append(out, CNIOrphan{r.Format(names), h.ip(r.Family, "rule del pref "+ipWords(r.String()))})
		}
	}
	for i := range s.state.Routes {
		if r := &s.state.Routes[i]; r.Protocol == netstate.ProtocolCNI && !slices.Contains(routes[r.Key()], r.Hop.Dev) && pods[r.Hop.Dev] == "" {
			out = append(out, CNIOrphan{r.Format(names), h.ip(r.Family, "route del "+routeWords(r))})
		}
	}
	for i := range s.state.Links {
		if l := &s.state.Links[i]; l.Kind == "vrf" && l.Alias == srcroute.VRFAlias(l.Name) && !vrfs[l.Name] {
			out = append(out, CNIOrphan{"VRF " + l.Name, h.ip(netstate.IPv4, "link del "+l.Name)})
		}
	}
	return out
}

// ipWords are the words of a rule's text form as `ip` takes them.
func ipWords(text string) string {
	return strings.TrimPrefix(strings.TrimPrefix(text, "rule "), "-6 ")
}

// routeWords name a route to `ip route del`: its key, and what tells it from others of the
// same key.
func routeWords(r *netstate.Route) string {
	key := r.Key()
	s := strings.TrimPrefix(key.String(), "-6 ")
	if r.Type != netstate.RouteUnicast {
		s = r.Type.String() + " " + s
	}
	if r.Type.Forwards() && r.Hop.Dev != "" {
		s += " dev " + r.Hop.Dev
	}
	return fmt.Sprintf("%s proto %d", s, netstate.ProtocolCNI)
}

// ip is a command of iproute2 for this namespace.
func (h *Host) ip(f netstate.Family, words string) string {
	s := "ip "
	switch {
	case strings.Contains(h.netns, "/"):
		s = "nsenter --net=" + h.netns + " ip "
	case h.netns != "":
		s += "-n " + h.netns + " "
	}
	if f == netstate.IPv6 {
		s += "-6 "
	}
	return s + words
}
