package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ExternalNetwork is a network whose gateway is not the node's default one: what
// comes in by it is answered through it.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=viarule
// +kubebuilder:printcolumn:name=Interface,type=string,JSONPath=`.spec.interface.name`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type ExternalNetwork struct {
	metav1.TypeMeta `json:",inline"`
	// +required
	metav1.ObjectMeta `json:"metadata"`
	// +required
	Spec ExternalNetworkSpec `json:"spec"`
}

// ExternalNetworkList is a list of ExternalNetworks.
//
// +kubebuilder:object:root=true
type ExternalNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ExternalNetwork `json:"items"`
}

// ExternalNetworkSpec is the network, as a node sees it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.gateways) || self.gateways.size() == 0 || self.gateways.exists(g, g.contains(':')) == self.addresses.exists(a, a.contains(':'))",message="there are IPv6 addresses without an IPv6 gateway, or an IPv6 gateway without IPv6 addresses"
// +kubebuilder:validation:XValidation:rule="!has(self.gateways) || self.gateways.size() == 0 || self.gateways.exists(g, !g.contains(':')) == self.addresses.exists(a, !a.contains(':'))",message="there are IPv4 addresses without an IPv4 gateway, or an IPv4 gateway without IPv4 addresses"
// +kubebuilder:validation:XValidation:rule="!has(self.gateways) || self.gateways.all(g, self.gateways.exists_one(h, ip(h) == ip(g)))",message="a gateway is in the list twice"
// +kubebuilder:validation:XValidation:rule="!has(self.gateways) || self.gateways.all(g, !ip(g).isLoopback())",message="a loopback address is not the address of a gateway"
// +kubebuilder:validation:XValidation:rule="!has(self.gateways) || !self.gateways.exists(g, self.addresses.exists(a, a == g || a == g + '-' + g || a == g + (g.contains(':') ? '/128' : '/32')))",message="a gateway is one of the addresses"
// +kubebuilder:validation:XValidation:rule="!has(self.table) || (type(self.table) == int ? self.table >= 1 && self.table <= 4294967295 && !(self.table in [253, 254, 255]) : self.table.matches('^([A-Za-z_][A-Za-z0-9_.-]*|[1-9][0-9]{0,9})$') && !(self.table in ['main', 'local', 'default', '253', '254', '255']))",message="table is a number from 1 or a name, and not default, main or local"
// +kubebuilder:validation:XValidation:rule="!has(self.table) || type(self.table) == int || !string(self.table).matches('^[0-9]') || int(string(self.table)) <= 4294967295",message="table numbers end at 4294967295"
// +kubebuilder:validation:XValidation:rule="!has(self.mark) || (type(self.mark) == int ? self.mark >= 1 && self.mark <= 4294967295 : self.mark.matches('^([1-9][0-9]{0,9}|0x[0-9a-fA-F]{1,8}(/0x[0-9a-fA-F]{1,8})?)$') && !self.mark.matches('^0x0+(/.*)?$'))",message="mark is 256, 0x100 or 0x100/0xff00, and not 0"
// +kubebuilder:validation:XValidation:rule="!has(self.mark) || type(self.mark) == int || string(self.mark).startsWith('0x') || int(string(self.mark)) <= 4294967295",message="marks end at 4294967295"
// +kubebuilder:validation:XValidation:rule="!has(self.mark) || !string(self.mark).contains('/') || [string(self.mark).lowerAscii().replace('0x', '00000000').split('/')].all(p, [1, 2, 3, 4, 5, 6, 7, 8].all(i, [1, 2, 4, 8].all(b, '0123456789abcdef'.indexOf(p[0].charAt(p[0].size() - i)) / b % 2 <= '0123456789abcdef'.indexOf(p[1].charAt(p[1].size() - i)) / b % 2)))",message="the value has bits outside its mask"
// +kubebuilder:validation:XValidation:rule="!has(self.clusterCIDRs) || self.clusterCIDRs.all(c, !c.endsWith('/0'))",message="a prefix of length 0 is every address: nothing would be answered by the gateway"
type ExternalNetworkSpec struct {
	// nodeSelector picks nodes in a cluster; absent: all. A file ignores it.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// deletionPolicy: Delete (the default) removes with the object what it made,
	// Orphan leaves it.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
	// expect says what must become of some packets. A node that works out something
	// else does not apply the object.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Expect []Expectation `json:"expect,omitempty"`
	// interface is the link by which the network is reached.
	// +required
	Interface Interface `json:"interface"`
	// addresses that clients call: prefixes, addresses and ranges.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	Addresses []Addresses `json:"addresses"`
	// gateways in the order in which they are tried; none: the addresses are on
	// the link.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Gateways []Gateway `json:"gateways,omitempty"`
	// table is the name or number of a table that is for this network alone;
	// absent: one from viarule's pool.
	// +optional
	Table *IntOrString `json:"table,omitempty"`
	// priority of the rules; absent: one of viarule's band.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32765
	Priority *int32 `json:"priority,omitempty"`
	// mark of packets that take the gateway: 256, "0x100" or "0x100/0xff00";
	// without a mask, its own bits are its mask. Absent: a free one.
	// +optional
	Mark *IntOrString `json:"mark,omitempty"`
	// returnPath: Auto where absent.
	// +optional
	ReturnPath ReturnPath `json:"returnPath,omitempty"`
	// clusterCIDRs are the networks of pods and services, for SourceRule and
	// ConnectionMark.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	ClusterCIDRs []Prefix `json:"clusterCIDRs,omitempty"`
	// reversePathFilter: Keep where absent.
	// +optional
	ReversePathFilter ReversePathFilter `json:"reversePathFilter,omitempty"`
	// strictARP: answer ARP only for addresses of the interface itself.
	// +optional
	StrictARP *bool `json:"strictARP,omitempty"`
	// spread: use all gateways of a family at once.
	// +optional
	Spread *bool `json:"spread,omitempty"`
}

