package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
)

// filters looks for links whose strict filter cannot see the marks by which rules
// route their packets.
func (d *doctor) filters() {
	value := func(key string) string {
		i, ok := slices.BinarySearchFunc(d.in.Snapshot.Sysctls, key, func(s netstate.Sysctl, k string) int { return strings.Compare(s.Key, k) })
		if !ok {
			return ""
		}
		return d.in.Snapshot.Sysctls[i].Value
	}
	seen := map[string]bool{}
	for i := range d.s.Rules {
		r := &d.s.Rules[i]
		if r.Family != netstate.IPv4 || r.Mark.Mask == 0 || r.Not || r.IIF != "" || r.Action != netstate.ToTable || r.Table == netstate.TableMain {
			continue
		}
		dev := d.table(r.Family, r.Table).dev
		conf := "net/ipv4/conf/" + dev + "/"
		strict := max(value(conf+"rp_filter"), value("net/ipv4/conf/all/rp_filter")) == "1"
		if dev == "" || seen[dev] || !strict || value(conf+"src_valid_mark") == "1" || value("net/ipv4/conf/all/src_valid_mark") == "1" {
			continue
		}
		seen[dev] = true
		d.add(Finding{
			Severity: Warning, Kind: "src_valid_mark", Object: r.Format(d.e), Proof: d.proof(r),
			What: fmt.Sprintf("the strict filter of %s does not see marks (src_valid_mark is 0), and a rule by mark sends by it: what comes by %s is dropped where only the mark leads back by it", dev, dev),
			Cure: cureOf(r, "sysctl "+conf+"src_valid_mark=1, or rp_filter=2; an ExternalNetwork does the former",
				"strictReversePath: true in that network's configuration of viarule-sbr, and a new pod; in this one sysctl "+conf+"src_valid_mark=1, or rp_filter=2"),
		})
	}
}

// maxOfOneKind bounds the findings of one kind: the first are shown, the others
// counted.
const maxOfOneKind = 20

// rules looks for rules that never decide.
func (d *doctor) rules() {
	var never []Finding
	for _, f := range netstate.Families {
		never = append(never, d.rulesOf(f)...)
	}
	d.addSome(never)
}

func (d *doctor) addSome(list []Finding) {
	count := map[string]int{}
	for _, f := range list {
		if count[f.Kind]++; count[f.Kind] <= maxOfOneKind {
			d.add(f)
		}
	}
	for i := range list {
		if n := count[list[i].Kind]; n > maxOfOneKind {
			count[list[i].Kind] = 0
			d.add(Finding{Severity: list[i].Severity, Kind: list[i].Kind, What: fmt.Sprintf("and %d more of the kind %s", n-maxOfOneKind, list[i].Kind)})
		}
	}
}

func (d *doctor) rulesOf(f netstate.Family) []Finding {
	var out []Finding
	priorities := map[uint32]bool{}
	var jump uint32 // the highest priority that a goto leads to: the walk may get so far past those that decide
	for i := range d.s.Rules {
		if r := &d.s.Rules[i]; r.Family == f {
			priorities[r.Priority] = true
			if r.Action == netstate.Goto {
				jump = max(jump, r.Goto)
			}
		}
	}
	var behind *netstate.Rule // decides about every packet that reaches it
	first := map[netstate.Rule]*netstate.Rule{}
	for i := range d.s.Rules {
		r := &d.s.Rules[i]
		if r.Family != f || r.Unknown != "" {
			continue
		}
		if d.whose(r) != nil {
			continue // what a program here means by its own rules, it knows
		}
		never := func(why, cure, proof string) {
			out = append(out, Finding{
				Severity: Warning, Kind: "rule-never-matches", Object: r.Format(d.e), What: r.Format(d.e) + " never decides: " + why, Cure: cure, Proof: proof,
			})
		}
		remove := removal(r)
		wider := d.decidedBefore(r, first)
		switch {
		case behind != nil && !owner.ProtectedPriority(r.Priority) && (jump <= behind.Priority):
			never("every packet that gets so far is decided by "+behind.Format(d.e), "move it before that rule", d.proof(r))
		case r.IIF != "" && d.links[r.IIF] == nil && !r.Not:
			never("there is no link "+r.IIF, remove, "ip link show dev "+r.IIF)
		case r.OIF != "" && d.links[r.OIF] == nil && !r.Not:
			never("there is no link "+r.OIF, remove, "ip link show dev "+r.OIF)
		case r.Action == netstate.Goto && (!priorities[r.Goto] || r.Goto <= r.Priority):
			never(fmt.Sprintf("it goes to %d, where no rule is", r.Goto), remove, d.proof(r))
		case wider != nil:
			never("the same packets are decided before, by "+wider.Format(d.e), remove, d.proof(r))
		case !r.Not && r.From.IsValid() && r.IIF == "" && !d.forwards(f) && !d.holdsAny(r.From):
			never(fmt.Sprintf("no address of %s is this host's, and it does not forward for others", r.From), remove, d.proof(r))
		}
		if same := selectorsOf(r); first[same] == nil || !d.decides(first[same]) {
			first[same] = r
		}
		if behind == nil && selectorsOf(r) == (netstate.Rule{Family: f}) && d.decides(r) {
			behind = r
		}
	}
	return out
}

