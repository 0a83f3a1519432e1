package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	questions = 100_000
	// doctorLimit is the bar of `doctor` with 100,000 routes and 10,000 rules, in
	// seconds; it is the only absolute one, since nobody else offers the like.
	doctorLimit = 2.0
)

// explain compares `explain --batch` with `ip -batch` of as many `route get`, and
// times doctor.
func (b *bench) explain() error {
	if err := fresh(); err != nil {
		return err
	}
	file, err := b.routeFile(100_000)
	if err != nil {
		return err
	}
	if _, err := b.apply(file, false); err != nil {
		return err
	}
	rules := make([]string, 0, 10)
	for i := range 9 {
		rules = append(rules, fmt.Sprintf("rule add pref %d from 10.77.%d.0/24 lookup 100", 1000+i, i))
	}
	if err := ip(append(rules, "rule add pref 2000 lookup 100")...); err != nil {
		return err
	}
	// Each destination once, in an order that is not the table's.
	destination := func(i int) string { return addr(destinations + uint32(i*7919%100_000)).String() }
	gets, err := b.file("gets.ip", func(s *strings.Builder) {
		for i := range questions {
			fmt.Fprintf(s, "route get %s\n", destination(i))
		}
	})
	if err != nil {
		return err
	}
	asked, err := b.file("questions.json", func(s *strings.Builder) {
		for i := range questions {
			fmt.Fprintf(s, "{\"to\":\"%s\"}\n", destination(i))
		}
	})
	if err != nil {
		return err
	}
	err = b.compare(fmt.Sprintf("%d questions, whole command", questions), "s", b.rounds, []way{
		{name: "ip -batch, route get", run: func() (float64, error) { return timed("ip", "-batch", gets) }},
		{name: "viarule explain --batch", run: func() (float64, error) { return timed(b.viarule, "explain", "--batch", asked) }, bar: atMost(1)},
	})
	if err != nil {
		return err
	}
	return b.doctor()
}

// doctor times the command on a node with 100,000 routes and 10,000 rules.
func (b *bench) doctor() error {
	policies, err := b.policyFile(10_000, 100_000)
	if err != nil {
		return err
	}
	if err := fresh(); err != nil {
		return err
	}
	if _, err := b.apply(policies, false); err != nil {
		return err
	}
	var list []float64
	for range b.rounds {
		start := time.Now()
		err := exec.CommandContext(b.ctx, b.viarule, "doctor").Run()
		if x, ok := err.(*exec.ExitError); err != nil && !(ok && x.ExitCode() == 3) {
			return fmt.Errorf("viarule doctor: %w", err)
		}
		list = append(list, time.Since(start).Seconds())
	}
	b.add("doctor, 100,000 routes and 10,000 rules", "s", "viarule doctor", median(list), median(list)/doctorLimit, "2 s", atMost(1))
	return os.Remove(policies)
}
