package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// RoutingPolicy is tables with routes, and rules that say which packets use
// them, in the words of iproute2.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=viarule
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type RoutingPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +required
	metav1.ObjectMeta `json:"metadata"`
	// +required
	Spec RoutingPolicySpec `json:"spec"`
}

// RoutingPolicyList is a list of RoutingPolicies.
//
// +kubebuilder:object:root=true
type RoutingPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RoutingPolicy `json:"items"`
}

// DeletionPolicy says what becomes of the kernel's objects when the object goes.
//
// +kubebuilder:validation:Enum=Delete;Orphan
type DeletionPolicy string

// RoutingPolicySpec is what a node's kernel shall hold.
//
// +kubebuilder:validation:XValidation:rule="!has(self.tables) || self.tables.all(t, !has(t.id) || self.tables.exists_one(u, has(u.id) && u.id == t.id))",message="two tables have the same id"
type RoutingPolicySpec struct {
	// nodeSelector picks nodes in a cluster; absent: all. A file ignores it.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// deletionPolicy: Delete (the default) removes rules and routes with the
	// object, Orphan leaves them.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
	// expect says what must become of some packets. A node that works out something
	// else does not apply the object.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Expect []Expectation `json:"expect,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Tables []Table `json:"tables,omitempty"`
	// rules without a priority keep this order.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	Rules []Rule `json:"rules,omitempty"`
}

// Table is a routing table and the routes that it shall hold.
//
// +kubebuilder:validation:XValidation:rule="self.name != 'local'",message="the table local is the kernel's"
// +kubebuilder:validation:XValidation:rule="!has(self.id) || (self.name == 'main' ? self.id == 254 : self.name == 'default' ? self.id == 253 : !(self.id in [253, 254, 255]))",message="253, 254 and 255 are the tables default, main and local"
type Table struct {
	// +required
	Name TableName `json:"name"`
	// id is the table's number; absent: the one that the name has on the node, or
	// one from viarule's pool.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	ID *int64 `json:"id,omitempty"`
	// +optional
	// +listType=map
	// +listMapKey=to
	// +listMapKey=metric
	// +kubebuilder:validation:MaxItems=1024
	Routes []Route `json:"routes,omitempty"`
}

// TableName is the name of a routing table, as rt_tables has it.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_.-]*$`
type TableName string

// LinkName is the name of a network device.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=15
// +kubebuilder:validation:Pattern=`^([!-.0-9;-~]{3,}|[!-\-0-9;-~][!-.0-9;-~]?|\.[!-\-0-9;-~])$`
type LinkName string

// Address is an IPv4 or IPv6 address.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=39
// +kubebuilder:validation:XValidation:rule="isIP(self)",message="not an address"
type Address string

// Prefix is a prefix, or an address for the prefix of its full length.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isIP(self) || cidr(self) == cidr(self).masked()",message="neither an address nor a prefix without bits behind its length"
type Prefix string

// Destination is a Prefix, or default.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="self == 'default' || isIP(self) || cidr(self) == cidr(self).masked()",message="neither default nor an address nor a prefix without bits behind its length"
type Destination string

// RouteType is what a route does with a packet.
//
// +kubebuilder:validation:Enum=Unicast;Blackhole;Unreachable;Prohibit;Local;Throw
type RouteType string

// Scope is how far away the destinations of an IPv4 route are.
//
// +kubebuilder:validation:Enum=Global;Site;Link;Host
type Scope string

// Family is an address family.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type Family string

