package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// External networks are measured with conntrack on and our marks set: requests
// that come in by ext0 to an address of a network and are forwarded to where the
// pods are, and the answers to them, which leave by ext0 only because of their
// marks. Traffic is the same for one network of one prefix that holds all
// addresses and for many networks of many prefixes, one address of each.

const (
	extNets     = 10
	extPrefixes = 1_000
	extFirst    = 0x0a400000 // 10.64.0.0: prefix i is 10.64.0.0+32*i/28; all are in /11
	extStep     = 32
	extClient   = 0x0a800005 // 10.128.0.5
)

// externalFile says so many networks of so many prefixes each.
func (b *bench) externalFile(nets, prefixes int) (string, error) {
	return b.file(fmt.Sprintf("external-%d-%d.yaml", nets, prefixes), func(s *strings.Builder) {
		for n := range nets {
			fmt.Fprintf(s, "---\napiVersion: viarule.io/v1alpha1\nkind: ExternalNetwork\nmetadata: {name: net-%d}\n"+
				"spec:\n  interface: {name: ext0}\n  gateways: [10.0.0.2]\n  addresses:\n", n)
			for i := range prefixes {
				bits := 28
				if nets*prefixes == 1 {
					bits = 11
				}
				fmt.Fprintf(s, "  - %s/%d\n", addr(extFirst+uint32(n*prefixes+i)*extStep), bits)
			}
		}
	})
}

// freshExternal makes a namespace for external networks: ext0 with its gateway
// 10.0.0.2, the pods behind 10.99.0.2, to which the default route goes too.
func freshExternal() error {
	if err := fresh(); err != nil {
		return err
	}
	return ip("link add ext0 address 02:00:00:00:00:01 type veth peer name ext1", "link set ext0 up", "link set ext1 up",
		"link set out address 02:00:00:00:00:02",
		"addr add 10.0.0.1/30 dev ext0", "neigh add 10.0.0.2 lladdr 02:00:00:00:00:09 dev ext0 nud permanent",
		"neigh replace 10.99.0.2 lladdr 02:00:00:00:00:07 dev out nud permanent",
		"route add 10.64.0.0/11 via 10.99.0.2", "route add default via 10.99.0.2")
}

// tracked has packets tracked, as they are where viarule has a table.
const tracked = "table inet reference { chain c { type filter hook prerouting priority 0; ct state invalid drop\n }\n }\n"

func (b *bench) external() error {
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer here.Close()
	defer func() { _ = enter(here) }()
	return errors.Join(b.externalForward(), b.externalApply())
}

func (b *bench) externalForward() error {
	var lanes []*lane
	defer func() {
		for _, l := range lanes {
			l.close()
		}
	}()
	var requests, answers []way
	add := func(name string, limit *bar, setup func() error, answered bool) error {
		in, back, err := openExternal(setup, answered)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		lanes = append(lanes, in)
		requests = append(requests, way{name, limit, in.sample})
		if answered {
			lanes = append(lanes, back)
			answers = append(answers, way{name, limit, back.sample})
		}
		return nil
	}
	applied := func(nets, prefixes int) func() error {
		return func() error {
			file, err := b.externalFile(nets, prefixes)
			if err == nil {
				_, err = b.apply(file, false)
			}
			return err
		}
	}
	err := errors.Join(
		add("1 network of 1 prefix", nil, applied(1, 1), true),
		add("10 networks of 1000 prefixes", atMost(1.6), applied(extNets, extPrefixes), true),
		add("no viarule, conntrack on", nil, func() error { return command(strings.NewReader(tracked), "nft", "-f", "-") }, false))
	if err != nil {
		return err
	}
	for _, l := range lanes {
		if err := l.calibrate(); err != nil {
			return err
		}
	}
	if err := b.compare("external networks, requests", "ns/packet", 3*b.rounds, requests); err != nil {
		return err
	}
	return b.compare("external networks, answers", "ns/packet", 3*b.rounds, answers)
}

// openExternal makes a namespace, has setup fill it, and prepares requests to all
// addresses and, with answered, the answers to them.
func openExternal(setup func() error, answered bool) (in, back *lane, err error) {
	if err := freshExternal(); err != nil {
		return nil, nil, err
	}
	if err := setup(); err != nil {
		return nil, nil, err
	}
	// A measurement may take longer than connections live without an answer.
	for _, name := range []string{"udp_timeout", "udp_timeout_stream"} {
		if err := os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_"+name, []byte("3600"), 0o644); err != nil {
			return nil, nil, err
		}
	}
	const count = extNets * extPrefixes
	frame := udpFrame()
	binary.BigEndian.PutUint32(frame[ipSource:], extClient)
	in, err = openTraffic(traffic{in: "ext0", out: "out", frame: frame, field: ipDest, from: extFirst, step: extStep, count: count})
	if err != nil || !answered {
		return in, nil, err
	}
	// So many that each connection is there with near certainty: one that is not
	// makes the measurement of answers fail.
	in.repeat = 30 * count / frameBatch * frameBatch
	if _, err := in.sample(); err != nil {
		return nil, nil, err
	}
	in.repeat = 2048
	frame = udpFrame()
	copy(frame, []byte{2, 0, 0, 0, 0, 2})
	binary.BigEndian.PutUint32(frame[ipDest:], extClient)
	binary.BigEndian.PutUint16(frame[ipEnd:], 2000)
	binary.BigEndian.PutUint16(frame[ipEnd+2:], 1000)
	back, err = openTraffic(traffic{in: "out", out: "ext0", frame: frame, field: ipSource, from: extFirst, step: extStep, count: count})
	return in, back, err
}

// externalApply compares an apply of many networks with nft's own loading of the
// table that comes of it.
func (b *bench) externalApply() error {
	file, err := b.externalFile(extNets, extPrefixes)
	if err != nil {
		return err
	}
	if err := freshExternal(); err != nil {
		return err
	}
	if _, err := b.apply(file, false); err != nil {
		return err
	}
	listed, err := exec.Command("nft", "list", "table", "inet", "viarule").Output()
	if err != nil {
		return fmt.Errorf("nft list table inet viarule: %w", err)
	}
	table, err := b.file("external.nft", func(s *strings.Builder) { s.Write(listed) })
	if err != nil {
		return err
	}
	const limit = 1.0 // s
	first := len(b.report)
	err = b.compare("10 external networks of 1,000 prefixes", "s", b.rounds, []way{
		{"nft -f, the same table", nil, func() (float64, error) {
			if err := freshExternal(); err != nil {
				return 0, err
			}
			return timed("nft", "-f", table)
		}},
		{"viarule apply, whole command", nil, func() (float64, error) {
			if err := freshExternal(); err != nil {
				return 0, err
			}
			a, err := b.apply(file, false)
			if err != nil {
				return 0, err
			}
			return a.wall, nil
		}},
		{"viarule apply again, nothing changed", nil, func() (float64, error) {
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
	apply := b.report[first+1]
	b.add(apply.Of, apply.Unit, apply.Way, apply.Median, apply.Median/limit, "1 s", atMost(1))
	return nil
}
