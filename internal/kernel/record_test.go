package kernel

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
)

var record = flag.Bool("record", false, "write the fuzz targets' seeds from this kernel")

// TestRecordSeeds reads everything of a varied namespace with our decoders and
// checks that each message is read as written; with -record it keeps the messages
// as seeds.
func TestRecordSeeds(t *testing.T) {
	netnstest.New(t)
	netnstest.IP(t,
		"link add name v0 type veth peer name v1", "link set dev v0 up", "link set dev v1 up",
		"link add name br0 type bridge", "link set dev v1 master br0", "link set dev v0 alias some.words", "link property add dev v0 altname other",
		"link add name mv0 link v0 type macvlan mode bridge",
		"addr add 10.1.0.1/24 dev v0 label v0:x", "addr add 10.2.0.1 peer 10.2.0.2/32 dev v0", "addr add 2001:db8::1/64 dev v0 nodad",
		"addr add 2001:db8:5::1 peer 2001:db8:5::2/128 dev v0 nodad",
		"nexthop add id 1 via 10.1.0.2 dev v0 proto 118", "nexthop add id 2 via 2001:db8::2 dev v0", "nexthop add id 3 blackhole",
		"nexthop add id 4 dev v0", "nexthop add id 6 group 1,5/4", "nexthop add id 7 group 1/4 type resilient buckets 8 idle_timer 60",
	)
	netnstest.IP(t,
		"route add 10.3.0.0/16 via 10.1.0.2 dev v0 mtu lock 1400 advmss 1300 quickack 1 congctl cubic src 10.1.0.1 realms 3/4 table 300",
		"route add 10.4.0.0/16 via inet6 fe80::2 dev v0 onlink metric 7 proto 118 tos 0x10",
		"route add 10.5.0.0/16 nexthop via 10.1.0.2 dev v0 weight 3 nexthop via 10.1.0.3 dev v0 onlink weight 256",
		"route add 10.6.0.0/16 nhid 1", "route add blackhole 10.7.0.0/16", "route add unreachable 10.8.0.0/16", "route add throw 10.9.0.0/16",
		"route add 10.10.0.0/16 encap ip id 4 dst 10.1.0.9 via 10.1.0.2 dev v0",
		"-6 route add 2001:db8:3::/48 via 2001:db8::2 dev v0 mtu 1300 pref high", "-6 route add 2001:db8:4::/48 from 2001:db8:9::/48 dev v0",
		"-6 route add 2001:db8:6::/48 nexthop via 2001:db8::2 dev v0 nexthop via 2001:db8::3 dev v0 weight 9", "-6 route add 2001:db8:7::/48 nhid 2",
		"-6 route add unreachable default metric 5", "-6 route add 2001:db8:a::/48 dev v0 expires 600",
	)
	// After the routes: the kernel looks for a gateway through the rules.
	netnstest.IP(t,
		"rule add pref 1 not from 10.0.0.0/8 to 10.1.0.0/16 iif v0 oif v1 fwmark 0x5/0xff ipproto 6 sport 7 dport 8-9 tos 0x10 uidrange 3-4 lookup 300",
		"rule add pref 2 tun_id 77 realms 3/4 lookup 5 suppress_prefixlength 0 suppress_ifgroup 3",
		"rule add pref 3 goto 5", "rule add pref 5 nop", "rule add pref 6 blackhole", "rule add pref 7 unreachable", "rule add pref 8 prohibit",
		"rule add pref 9 l3mdev", "rule add pref 10 fwmark 5/0 lookup 7",
		"-6 rule add pref 1 from 2001:db8::/32 to 2001:db8::/64 ipproto 17 dport 53 lookup 70000", "-6 rule add pref 2 goto 9",
	)
	c, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, l := range []struct {
		kind        string
		get, answer uint16
		header      int
		check       func(body []byte) error
	}{
		{"rule", unix.RTM_GETRULE, unix.RTM_NEWRULE, ruleHeader, checkSeed(t, ruleCodec)},
		{"route", unix.RTM_GETROUTE, unix.RTM_NEWROUTE, routeHeader, checkSeed(t, routeCodec)},
		{"link", unix.RTM_GETLINK, unix.RTM_NEWLINK, linkHeader, checkSeed(t, linkCodec)},
		{"addr", unix.RTM_GETADDR, unix.RTM_NEWADDR, addrHeader, checkSeed(t, addrCodec)},
		{"nexthop", unix.RTM_GETNEXTHOP, unix.RTM_NEWNEXTHOP, objectHeader, checkSeed(t, nexthopCodec)},
	} {
		var bodies [][]byte
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			if family == unix.AF_INET6 && (l.kind == "link" || l.kind == "nexthop") {
				continue
			}
			req := make([]byte, l.header)
			if l.kind != "link" && l.kind != "nexthop" {
				req[0] = family
			}
			list, _, err := c.dump(context.Background(), l.kind, l.get, l.answer, req)
			if err != nil {
				t.Fatal(err)
			}
			err = each(list, func(b []byte) error {
				bodies = append(bodies, bytes.Clone(b))
				return l.check(b)
			})
			if err != nil {
				t.Errorf("%s: %v", l.kind, err)
			}
		}
		if len(bodies) < 3 {
			t.Errorf("%s: only %d messages", l.kind, len(bodies))
		}
		if *record {
			writeSeeds(t, l.kind, bodies)
		}
	}
}

func checkSeed[T any](t *testing.T, c codec[T]) func([]byte) error {
	return func(body []byte) error {
		var v T
		ok, err := c.decode(newDecoder(), &v, body)
		if err == nil && !ok {
			err = fmt.Errorf("% x was passed over", body)
		}
		if err == nil {
			c.again(t, &v)
			t.Log(v)
		}
		return err
	}
}

func writeSeeds(t *testing.T, kind string, bodies [][]byte) {
	slices.SortFunc(bodies, bytes.Compare)
	var text []byte
	for _, b := range bodies {
		text = append(hex.AppendEncode(text, b), '\n')
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", kind+".hex"), text, 0o644); err != nil {
		t.Fatal(err)
	}
}
