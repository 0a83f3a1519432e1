package doctor

import (
	"fmt"
	"slices"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/owner"
)

// neighbours looks for rules that stand where another program here puts its own,
// and for what programs left behind that are not here any more.
func (d *doctor) neighbours() {
	var out []Finding
	for i := range d.s.Rules {
		r := &d.s.Rules[i]
		if owner.ProtectedPriority(r.Priority) || r.L3MDev {
			continue
		}
		if n := d.whose(r); n != nil {
			if d.leftover(r) {
				out = append(out, Finding{
					Severity: Warning, Kind: "leftover", Object: r.Format(d.e), Proof: d.proof(r),
					What: fmt.Sprintf("%s looks like one of %s, and leads to nothing that is here: it may be left over", r.Format(d.e), n.Name),
					Cure: "remove it where that program is gone: " + deleteCommand(r),
				})
			}
			continue
		}
		for _, n := range d.neighbour.Priority(r.Priority) {
			out = append(out, Finding{
				Severity: Warning, Kind: "collision", Object: r.Format(d.e), Proof: fmt.Sprintf("ip rule show pref %d", r.Priority),
				What: fmt.Sprintf("%s stands at a priority that %s uses, which is here: it may remove the rule, or its own may come before", r.Format(d.e), n.Neighbour.Name),
				Cure: "another priority",
			})
		}
	}
	d.addSome(out)
}

// whose tells the program here that a rule is of, by its shape, or since it stands at
// that program's priority and has its mark or leads to its table; nil: nobody's.
func (d *doctor) whose(r *netstate.Rule) *owner.Neighbour {
	if owner.Viarules(r.Protocol) {
		return nil
	}
	for i := range d.neighbour {
		n := d.neighbour[i].Neighbour
		marked := r.Mark.Mask != 0 && r.Mark.Mask&^n.Marks == 0
		leads := r.Action == netstate.ToTable && n.HoldsTable(r.Table)
		if n.HoldsPriority(r.Priority) && (marked || leads) || slices.Contains(d.neighbour[i].Rules, *r) {
			return n
		}
	}
	return nil
}

// leftover says whether a rule leads to an empty table or names a link that is not
// here.
func (d *doctor) leftover(r *netstate.Rule) bool {
	if r.IIF != "" && d.links[r.IIF] == nil || r.OIF != "" && d.links[r.OIF] == nil {
		return true
	}
	kernels := r.Table == netstate.TableDefault || r.Table == netstate.TableMain || r.Table == netstate.TableLocal
	return r.Action == netstate.ToTable && !kernels && d.table(r.Family, r.Table).routes == 0
}

// networkd says that systemd-networkd removes what others made.
func (d *doctor) networkd() {
	n := d.in.Networkd
	if n == nil || !n.ForeignRules && !n.ForeignRoutes {
		return
	}
	d.add(Finding{
		Severity: Warning, Kind: "networkd", Proof: "grep -rs ManageForeign /etc/systemd/networkd.conf /etc/systemd/networkd.conf.d /run/systemd /usr/lib/systemd/networkd.conf.d",
		What: "systemd-networkd runs here and removes rules and routes that it did not make when it is started again",
		Cure: "in /etc/systemd/networkd.conf.d/viarule.conf, below [Network]: ManageForeignRoutingPolicyRules=no, ManageForeignRoutes=no, ManageForeignNextHops=no",
	})
}
