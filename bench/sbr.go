package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	referenceSbr = "github.com/containernetworking/plugins/plugins/meta/sbr"
	// many is the number of rules, routes and tables of a full namespace.
	many = 10_000
	// firstUnused is the table behind so many from 100 on, but for the kernel's three.
	firstUnused = 100 + many + 3
	// crowd is the number of pods that get an interface at once.
	crowd = 100
)

// sbrTables are those that a program may fill: sbr's first ones, and viarule-sbr's.
var sbrTables = []int{100, 101, 5000, 5001}

// sbrProgram is a program that is measured.
type sbrProgram struct {
	name, path string
	lastFree   int  // the table that is left for it where there are many tables
	add, empty *bar // of ADD with two interfaces: to the reference, to an empty program
	full       bool // whether the bars of full namespaces hold
}

// sbr compares viarule-sbr, under both of its names, with the reference plugin.
func (b *bench) sbr() error {
	empty, err := b.file("empty.go", func(s *strings.Builder) { s.WriteString("package main\n\nfunc main() {}\n") })
	if err != nil {
		return err
	}
	err = errors.Join(b.compile("empty", empty), b.compile("reference/sbr", referenceSbr),
		b.install(b.viaruleSbr, "viarule/sbr"), b.install(b.viaruleSbr, "viarule/viarule-sbr"))
	if err != nil {
		return err
	}
	programs := []sbrProgram{
		{name: "reference", path: filepath.Join(b.dir, "reference/sbr"), lastFree: firstUnused},
		{name: "sbr", path: filepath.Join(b.dir, "viarule/sbr"), lastFree: firstUnused, add: atMost(0.75), empty: atMost(1.8), full: true},
		{name: "viarule-sbr", path: filepath.Join(b.dir, "viarule/viarule-sbr"), lastFree: 5999},
	}
	if err := freshHost(); err != nil {
		return err
	}
	for _, measure := range []func() error{
		func() error { return b.sbrSmall("one address", oneAddress, programs) },
		func() error { return b.sbrSmall("two addresses", twoAddresses, programs) },
		func() error { return b.sbrFull("10,000 rules and 10,000 routes", 0.15, manyRules, programs) },
		func() error { return b.sbrFull("10,000 tables", 0.03, manyTables, programs) },
		func() error { return b.sbrCrowd(programs) },
		func() error { return b.binary("viarule-sbr", b.viaruleSbr, programs[0].path) },
		removeNetns,
	} {
		if err := measure(); err != nil {
			return err
		}
	}
	return nil
}

// sbrCase is a pod that one program works in.
type sbrCase struct {
	b       *bench
	program *sbrProgram
	pod     *pod
	on      addresses
	tables  []int  // that the program may fill
	before  string // rules and routes
}

var sbrVerbs = []string{"ADD", "CHECK", "DEL"}

// cycle calls the plugin once with each verb, and puts back what that leaves
// behind.
func (c *sbrCase) cycle(round int) ([]spent, error) {
	out := make([]spent, len(sbrVerbs))
	for i, verb := range sbrVerbs {
		var err error
		if out[i], err = c.b.plugin(c.program.path, verb, c.pod); err != nil {
			return nil, err
		}
		if verb == "ADD" && round == 0 {
			if err := in(c.pod.name, c.works); err != nil {
				return nil, fmt.Errorf("after %s of %s: %w", verb, c.program.name, err)
			}
		}
	}
	return out, in(c.pod.name, func() error {
		if err := c.restore(); err != nil || round > 0 {
			return err
		}
		// Once is enough, since every round does the same.
		after, err := rulesAndRoutes()
		if err == nil && after != c.before {
			err = fmt.Errorf("the pod of %s is not as it was:\n%s\nafter\n%s", c.program.name, c.before, after)
		}
		return err
	})
}

// works says whether what net1's addresses send leaves by net1.
func (c *sbrCase) works() error {
	for _, a := range c.on {
		from, _, _ := strings.Cut(a.prefix, "/")
		to := "203.0.113.1"
		if strings.Contains(from, ":") {
			to = "2001:db8:ffff::1"
		}
		out, err := exec.Command("ip", "-o", "route", "get", to, "from", from).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip route get %s from %s: %w\n%s", to, from, err, out)
		}
		if !strings.Contains(string(out), "via "+a.gateway+" dev net1") {
			return fmt.Errorf("what %s sends does not leave by net1:\n%s", from, out)
		}
	}
	return nil
}

