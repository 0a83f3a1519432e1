package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PodNetwork is the networks of pods, which nodes reach by plain routes.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=viarule
// +kubebuilder:printcolumn:name=Interconnect,type=string,JSONPath=`.spec.interconnect`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type PodNetwork struct {
	metav1.TypeMeta `json:",inline"`
	// +required
	metav1.ObjectMeta `json:"metadata"`
	// +required
	Spec PodNetworkSpec `json:"spec"`
}

// PodNetworkList is a list of PodNetworks.
//
// +kubebuilder:object:root=true
type PodNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PodNetwork `json:"items"`
}

// PodNetworkSpec is the networks of pods, and how their packets get to them.
//
// +kubebuilder:validation:XValidation:rule="self.podCIDRs.all(p, self.podCIDRs.exists_one(q, cidr(q.contains('/') ? q : q + (q.contains(':') ? '/128' : '/32')).containsCIDR(cidr(p.contains('/') ? p : p + (p.contains(':') ? '/128' : '/32')))))",message="two of the networks of pods have addresses in common"
// +kubebuilder:validation:XValidation:rule="!has(self.interconnect) || self.interconnect != 'BGP'",message="BGP is not there yet"
type PodNetworkSpec struct {
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
	// podCIDRs are all networks of pods.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	PodCIDRs []PodPrefix `json:"podCIDRs"`
	// interconnect: Static where absent.
	// +optional
	Interconnect Interconnect `json:"interconnect,omitempty"`
	// nodes of a file; a cluster has Node objects.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Nodes []PodNode `json:"nodes,omitempty"`
	// forwarding: Allow where absent.
	// +optional
	Forwarding Forwarding `json:"forwarding,omitempty"`
	// masquerade: None where absent.
	// +optional
	Masquerade Masquerade `json:"masquerade,omitempty"`
	// cni is the plugin by which pods get their interfaces.
	// +optional
	CNI *PodCNI `json:"cni,omitempty"`
}

// PodNode is a node, and the pods that are on it.
//
// +kubebuilder:validation:XValidation:rule="!has(self.podCIDRs) || self.podCIDRs.all(p, self.addresses.exists(a, a.contains(':') == p.contains(':')))",message="a prefix of pods needs an address of the node of the same family"
type PodNode struct {
	// +required
	Name NodeName `json:"name"`
	// addresses by which the other nodes reach this one, in the order in which they
	// are tried.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Addresses []NodeAddress `json:"addresses"`
	// podCIDRs are the pods on the node.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	PodCIDRs []PodPrefix `json:"podCIDRs,omitempty"`
}

// NodeName is the name of a node.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
type NodeName string

// NodeAddress is an address of a node.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=39
// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).isGlobalUnicast() && !self.startsWith('0.')",message="not an address by which other nodes reach this one"
type NodeAddress string

// PodPrefix is a network of pods: a prefix, or an address.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isIP(self) || cidr(self) == cidr(self).masked() && !self.endsWith('/0')",message="neither an address nor a prefix without bits behind its length"
// +kubebuilder:validation:XValidation:rule="!self.startsWith('0.') && ip(self.split('/')[0]).isGlobalUnicast()",message="not addresses for pods"
// +kubebuilder:validation:XValidation:rule="!self.contains('/') || (self.contains(':') ? ['fe80::', 'ff00::'] : ['127.0.0.0', '169.254.0.0', '224.0.0.0', '255.255.255.255']).all(a, !cidr(self).containsIP(a))",message="there are loopback, link-local or multicast addresses in it"
type PodPrefix string

// Interconnect says how nodes learn where pods are.
//
// +kubebuilder:validation:Enum=Static;BGP
type Interconnect string

// Forwarding says whether packets of pods are let through the node.
//
// +kubebuilder:validation:Enum=Allow;Keep
type Forwarding string

// Masquerade says with which source packets leave the networks of pods.
//
// +kubebuilder:validation:Enum=None;Outside
type Masquerade string

// PodCNI is the plugin by which pods get their interfaces.
type PodCNI struct {
	// install: write the container runtime's configuration.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!self",message="not there yet"
	Install *bool `json:"install,omitempty"`
}