// Route is a wanted route.
//
// +kubebuilder:validation:XValidation:rule="self.to != 'default' || has(self.src) || has(self.via) || has(self.nexthops) && self.nexthops.exists(n, has(n.via))",message="default is of no family here: write 0.0.0.0/0 or ::/0"
// +kubebuilder:validation:XValidation:rule="!has(self.nexthops) || !(has(self.via) || has(self.dev) || has(self.onlink) && self.onlink)",message="nexthops excludes via, dev and onlink"
// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type in ['Unicast', 'Local'] || !(has(self.via) || has(self.dev) || has(self.nexthops) || has(self.onlink) && self.onlink || has(self.src))",message="a route of this type goes nowhere: leave out via, dev, nexthops, onlink and src"
// +kubebuilder:validation:XValidation:rule="has(self.type) && !(self.type in ['Unicast', 'Local']) || has(self.via) || has(self.dev) || has(self.nexthops)",message="it does not say where packets go: write via, dev or nexthops"
// +kubebuilder:validation:XValidation:rule="!has(self.type) || self.type != 'Local' || has(self.dev) && !has(self.via) && (!has(self.scope) || self.scope == 'Host')",message="a local route has a dev, no via, and the scope Host"
// +kubebuilder:validation:XValidation:rule="!has(self.onlink) || !self.onlink || has(self.via) && has(self.dev)",message="onlink needs via and dev"
// +kubebuilder:validation:XValidation:rule="!has(self.via) || has(self.dev) || self.via.startsWith('169') || !ip(self.via).isLinkLocalUnicast()",message="a link-local gateway needs dev"
// +kubebuilder:validation:XValidation:rule="!has(self.via) || !self.to.contains(':') || self.via.contains(':')",message="an IPv6 route cannot have an IPv4 gateway"
// +kubebuilder:validation:XValidation:rule="!has(self.src) || self.to == 'default' || self.src.contains(':') == self.to.contains(':')",message="src is of another family"
// +kubebuilder:validation:XValidation:rule="!has(self.src) || self.to != 'default' || !self.src.contains(':') || (!has(self.via) || self.via.contains(':')) && (!has(self.nexthops) || self.nexthops.all(n, !has(n.via) || n.via.contains(':')))",message="src is of another family"
// +kubebuilder:validation:XValidation:rule="!has(self.nexthops) || !self.to.contains(':') || self.nexthops.all(n, !has(n.via) || n.via.contains(':'))",message="an IPv6 route cannot have an IPv4 gateway"
// +kubebuilder:validation:XValidation:rule="!has(self.scope) || !(self.to.contains(':') || self.to == 'default' && (!has(self.src) || self.src.contains(':')) && (!has(self.via) || self.via.contains(':')) && (!has(self.nexthops) || self.nexthops.all(n, !has(n.via) || n.via.contains(':'))))",message="IPv6 routes have no scope"
// +kubebuilder:validation:XValidation:rule="!has(self.scope) || self.scope in ['Global', 'Site'] || !has(self.via) && !has(self.nexthops)",message="behind a gateway the scope is Global or Site"
type Route struct {
	// to is a prefix, an address, or default where via, src or nexthops say the family.
	// +required
	To Destination `json:"to"`
	// via is the gateway.
	// +optional
	Via Gateway `json:"via,omitempty"`
	// +optional
	Dev LinkName `json:"dev,omitempty"`
	// src is the source address that sockets of the node use.
	// +optional
	Src Address `json:"src,omitempty"`
	// metric: the lowest wins; 0 is the kernel's default, 1024 for IPv6.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	Metric int64 `json:"metric,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=68
	// +kubebuilder:validation:Maximum=65520
	MTU *int32 `json:"mtu,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=88
	// +kubebuilder:validation:Maximum=65495
	AdvMSS *int32 `json:"advmss,omitempty"`
	// +optional
	Scope Scope `json:"scope,omitempty"`
	// onlink: the gateway is on the link, though no subnet of it says so.
	// +optional
	OnLink *bool `json:"onlink,omitempty"`
	// type: Unicast where absent.
	// +optional
	Type RouteType `json:"type,omitempty"`
	// nexthops share the traffic by their weights.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Nexthops []Nexthop `json:"nexthops,omitempty"`
}

// Gateway is the address of a router.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=39
// +kubebuilder:validation:Pattern=`^((1?[0-9]{1,2}|2[01][0-9]|22[0-3]|24[0-9]|25[0-4])\.[0-9.]+|[0-9a-fA-F]{0,3}:[0-9a-fA-F:.]+|[0-9a-eA-E][0-9a-fA-F]{3}:[0-9a-fA-F:.]+|[fF][0-9a-eA-E][0-9a-fA-F]{2}:[0-9a-fA-F:.]+)$`
// +kubebuilder:validation:XValidation:rule="!ip(self).isUnspecified()",message="not the address of a gateway"
type Gateway string

// Nexthop is one of several ways.
//
// +kubebuilder:validation:XValidation:rule="!has(self.via) || has(self.dev) || self.via.startsWith('169') || !ip(self.via).isLinkLocalUnicast()",message="a link-local gateway needs dev"
// +kubebuilder:validation:XValidation:rule="has(self.via) || has(self.dev)",message="it does not say where packets go: write via or dev"
// +kubebuilder:validation:XValidation:rule="has(self.via) && has(self.dev) || !has(self.onlink) || !self.onlink",message="onlink needs via and dev"
type Nexthop struct {
	// +optional
	Via Gateway `json:"via,omitempty"`
	// +optional
	Dev LinkName `json:"dev,omitempty"`
	// weight: 1 where absent.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=256
	Weight *int32 `json:"weight,omitempty"`
	// +optional
	OnLink *bool `json:"onlink,omitempty"`
}
