package spec

import "net/netip"

// PodNetwork is the networks of pods, and the nodes that they are on: each node
// reaches the pods of the others by plain routes.
type PodNetwork struct {
	PodCIDRs     []PodPrefix // at least one
	Interconnect Interconnect
	Nodes        []PodNode // this host's own entry is the one with an address of it
	Forwarding   Forwarding
	Masquerade   Masquerade
	InstallCNI   bool

	// Keys says where the keys of spec that are written stand, for messages:
	// "masquerade", "cni.install", and "" for spec itself.
	Keys map[string]Pos
}

// PodNode is one host of a PodNetwork.
type PodNode struct {
	Name      string
	Addresses []NodeAddress // in the order in which they are tried
	PodCIDRs  []PodPrefix   // the pods on it; none: it has no pods
	Pos       Pos
}

// PodPrefix is a network of pods.
type PodPrefix struct {
	netip.Prefix
	Pos Pos
}

// NodeAddress is an address of a node.
type NodeAddress struct {
	netip.Addr
	Pos Pos
}

// Interconnect says how nodes learn where pods are.
type Interconnect uint8

// The interconnects.
const (
	InterconnectStatic Interconnect = iota // from the list of nodes
	InterconnectBGP                        // not built yet: Validate refuses it
)

// Forwarding says whether packets of pods are let through this host.
type Forwarding uint8

// What becomes of them.
const (
	ForwardingAllow Forwarding = iota // sysctls, and chains of others that drop by policy
	ForwardingKeep                    // all stays as it is
)

// Masquerade says with which source packets leave the networks of pods.
type Masquerade uint8

// The sources.
const (
	MasqueradeNone    Masquerade = iota // the pod's own
	MasqueradeOutside                   // the node's, where neither a pod nor a node is the destination
)
