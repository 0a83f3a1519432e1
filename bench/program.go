package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	destinations = 0x0b000000 // 11.0.0.0: route i is to 11.0.0.0+i
	sources      = 0x0a800000 // 10.128.0.0: policy i is from 10.128.0.0+i
	strangers    = 0x0ac80000 // 10.200.0.0: sources without a policy
	tables       = 4
)

func addr(v uint32) net.IP { return net.IPv4(byte(v>>24), byte(v>>16), byte(v>>8), byte(v)).To4() }

// routeFile says n routes in one table as a RoutingPolicy.
func (b *bench) routeFile(n int) (string, error) {
	return b.file(fmt.Sprintf("routes-%d.yaml", n), func(s *strings.Builder) {
		s.WriteString("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: routes}\nspec:\n  tables:\n  - name: bench\n    id: 100\n    routes:\n")
		writeRoutes(s, n)
	})
}

func writeRoutes(s *strings.Builder, n int) {
	for i := range n {
		fmt.Fprintf(s, "    - {to: %s, via: 10.99.0.2, dev: out}\n", addr(destinations+uint32(i)))
	}
}

// policyFile says n source policies, and the tables that they name.
func (b *bench) policyFile(n, routes int) (string, error) {
	return b.file(fmt.Sprintf("policies-%d-%d.yaml", n, routes), func(s *strings.Builder) {
		s.WriteString("apiVersion: viarule.io/v1alpha1\nkind: RoutingPolicy\nmetadata: {name: policies}\nspec:\n  tables:\n")
		for t := range tables {
			fmt.Fprintf(s, "  - {name: t%d, id: %d, routes: [{to: default, via: 10.99.0.2, dev: out}]}\n", t, 200+t)
		}
		if routes > 0 {
			s.WriteString("  - name: bench\n    id: 100\n    routes:\n")
			writeRoutes(s, routes)
		}
		s.WriteString("  rules:\n")
		for i := range n {
			fmt.Fprintf(s, "  - {from: [%s], table: t%d}\n", addr(sources+uint32(i)), i%tables)
		}
	})
}

func (b *bench) ipRoutes(n int) (string, error) {
	return b.file(fmt.Sprintf("routes-%d.ip", n), func(s *strings.Builder) {
		for i := range n {
			fmt.Fprintf(s, "route add %s via 10.99.0.2 dev out table 100 proto static\n", addr(destinations+uint32(i)))
		}
	})
}

// ipPolicies is the plain list, as scripts make it.
func (b *bench) ipPolicies(n int) (string, error) {
	return b.file(fmt.Sprintf("policies-%d.ip", n), func(s *strings.Builder) {
		for t := range tables {
			fmt.Fprintf(s, "route add default via 10.99.0.2 dev out table %d\n", 200+t)
		}
		for i := range n {
			fmt.Fprintf(s, "rule add pref %d from %s lookup %d\n", 1000+i, addr(sources+uint32(i)), 200+i%tables)
		}
	})
}

func stopwatch(f func() error) (float64, error) {
	start := time.Now()
	err := f()
	return time.Since(start).Seconds(), err
}

func (b *bench) ipBatch(file string) func() (float64, error) {
	return func() (float64, error) {
		if err := fresh(); err != nil {
			return 0, err
		}
		return timed("ip", "-batch", file)
	}
}

// part gives one figure of an apply into a fresh namespace.
func (b *bench) part(file string, phases bool, part func(*applied) float64) func() (float64, error) {
	return func() (float64, error) {
		if err := fresh(); err != nil {
			return 0, err
		}
		a, err := b.apply(file, phases)
		if err != nil {
			return 0, err
		}
		return part(a), nil
	}
}

func whole(a *applied) float64 { return a.wall }

func (b *bench) routes() error {
	const n = 100_000
	file, err := b.routeFile(n)
	if err != nil {
		return err
	}
	batch, err := b.ipRoutes(n)
	if err != nil {
		return err
	}
	return b.compare("100,000 routes into an empty table", "s", b.rounds, []way{
		{"ip -batch", nil, b.ipBatch(batch)},
		{"viarule, plan to verified", fasterBy(2.5), b.part(file, true, (*applied).core)},
		{"viarule apply, whole command", atMost(3), b.part(file, false, whole)},
		{"vishvananda/netlink, one handle", nil, func() (float64, error) { return libraryRoutes(n) }},
	})
}