// decidedBefore gives an earlier rule that decides about all packets of r: it has the
// same selectors, or some of them. first holds rules by their selectors.
func (d *doctor) decidedBefore(r *netstate.Rule, first map[netstate.Rule]*netstate.Rule) *netstate.Rule {
	variants := []netstate.Rule{selectorsOf(r)}
	// A rule without any selector is looked for by the caller.
	for _, drop := range []func(*netstate.Rule){
		func(r *netstate.Rule) { r.From = netip.Prefix{} },
		func(r *netstate.Rule) { r.To = netip.Prefix{} },
		func(r *netstate.Rule) { r.IIF = "" },
		func(r *netstate.Rule) { r.OIF = "" },
		func(r *netstate.Rule) { r.Mark = netstate.Mark{} },
		func(r *netstate.Rule) { r.SPort = netstate.PortRange{} },
		func(r *netstate.Rule) { r.DPort = netstate.PortRange{} },
		func(r *netstate.Rule) { r.UID = netstate.UIDRange{} },
	} {
		if r.Not {
			break // fewer selectors of a rule with not are fewer packets
		}
		for _, v := range variants {
			before := v
			if drop(&v); v != before {
				variants = append(variants, v)
			}
		}
	}
	for _, v := range variants {
		if w := first[v]; w != nil && w.Priority <= r.Priority && d.decides(w) && v != (netstate.Rule{Family: r.Family}) {
			return w
		}
	}
	return nil
}

// selectorsOf is the rule with its selectors alone.
func selectorsOf(r *netstate.Rule) netstate.Rule {
	s := *r
	s.Priority, s.Action, s.Table, s.Goto, s.Realms, s.Protocol = 0, 0, 0, 0, 0, 0
	s.SuppressPrefixLength, s.SuppressIfGroup = netstate.Opt{}, netstate.Opt{}
	return s
}

// decides says whether the walk ends at a rule for every packet that it selects.
func (d *doctor) decides(r *netstate.Rule) bool {
	switch r.Action {
	case netstate.ToTable:
		return !r.SuppressPrefixLength.Set && !r.SuppressIfGroup.Set && !r.L3MDev && d.table(r.Family, r.Table).catches
	case netstate.Goto, netstate.Nop:
		return false
	}
	return true
}

// forwards says whether any link forwards; IPv6 also by force_forwarding alone.
func (d *doctor) forwards(f netstate.Family) bool {
	pattern := "net/ipv4/conf/"
	if f == netstate.IPv6 {
		pattern = "net/ipv6/conf/"
	}
	known := false
	for _, s := range d.in.Snapshot.Sysctls {
		if strings.HasPrefix(s.Key, pattern) && (strings.HasSuffix(s.Key, "/forwarding") || strings.HasSuffix(s.Key, "/force_forwarding")) {
			known = true
			if s.Value != "0" {
				return true
			}
		}
	}
	return !known
}

func (d *doctor) holdsAny(p netip.Prefix) bool {
	return slices.ContainsFunc(d.s.Addrs, func(a netstate.Addr) bool { return p.Contains(a.Prefix.Addr()) })
}

// removal says how to be rid of a rule.
func removal(r *netstate.Rule) string {
	switch r.Protocol {
	case netstate.ProtocolObject:
		return "remove it: take it out of its object; if none asks for it, `viarule apply --prune`"
	case netstate.ProtocolCNI:
		return "it goes with its attachment (DEL of viarule-sbr); `viarule status` says whose it is, or how to remove it"
	}
	return "remove it: " + deleteCommand(r)
}

func deleteCommand(r *netstate.Rule) string {
	family := ""
	if r.Family == netstate.IPv6 {
		family = "-6 "
	}
	return fmt.Sprintf("ip %srule del pref %d …", family, r.Priority)
}

// cureOf chooses the cure of a rule: cni where a CNI plugin of viarule's made it.
func cureOf(r *netstate.Rule, others, cni string) string {
	if r.Protocol == netstate.ProtocolCNI {
		return cni
	}
	return others
}

// tables looks for rules that lead to tables which say nothing, or not enough.
func (d *doctor) tables() {
	var out []Finding
	for i := range d.s.Rules {
		r := &d.s.Rules[i]
		if r.Action != netstate.ToTable || r.L3MDev || r.Unknown != "" || owner.ProtectedPriority(r.Priority) ||
			r.Table == netstate.TableLocal || r.Table == netstate.TableDefault {
			continue
		}
		if r.IIF != "" && d.links[r.IIF] == nil || r.OIF != "" && d.links[r.OIF] == nil {
			continue // told as a rule that never decides
		}
		t := d.table(r.Family, r.Table)
		name := d.e.Table(r.Table)
		switch {
		case t.routes == 0:
			out = append(out, Finding{
				Severity: Warning, Kind: "empty-table", Object: r.Format(d.e), Proof: d.proof(r),
				What: fmt.Sprintf("table %s has no %s route: %s leads nowhere, and its packets go by the rules behind it", name, r.Family, r.Format(d.e)),
				Cure: cureOf(r, "fill the table, or remove the rule; a RoutingPolicy or ExternalNetwork keeps both together",
					"`viarule status` says what of the attachment is missing; a new pod has all of it"),
			})
		case !t.catches && r.From.IsValid() && !r.Not && r.Table != netstate.TableMain && !r.SuppressPrefixLength.Set:
			out = append(out, Finding{
				Severity: Note, Kind: "falls-through", Object: r.Format(d.e), Proof: d.proof(r),
				What: fmt.Sprintf("table %s has no default route: what it does not know falls through %s to the rules behind it, for instance to main", name, r.Format(d.e)),
				Cure: cureOf(r, "a default route in the table; an unreachable one with a high metric lets it fail closed",
					"a gateway in the network's configuration of viarule-sbr (gateways, inferGateway), or from its ipam"),
			})
		}
	}
	d.addSome(out)
}