// Interface says which link: by its name, or by what it is.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) != has(self.match)",message="write one of name and match"
// +kubebuilder:validation:XValidation:rule="!has(self.vlan) || has(self.name)",message="vlan needs name"
// +kubebuilder:validation:XValidation:rule="!has(self.name) || !(self.name in ['lo', 'all', 'default'])",message="not a link by which clients come in"
// +kubebuilder:validation:XValidation:rule="!has(self.vlan) || !has(self.name) || self.vlan.parent != self.name && !self.name.contains('%')",message="the VLAN has a name of its own, without %"
type Interface struct {
	// +optional
	Name LinkName `json:"name,omitempty"`
	// vlan: make the link called name.
	// +optional
	VLAN *VLAN `json:"vlan,omitempty"`
	// match picks the link where names differ from node to node.
	// +optional
	Match *LinkMatch `json:"match,omitempty"`
}

// VLAN is a VLAN link that viarule makes.
//
// +kubebuilder:validation:XValidation:rule="!(self.parent in ['lo', 'all', 'default'])",message="not a link that carries VLANs"
type VLAN struct {
	// parent is the link that carries the VLAN.
	// +required
	Parent LinkName `json:"parent"`
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4094
	ID int32 `json:"id"`
}

// LinkMatch picks a link; all that is written must fit.
//
// +kubebuilder:validation:XValidation:rule="has(self.mac) || has(self.subnet)",message="it matches every link: write mac or subnet"
// +kubebuilder:validation:XValidation:rule="!has(self.subnet) || !self.subnet.endsWith('/0')",message="not the subnet of a link"
type LinkMatch struct {
	// mac is the link's Ethernet address.
	// +optional
	MAC MAC `json:"mac,omitempty"`
	// subnet: an address of the link is in it.
	// +optional
	Subnet Prefix `json:"subnet,omitempty"`
}

// MAC is the Ethernet address of a link.
//
// +kubebuilder:validation:MaxLength=17
// +kubebuilder:validation:Pattern=`^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$`
// +kubebuilder:validation:XValidation:rule="self != '00:00:00:00:00:00'",message="what links without a MAC address have"
type MAC string

// Addresses is a prefix, an address or a range FIRST-LAST. The ends of IPv6
// ranges are compared by viarule only: CEL has no order of addresses, and what
// would stand for one costs too much.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=79
// +kubebuilder:validation:Pattern=`^[0-9a-fA-F.:]{2,39}(-[0-9a-fA-F.:]{2,39}|/[0-9]{1,3})?$`
// +kubebuilder:validation:XValidation:rule="self.contains('-') ? isIP(self.split('-')[0]) && isIP(self.split('-')[1]) : isIP(self) || cidr(self) == cidr(self).masked() && !self.endsWith('/0')",message="neither an address, nor a prefix without bits behind its length, nor a range FIRST-LAST"
// +kubebuilder:validation:XValidation:rule="!self.contains('-') || self.split('-')[0].contains(':') == self.split('-')[1].contains(':')",message="the ends of the range are of two families"
// +kubebuilder:validation:XValidation:rule="!self.startsWith('0.') && !self.contains('-0.') && (self.contains('-') ? ip(self.split('-')[0]).isGlobalUnicast() && ip(self.split('-')[1]).isGlobalUnicast() : ip(self.split('/')[0]).isGlobalUnicast())",message="addresses that are not unicast, loopback and link-local ones are not behind a gateway"
// +kubebuilder:validation:XValidation:rule="!self.contains('/') || (self.contains(':') ? ['fe80::', 'ff00::'] : ['127.0.0.0', '169.254.0.0', '224.0.0.0', '255.255.255.255']).all(a, !cidr(self).containsIP(a))",message="addresses that are not unicast, loopback and link-local ones are not behind a gateway"
// +kubebuilder:validation:XValidation:rule="!self.contains('-') || self.contains(':') || [[0, 1].map(i, [self.split('-')[i].split('.')].map(o, int(o[0]) * 16777216 + int(o[1]) * 65536 + int(o[2]) * 256 + int(o[3]))[0])].all(r, r[0] <= r[1] && [2130706432, 2851995648, 3758096384].all(s, r[0] >= s || r[1] < s))",message="the range is reversed, or has loopback, link-local or multicast addresses"
type Addresses string

// ReturnPath says how an answer finds the way that the request came.
//
// +kubebuilder:validation:Enum=Auto;SourceRule;ConnectionMark
type ReturnPath string

// ReversePathFilter says what becomes of the kernel's reverse path filter on the
// interface.
//
// +kubebuilder:validation:Enum=Keep;Loose;Disabled;Exempt
type ReversePathFilter string
