package returnpath

import (
	"fmt"
	"strings"
)

// labFile is a node with a cluster's network, whose gateway is a stateful
// firewall, and an external network:
//
//	known --- inet --- client
//	           | \
//	           |  fw (stateful) --- eth0 ---+
//	           |  |  \                      |
//	           |  |   farpod               node --- pod, pod2
//	           |  admin                     |
//	           +--- extgw ---------- eth1 --+
//
// The node's main table knows a route to `known` by eth0. Services are translated
// as kube-proxy does it, in prerouting and output, with its mark for masquerade.
func labFile(name string, filter int, object string, works map[int]bool) string {
	text := strings.NewReplacer("NAME", name, "FILTER", fmt.Sprint(filter), "DNAT", dnat(), "CHECKS", checks(works)).Replace(topology)
	if object == "" {
		return strings.Replace(text, "OBJECTS", "[]", 1)
	}
	text = strings.ReplaceAll(text, "when: Always", "when: AfterObjects")
	return strings.Replace(text, "OBJECTS", "[{apiVersion: viarule.io/v1alpha1, kind: ExternalNetwork, metadata: {name: public}, spec: {interface: {name: eth1}, "+
		"addresses: [1.2.3.0/24, \"2001:db8:1::/64\"], gateways: [1.2.3.1, \"2001:db8:1::1\"], "+object+"}}]", 1)
}

// dnat writes the node's services.
func dnat() string {
	var b strings.Builder
	for _, s := range []struct {
		to, to4, to6 string
		masquerade   bool
	}{
		{"10", "10.244.1.2", "fd00:244:1::2", false},
		{"11", "10.244.1.2", "fd00:244:1::2", true},
		{"12", "192.168.1.10", "2001:db8:a::10", false},
		{"14", "10.244.9.2", "fd00:244:9::2", true},
	} {
		for _, proto := range []string{"tcp", "udp"} {
			fmt.Fprintf(&b, "      - {to: 1.2.3.%s, proto: %s, port: 80, toAddress: %s, toPort: 8080, output: true, masquerade: %t}\n", s.to, proto, s.to4, s.masquerade)
			fmt.Fprintf(&b, "      - {to: \"2001:db8:1::%s\", proto: %s, port: 80, toAddress: \"%s\", toPort: 8080, output: true, masquerade: %t}\n", s.to, proto, s.to6, s.masquerade)
		}
	}
	return b.String()
}

