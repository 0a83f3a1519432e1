package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Traffic from pod to pod: on one node, and from node to node over a LAN. What is
// measured are two worlds with the reference plugins ptp and host-local and plain
// routes, and two with viarule-ptp and a PodNetwork, in turn. How far the two of
// the reference are from each other says what a difference means. A round takes the
// best of a few short samples: what a machine does when it does nothing else.

const (
	samples          = 6                     // of a round
	bulkTime         = 25 * time.Millisecond // of one sample
	echoes, connects = 400, 60               // requests of one sample
)

// podWorld is two nodes on a LAN, with two pods on the first and one on the second.
type podWorld struct {
	name   string // at most four letters
	plugin string // path
	podnet string // file with the PodNetwork; empty: plain routes
	pods   [3]*podProcess
	addrs  [3][2]string // of the pods: IPv4, IPv6
}

func (w *podWorld) ns(name string) string { return w.name + name }

// pods compares the ways from pod to pod.
func (b *bench) pods() error {
	ptp, ours, err := b.installPtp()
	if err != nil {
		return err
	}
	podnet, err := b.file("podnet.yaml", func(s *strings.Builder) {
		s.WriteString("apiVersion: viarule.io/v1alpha1\nkind: PodNetwork\nmetadata:\n  name: bench\nspec:\n  podCIDRs: [10.244.0.0/16, \"fd00:244::/32\"]\n  nodes:\n")
		for n := 1; n <= 2; n++ {
			fmt.Fprintf(s, "  - {name: n%[1]d, addresses: [192.0.2.%[1]d, \"2001:db8::%[1]d\"], podCIDRs: [10.244.%[1]d.0/24, \"fd00:244:%[1]d::/64\"]}\n", n)
		}
	})
	if err != nil {
		return err
	}
	if err := freshHost(); err != nil {
		return err
	}
	worlds := []*podWorld{
		{name: "r", plugin: ptp}, {name: "v", plugin: ours, podnet: podnet},
		{name: "rr", plugin: ptp}, {name: "vv", plugin: ours, podnet: podnet},
	}
	defer func() {
		for _, w := range worlds {
			for _, p := range w.pods {
				if p != nil {
					_ = p.close() // what it measured is known
				}
			}
		}
	}()
	for _, w := range worlds {
		if err := b.openWorld(w); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(w.plugin), err)
		}
	}
	return errors.Join(b.betweenPods(worlds), removeNetns())
}

// openWorld makes the nodes and pods of a world, and has the pods' processes serve.
func (b *bench) openWorld(w *podWorld) error {
	for n, others := range [2][]string{{"a", "b"}, {"c"}} {
		for _, ns := range append(others, fmt.Sprint("n", n+1)) {
			if err := quietNetns(w.ns(ns)); err != nil {
				return err
			}
		}
	}
	for n := 1; n <= 2; n++ {
		lines := []string{"link set eth0 up", fmt.Sprintf("addr add 192.0.2.%d/24 dev eth0", n), fmt.Sprintf("addr add 2001:db8::%d/64 dev eth0 nodad", n)}
		if n == 1 {
			lines = append([]string{"link add eth0 type veth peer name eth0 netns " + w.ns("n2")}, lines...)
		}
		if w.podnet == "" {
			other := 3 - n
			lines = append(lines, fmt.Sprintf("route add 10.244.%[1]d.0/24 via 192.0.2.%[1]d", other), fmt.Sprintf("route add fd00:244:%[1]d::/64 via 2001:db8::%[1]d", other))
		}
		err := in(w.ns(fmt.Sprint("n", n)), func() error {
			if err := writeSysctls("ipv4/ip_forward=1", "ipv6/conf/all/forwarding=1"); err != nil {
				return err
			}
			return ip(lines...)
		})
		if err != nil {
			return err
		}
	}
	for i, pod := range []string{"a", "b", "c"} {
		node := 1 + i/2
		if err := b.openPod(w, i, w.ns(pod), node); err != nil {
			return err
		}
	}
	for n := 1; n <= 2 && w.podnet != ""; n++ {
		if err := in(w.ns(fmt.Sprint("n", n)), func() error { return command(nil, b.viarule, "apply", "-f", w.podnet) }); err != nil {
			return err
		}
	}
	return nil
}

// quietNetns makes a named namespace that neither looks for duplicate addresses, which
// ptp waits for, nor has lo down, which ptp leaves so.
func quietNetns(name string) error {
	if err := newNetns(name); err != nil {
		return err
	}
	return in(name, func() error {
		return errors.Join(writeSysctls("ipv6/conf/all/accept_dad=0", "ipv6/conf/default/accept_dad=0"), ip("link set lo up"))
	})
}

