package cni

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/viarule/viarule/internal/netnstest"
)

// multusWorld is a node with Multus, whose default network is managementNetwork.
type multusWorld struct {
	t   *testing.T
	api *apiServer
	pod call
}

// newMultus offers the networks `sip` and `media`, on two bridges of the node.
// Each has two gateways: .1 and ::1 is the node, which says `network`, .254 and
// ::fe is the namespace `other`, which says `other`.
func newMultus(t *testing.T, name string) *multusWorld {
	t.Helper()
	newHost(t)
	newNamespace(t, "pod")
	newNamespace(t, "other")
	netnstest.IP(t, "-n other addr add "+outside4+"/32 dev lo", "-n other addr add "+outside6+"/128 dev lo nodad")
	netnstest.In(t, "other", func() { serve(t, "other", outside4, outside6) })
	networks := map[string]string{}
	for i, n := range []string{"sip", "media"} {
		net4, net6 := []string{"192.0.2", "198.51.100"}[i], []string{"2001:db8:1", "2001:db8:2"}[i]
		netnstest.IP(t, "link add "+n+" type bridge", "link set "+n+" up", "addr add "+net4+".1/24 dev "+n, "addr add "+net6+"::1/64 dev "+n+" nodad",
			"link add p-"+n+" type veth peer name "+n+" netns other", "link set p-"+n+" up master "+n,
			"-n other link set "+n+" up", "-n other addr add "+net4+".254/24 dev "+n, "-n other addr add "+net6+"::fe/64 dev "+n+" nodad")
		networks[n] = oneLine(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %[1]q, "plugins": [
			{"type": "bridge", "bridge": %[1]q, "ipam": {"type": "static", "addresses": [
				{"address": "%[2]s.10/24", "gateway": "%[2]s.1"}, {"address": "%[3]s::10/64", "gateway": "%[3]s::1"}]}},
			{"type": %[4]q, "allowPodOverrides": ["gateways", "priority"]}]}`, n, net4, net6, name))
	}
	w := &multusWorld{t: t, api: newAPIServer(t, networks)}
	w.pod = call{program: ours + "/multus", container: "c1", netns: "/run/netns/pod", ifname: "eth0",
		stdin: fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "multus", "type": "multus", "kubeconfig": %q,
		"binDir": %q, "cniDir": "/run/multus", "logToStderr": false, "delegates": [{"cniVersion": "1.0.0", "name": "management", "plugins": [%s]}]}`,
			w.api.kubeconfig(), ours, managementNetwork),
	}
	return w
}

func (w *multusWorld) call(command string) error {
	w.t.Helper()
	c := w.pod.as(command)
	c.args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=uid-1"
	_, err := c.run(w.t)
	return err
}

// TestMultus: a pod with two more networks, source routing on each.
func TestMultus(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newMultus(t, name)
			before := routing(t, "pod")
			w.api.choose("sip,media")
			if err := w.call("ADD"); err != nil {
				t.Fatal(err)
			}
			for _, a := range []string{"192.0.2.10", "2001:db8:1::10", "198.51.100.10", "2001:db8:2::10"} {
				leaves(t, "pod", a, outsideOf(a), goesBy("network", a))
			}
			if err := w.call("CHECK"); err != nil && name == own {
				t.Errorf("CHECK: %v", err) // of the drop-in the bridge plugin misses routes, as of the reference
			}
			for _, part := range []string{"net1", "net2", "192.0.2.10", "2001:db8:2::10"} {
				if !strings.Contains(w.api.wrote(), part) {
					t.Errorf("the pod's status lacks %s: %s", part, w.api.wrote())
				}
			}
			if n := len(records(t)); n != 1 {
				t.Errorf("%d files of records for one namespace", n)
			}
			if err := w.call("DEL"); err != nil {
				t.Fatal(err)
			}
			if after := routing(t, "pod"); after != before {
				t.Errorf("after DEL:\n%s\nbefore ADD:\n%s", after, before)
			}
			nothingLeft(t, "pod")
		})
	}
}

// TestMultusPodValues: a pod sets values for one of its two attachments by
// cni-args; those of the other stay the network's.
func TestMultusPodValues(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newMultus(t, name)
			w.api.choose(oneLine(`[{"name": "sip", "interface": "net1", "cni-args": {"viarule": {"gateways": ["192.0.2.254", "2001:db8:1::fe"], "priority": 1234}}},
				{"name": "media", "interface": "net2"}]`))
			if err := w.call("ADD"); err != nil {
				t.Fatal(err)
			}
			for a, by := range map[string]string{"192.0.2.10": "other", "2001:db8:1::10": "other", "198.51.100.10": "network", "2001:db8:2::10": "network"} {
				leaves(t, "pod", a, outsideOf(a), goesBy(by, a))
				rule, _ := ruleFrom(t, "pod", a)
				if strings.HasPrefix(rule, "pref 1234 ") != (by == "other") {
					t.Errorf("rule of %s: %s", a, rule)
				}
			}
			if err := w.call("DEL"); err != nil {
				t.Fatal(err)
			}
			nothingLeft(t, "pod")
		})
	}
}

// TestMultusRefusedValues: what the network does not allow is an error that names
// the key, and the pod is left as it was.
func TestMultusRefusedValues(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newMultus(t, name)
			for args, want := range map[string]string{
				`{"table": 77}`:                  "args.cni.viarule.table",
				`{"gateways": ["192.0.2.1/24"]}`: "args.cni.viarule.gateways[0]",
				`{"gateways": "192.0.2.1"}`:      "args.cni.viarule.gateways",
			} {
				w.api.choose(oneLine(`[{"name": "sip"}, {"name": "media", "cni-args": {"viarule": ` + args + `}}]`))
				if err := w.call("ADD"); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v; want %s", args, err, want)
				}
				if err := w.call("DEL"); err != nil {
					t.Errorf("%s: DEL: %v", args, err)
				}
				nothingLeft(t, "pod")
			}
		})
	}
}

// TestMultusForgotten: Multus's files are gone, as after a restart of the node that
// was not clean; DEL then knows only what the API server says.
func TestMultusForgotten(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newMultus(t, name)
			w.api.choose("sip,media")
			if err := w.call("ADD"); err != nil {
				t.Fatal(err)
			}
			files, _ := filepath.Glob("/run/multus/*")
			if i := slices.IndexFunc(files, func(f string) bool { return filepath.Base(f) == "c1" }); i < 0 {
				t.Fatalf("Multus keeps its delegates elsewhere: %v", files)
			}
			if err := os.RemoveAll("/run/multus"); err != nil {
				t.Fatal(err)
			}
			if err := w.call("DEL"); err != nil {
				t.Fatal(err)
			}
			nothingLeft(t, "pod")
		})
	}
}
