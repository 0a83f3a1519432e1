package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

// ptpProgram is an interface plugin that is measured.
type ptpProgram struct {
	name, path string
	bars       bool // whether the bars are meant for it
}

// limit gives a bar where there is one for the program.
func (p *ptpProgram) limit(ratio float64) *bar {
	if !p.bars {
		return nil
	}
	return atMost(ratio)
}

// ptpNetwork is the address ranges of a pod. What ptp waits for with IPv6, the end of
// the search for duplicates, is switched off in all namespaces: it takes seconds.
type ptpNetwork struct {
	name   string
	ranges []string
}

var (
	ptpIPv4 = ptpNetwork{"IPv4", []string{"10.244.0.0/16"}}
	ptpDual = ptpNetwork{"IPv4 and IPv6", []string{"10.244.0.0/16", "fd00:244::/64"}}
)

// ptp compares ADD and DEL of viarule-ptp with ptp and host-local.
func (b *bench) ptp() error {
	if err := b.installPtp(); err != nil {
		return err
	}
	if err := freshHost(); err != nil {
		return err
	}
	if err := writeSysctls("ipv6/conf/default/disable_ipv6=0", "ipv6/conf/default/accept_dad=0"); err != nil {
		return err
	}
	programs := []ptpProgram{{name: "ptp and host-local", path: b.referencePtp()}, {name: "viarule-ptp", path: b.ourPtp(), bars: true}}
	return errors.Join(b.ptpOne(ptpIPv4, programs), b.ptpOne(ptpDual, programs), b.ptpCrowd(programs), removeNetns())
}

func (b *bench) referencePtp() string { return filepath.Join(b.dir, "reference/ptp") }
func (b *bench) ourPtp() string       { return filepath.Join(b.dir, "viarule/viarule-ptp") }

func (b *bench) installPtp() error {
	return errors.Join(b.compile("reference/ptp", referencePtp), b.compile("reference/host-local", referenceHostLocal),
		b.install(b.viarulePtp, "viarule/viarule-ptp"))
}

// quietNetns makes a named namespace that neither looks for duplicate addresses nor
// has lo down: viarule-ptp sets it up, ptp does not.
func quietNetns(name string) error {
	if err := newNetns(name); err != nil {
		return err
	}
	return in(name, func() error {
		return errors.Join(writeSysctls("ipv6/conf/all/accept_dad=0", "ipv6/conf/default/accept_dad=0"), ip("link set lo up"))
	})
}

// ptpPod is a namespace as a plugin is called for it.
func (b *bench) ptpPod(program, netns, network string, ranges ...string) (*pod, error) {
	type object = map[string]any
	var sets [][]object
	var routes []object
	for _, r := range ranges {
		sets = append(sets, []object{{"subnet": r}})
		if strings.Contains(r, ":") {
			routes = append(routes, object{"dst": "::/0"})
		} else {
			routes = append(routes, object{"dst": "0.0.0.0/0"})
		}
	}
	conf, err := json.Marshal(object{"cniVersion": "1.0.0", "name": network, "type": filepath.Base(program),
		"ipam": object{"type": "host-local", "dataDir": "/var/lib/cni/bench", "routes": routes, "ranges": sets}})
	if err != nil {
		return nil, err
	}
	p := &pod{name: netns}
	p.stdin, err = b.file(netns+"-"+filepath.Base(program)+".json", func(s *strings.Builder) { s.Write(conf) })
	return p, err
}

// ptpOne measures one pod that comes and goes, and the kernel's part of the going.
func (b *bench) ptpOne(network ptpNetwork, programs []ptpProgram) error {
	netns := fmt.Sprintf("pod%d", len(network.ranges))
	if err := quietNetns(netns); err != nil {
		return err
	}
	add, del := make([][]spent, len(programs)), make([][]spent, len(programs))
	var veth []spent
	for round := range 30 * b.rounds {
		for turn := range programs {
			i := (turn + round) % len(programs)
			if err := b.ctx.Err(); err != nil {
				return err
			}
			p, err := b.ptpPod(programs[i].path, netns, fmt.Sprint(netns, "-", i), network.ranges...)
			if err != nil {
				return err
			}
			s, err := b.plugin(programs[i].path, "ADD", p)
			if err != nil {
				return err
			}
			add[i] = append(add[i], s)
			if s, err = b.plugin(programs[i].path, "DEL", p); err != nil {
				return err
			}
			del[i] = append(del[i], s)
		}
		s, err := vethDelete(netns)
		if err != nil {
			return err
		}
		veth = append(veth, s)
	}
	of := "ptp ADD, " + network.name
	for i, p := range programs {
		b.addSpent(of, p.name, add[i], programs[0].name, add[0], p.limit(0.5))
	}
	of = "ptp DEL, " + network.name
	for i, p := range programs {
		b.addSpent(of, p.name, del[i], programs[0].name, del[0], nil)
	}
	for i, p := range programs {
		b.addSpent(of, p.name, del[i], "one veth delete", veth, p.limit(1.1))
	}
	for i, p := range programs {
		b.addSpent(of+", processor time", p.name, onlyCPU(del[i]), programs[0].name, onlyCPU(del[0]), p.limit(0.5))
	}
	return nil
}

// onlyCPU has the processor time in place of the time.
func onlyCPU(v []spent) []spent {
	out := make([]spent, len(v))
	for i, s := range v {
		out[i] = spent{wall: s.cpu, cpu: s.cpu}
	}
	return out
}

// vethDelete gives what the kernel takes to delete a veth pair whose other end is in a
// pod.
func vethDelete(netns string) (spent, error) {
	err := errors.Join(ip("link add bare type veth peer name net1 netns "+netns, "link set bare up"),
		in(netns, func() error { return ip("link set net1 up") }))
	if err != nil {
		return spent{}, err
	}
	link, err := netlink.LinkByName("bare")
	if err != nil {
		return spent{}, err
	}
	begin := time.Now()
	err = netlink.LinkDel(link)
	return spent{wall: ms(time.Since(begin))}, err
}

// ptpCrowd measures ADDs of many pods at once, from the first process's start to the
// last one's end.
func (b *bench) ptpCrowd(programs []ptpProgram) error {
	pods := make([][]*pod, len(programs))
	for n := range crowd {
		netns := fmt.Sprintf("crowd%d", n)
		if err := quietNetns(netns); err != nil {
			return err
		}
		for i := range programs {
			p, err := b.ptpPod(programs[i].path, netns, fmt.Sprint("crowd-", i), ptpDual.ranges...)
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
			if err := b.ctx.Err(); err != nil {
				return err
			}
			took, err := b.atOnce(programs[i].path, "ADD", pods[i])
			if err != nil {
				return err
			}
			times[i] = append(times[i], took)
			if _, err := b.atOnce(programs[i].path, "DEL", pods[i]); err != nil {
				return err
			}
		}
	}
	for i, p := range programs {
		b.addSpent(fmt.Sprintf("ptp ADD, %d pods at once", crowd), p.name, times[i], programs[0].name, times[0], p.limit(0.5))
	}
	return nil
}
