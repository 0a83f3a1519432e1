package host

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/explain"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// PeerStatus is a prefix of pods of another node of a PodNetwork.
type PeerStatus struct {
	Node   string       `json:"node"`
	Prefix netip.Prefix `json:"prefix"`
	Route  string       `json:"route,omitempty"` // as it stands in the kernel
	Why    string       `json:"why,omitempty"`   // why there is none
}

// String is a line for a person.
func (p *PeerStatus) String() string {
	if p.Route == "" {
		return "peer " + p.Node + ": no route to " + p.Prefix.String() + ": " + p.Why
	}
	return "peer " + p.Node + ": " + p.Route
}

// PodStatus is an address of a pod on this host.
type PodStatus struct {
	Address netip.Addr `json:"address"`
	Pod     string     `json:"pod"` // NETWORK/CONTAINER/INTERFACE, by the link's alias
	Link    string     `json:"link"`
	Route   string     `json:"route"`
	// Off is the sysctl, at 0, for which nothing that the pod sends is forwarded.
	Off string `json:"off,omitempty"`
}

// String is a line for a person. Names of pods' interfaces are anybody's.
func (p *PodStatus) String() string {
	s := "pod " + p.Address.String() + ": " + p.Route + "  # " + explain.Printable(p.Pod)
	if p.Off != "" {
		s += "; nothing that it sends is forwarded: set " + explain.Printable(p.Off) + " to 1"
	}
	return s
}

// podAlias begins the aliases of the links that viarule-ptp makes: they say whose a
// link is, and so whose the routes by it are.
const podAlias = "viarule:ptp/"

// podLinks gives the pods' names by their links.
func podLinks(s *netstate.State) map[string]string {
	out := map[string]string{}
	for i := range s.Links {
		if pod, ok := strings.CutPrefix(s.Links[i].Alias, podAlias); ok && strings.HasPrefix(s.Links[i].Name, podLink) {
			out[s.Links[i].Name] = pod
		}
	}
	return out
}

// podLink begins the names of those links.
const podLink = "via"

// peers says of each prefix of the other nodes which route leads there.
func (d *draft) peers(ref spec.Ref, names Names) []PeerStatus {
	var out []PeerStatus
	wanted := make(map[netip.Prefix]*netstate.Route)
	for i := range d.input.Want.Routes {
		if r := &d.input.Want.Routes[i]; r.Origin.Object.Ref == ref && r.Type == netstate.RouteUnicast {
			wanted[r.To] = &r.Route
		}
	}
	standing := make(map[netstate.RouteKey]*netstate.Route, len(wanted))
	for i := range d.before.state.Routes {
		r := &d.before.state.Routes[i]
		if w := wanted[r.To]; w != nil && w.Key() == r.Key() && standing[r.Key()] == nil {
			standing[r.Key()] = r // the first decides
		}
	}
	for _, p := range d.input.Want.Peers {
		if p.Object != ref {
			continue
		}
		s := PeerStatus{Node: p.Node, Prefix: p.Prefix, Why: p.Why}
		if w := wanted[p.Prefix]; w != nil {
			if r := standing[w.Key()]; r != nil {
				s.Route = r.Format(names)
			} else {
				s.Why = "the kernel has none; `viarule apply` adds it"
			}
		}
		out = append(out, s)
	}
	return out
}

// pods lists the routes to the network's pods on this host.
func (d *draft) pods(ref spec.Ref, names Names) []PodStatus {
	i := slices.IndexFunc(d.objects, func(o spec.Object) bool { return o.Ref == ref })
	if i < 0 {
		return nil
	}
	var out []PodStatus
	links := podLinks(&d.before.state)
	for j := range d.before.state.Routes {
		r := &d.before.state.Routes[j]
		if r.Protocol != netstate.ProtocolCNI || r.Table != netstate.TableMain || !r.To.IsSingleIP() || links[r.Hop.Dev] == "" {
			continue
		}
		if slices.ContainsFunc(d.objects[i].Pods.PodCIDRs, func(p spec.PodPrefix) bool { return p.Contains(r.To.Addr()) }) {
			out = append(out, PodStatus{Address: r.To.Addr(), Pod: links[r.Hop.Dev], Link: r.Hop.Dev, Route: r.Format(names)})
		}
	}
	return out
}

// forwarding looks whether what pods send is forwarded. viarule-ptp has seen to it; but
// the kernel gives all links the value that somebody writes for `all`, and force_forwarding
// too when that is 0 (devinet_sysctl_forward, addrconf_forward_change).
func (h *Host) forwarding(pods []PodStatus) {
	isOff := func(key string) bool {
		v, err := h.kernel.ReadSysctl(key)
		return err == nil && v == "0"
	}
	all := isOff("net/ipv6/conf/all/forwarding")
	for i := range pods {
		p := &pods[i]
		key, off := "net/ipv4/conf/"+p.Link+"/forwarding", true
		if p.Address.Is6() {
			// Without force_forwarding in the kernel `all` is the PodNetwork's.
			key, off = "net/ipv6/conf/"+p.Link+"/force_forwarding", all
		}
		if off && isOff(key) {
			p.Off = key
		}
	}
}
