package fib_test

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/fib"
	"github.com/viarule/viarule/internal/netstate"
)

// The kernel does not name the rule that decided. What it says leaves only some
// rules, though, and every decision is held against those:
//
//   - An answer names the table (RTA_TABLE: fib_result.table, which fib4_rule_action
//     fills, and fib6_info.fib6_table, which __fib6_rule_action looked in). Only
//     rules that look into it may have given it.
//
//   - An error is that of a reject rule (fib4_rule_action, __fib6_rule_action:
//     ENETUNREACH, EACCES, EINVAL) or of a reject route (fib_props, fib6_prop:
//     EHOSTUNREACH, EACCES, EINVAL). Only such rules, and rules whose table holds
//     such a route, may have given it. fib_rules_lookup ends with ESRCH where no
//     rule decided, which comes out as ENETUNREACH.
//
// In half of the worlds that is always a single rule: each has a table of its own
// there, and no two can give the same error (ownTables). There an answer proves
// which rule decided, and so what each selector, goto and suppressor did.
//
// Realms do not serve. The kernel gives those of the rule (FRA_FLOW, RTA_FLOW) for
// IPv4 only, for errors never, for what is delivered here only on output
// (ip_route_input_slow keeps the realms of the source check), and those of an
// earlier lookup where the next hop keeps a route of it (rt_cache_route).

// rulers says which rules may have given an answer.
type rulers struct {
	byTable map[tableKey][]*netstate.Rule
	byErrno map[errnoKey][]*netstate.Rule
}

type tableKey struct {
	family netstate.Family
	table  uint32
}

type errnoKey struct {
	family netstate.Family
	errno  unix.Errno
}

// newRulers looks at s, into which the candidates point.
func newRulers(s *netstate.State) *rulers {
	u := &rulers{byTable: map[tableKey][]*netstate.Rule{}, byErrno: map[errnoKey][]*netstate.Rule{}}
	dropNH := blackholes(s.Nexthops)
	errnos := map[tableKey]map[unix.Errno]bool{}
	for i := range s.Routes {
		r := &s.Routes[i]
		if e := routeErrno(r, dropNH); e != 0 {
			k := tableKey{r.Family, r.Table}
			if errnos[k] == nil {
				errnos[k] = map[unix.Errno]bool{}
			}
			errnos[k][e] = true
		}
	}
	for i := range s.Rules {
		r := &s.Rules[i]
		if e := actionErrno(r.Action); e != 0 {
			k := errnoKey{r.Family, e}
			u.byErrno[k] = append(u.byErrno[k], r)
		}
		for _, table := range tablesOf(r, s.Links) {
			k := tableKey{r.Family, table}
			u.byTable[k] = append(u.byTable[k], r)
			for e := range errnos[k] {
				k := errnoKey{r.Family, e}
				u.byErrno[k] = append(u.byErrno[k], r)
			}
		}
	}
	return u
}

// tablesOf lists the tables that a rule may look into.
func tablesOf(r *netstate.Rule, links []netstate.Link) []uint32 {
	switch {
	case r.Action != netstate.ToTable:
		return nil
	case !r.L3MDev:
		return []uint32{r.Table}
	}
	var tables []uint32
	for i := range links {
		if links[i].Kind == "vrf" {
			tables = append(tables, links[i].VRFTable)
		}
	}
	if r.Not {
		tables = append(tables, netstate.TableMain)
	}
	return tables
}

func actionErrno(a netstate.Action) unix.Errno {
	switch a {
	case netstate.Unreachable:
		return unix.ENETUNREACH
	case netstate.Prohibit:
		return unix.EACCES
	case netstate.Blackhole:
		return unix.EINVAL
	}
	return 0
}

func routeErrno(r *netstate.Route, dropNH map[uint32]bool) unix.Errno {
	switch {
	case r.Type == netstate.RouteUnreachable:
		return unix.EHOSTUNREACH
	case r.Type == netstate.RouteProhibit:
		return unix.EACCES
	case r.Type == netstate.RouteBlackhole, r.NexthopID != 0 && dropNH[r.NexthopID]:
		return unix.EINVAL
	}
	return 0
}

func blackholes(nhs []netstate.Nexthop) map[uint32]bool {
	ids := map[uint32]bool{}
	for i := range nhs {
		ids[nhs[i].ID] = nhs[i].Blackhole
	}
	return ids
}

