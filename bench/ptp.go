package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	referencePtp       = "github.com/containernetworking/plugins/plugins/main/ptp"
	referenceHostLocal = "github.com/containernetworking/plugins/plugins/ipam/host-local"

	ptpIPv4 = `[{"subnet": "10.88.0.0/16"}]`
	ptpDual = ptpIPv4 + `, [{"subnet": "2001:db8:88::/64"}]`
)

// ptp compares viarule-ptp, which has host-local built in, with the reference plugin and
// its host-local.
func (b *bench) ptp() error {
	reference, ours, err := b.installPtp()
	if err != nil {
		return err
	}
	if err := freshHost(); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("0"), 0); err != nil {
		return err
	}
	for _, measure := range []func() error{
		func() error { return b.ptpOne("IPv4", 10*b.rounds, ptpIPv4, reference, ours) },
		// The reference waits for duplicate address detection, a second or two.
		func() error { return b.ptpOne("IPv4 and IPv6", b.rounds, ptpDual, reference, ours) },
		func() error { return b.ptpCrowd(ptpIPv4, reference, ours) },
		func() error { return b.binary("viarule-ptp", b.viarulePtp, reference) },
		removeNetns,
	} {
		if err := measure(); err != nil {
			return err
		}
	}
	return nil
}

// installPtp gives the paths of the two plugins.
func (b *bench) installPtp() (reference, ours string, err error) {
	err = errors.Join(b.compile("reference/ptp", referencePtp), b.compile("reference/host-local", referenceHostLocal), b.install(b.viarulePtp, "viarule/viarule-ptp"))
	return filepath.Join(b.dir, "reference/ptp"), filepath.Join(b.dir, "viarule/viarule-ptp"), err
}

// barePod makes an empty namespace, and the configuration of a network for it.
func (b *bench) barePod(name, network, ranges string) (*pod, error) {
	p := &pod{name: name}
	err := newNetns(name)
	if err != nil {
		return nil, err
	}
	p.stdin, err = b.file(name+".json", func(s *strings.Builder) {
		fmt.Fprintf(s, `{"cniVersion": "1.0.0", "name": %q, "type": "ptp", "ipam": {"type": "host-local", "ranges": [%s], "routes": [{"dst": "0.0.0.0/0"}]}}`, network, ranges)
	})
	return p, err
}

// ptpOne measures one pod after the other.
func (b *bench) ptpOne(what string, rounds int, ranges, reference, ours string) error {
	name := strings.ReplaceAll(strings.ToLower(what), " ", "")
	refPod, err := b.barePod("r"+name, "reference"+name, ranges)
	if err != nil {
		return err
	}
	ourPod, err := b.barePod("v"+name, "viarule"+name, ranges)
	if err != nil {
		return err
	}
	var refAdd, refDel, add, del, link []spent
	cycle := func(program string, p *pod, adds, dels *[]spent) func() error {
		return func() error {
			p.sandboxes++
			a, err := b.plugin(program, "ADD", p)
			if err != nil {
				return err
			}
			d, err := b.plugin(program, "DEL", p)
			*adds, *dels = append(*adds, a), append(*dels, d)
			return err
		}
	}
	turns := []func() error{
		cycle(reference, refPod, &refAdd, &refDel),
		cycle(ours, ourPod, &add, &del),
		func() error {
			// The same veth, deleted by this program.
			ourPod.sandboxes++
			if _, err := b.plugin(ours, "ADD", ourPod); err != nil {
				return err
			}
			s, err := deleteVeth()
			if err != nil {
				return err
			}
			link = append(link, s)
			_, err = b.plugin(ours, "DEL", ourPod)
			return err
		},
	}
	// The rounds behind are without the reference: how long the kernel takes to delete a veth
	// varies by a third, and the two ways of ours differ by less.
	for round := range max(rounds, 20*b.rounds) {
		those := turns
		if round >= rounds {
			those = turns[1:]
		}
		for i := range those {
			if err := b.ctx.Err(); err != nil {
				return err
			}
			if err := those[(i+round)%len(those)](); err != nil {
				return err
			}
		}
	}
	n := len(refAdd)
	b.addSpent("ptp ADD, "+what, "reference ptp + host-local", refAdd, "reference", refAdd, nil)
	b.addSpent("ptp ADD, "+what, "viarule-ptp", add[:n], "reference", refAdd, atMost(0.5))
	b.addSpent("ptp DEL, "+what, "reference ptp + host-local", refDel, "reference", refDel, nil)
	b.addSpent("ptp DEL, "+what, "viarule-ptp", del[:n], "reference", refDel, nil)
	b.addMedians("ptp DEL, "+what, "viarule-ptp", del, "deletion of the veth alone", link, atMost(1.1))
	b.addCPU("ptp DEL, "+what+", processor time", "viarule-ptp", del[:n], "reference", refDel, atMost(0.5))
	return nil
}

