package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/viarule/viarule/internal/kernel"
	"github.com/viarule/viarule/internal/kerneltest"
	"github.com/viarule/viarule/internal/netnstest"
)

// open makes a namespace as kerneltest.Fixture says.
func open(t *testing.T) *kernel.Conn {
	t.Helper()
	netnstest.New(t)
	var lines []string
	for i, name := range []string{"v0", "v1", "v2"} {
		lines = append(lines,
			fmt.Sprintf("link add name %s type veth peer name p%d", name, i),
			fmt.Sprintf("addr add 10.%d.0.1/24 dev %s", i+1, name),
			fmt.Sprintf("addr add 2001:db8:%d::1/64 dev %s nodad", i+1, name))
		if i < 2 {
			lines = append(lines, "link set dev "+name+" up", fmt.Sprintf("link set dev p%d up", i))
		}
	}
	netnstest.IP(t, lines...)
	c, err := kernel.Open("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// release is that of the running kernel. A feature that it should have is
// tested, and fails the test where it is missing.
func release(t *testing.T) kerneltest.Release {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	text := string(u.Release[:])
	var r kerneltest.Release
	if _, err := fmt.Sscanf(strings.ReplaceAll(text, ".", " "), "%d %d", &r.Major, &r.Minor); err != nil {
		t.Fatalf("release %q: %v", text, err)
	}
	return r
}

// noVRF asks for one.
func noVRF(t *testing.T) (none bool) {
	t.Helper()
	netnstest.Run(t, "VRF", func(t *testing.T) {
		c, err := kernel.Open("")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		err = c.CreateLink(context.Background(), kernel.LinkSpec{Name: "red", Kind: "vrf", VRFTable: 1})
		if none = errors.Is(err, kernel.ErrNotSupported); err != nil && !none {
			t.Fatal(err)
		}
	})
	return none
}

func TestContract(t *testing.T) {
	kerneltest.Run(t, kerneltest.Options{
		Open: func(t *testing.T) kerneltest.Kernel { return open(t) },
		DeleteLink: func(t *testing.T, k kerneltest.Kernel, name string) {
			if err := k.(*kernel.Conn).DeleteLink(context.Background(), name); err != nil {
				t.Fatal(err)
			}
		},
		Forward: func(t *testing.T, _ kerneltest.Kernel) { nft(t, kerneltest.ForwardNft, "-f", "-") },
		NoVRF:   noVRF(t),
		Release: release(t),
	})
}
