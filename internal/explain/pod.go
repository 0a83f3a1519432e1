package explain

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/snapshot"
)

// Pod is how much speaks for the namespace of a snapshot being a pod's. There the
// plugin viarule-sbr is meant for what an ExternalNetwork does on a host: the latter
// would have to be applied anew in each new pod.
type Pod int

const (
	// Host says that nothing does.
	Host Pod = iota
	// PodLike says that two links or more have addresses, that all of those end in
	// another namespace, and that it is no router of both families. (Of IPv4 a new
	// namespace takes over that the host is one.) It may be a host of a lab, too.
	PodLike
	// Attached says that a CNI plugin of viarule's has been called here.
	Attached
)

// podOf looks at a snapshot. Hardware that was moved into a pod cannot be told from a
// host's.
func podOf(s *snapshot.Snapshot) Pod {
	if slices.ContainsFunc(s.Owners, func(o snapshot.Owner) bool { return o.CNI != nil }) {
		return Attached
	}
	given := map[string]bool{}
	for i := range s.State.Addrs {
		if a := &s.State.Addrs[i]; a.Scope == netstate.ScopeGlobal {
			given[a.Dev] = true
		}
	}
	here := map[string]bool{}
	for i := range s.State.Links {
		here[s.State.Links[i].Name] = true
	}
	ends := 0
	for i := range s.State.Links {
		switch l := &s.State.Links[i]; {
		case l.Loopback || !given[l.Name]:
		case l.Parent == "" || here[l.Parent]:
			return Host
		default:
			ends++
		}
	}
	if ends < 2 || on(s, "net/ipv4/ip_forward") && on(s, "net/ipv6/conf/all/forwarding") {
		return Host
	}
	return PodLike
}

func on(s *snapshot.Snapshot, key string) bool {
	return slices.ContainsFunc(s.Sysctls, func(v netstate.Sysctl) bool { return v.Key == key && v.Value != "0" })
}

// Pod tells whether the snapshot is a pod's.
func (e *Explainer) Pod() Pod { return e.pod }

// ByPlugin says how viarule-sbr makes answers of an address leave by a link of a pod.
func (e *Explainer) ByPlugin(dev string, from netip.Addr) string {
	var made, rule bool
	for i := range e.snap.Owners {
		o := &e.snap.Owners[i]
		if o.CNI != nil && o.CNI.Interface == dev {
			made = true
			// In a VRF there is none, and all addresses are its.
			rule = rule || len(o.Rules) == 0 || slices.ContainsFunc(o.Rules, func(r netstate.Rule) bool { return r.From.IsValid() && r.From.Contains(from) })
		}
	}
	own := slices.ContainsFunc(e.in.State.Addrs, func(a netstate.Addr) bool { return a.Dev == dev && a.Prefix.Addr() == from })
	with := fmt.Sprintf(`"rules": [{"from": [%q]}]`, netip.PrefixFrom(from, from.BitLen()))
	switch {
	case rule:
		return "`viarule status` says what of the attachment is missing or in its way; a new pod has all of it"
	case made && own:
		return fmt.Sprintf("the plugin was not given %s when it was called for %s: a new pod whose ipam gives it has a rule for it, as has one with %s in that network's configuration of viarule-sbr", from, dev, with)
	case made:
		return fmt.Sprintf("%s in the configuration of viarule-sbr of the network of %s, and a new pod", with, dev)
	case own:
		return fmt.Sprintf(`{"type": "viarule-sbr"} behind the plugin that makes %s, in that network's configuration, and a new pod; its gateway comes from the ipam, or is named under gateways`, dev)
	}
	return fmt.Sprintf(`{"type": "viarule-sbr", %s} behind the plugin that makes %s, in that network's configuration, and a new pod; its gateway comes from the ipam, or is named under gateways`, with, dev)
}

// byObject is a cure by an object, or what is meant in its place in a pod.
func (e *Explainer) byObject(object, dev string, from netip.Addr) string {
	switch e.pod {
	case Attached:
		return e.ByPlugin(dev, from)
	case PodLike:
		return object + "; or, if this is a pod: " + e.ByPlugin(dev, from)
	}
	return object
}