// restore puts back what an ADD moved and a DEL left. What need not be done fails;
// whether all is done, cycle looks.
func (c *sbrCase) restore() error {
	var flush []string
	for _, t := range c.tables {
		flush = append(flush, fmt.Sprintf("route flush table %d", t))
	}
	for _, batch := range []struct {
		args  []string
		lines []string
	}{{[]string{"-4"}, flush}, {[]string{"-6"}, flush}, {nil, c.on.renew()}} {
		cmd := exec.Command("ip", append(batch.args, "-force", "-batch", "-")...)
		cmd.Stdin = strings.NewReader(strings.Join(batch.lines, "\n") + "\n")
		var failed *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
			return err
		}
	}
	return nil
}

func rulesAndRoutes() (string, error) {
	var all []string
	for _, args := range []string{"rule", "-6 rule", "route show table all"} {
		out, err := exec.Command("ip", strings.Fields(args)...).Output()
		if err != nil {
			return "", fmt.Errorf("ip %s: %w", args, err)
		}
		// The order of a table's routes of one prefix is that of their making.
		lines := strings.Split(string(out), "\n")
		slices.Sort(lines)
		all = append(all, lines...)
	}
	return strings.Join(all, "\n"), nil
}

// filling is what else is in a pod: lines for ip, and the tables that a program may
// fill there.
type filling func(*sbrProgram) (lines []string, tables []int)

// sbrCases makes a pod for each program.
func (b *bench) sbrCases(name string, on addresses, programs []sbrProgram, fill filling) ([]*sbrCase, error) {
	var cases []*sbrCase
	for i := range programs {
		p := &programs[i]
		lines, tables := fill(p)
		made, err := b.newPod(fmt.Sprintf("%s%d", name, i), on, lines...)
		if err != nil {
			return nil, err
		}
		c := &sbrCase{b: b, program: p, pod: made, on: on, tables: tables}
		if err := in(made.name, func() (err error) { c.before, err = rulesAndRoutes(); return err }); err != nil {
			return nil, err
		}
		cases = append(cases, c)
	}
	return cases, nil
}

// sbrSmall measures pods in which there is nothing but two interfaces.
func (b *bench) sbrSmall(what string, on addresses, programs []sbrProgram) error {
	cases, err := b.sbrCases(fmt.Sprintf("small%d", len(on)), on, programs, func(*sbrProgram) ([]string, []int) { return nil, sbrTables })
	if err != nil {
		return err
	}
	empty := make([]spent, 0, 30*b.rounds)
	times, err := b.sbrRounds(30*b.rounds, cases, func() error {
		s, err := b.plugin(filepath.Join(b.dir, "empty"), "ADD", cases[0].pod)
		empty = append(empty, s)
		return err
	})
	if err != nil {
		return err
	}
	for v, verb := range sbrVerbs {
		of := "sbr " + verb + ", two interfaces, " + what
		for i, p := range programs {
			var limit *bar
			if verb == "ADD" {
				limit = p.add
			}
			b.addSpent(of, p.name, times[i][v], "reference", times[0][v], limit)
		}
		if verb != "ADD" {
			continue
		}
		b.addSpent(of, "empty Go program", empty, "reference", times[0][v], nil)
		for i, p := range programs {
			b.addSpent(of, p.name, times[i][v], "empty Go program", empty, p.empty)
		}
	}
	return nil
}

// sbrFull measures pods with many rules and routes.
func (b *bench) sbrFull(what string, limit float64, fill filling, programs []sbrProgram) error {
	cases, err := b.sbrCases(strings.ReplaceAll(fmt.Sprintf("full%g-", limit), ".", ""), oneAddress, programs, fill)
	if err != nil {
		return err
	}
	times, err := b.sbrRounds(3*b.rounds, cases)
	if err != nil {
		return err
	}
	for v, verb := range sbrVerbs {
		for i, p := range programs {
			var bar *bar
			if verb == "ADD" && p.full {
				bar = atMost(limit)
			}
			b.addSpent("sbr "+verb+", "+what, p.name, times[i][v], "reference", times[0][v], bar)
		}
	}
	return nil
}

