package host_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/viarule/viarule/internal/host"
	"github.com/viarule/viarule/internal/netnstest"
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/snapshot"
	"github.com/viarule/viarule/internal/spec"
)

const snapshotObjects = `apiVersion: viarule.io/v1alpha1
kind: RoutingPolicy
metadata: {name: uplinks}
spec:
  tables:
  - name: snap4
    routes: [{to: default, via: 192.0.2.1, dev: eth0}, {to: default, via: "2001:db8:a::1", dev: eth0}]
  rules:
  - {from: [192.0.2.10, "2001:db8:a::10"], table: snap4}
---
apiVersion: viarule.io/v1alpha1
kind: ExternalNetwork
metadata: {name: public}
spec:
  interface: {name: eth1}
  addresses: [203.0.113.0/24]
  gateways: [198.51.100.1]
  reversePathFilter: Loose
`

func TestSnapshotSaysWhoseThingsAre(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.IP(t,
		"link add eth0 type veth peer name peer0", "link add eth1 type veth peer name peer1",
		"link set eth0 addrgenmode none", "link set eth1 addrgenmode none", "link set peer0 up", "link set peer1 up",
		"link set eth0 up", "link set eth1 up", "addr add 192.0.2.10/24 dev eth0", "addr add 198.51.100.10/24 dev eth1",
		"addr add 2001:db8:a::10/64 dev eth0 nodad", "route add default via 192.0.2.1 dev eth0",
		// A gateway that nobody has to be asked for.
		"neigh add 198.51.100.1 lladdr 02:00:00:00:00:01 dev eth1 nud permanent",
		"rule add pref 100 from 10.0.0.1 lookup 77")
	h, err := host.Open(host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	applyText(t, h, snapshotObjects)

	s, err := h.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner := func(kind, name string) *snapshot.Owner {
		i := slices.IndexFunc(s.Owners, func(o snapshot.Owner) bool { return o.Ref == spec.Ref{Kind: kind, Name: name} })
		if i < 0 {
			t.Fatalf("nothing of %s/%s: %+v", kind, name, s.Owners)
		}
		return &s.Owners[i]
	}
	policy, public := owner("RoutingPolicy", "uplinks"), owner("ExternalNetwork", "public")
	if policy.File != "test.yaml" || policy.Line != 1 || public.Line != 11 || policy.Nft || !public.Nft {
		t.Errorf("the policy is of %s:%d (nft: %t), and the network of line %d (nft: %t)", policy.File, policy.Line, policy.Nft, public.Line, public.Nft)
	}
	if !slices.Contains(public.Sysctls, "net/ipv4/conf/eth1/rp_filter") {
		t.Errorf("the network wants the sysctls %q", public.Sysctls)
	}
	// Each rule and route of the kernel that bears viarule's mark is somebody's, and
	// the other way round.
	for _, f := range netstate.Families {
		if !slices.ContainsFunc(policy.Rules, func(r netstate.Rule) bool { return r.Family == f }) ||
			!slices.ContainsFunc(policy.Routes, func(k netstate.RouteKey) bool { return k.Family == f }) {
			t.Errorf("the policy holds %v and %v, and nothing of %s", policy.Rules, policy.Routes, f)
		}
	}
	held, marked := 0, 0
	for _, o := range s.Owners {
		held += len(o.Rules) + len(o.Routes)
	}
	for _, r := range s.State.Rules {
		if r.Protocol == netstate.ProtocolObject {
			marked++
			if !slices.ContainsFunc(s.Owners, func(o snapshot.Owner) bool { return slices.Contains(o.Rules, r) }) {
				t.Errorf("nobody holds %s", r)
			}
		}
	}
	for _, r := range s.State.Routes {
		if r.Protocol == netstate.ProtocolObject {
			marked++
			if !slices.ContainsFunc(s.Owners, func(o snapshot.Owner) bool { return slices.Contains(o.Routes, r.Key()) }) {
				t.Errorf("nobody holds %s", r)
			}
		}
	}
	if held != marked || marked == 0 {
		t.Errorf("the objects hold %d rules and routes, and %d bear the mark", held, marked)
	}
	if table := policy.Routes[0].Table; s.Tables[table] != "snap4" || s.Tables[254] != "main" {
		t.Errorf("tables: %v, want %d to be snap4", s.Tables, table)
	}
	if s.Kernel == "" || len(s.State.Nft) != 1 || !slices.ContainsFunc(s.State.Rules, func(r netstate.Rule) bool { return r.Priority == 100 }) ||
		!slices.Contains(s.Sysctls, netstate.Sysctl{Key: "net/ipv4/conf/eth1/rp_filter", Value: "2"}) {
		t.Errorf("something is missing: %+v", s)
	}

	// The file carries it.
	var b bytes.Buffer
	if err := snapshot.Write(&b, s); err != nil {
		t.Fatal(err)
	}
	again, err := snapshot.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if again.State.String() != s.State.String() || len(again.Sysctls) != len(s.Sysctls) || len(again.Owners) != 2 {
		t.Errorf("read again it is %+v", again)
	}
}

// What is known only by name, and what cannot be read, is in it.
func TestSnapshotNamesWhatItCannotRead(t *testing.T) {
	netnstest.New(t, netnstest.Mounts())
	netnstest.Exec(t, "nft", "add table ip other; add chain ip other c")
	netnstest.IP(t, "xfrm policy add src 10.0.0.0/8 dst 10.1.0.0/16 dir out action block")
	h, err := host.Open(host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	s, err := h.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(s.Surroundings.Chains, netstate.NftName{Family: "ip", Table: "other", Chain: "c"}) {
		t.Errorf("surroundings: %+v", s.Surroundings)
	}
	if want := (netstate.Opaque{Kind: netstate.OpaqueXFRM, Name: "1 policy"}); !slices.Contains(s.Opaque, want) {
		t.Errorf("opaque: %v, want %s", s.Opaque, want)
	}
}
