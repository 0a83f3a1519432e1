package cni

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/viarule/viarule/internal/netnstest"
)

// A telephone behind the SIP network's gateway, in a network of its own.
const phone4, phone6 = "198.51.100.77", "2001:db8:5::77"

// The management network as a cluster makes it: eth0 with the default route.
const managementNetwork = `{"type": "bridge", "bridge": "mgmt0", "isGateway": true, "isDefaultGateway": true, "ipam": {"type": "host-local", "dataDir": "/run/ipam",
	"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "2001:db8:a::/64"}]], "routes": [{"dst": "10.96.0.0/16"}]}}`

const sipNetwork = `{"type": "macvlan", "master": "up0", "mode": "bridge", "ipam": {"type": "static", "addresses": [
	{"address": "192.0.2.10/24", "gateway": "192.0.2.1"}, {"address": "2001:db8:1::10/64", "gateway": "2001:db8:1::1"}]}}`

// newTelephony makes the node of the example: the namespace `gateway` leads from
// the SIP network to the namespace `phone`, `neighbour` is in the SIP network, and
// the node is the gateway of the management network. Everywhere but in the SIP
// network it is the node that has the telephone's address, so that what goes
// wrong does not just get lost.
func newTelephony(t *testing.T, sbr string) (pod string, attachments []attachment) {
	t.Helper()
	newHost(t)
	pod = newNamespace(t, "pod")
	for _, ns := range []string{"gateway", "phone", "neighbour"} {
		newNamespace(t, ns)
	}
	netnstest.IP(t, "link add switch type bridge forward_delay 0", "link set switch up",
		"link add up0 type veth peer name up1", "link set up0 up", "link set up1 up master switch",
		"link add sip0 netns gateway type veth peer name sip1", "link set sip1 up master switch",
		"link add sip0 netns neighbour type veth peer name sip2", "link set sip2 up master switch",
		"-n gateway link set sip0 up", "-n gateway addr add 192.0.2.1/24 dev sip0", "-n gateway addr add 2001:db8:1::1/64 dev sip0 nodad",
		"-n neighbour link set sip0 up", "-n neighbour addr add 192.0.2.50/24 dev sip0", "-n neighbour addr add 2001:db8:1::50/64 dev sip0 nodad",
		"-n gateway link add out0 type veth peer name out0 netns phone", "-n gateway link set out0 up", "-n phone link set out0 up",
		"-n gateway addr add 198.51.100.65/26 dev out0", "-n gateway addr add 2001:db8:5::1/64 dev out0 nodad",
		"-n phone addr add "+phone4+"/26 dev out0", "-n phone addr add "+phone6+"/64 dev out0 nodad",
		"-n phone route add default via 198.51.100.65", "-n phone -6 route add default via 2001:db8:5::1",
		"addr add "+phone4+"/32 dev lo", "addr add "+phone6+"/128 dev lo nodad")
	for _, s := range []string{"ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"} {
		netnstest.In(t, "gateway", func() { writeSysctl(t, s, "1") })
	}
	writeSysctl(t, "ipv4/conf/switch/arp_ignore", "1") // the node is not in the SIP network, whatever addresses it has
	serve(t, "management", phone4, phone6)
	netnstest.In(t, "phone", func() { serve(t, "telephone", phone4, phone6) })
	management := attach(t, ours, "1.0.0", pod, "eth0", managementNetwork)
	sip := []string{sipNetwork}
	if sbr != "" {
		sip = append(sip, sbr)
	}
	attachments = []attachment{management, attach(t, ours, "1.0.0", pod, "net1", sip...)}
	for _, a := range attachments {
		a.add(t)
	}
	return pod, attachments
}

// TestTelephony: a pod with the management network as default and the SIP network
// as net1. What binds to the SIP address leaves by the SIP network's gateway,
// what is not bound by management.
func TestTelephony(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, attachments := newTelephony(t, `{"type": "`+name+`"}`)
			for _, f := range []struct{ sip, management, phone string }{{first4, "10.0.0.2", phone4}, {first6, "2001:db8:a::2", phone6}} {
				leaves(t, "pod", f.sip, f.phone, goesBy("telephone", f.sip))
				leaves(t, "pod", "", f.phone, goesBy("management", f.management))
				leaves(t, "pod", f.management, f.phone, goesBy("management", f.management))
				leaves(t, "pod", "", outsideOf(f.sip), goesBy("network", f.management))
			}
			for i := range attachments {
				attachments[len(attachments)-1-i].del(t)
			}
			nothingLeft(t, "pod")
		})
	}
}