// addMedians reports the ratio of two medians: those of pairs of what varies much tell more
// of the variation.
func (b *bench) addMedians(of, way string, took []spent, ref string, reference []spent, limit *bar) {
	walls := func(list []spent) float64 {
		var all []float64
		for _, s := range list {
			all = append(all, s.wall)
		}
		return median(all)
	}
	b.add(of, "ms", ref, walls(reference), 1, ref, nil)
	b.add(of, "ms", way, walls(took), walls(took)/walls(reference), ref, limit)
}

// addCPU reports a way by the processor time that it takes.
func (b *bench) addCPU(of, way string, took []spent, ref string, reference []spent, limit *bar) {
	var cpu, ratios []float64
	for i, s := range took {
		cpu, ratios = append(cpu, s.cpu), append(ratios, s.cpu/reference[i].cpu)
	}
	b.add(of, "ms", way, median(cpu), median(ratios), ref, limit)
}

// deleteVeth deletes the only veth of the host.
func deleteVeth() (spent, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return spent{}, err
	}
	for _, l := range links {
		if l.Type() == "veth" {
			start := time.Now()
			err := netlink.LinkDel(l)
			return spent{wall: ms(time.Since(start))}, err
		}
	}
	return spent{}, errors.New("there is no veth to delete")
}

// ptpCrowd measures ADDs of many pods at once, from the first process's start to the last
// one's end.
func (b *bench) ptpCrowd(ranges, reference, ours string) error {
	programs := []string{reference, ours}
	var pods [2][]*pod
	for i, network := range []string{"refcrowd", "viacrowd"} {
		for n := range crowd {
			p, err := b.barePod(fmt.Sprintf("%s%d", network[:2], n), network, ranges)
			if err != nil {
				return err
			}
			pods[i] = append(pods[i], p)
		}
	}
	times := make([][]spent, len(programs))
	for round := range b.rounds {
		for turn := range programs {
			i := (turn + round) % len(programs)
			for _, p := range pods[i] {
				p.sandboxes++
			}
			took, err := b.atOnce(programs[i], "ADD", pods[i])
			if err != nil {
				return err
			}
			times[i] = append(times[i], took)
			if err := distinct(pods[i], b.dir); err != nil {
				return err
			}
			if _, err := b.atOnce(programs[i], "DEL", pods[i]); err != nil {
				return err
			}
		}
	}
	of := fmt.Sprintf("ptp ADD, %d pods at once", crowd)
	b.addSpent(of, "reference ptp + host-local", times[0], "reference", times[0], nil)
	b.addSpent(of, "viarule-ptp", times[1], "reference", times[0], atMost(0.5))
	return nil
}

// distinct says that no two pods got the same address.
func distinct(pods []*pod, dir string) error {
	of := map[string]string{}
	for _, p := range pods {
		out, err := os.ReadFile(filepath.Join(dir, p.name+".out"))
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut(string(out), `"address": "`)
		address, _, ok := strings.Cut(rest, `"`)
		if other := of[address]; !ok || other != "" {
			return fmt.Errorf("%s and %s have the address %q", p.name, other, address)
		}
		of[address] = p.name
	}
	return nil
}
