package kernel_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/netnstest"
)

// TestForgetConnections: those from and to an address go, with those that were
// translated to it, and no others.
func TestForgetConnections(t *testing.T) {
	for name, forget := range map[string]func(*kernel.Conn, context.Context, []netip.Addr) error{"few": (*kernel.Conn).ForgetConnections, "many": (*kernel.Conn).ForgetOfMany} {
		netnstest.Run(t, name, func(t *testing.T) { testForgetConnections(t, forget) }, netnstest.Mounts())
	}
}

func testForgetConnections(t *testing.T, forget func(*kernel.Conn, context.Context, []netip.Addr) error) {
	c := openHere(t)
	ctx := context.Background()
	a4, b4, a6, b6 := netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("10.1.0.6"), netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("2001:db8::6")
	all := []netip.Addr{a4, b4, a6, b6}
	if err := forget(c, ctx, all); err != nil {
		t.Fatalf("without any: %v", err)
	}
	netnstest.IP(t, "addr add 10.1.0.5 dev lo", "addr add 10.1.0.6 dev lo", "addr add 2001:db8::5 dev lo nodad", "addr add 2001:db8::6 dev lo nodad")
	nft(t, `table inet t {
		chain in { type filter hook prerouting priority 0; ct state new accept; }
		chain out { type nat hook output priority -100; ip daddr 127.0.0.9 dnat ip to 10.1.0.5; }
	}`, "-f", "-")
	send := func(to string) {
		t.Helper()
		netnstest.Exec(t, "bash", "-c", fmt.Sprintf(`exec 3<>/dev/udp/%s/9; echo x >&3`, to))
	}
	entries := func() string {
		b, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
		if err != nil {
			t.Skipf("this kernel does not show connections: %v", err)
		}
		return string(b)
	}
	for to, want := range map[string]string{"10.1.0.5": "dst=10.1.0.5", "10.1.0.6": "dst=10.1.0.6", "127.0.0.9": "dst=127.0.0.9",
		"2001:db8::5": "dst=2001:0db8:0000:0000:0000:0000:0000:0005", "2001:db8::6": "dst=2001:0db8:0000:0000:0000:0000:0000:0006"} {
		// The kernel makes an address of IPv6 local when it finds the time for it; until then
		// what is sent to it is lost.
		for n := 0; !strings.Contains(entries(), want); n++ {
			if n == 1000 {
				t.Fatalf("no connection %s:\n%s", want, entries())
			}
			send(to)
		}
	}
	if err := forget(c, ctx, []netip.Addr{a4, a6}); err != nil {
		t.Fatal(err)
	}
	after := entries()
	for _, gone := range []string{"10.1.0.5", "127.0.0.9", "2001:0db8:0000:0000:0000:0000:0000:0005"} {
		if strings.Contains(after, "="+gone+" ") {
			t.Errorf("%s is still there:\n%s", gone, after)
		}
	}
	for _, stays := range []string{"10.1.0.6", "2001:0db8:0000:0000:0000:0000:0000:0006"} {
		if !strings.Contains(after, "dst="+stays+" ") {
			t.Errorf("%s is gone:\n%s", stays, after)
		}
	}
}

// BenchmarkForgetConnections is what it costs where there are connections, none of them
// the address's: the kernel looks at its whole table.
func BenchmarkForgetConnections(b *testing.B) {
	netnstest.New(b, netnstest.Mounts())
	c, err := kernel.Open("")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	nft(b, "table inet t { chain in { type filter hook prerouting priority 0; ct state new accept; }; }", "-f", "-")
	netnstest.Exec(b, "bash", "-c", `exec 3<>/dev/udp/127.0.0.1/9; echo x >&3`)
	for b.Loop() {
		if err := c.ForgetConnections(context.Background(), []netip.Addr{netip.MustParseAddr("10.1.0.5")}); err != nil {
			b.Fatal(err)
		}
	}
}