// openPod gives a pod its interface, and starts its process.
func (b *bench) openPod(w *podWorld, i int, ns string, node int) error {
	p := &pod{name: ns}
	var err error
	p.stdin, err = b.file(ns+".json", func(s *strings.Builder) {
		fmt.Fprintf(s, `{"cniVersion": "1.0.0", "name": %q, "type": %q, "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
			"ranges": [[{"subnet": "10.244.%[3]d.0/24"}], [{"subnet": "fd00:244:%[3]d::/64"}]]}}`, w.ns(fmt.Sprint("n", node)), filepath.Base(w.plugin), node)
	})
	if err != nil {
		return err
	}
	if err := in(w.ns(fmt.Sprint("n", node)), func() error { _, err := b.plugin(w.plugin, "ADD", p); return err }); err != nil {
		return err
	}
	w.addrs[i] = [2]string{fmt.Sprintf("10.244.%d.%d", node, 2+i%2), fmt.Sprintf("fd00:244:%d::%d", node, 2+i%2)}
	w.pods[i], err = startAgent(ns)
	return err
}

var families = [2]string{"IPv4", "IPv6"}

// podMeasure is one thing that is measured on one way.
type podMeasure struct {
	what, unit, way string
	family          int // index in families
	to              int // the first pod asks this one
	asks            string
	more            bool // more of it is better
	count           int
}

func (b *bench) betweenPods(worlds []*podWorld) error {
	var measures []podMeasure
	for f := range families {
		for to, way := range map[int]string{1: "same node", 2: "node to node"} {
			// As many bytes as pass in bulkTime; the first try warms up.
			count := 16 << 20
			for range 2 {
				took, err := worlds[0].pods[0].measure("bulk", worlds[0].addrs[to][f], count)
				if err != nil {
					return err
				}
				count = max(int(float64(count)*bulkTime.Seconds()/took.Seconds()), 1<<20)
			}
			measures = append(measures,
				podMeasure{"TCP throughput", "Gbit/s", way, f, to, "bulk", true, count},
				podMeasure{"a request", "µs", way, f, to, "echo", false, echoes},
				podMeasure{"a connection with a request", "µs", way, f, to, "connect", false, connects})
		}
	}
	slices.SortStableFunc(measures, func(a, b podMeasure) int {
		return cmp.Or(cmp.Compare(a.what, b.what), -cmp.Compare(a.way, b.way), cmp.Compare(a.family, b.family))
	})
	values := make([][4][]float64, len(measures))
	for round := range 3 * b.rounds {
		for i := range measures {
			if err := b.podRound(&measures[i], worlds, round, &values[i]); err != nil {
				return err
			}
		}
	}
	for i := range measures {
		b.addPods(&measures[i], values[i])
	}
	return nil
}

// podRound has all worlds take their turns, and adds the best of each to values.
func (b *bench) podRound(m *podMeasure, worlds []*podWorld, round int, values *[4][]float64) error {
	var best [4]time.Duration
	for turn := range samples * len(worlds) {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		n := (turn + round) % len(worlds)
		took, err := worlds[n].pods[0].measure(m.asks, worlds[n].addrs[m.to][m.family], m.count)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", filepath.Base(worlds[n].plugin), m.way, err)
		}
		if best[n] == 0 || took < best[n] {
			best[n] = took
		}
	}
	for n, took := range best {
		v := float64(took.Nanoseconds()) / 1e3
		if m.more {
			v = 8 * float64(m.count) / float64(took.Nanoseconds())
		}
		values[n] = append(values[n], v)
	}
	return nil
}

// addPods reports what the four worlds gave: ptp, viarule-ptp, and each once more. Half
// of the time the two worlds of ptp are no farther apart than the bar: of that many
// rounds, the median of two equal things stays well within it.
func (b *bench) addPods(m *podMeasure, v [4][]float64) {
	of := fmt.Sprintf("pod to pod, %s, %s, %s", m.way, families[m.family], m.what)
	self, ours, apart := make([]float64, 0), make([]float64, 0), make([]float64, 0)
	for r := range v[0] {
		self = append(self, v[2][r]/v[0][r])
		ours = append(ours, v[1][r]/v[0][r], v[3][r]/v[2][r])
		apart = append(apart, math.Exp(math.Abs(math.Log(v[2][r]/v[0][r]))))
	}
	spread := quantile(apart, 0.5)
	limit := &bar{spread, false, fmt.Sprintf("at most %.3f, ptp against itself", spread)}
	if m.more {
		limit = &bar{1 / spread, true, fmt.Sprintf("at least %.3f, ptp against itself", 1/spread)}
	}
	b.add(of, m.unit, "ptp", median(v[0]), 1, "ptp", nil)
	b.add(of, m.unit, "ptp, once more", median(v[2]), median(self), "ptp", nil)
	b.add(of, m.unit, "viarule-ptp", median(slices.Concat(v[1], v[3])), median(ours), "ptp", limit)
}

// quantile gives the value that a share of all are not above.
func quantile(v []float64, share float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[min(int(share*float64(len(s))), len(s)-1)]
}