func libraryRoutes(n int) (float64, error) {
	if err := fresh(); err != nil {
		return 0, err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, err
	}
	defer h.Close()
	out, err := h.LinkByName("out")
	if err != nil {
		return 0, err
	}
	return stopwatch(func() error {
		for i := range n {
			r := &netlink.Route{LinkIndex: out.Attrs().Index, Dst: &net.IPNet{IP: addr(destinations + uint32(i)), Mask: net.CIDRMask(32, 32)},
				Gw: net.IPv4(10, 99, 0, 2), Table: 100, Protocol: unix.RTPROT_STATIC}
			if err := h.RouteAdd(r); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) policies() error {
	const n = 10_000
	file, err := b.policyFile(n, 0)
	if err != nil {
		return err
	}
	batch, err := b.ipPolicies(n)
	if err != nil {
		return err
	}
	return b.compare("10,000 source policies", "s", min(b.rounds, 5), []way{
		{"ip -batch, plain list", nil, b.ipBatch(batch)},
		{"viarule, plan to verified", fasterBy(30), b.part(file, true, (*applied).core)},
		{"viarule apply, whole command", fasterBy(5), b.part(file, false, whole)},
		{"vishvananda/netlink, one handle, plain list", nil, func() (float64, error) { return libraryRules(n) }},
	})
}

func libraryRules(n int) (float64, error) {
	if err := fresh(); err != nil {
		return 0, err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, err
	}
	defer h.Close()
	return stopwatch(func() error {
		for i := range n {
			r := netlink.NewRule()
			r.Family, r.Priority, r.Table = unix.AF_INET, 1000+i, 200+i%tables
			r.Src = &net.IPNet{IP: addr(sources + uint32(i)), Mask: net.CIDRMask(32, 32)}
			if err := h.RuleAdd(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// unchanged compares a look at everything, and the finding that nothing differs,
// with the two commands that only print it.
func (b *bench) unchanged() error {
	file, err := b.policyFile(10_000, 100_000)
	if err != nil {
		return err
	}
	if err := fresh(); err != nil {
		return err
	}
	if _, err := b.apply(file, false); err != nil {
		return err
	}
	var peak int64
	err = b.compare("100,000 routes and 10,000 policies, nothing changed", "s", b.rounds, []way{
		{"ip route show table all + ip rule show", nil, func() (float64, error) {
			r, err := timed("ip", "route", "show", "table", "all")
			if err != nil {
				return 0, err
			}
			l, err := timed("ip", "rule", "show")
			return r + l, err
		}},
		{"viarule, observe and diff", atMost(0.5), func() (float64, error) {
			a, err := b.apply(file, true)
			if err != nil {
				return 0, err
			}
			peak = max(peak, a.peak)
			if _, wrote := a.phases["apply"]; wrote {
				return 0, fmt.Errorf("something was written though nothing had changed")
			}
			return a.phases["observe"] + a.phases["diff"], nil
		}},
		{"viarule apply, whole command", nil, func() (float64, error) {
			a, err := b.apply(file, false)
			if err != nil {
				return 0, err
			}
			return a.wall, nil
		}},
	})
	if err != nil {
		return err
	}
	return b.memory(file, peak)
}

// memory reports the peak of a first apply and of one that changes nothing.
func (b *bench) memory(file string, unchanged int64) error {
	if err := fresh(); err != nil {
		return err
	}
	a, err := b.apply(file, false)
	if err != nil {
		return err
	}
	const limit = 400 // MiB
	mib := float64(max(a.peak, unchanged)) / 1024
	b.add("memory, 100,000 routes and 10,000 policies", "MiB", "viarule apply, peak", mib, mib/limit, "400 MiB", atMost(1))
	return nil
}

// growth compares ten times as many with as many.
func (b *bench) growth() error {
	rounds := min(b.rounds, 3)
	for _, g := range []struct {
		what string
		file func(int) (string, error)
		from int
	}{
		{"routes", b.routeFile, 10_000}, {"routes", b.routeFile, 100_000},
		{"policies", func(n int) (string, error) { return b.policyFile(n, 0) }, 1_000},
	} {
		small, err := g.file(g.from)
		if err != nil {
			return err
		}
		large, err := g.file(10 * g.from)
		if err != nil {
			return err
		}
		err = b.compare(fmt.Sprintf("growth: %d and %d %s", g.from, 10*g.from, g.what), "s", rounds, []way{
			{fmt.Sprintf("viarule apply, %d", g.from), nil, b.part(small, false, whole)},
			{fmt.Sprintf("viarule apply, %d", 10*g.from), atMost(15), b.part(large, false, whole)},
		})
		if err != nil {
			return err
		}
	}
	return nil
}