// TestTelephonyAnswers: a request comes in by the SIP network from outside of its
// subnet. The answer goes back the same way; without source routing it leaves by
// management. TCP servers need not bind to an address for that.
func TestTelephonyAnswers(t *testing.T) {
	for _, sbr := range []string{"", `{"type": "sbr"}`, `{"type": "viarule-sbr"}`} {
		t.Run("with "+sbr, func(t *testing.T) {
			t.Parallel()
			newTelephony(t, sbr)
			for _, f := range []struct{ sip, phone string }{{first4, phone4}, {first6, phone6}} {
				answered := strings.Contains(request(t, f.phone, f.sip), "the telephone")
				if answered != (sbr != "") {
					t.Errorf("the telephone at %s got its answer: %v, with the plugin %q\n%s", f.phone, answered, sbr, routing(t, "pod"))
				}
				if sbr == "" {
					continue
				}
				netnstest.In(t, "pod", func() { serveTCP(t, "server", f.sip, "") })
				got, err := ask(t, "phone", "tcp", f.phone, f.sip)
				if want := goesBy("server", f.phone); err != nil || got != want {
					t.Errorf("TCP from %s to a server that is not bound: %q, %v; want %q", f.phone, got, err, want)
				}
			}
		})
	}
}

// request sends one datagram from the telephone to the pod, which answers to where
// it came from, and says who got the answer: the telephone, or the node, which
// has the same address in the management network.
func request(t *testing.T, phone, sip string) string {
	t.Helper()
	at := func(a string, port uint16) *net.UDPAddr {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(a), port))
	}
	open := func(ns, address string, port uint16) (c *net.UDPConn) {
		listen := func() {
			var err error
			if c, err = net.ListenUDP("udp", at(address, port)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
		}
		if ns == "" {
			listen()
		} else {
			netnstest.In(t, ns, listen)
		}
		return c
	}
	server, caller, stray := open("pod", sip, port), open("phone", phone, 6000), open("", phone, 6000)
	go func() {
		b := make([]byte, 100)
		for {
			n, peer, err := server.ReadFrom(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				server.WriteTo(b[:n], peer)
			}
		}
	}()
	got := make(chan string, 100)
	for who, c := range map[string]*net.UDPConn{"the telephone": caller, "the node": stray} {
		go func() {
			b := make([]byte, 100)
			if _, _, err := c.ReadFrom(b); err == nil {
				got <- who
			}
		}()
	}
	deadline := time.After(patience)
	for {
		if _, err := caller.WriteTo([]byte("OPTIONS"), at(sip, port)); err != nil {
			t.Fatal(err)
		}
		select {
		case who := <-got:
			return who
		case <-time.After(retry):
		case <-deadline:
			return "nobody"
		}
	}
}

// TestNotBoundInTheSIPNetwork: a socket that is not bound asks a neighbour in the
// SIP network. Own and addSourceHints reach it directly, from the SIP address;
// the plain drop-in has no route there any more, as the reference has none.
func TestNotBoundInTheSIPNetwork(t *testing.T) {
	for _, c := range []struct {
		sbr    string
		direct bool
	}{
		{`{"type": "viarule-sbr"}`, true},
		{`{"type": "sbr", "addSourceHints": true}`, true},
		{`{"type": "sbr"}`, false},
	} {
		t.Run(c.sbr, func(t *testing.T) {
			t.Parallel()
			newTelephony(t, c.sbr)
			netnstest.IP(t, "addr add 192.0.2.50/32 dev lo", "addr add 2001:db8:1::50/128 dev lo nodad")
			serve(t, "management", "192.0.2.50", "2001:db8:1::50")
			netnstest.In(t, "neighbour", func() { serve(t, "neighbour", "192.0.2.50", "2001:db8:1::50") })
			for _, f := range []struct{ sip, management, neighbour string }{{first4, "10.0.0.2", "192.0.2.50"}, {first6, "2001:db8:a::2", "2001:db8:1::50"}} {
				want := goesBy("management", f.management)
				if c.direct {
					want = goesBy("neighbour", f.sip)
				}
				leaves(t, "pod", "", f.neighbour, want)
				leaves(t, "pod", f.sip, f.neighbour, goesBy("neighbour", f.sip))
			}
		})
	}
}