const topology = `apiVersion: viarule.io/v1alpha1
kind: Lab
metadata: {name: NAME}
spec:
  hosts:
  - name: node
    forwarding: true
    sysctls: {net/ipv4/conf/all/rp_filter: FILTER, net/ipv4/conf/eth1/rp_filter: FILTER, net/ipv4/conf/eth0/rp_filter: FILTER}
    addresses: [1.2.3.13/32, "2001:db8:1::13/128"]
    routes:
    - {to: default, via: 192.168.1.1}
    - {to: default, via: "2001:db8:a::1"}
    - {to: 198.18.0.0/24, via: 192.168.1.1}
    - {to: "2001:db8:d::/64", via: "2001:db8:a::1"}
    firewall:
      dnat:
DNAT
    objects: OBJECTS
  - name: pod
    routes: [{to: default, via: 10.244.1.1}, {to: default, via: "fd00:244:1::1"}]
  - name: pod2
    routes: [{to: default, via: 10.244.2.1}, {to: default, via: "fd00:244:2::1"}]
  - name: farpod
    routes: [{to: default, via: 10.244.9.1}, {to: default, via: "fd00:244:9::1"}]
  - name: fw
    forwarding: true
    routes:
    - {to: default, via: 10.0.1.1}
    - {to: default, via: "fd00:1::1"}
    - {to: 1.2.3.0/24, via: 192.168.1.10}
    - {to: "2001:db8:1::/64", via: "2001:db8:a::10"}
    - {to: 10.244.0.0/22, via: 192.168.1.10}
    - {to: "fd00:244::/45", via: "2001:db8:a::10"}
    firewall: {forward: {newFrom: [lan, admin]}, masquerade: [wan]}
  - name: extgw
    forwarding: true
    routes:
    - {to: default, via: 10.0.2.1}
    - {to: default, via: "fd00:2::1"}
    - {to: 1.2.3.8/29, via: 1.2.3.2}
    - {to: "2001:db8:1::10/124", via: "2001:db8:1::2"}
  - name: inet
    forwarding: true
    routes:
    - {to: 192.168.1.0/24, via: 10.0.1.2}
    - {to: 10.244.0.0/16, via: 10.0.1.2}
    - {to: "2001:db8:a::/64", via: "fd00:1::2"}
    - {to: "fd00:244::/32", via: "fd00:1::2"}
    - {to: 1.2.3.0/24, via: 10.0.2.2}
    - {to: "2001:db8:1::/64", via: "fd00:2::2"}
  - name: client
    routes: [{to: default, via: 192.0.2.1}, {to: default, via: "2001:db8:c::1"}]
  - name: known
    routes: [{to: default, via: 198.18.0.1}, {to: default, via: "2001:db8:d::1"}]
  - name: admin
    routes: [{to: default, via: 192.168.2.1}, {to: default, via: "2001:db8:b::1"}]

  links:
  - kind: veth
    ends: [{host: node, name: eth0, addresses: [192.168.1.10/24, "2001:db8:a::10/64"]}, {host: fw, name: lan, addresses: [192.168.1.1/24, "2001:db8:a::1/64"]}]
  - kind: veth
    ends: [{host: node, name: eth1, addresses: [1.2.3.2/24, "2001:db8:1::2/64"]}, {host: extgw, name: ext, addresses: [1.2.3.1/24, "2001:db8:1::1/64"]}]
  - kind: veth
    ends: [{host: node, name: pod, addresses: [10.244.1.1/24, "fd00:244:1::1/64"]}, {host: pod, name: eth0, addresses: [10.244.1.2/24, "fd00:244:1::2/64"]}]
  - kind: veth
    ends: [{host: node, name: pod2, addresses: [10.244.2.1/24, "fd00:244:2::1/64"]}, {host: pod2, name: eth0, addresses: [10.244.2.2/24, "fd00:244:2::2/64"]}]
  - kind: veth
    ends: [{host: farpod, name: eth0, addresses: [10.244.9.2/24, "fd00:244:9::2/64"]}, {host: fw, name: farpod, addresses: [10.244.9.1/24, "fd00:244:9::1/64"]}]
  - kind: veth
    ends: [{host: fw, name: wan, addresses: [10.0.1.2/24, "fd00:1::2/64"]}, {host: inet, name: fw, addresses: [10.0.1.1/24, "fd00:1::1/64"]}]
  - kind: veth
    ends: [{host: extgw, name: wan, addresses: [10.0.2.2/24, "fd00:2::2/64"]}, {host: inet, name: extgw, addresses: [10.0.2.1/24, "fd00:2::1/64"]}]
  - kind: veth
    ends: [{host: client, name: eth0, addresses: [192.0.2.10/24, "2001:db8:c::10/64"]}, {host: inet, name: client, addresses: [192.0.2.1/24, "2001:db8:c::1/64"]}]
  - kind: veth
    ends: [{host: known, name: eth0, addresses: [198.18.0.10/24, "2001:db8:d::10/64"]}, {host: inet, name: known, addresses: [198.18.0.1/24, "2001:db8:d::1/64"]}]
  - kind: veth
    ends: [{host: admin, name: eth0, addresses: [192.168.2.5/24, "2001:db8:b::5/64"]}, {host: fw, name: admin, addresses: [192.168.2.1/24, "2001:db8:b::1/64"]}]

  checks:
CHECKS`
