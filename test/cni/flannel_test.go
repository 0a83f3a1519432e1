package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// TestFlannel: behind flannel, which delegates to bridge and host-local. Its module is in
// no module proxy that this repository can count on, so the program is given by its
// path: build github.com/flannel-io/cni-plugin, and set FLANNEL_PLUGIN to it.
func TestFlannel(t *testing.T) {
	program := os.Getenv("FLANNEL_PLUGIN")
	if program == "" {
		t.Skip("FLANNEL_PLUGIN names no program: build github.com/flannel-io/cni-plugin (v1.9.1-flannel1) and give its path")
	}
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		for _, name := range names {
			t.Run(version+"/"+name, func(t *testing.T) {
				newHost(t)
				pod := newPod(t)
				dir := t.TempDir()
				programs := filepath.Join(dir, "bin")
				if err := os.Mkdir(programs, 0o755); err != nil {
					t.Fatal(err)
				}
				for _, p := range []string{"bridge", "host-local", dropIn, own} {
					if err := os.Symlink(filepath.Join(ours, p), filepath.Join(programs, p)); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Symlink(program, filepath.Join(programs, "flannel")); err != nil {
					t.Fatal(err)
				}
				// What flanneld writes, at a place that is the test's own.
				subnet := filepath.Join(dir, "subnet.env")
				lease := "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_IPV6_NETWORK=2001:db8:f::/48\nFLANNEL_IPV6_SUBNET=2001:db8:f:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
				if err := os.WriteFile(subnet, []byte(lease), 0o644); err != nil {
					t.Fatal(err)
				}
				before := routing(t, "pod")
				config := fmt.Sprintf(`{"type": "flannel", "subnetFile": %q, "dataDir": %q, "delegate": {"hairpinMode": true}}`, subnet, filepath.Join(dir, "data"))
				a := attach(t, programs, version, pod, "net1", config, fmt.Sprintf(`{"type": %q}`, name))
				result, err := current.NewResultFromResult(a.add(t))
				if err != nil || len(result.IPs) != 2 {
					t.Fatalf("%v: %v, want an address of each family", err, result)
				}
				for _, ip := range result.IPs {
					from := ip.Address.IP.String()
					leaves(t, "pod", from, outsideOf(from), goesBy("network", from))
				}
				leaves(t, "pod", "", outside4, goesBy("management", management4))
				leaves(t, "pod", "", outside6, goesBy("management", management6))
				if err := a.check(); version < "0.4" && !errors.Is(err, libcni.ErrorCheckNotSupp) || version >= "0.4" && err != nil {
					t.Errorf("CHECK: %v", explain(err))
				}
				a.del(t)
				if after := routing(t, "pod"); after != before {
					t.Errorf("after DEL:\n%s\nbefore ADD:\n%s", after, before)
				}
				nothingLeft(t, "pod")
				if err := a.runtime.DelNetworkList(context.Background(), a.last, a.rt); err != nil {
					t.Errorf("DEL again: %v", explain(err))
				}
			})
		}
	}
}
