package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
)

// opaques lists what cannot be read in the test's namespace, a line each. The
// numbers of programs become ID.
func opaques(t *testing.T, c *Conn, ids ...uint32) string {
	t.Helper()
	list, err := c.Opaque(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, o := range list {
		for _, id := range ids {
			o.Name = strings.Replace(o.Name, fmt.Sprintf("program %d", id), "program ID", 1)
		}
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

func testConn(t testing.TB, netns string) *Conn {
	t.Helper()
	c, err := Open(netns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func expect(t *testing.T, c *Conn, want string, ids ...uint32) {
	t.Helper()
	if got := opaques(t, c, ids...); got != want {
		t.Errorf("there is\n%swant\n%s", got, want)
	}
}

const (
	bpfSchedCls = 3 // BPF_PROG_TYPE_SCHED_CLS
	bpfXDP      = 6 // BPF_PROG_TYPE_XDP
)

// loadProgram loads `return 2` under a name, and gives its file and its number.
func loadProgram(t *testing.T, typ uint32, name string) (fd int, id uint32) {
	t.Helper()
	code := new([16]byte)
	copy(code[:], "\xb7\x00\x00\x00\x02\x00\x00\x00\x95") // r0 = 2; exit
	license := new([4]byte)
	copy(license[:], "GPL")
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(code)
	pin.Pin(license)
	attr := struct { // BPF_PROG_LOAD
		typ, instructions uint32
		code, license     uint64
		_                 [3]uint64
		name              [16]byte
	}{typ: typ, instructions: 2, code: uint64(uintptr(unsafe.Pointer(code))), license: uint64(uintptr(unsafe.Pointer(license)))}
	copy(attr.name[:], name)
	fd, err := bpf(unix.BPF_PROG_LOAD, &attr)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("this kernel has no bpf(2)")
	}
	if err != nil {
		t.Fatalf("load a program: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	info := new([8]byte) // type and id
	pin.Pin(info)
	if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, &bpfInfo{fd: uint32(fd), size: 8, info: uint64(uintptr(unsafe.Pointer(info)))}); err != nil {
		t.Fatalf("ask for the program's number: %v", err)
	}
	return fd, native.Uint32(info[4:])
}

func send(t *testing.T, c *Conn, typ, flags uint16, body []byte) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.ask(context.Background(), typ, flags, body)
	if errors.Is(err, unix.ENOENT) {
		t.Skip("this kernel has no such filter")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func indexOf(t *testing.T, c *Conn, name string) int32 {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	i, err := c.linkIndex(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// attachXDP sets a link's program; -1 takes it off.
func attachXDP(t *testing.T, c *Conn, link string, fd int) {
	t.Helper()
	const generic = 2 // XDP_FLAGS_SKB_MODE
	body := make([]byte, linkHeader)
	native.PutUint32(body[4:], uint32(indexOf(t, c, link)))
	send(t, c, unix.RTM_SETLINK, 0, nest(body, nested(unix.IFLA_XDP), func(b []byte) []byte {
		return putU32(putU32(b, unix.IFLA_XDP_FD, uint32(int32(fd))), unix.IFLA_XDP_FLAGS, generic)
	}))
}

// twoLinks makes eth0 and eth1, and checks that nothing is opaque there.
func twoLinks(t *testing.T) *Conn {
	t.Helper()
	netnstest.New(t)
	netnstest.IP(t, "link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up")
	c := testConn(t, "")
	expect(t, c, "")
	return c
}

// tc skips the test where the kernel has no such qdisc, filter or action.
func tc(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("tc", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Skipf("this kernel cannot: tc %s: %s", line, out)
	}
}

func TestOpaqueXDP(t *testing.T) {
	c := twoLinks(t)
	fd, id := loadProgram(t, bpfXDP, "pass_all")
	attachXDP(t, c, "eth0", fd)
	expect(t, c, "opaque xdp dev eth0 name \"program ID pass_all\"\n", id)
	attachXDP(t, c, "eth0", -1)
	expect(t, c, "")
}

func TestOpaqueTCX(t *testing.T) {
	c := twoLinks(t)
	fd, id := loadProgram(t, bpfSchedCls, "to_pod")
	attr := struct{ target, fd, typ, flags uint32 }{target: uint32(indexOf(t, c, "eth1")), fd: uint32(fd), typ: unix.BPF_TCX_EGRESS}
	if _, err := bpf(unix.BPF_PROG_ATTACH, &attr); errors.Is(err, unix.EINVAL) {
		t.Skip("this kernel has no tcx, which needs Linux 6.6")
	} else if err != nil {
		t.Fatal(err)
	}
	expect(t, c, "opaque tc dev eth1 name \"egress tcx program ID to_pod\"\n", id)
}

func TestOpaqueFiltersOfBPF(t *testing.T) {
	c := twoLinks(t)
	tc(t, "qdisc add dev eth0 clsact")
	expect(t, c, "") // clsact alone decides nothing
	fd, id := loadProgram(t, bpfSchedCls, "from_net")
	add := func(parent uint32, pref uint32, name string) {
		body := make([]byte, tcHeader)
		native.PutUint32(body[4:], uint32(indexOf(t, c, "eth0")))
		native.PutUint32(body[12:], parent)
		native.PutUint32(body[16:], pref<<16|0x0300) // ETH_P_ALL in network order
		body = putString(body, tcaKind, "bpf")
		send(t, c, unix.RTM_NEWTFILTER, unix.NLM_F_CREATE, nest(body, tcaOptions, func(b []byte) []byte {
			const fdAttr, flagsAttr, directAction = 6, 8, 1
			b = putU32(putU32(b, fdAttr, uint32(fd)), flagsAttr, directAction)
			if name == "" {
				return b
			}
			return putString(b, tcaBPFName, name)
		}))
	}
	add(tcWayIn, 1, "cil_from_netdev")
	add(tcWayOut, 2, "")
	expect(t, c, `opaque tc dev eth0 name "egress filter pref 2 bpf program ID from_net"
opaque tc dev eth0 name "ingress filter pref 1 bpf cil_from_netdev"
`, id)
}

func TestOpaqueFilters(t *testing.T) {
	for _, tt := range []struct {
		name string
		tc   []string
		want string
	}{
		{"clsact", []string{
			"qdisc add dev eth0 clsact",
			"filter add dev eth0 ingress pref 5 protocol ip u32 match ip dst 192.0.2.1 action mirred egress redirect dev eth1",
			"filter add dev eth0 ingress pref 5 protocol ip u32 match ip dst 192.0.2.2 action mirred egress redirect dev eth1",
			"filter add dev eth0 ingress pref 6 protocol ipv6 u32 match ip6 dst 2001:db8::1 action mirred egress redirect dev eth1",
			"filter add dev eth0 egress pref 7 chain 3 protocol ip u32 match u32 0 0 action mirred egress redirect dev eth1",
		}, `opaque tc dev eth0 name "egress filter chain 3 pref 7 u32"
opaque tc dev eth0 name "ingress filter pref 5 u32"
opaque tc dev eth0 name "ingress filter pref 6 u32"
`},
		{"ingress", []string{
			"qdisc add dev eth1 ingress",
			"filter add dev eth1 parent ffff: pref 9 protocol all u32 match u32 0 0 action mirred egress redirect dev eth0",
		}, "opaque tc dev eth1 name \"ingress filter pref 9 u32\"\n"},
		{"of a shaper", []string{
			"qdisc add dev eth0 root handle 1: htb default 10",
			"class add dev eth0 parent 1: classid 1:1 htb rate 1gbit",
			"class add dev eth0 parent 1:1 classid 1:10 htb rate 1gbit",
			"filter add dev eth0 parent 1: pref 3 protocol ip u32 match u32 0 0 flowid 1:1",
			"filter add dev eth0 parent 1:1 pref 4 protocol ip u32 match u32 0 0 flowid 1:10",
		}, `opaque tc dev eth0 name "egress filter pref 3 u32"
opaque tc dev eth0 name "egress filter pref 4 u32"
`},
		{"a shaper without", []string{"qdisc add dev eth0 root handle 1: htb default 10", "qdisc add dev eth1 root tbf rate 1gbit burst 10k latency 1ms"}, ""},
		{"a shared block", []string{
			"qdisc add dev eth0 ingress_block 7 clsact",
			"qdisc add dev eth1 ingress_block 7 clsact",
			"filter add block 7 pref 2 protocol ip u32 match u32 0 0 action mirred egress redirect dev eth1",
		}, `opaque tc dev eth0 name "ingress filter pref 2 u32"
opaque tc dev eth1 name "ingress filter pref 2 u32"
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := twoLinks(t)
			for _, line := range tt.tc {
				tc(t, line)
			}
			expect(t, c, tt.want)
		})
	}
}

// The Conn tells of the namespace it was opened for, programs included.
func TestOpaqueElsewhere(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.Named(t, "other")
	netnstest.IP(t, "-n other link add eth0 type veth peer name eth1")
	c := testConn(t, "other")
	fd, id := loadProgram(t, bpfSchedCls, "from_pod")
	netnstest.In(t, "other", func() {
		attr := struct{ target, fd, typ, flags uint32 }{target: uint32(indexOf(t, c, "eth0")), fd: uint32(fd), typ: unix.BPF_TCX_INGRESS}
		if _, err := bpf(unix.BPF_PROG_ATTACH, &attr); errors.Is(err, unix.EINVAL) {
			t.Skip("this kernel has no tcx, which needs Linux 6.6")
		} else if err != nil {
			t.Fatal(err)
		}
	})
	expect(t, c, "opaque tc dev eth0 name \"ingress tcx program ID from_pod\"\n", id)
	expect(t, testConn(t, ""), "")
}

func TestOpaqueIPsec(t *testing.T) {
	c := twoLinks(t)
	policy := func(words string) {
		if out, err := exec.Command("ip", append([]string{"xfrm", "policy"}, strings.Fields(words)...)...).CombinedOutput(); err != nil {
			t.Skipf("this kernel or this ip cannot: ip xfrm policy %s: %s", words, out)
		}
	}
	policy("add src 10.0.0.0/8 dst 10.1.0.0/16 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel")
	expect(t, c, "opaque xfrm name \"1 policy\"\n")
	policy("add src 2001:db8::/32 dst 2001:db8:1::/48 dir in action block")
	expect(t, c, "opaque xfrm name \"2 policies\"\n")

	// What IKE daemons ask for their own sockets is nobody else's.
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	bypass := make([]byte, 168) // struct xfrm_userpolicy_info
	native.PutUint16(bypass[40:], unix.AF_INET)
	bypass[xfrmPolicyDir] = 1 // XFRM_POLICY_OUT
	if err := unix.SetsockoptString(s, unix.IPPROTO_IP, unix.IP_XFRM_POLICY, string(bypass)); err != nil {
		t.Fatalf("a policy of a socket: %v", err)
	}
	expect(t, c, "opaque xfrm name \"2 policies\"\n")

	policy("setdefault fwd block in block")
	expect(t, c, "opaque xfrm name \"2 policies\"\nopaque xfrm name \"default policy block in fwd\"\n")
}

func TestOpaqueBridgeNetfilter(t *testing.T) {
	c := twoLinks(t)
	all := func(value string) {
		for _, s := range bridgeSwitches {
			key := "net/bridge/" + s.sysctl
			if _, err := c.ReadSysctl(key); err != nil {
				t.Skipf("this kernel has no bridge netfilter, or its module is not loaded: %v", err)
			}
			if _, failed := c.Apply(context.Background(), []netstate.Change{{Verb: netstate.Replace, Sysctl: &netstate.Sysctl{Key: key, Value: value}}}); len(failed) > 0 {
				t.Fatal(failed)
			}
		}
	}
	all("0")
	netnstest.IP(t, "link add br0 type bridge", "link add br1 type bridge")
	expect(t, c, "")
	netnstest.IP(t, "link set br1 type bridge nf_call_ip6tables 1")
	expect(t, c, "opaque bridge-nf dev br1 name bridge-nf-call-ip6tables\n")
	all("1")
	expect(t, c, `opaque bridge-nf dev br0 name "bridge-nf-call-arptables bridge-nf-call-ip6tables bridge-nf-call-iptables"
opaque bridge-nf dev br1 name "bridge-nf-call-arptables bridge-nf-call-ip6tables bridge-nf-call-iptables"
`)
	netnstest.IP(t, "link del br0", "link del br1")
	expect(t, c, "")
}

func TestOpaqueFlowtables(t *testing.T) {
	c := twoLinks(t)
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(`table inet filter { flowtable fast { hook ingress priority 0; devices = { eth0, eth1 }; }; flowtable unused { hook ingress priority 0; }; }
table ip6 t6 { flowtable six { hook ingress priority 1; devices = { lo }; }; }`)
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "No such file or directory") || strings.Contains(string(out), "not supported") {
			t.Skipf("this kernel has no flowtables: %s", out)
		}
		t.Fatalf("%v: %s", err, out)
	}
	expect(t, c, `opaque flowtable dev eth0 name "inet filter fast"
opaque flowtable dev eth1 name "inet filter fast"
opaque flowtable dev lo name "ip6 t6 six"
`)
}

func TestFlowtableLinks(t *testing.T) {
	links := []opaqueLink{{name: "eth0"}, {name: "eth1"}, {name: "lo"}}
	table := func(devs func([]byte) []byte) attrList {
		return readAttrs(nest(nil, nested(nftaFlowtableHook), func(b []byte) []byte {
			return nest(putBE(b, 1, 0), nested(nftaFlowtableHookDevs), devs)
		}))
	}
	for _, tt := range []struct {
		name string
		devs func([]byte) []byte
		want []string
	}{
		{"none", func(b []byte) []byte { return b }, nil},
		{"names", func(b []byte) []byte { return putString(putString(b, nftaDeviceName, "eth0"), nftaDeviceName, "gone") }, []string{"eth0", "gone"}},
		{"a prefix", func(b []byte) []byte { return putString(b, nftaDevicePrefix, "eth") }, []string{"eth0", "eth1"}},
		{"a prefix of Linux 6.16", func(b []byte) []byte { return put(b, nftaDeviceName, []byte("eth")) }, []string{"eth0", "eth1"}},
		{"what is not known", func(b []byte) []byte { return putString(b, 9, "eth0") }, []string{""}},
	} {
		if got := flowtableLinks(table(tt.devs), links); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// As an ordinary user: what this process may not look at is itself opaque. Only the
// test's own thread gives up its rights; it ends with the test.
func TestOpaqueWithoutRights(t *testing.T) {
	c := twoLinks(t)
	fd, id := loadProgram(t, bpfXDP, "pass_all")
	attachXDP(t, c, "eth0", fd)
	const nobody = 65534
	// The groups first: only root may give them up.
	for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS}, {unix.SYS_SETRESGID, nobody, nobody, nobody}, {unix.SYS_SETRESUID, nobody, nobody, nobody}} {
		if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			t.Fatal(errno)
		}
	}
	want := fmt.Sprintf(`opaque xdp dev eth0 name "program %d"
opaque tc unread "tcx programs: operation not permitted: needs root (CAP_NET_ADMIN)"
opaque xfrm unread "policies: operation not permitted: needs root (CAP_NET_ADMIN)"
opaque nft unread "its tables: operation not permitted: needs root (CAP_NET_ADMIN)"
`, id)
	if _, err := os.Stat(netFiles + "ip_tables_names"); err == nil {
		want += "opaque iptables unread \"its tables: operation not permitted: needs root (CAP_NET_ADMIN)\"\n"
	}
	expect(t, c, want)
}

// BenchmarkOpaque is a host with 1,000 links of which half have clsact.
func BenchmarkOpaque(b *testing.B) {
	netnstest.New(b)
	var links, qdiscs strings.Builder
	for i := range 500 {
		fmt.Fprintf(&links, "link add a%d type veth peer name b%d\n", i, i)
		fmt.Fprintf(&qdiscs, "qdisc add dev a%d clsact\n", i)
	}
	run := func(program, batch string) {
		cmd := exec.Command(program, "-batch", "-")
		cmd.Stdin = strings.NewReader(batch)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	run("ip", links.String())
	run("tc", qdiscs.String())
	c := testConn(b, "")
	for b.Loop() {
		if _, err := c.Opaque(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