// differs holds a decision about which the kernel agrees against the rules that
// may have given the kernel's answer. named says that there was only one, or that
// no rule decided.
func (u *rulers) differs(f netstate.Family, d *fib.Decision, got answer) (diff string, named bool) {
	if d.Verdict == fib.Invalid || d.OnLink || d.Verdict.Goes() && got.err != 0 {
		return "", false // the answer is not that of a rule
	}
	may := u.byTable[tableKey{f, got.table}]
	if got.err != 0 {
		may = u.byErrno[errnoKey{f, got.err}]
	}
	if d.Rule == nil {
		return "", len(may) == 0
	}
	for _, r := range may {
		if r == d.Rule {
			return "", len(may) == 1
		}
	}
	diff = fmt.Sprintf("by %s, the kernel by", d.Rule)
	for _, r := range may {
		diff += fmt.Sprintf(" %s", r)
	}
	return diff, false
}

// firstOwn is the first of the tables that ownTables hands out.
const firstOwn = 1000

// ownTables gives each rule a copy of its table, and sees to it that no two rules
// can give the same error: of two that can, the second gets a throw route for its
// reject routes, or a table for its action. A last rule answers all that is left,
// so that ENETUNREACH is never that of no rule.
func (c *contents) ownTables(s *netstate.State) {
	dropNH := blackholes(c.nexthops)
	owner := map[errnoKey]int{}
	take := func(f netstate.Family, e unix.Errno, rule int) bool {
		k := errnoKey{f, e}
		if _, taken := owner[k]; !taken {
			owner[k] = rule
		}
		return owner[k] == rule
	}
	var routes, appended []netstate.Route
	copyTo := func(dst *[]netstate.Route, from []netstate.Route, rule int, f netstate.Family, table, own uint32) {
		for _, r := range from {
			if r.Family != f || r.Table != table {
				continue
			}
			r.Table, r.Protocol = own, netstate.ProtocolObject
			if e := routeErrno(&r, dropNH); e != 0 && !take(f, e, rule) {
				r.Type, r.NexthopID = netstate.RouteThrow, 0
			}
			*dst = append(*dst, r)
		}
	}
	for _, f := range netstate.Families {
		c.rules = append(c.rules, netstate.Rule{Family: f, Priority: 40000, Action: netstate.ToTable, Table: lastTable, Protocol: netstate.ProtocolObject})
		for i, dev := range []string{"e0", "e1", "e2", "e3"} {
			c.routes = append(c.routes, netstate.Route{
				Family: f, Table: lastTable, To: f.Default(), Type: netstate.RouteUnicast, Protocol: netstate.ProtocolObject,
				Metric: uint32(i + 1), Hop: netstate.Hop{Dev: dev},
			})
		}
	}
	l3mdev := c.oneL3MDev(s)
	for i := range c.rules {
		r := &c.rules[i]
		if e := actionErrno(r.Action); e != 0 && !take(r.Family, e, i) {
			r.Action, r.Table = netstate.ToTable, 100
		}
		if r.Action != netstate.ToTable || r.L3MDev {
			continue
		}
		table := r.Table
		r.Table = firstOwn + uint32(i)
		copyTo(&routes, c.routes, i, r.Family, table, r.Table)
		copyTo(&routes, s.Routes, i, r.Family, table, r.Table)
		copyTo(&appended, c.appended, i, r.Family, table, r.Table)
	}
	for i := range s.Links {
		if table := s.Links[i].VRFTable; table != 0 {
			for _, f := range netstate.Families {
				copyTo(&routes, c.routes, l3mdev[f], f, table, table)
				copyTo(&appended, c.appended, l3mdev[f], f, table, table)
			}
		}
	}
	c.routes, c.appended = routes, appended
}

// oneL3MDev leaves one l3mdev rule for each family, and gives their numbers: the
// kernel's own (-1), or the first that was drawn.
func (c *contents) oneL3MDev(s *netstate.State) map[netstate.Family]int {
	number := map[netstate.Family]int{netstate.IPv4: -1, netstate.IPv6: -1}
	for i := range c.rules {
		switch r := &c.rules[i]; {
		case !r.L3MDev:
		case number[r.Family] < 0:
			number[r.Family] = i
		default:
			r.L3MDev, r.Table = false, 100
		}
	}
	for i := range s.Rules {
		if r := s.Rules[i]; r.L3MDev && number[r.Family] >= 0 {
			c.deleted = append(c.deleted, r)
		}
	}
	return number
}

// lastTable is what ownTables puts behind all rules.
const lastTable = 900