// sbrRounds gives what each case took for each verb, round by round. In each
// round all cases and others take their turn; who is first changes, since what ran
// before leaves its traces in the processor's caches.
func (b *bench) sbrRounds(rounds int, cases []*sbrCase, others ...func() error) ([][][]spent, error) {
	times := make([][][]spent, len(cases))
	turns := make([]func(round int) error, 0, len(cases)+len(others))
	for i, c := range cases {
		times[i] = make([][]spent, len(sbrVerbs))
		turns = append(turns, func(round int) error {
			took, err := c.cycle(round)
			if err != nil {
				return err
			}
			for v := range sbrVerbs {
				times[i][v] = append(times[i][v], took[v])
			}
			return nil
		})
	}
	for _, f := range others {
		turns = append(turns, func(int) error { return f() })
	}
	for round := range rounds {
		for i := range turns {
			if err := b.ctx.Err(); err != nil {
				return nil, err
			}
			if err := turns[(i+round)%len(turns)](round); err != nil {
				return nil, fmt.Errorf("round %d: %w", round+1, err)
			}
		}
	}
	return times, nil
}

// addSpent reports a way, and its ratio to a reference round by round.
func (b *bench) addSpent(of, way string, took []spent, ref string, reference []spent, limit *bar) {
	var wall, cpu, ratios []float64
	for i, s := range took {
		wall, cpu, ratios = append(wall, s.wall), append(cpu, s.cpu), append(ratios, s.wall/reference[i].wall)
	}
	b.add(of, "ms", way, median(wall), median(ratios), ref, limit)
	b.report[len(b.report)-1].CPU = median(cpu)
}

// manyRules fills a pod with rules, and with routes in main and in the rules'
// table. Each rule is put before the others, which the kernel does fast.
func manyRules(*sbrProgram) (lines []string, tables []int) {
	for i := range many {
		lines = append(lines, fmt.Sprintf("route add %s via 10.1.0.1 dev eth0 table %d", addr(destinations+uint32(i)), []int{254, 1000}[i%2]))
	}
	for i := range many {
		lines = append(lines, fmt.Sprintf("rule add pref %d from %s lookup 1000", 10_000+many-i, addr(sources+uint32(i))))
	}
	return lines, sbrTables
}

// manyTables fills a pod with tables from 100 on, all but the last one that the
// program may take.
func manyTables(p *sbrProgram) (lines []string, tables []int) {
	for i, table := 0, 100; i < many; table++ {
		if table == p.lastFree || table >= 253 && table <= 255 { // the kernel's own
			continue
		}
		lines = append(lines, fmt.Sprintf("route add default via 10.1.0.1 dev eth0 table %d", table),
			fmt.Sprintf("rule add pref %d from %s lookup %d", 10_000+many-i, addr(sources+uint32(i)), table))
		i++
	}
	return lines, []int{p.lastFree}
}

// sbrCrowd measures ADDs of many pods at once, from the first process's start to
// the last one's end.
func (b *bench) sbrCrowd(programs []sbrProgram) error {
	var pods []*pod
	for i := range crowd {
		p, err := b.newPod(fmt.Sprintf("crowd%d", i), oneAddress)
		if err != nil {
			return err
		}
		pods = append(pods, p)
	}
	times := make([][]spent, len(programs))
	for round := range 2 * b.rounds {
		for turn := range programs {
			i := (turn + round) % len(programs)
			if err := b.ctx.Err(); err != nil {
				return err
			}
			took, err := b.atOnce(programs[i].path, "ADD", pods)
			if err != nil {
				return err
			}
			times[i] = append(times[i], took)
			for _, p := range pods {
				if _, err := b.plugin(programs[i].path, "DEL", p); err != nil {
					return err
				}
				c := sbrCase{program: &programs[i], on: oneAddress, tables: sbrTables}
				if err := in(p.name, c.restore); err != nil {
					return err
				}
			}
		}
	}
	for i, p := range programs {
		b.addSpent(fmt.Sprintf("sbr ADD, %d pods at once", crowd), p.name, times[i], "reference", times[0], nil)
	}
	return nil
}

// atOnce calls a plugin for all pods at once. It starts the processes one by
// one, since only this thread has the mounts and the namespace.
func (b *bench) atOnce(program, verb string, pods []*pod) (spent, error) {
	var calls []*call
	var errs []error
	start := time.Now()
	for _, p := range pods {
		c, err := b.startPlugin(program, verb, p)
		if err != nil {
			errs = append(errs, err)
			break
		}
		calls = append(calls, c)
	}
	var all spent
	for _, c := range calls {
		s, err := c.wait()
		errs = append(errs, err)
		all.cpu += s.cpu
	}
	all.wall = ms(time.Since(start))
	return all, errors.Join(errs...)
}
