package v1alpha1

// Expectation is what must become of one packet. It is checked by simulation before
// a node applies the object.
//
// +kubebuilder:validation:XValidation:rule="!has(self.iif) || has(self.from)",message="a packet that comes in has a source: write from"
// +kubebuilder:validation:XValidation:rule="!has(self.iif) || self.iif != 'lo'",message="what comes in by lo was made on this host"
// +kubebuilder:validation:XValidation:rule="!has(self.iif) || !has(self.uid) || self.uid == 0",message="a packet that comes in has no owner"
// +kubebuilder:validation:XValidation:rule="!has(self.iif) || !has(self.source)",message="a packet that comes in keeps its source"
// +kubebuilder:validation:XValidation:rule="!has(self.from) || !has(self.source) || ip(self.from) == ip(self.source)",message="the packet has the source that from says: leave one out"
// +kubebuilder:validation:XValidation:rule="!has(self.verdict) || self.verdict != 'Forwarded' || has(self.iif)",message="only what comes in is forwarded"
// +kubebuilder:validation:XValidation:rule="!has(self.verdict) || self.verdict != 'Sent' || !has(self.iif)",message="only what is made on the node is sent"
// +kubebuilder:validation:XValidation:rule="!has(self.from) || self.from.contains(':') == self.to.contains(':')",message="from and to are of two families"
// +kubebuilder:validation:XValidation:rule="!has(self.source) || self.source.contains(':') == self.to.contains(':')",message="source and to are of two families"
// +kubebuilder:validation:XValidation:rule="!has(self.leaves) || !has(self.leaves.via) || self.leaves.via.contains(':') || !self.to.contains(':')",message="an IPv6 packet does not go by an IPv4 gateway"
// +kubebuilder:validation:XValidation:rule="!has(self.ipproto) || (type(self.ipproto) == int ? self.ipproto >= 1 && self.ipproto <= 255 : self.ipproto.matches('^(icmp|igmp|ipencap|tcp|udp|dccp|ipv6|gre|esp|ah|ipv6-icmp|ospf|pim|vrrp|l2tp|sctp|udplite|([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))$'))",message="ipproto is a number from 1 to 255 or a name, as tcp"
// +kubebuilder:validation:XValidation:rule="!has(self.sport) && !has(self.dport) || has(self.ipproto) && (type(self.ipproto) == int ? self.ipproto in [6, 17, 33, 132, 136] : self.ipproto in ['tcp', 'udp', 'dccp', 'sctp', 'udplite', '6', '17', '33', '132', '136'])",message="a port without a protocol that has ports"
// +kubebuilder:validation:XValidation:rule="!has(self.fwmark) || (type(self.fwmark) == int ? self.fwmark >= 0 && self.fwmark <= 4294967295 : self.fwmark.matches('^([0-9]|[1-9][0-9]{1,9}|0x[0-9a-fA-F]{1,8})$'))",message="fwmark is 256 or 0x100"
// +kubebuilder:validation:XValidation:rule="!has(self.fwmark) || type(self.fwmark) == int || string(self.fwmark).startsWith('0x') || int(string(self.fwmark)) <= 4294967295",message="marks end at 4294967295"
// +kubebuilder:validation:XValidation:rule="!has(self.tos) || (type(self.tos) == int ? self.tos >= 0 && self.tos <= 255 : self.tos.matches('^(0x0{0,6}[0-9a-fA-F]{1,2}|[0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])$'))",message="tos is a number from 0 to 255, as 16 or 0x10"
// +kubebuilder:validation:XValidation:rule="has(self.leaves) || has(self.verdict) || has(self.source)",message="it does not say what is expected: write one of leaves, verdict and source"
// +kubebuilder:validation:XValidation:rule="!has(self.verdict) || self.verdict != 'Dropped' || !has(self.leaves) && !has(self.source)",message="what is dropped leaves by no way"
// +kubebuilder:validation:XValidation:rule="!has(self.verdict) || self.verdict != 'Delivered' || !has(self.leaves)",message="what is delivered leaves by no way"
type Expectation struct {
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	Name string `json:"name"`
	// to is where the packet goes.
	// +required
	To Address `json:"to"`
	// from may be left out for a packet that is made on the node.
	// +optional
	From Address `json:"from,omitempty"`
	// iif is the link by which the packet comes in; absent: it is made on the node.
	// +optional
	IIF LinkName `json:"iif,omitempty"`
	// ipproto is a protocol's number or name; ports need it.
	// +optional
	IPProto *IntOrString `json:"ipproto,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	SPort *int64 `json:"sport,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	DPort *int64 `json:"dport,omitempty"`
	// fwmark is the packet's mark, 256 or "0x100".
	// +optional
	FWMark *IntOrString `json:"fwmark,omitempty"`
	// uid is the owner of the socket that sends it.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967294
	UID *int64 `json:"uid,omitempty"`
	// tos is the packet's DS field, 16 or "0x10".
	// +optional
	TOS *IntOrString `json:"tos,omitempty"`
	// leaves is the way out that is expected.
	// +optional
	Leaves *Leaves `json:"leaves,omitempty"`
	// verdict that is expected.
	// +optional
	Verdict ExpectedVerdict `json:"verdict,omitempty"`
	// source address that a packet of the node is expected to get.
	// +optional
	Source Address `json:"source,omitempty"`
}

// Leaves is a way out; what is absent does not count.
//
// +kubebuilder:validation:MinProperties=1
type Leaves struct {
	// +optional
	Dev LinkName `json:"dev,omitempty"`
	// +optional
	Via Address `json:"via,omitempty"`
}

// ExpectedVerdict is what becomes of a packet.
//
// +kubebuilder:validation:Enum=Forwarded;Delivered;Sent;Dropped
type ExpectedVerdict string
