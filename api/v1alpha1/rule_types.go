package v1alpha1

// Rule is a wanted rule; with lists in from or to it stands for one rule for
// each pair of one family.
//
// +kubebuilder:validation:XValidation:rule="!has(self.fwmark) || (type(self.fwmark) == int ? self.fwmark >= 0 && self.fwmark <= 4294967295 : self.fwmark.matches('^([0-9]|[1-9][0-9]{1,9}|0x[0-9a-fA-F]{1,8}(/0x[0-9a-fA-F]{1,8})?)$'))",message="fwmark is 256, 0x100 or 0x100/0xff00"
// +kubebuilder:validation:XValidation:rule="!has(self.ipproto) || (type(self.ipproto) == int ? self.ipproto >= 1 && self.ipproto <= 255 : self.ipproto.matches('^(icmp|igmp|ipencap|tcp|udp|dccp|ipv6|gre|esp|ah|ipv6-icmp|ospf|pim|vrrp|l2tp|sctp|udplite|([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))$'))",message="ipproto is a number from 1 to 255 or a name, as tcp"
// +kubebuilder:validation:XValidation:rule="!has(self.sport) || (type(self.sport) == int ? self.sport >= 1 && self.sport <= 65534 : self.sport.matches('^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$') && int(string(self.sport).split('-')[string(self.sport).split('-').size() - 1]) <= 65534)",message="a port is a number from 1 to 65534, a range is as 1000-2000"
// +kubebuilder:validation:XValidation:rule="!has(self.dport) || (type(self.dport) == int ? self.dport >= 1 && self.dport <= 65534 : self.dport.matches('^[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})?$') && int(string(self.dport).split('-')[string(self.dport).split('-').size() - 1]) <= 65534)",message="a port is a number from 1 to 65534, a range is as 1000-2000"
// +kubebuilder:validation:XValidation:rule="!has(self.tos) || (type(self.tos) == int ? self.tos >= 4 && self.tos <= 252 && self.tos % 4 == 0 : self.tos.startsWith('0x') ? self.tos.matches('^0x0{0,6}[1-9a-fA-F]?[048cC]$') && !self.tos.matches('^0x0+$') : self.tos.matches('^[1-9][0-9]{0,2}$') && int(self.tos) % 4 == 0 && int(self.tos) <= 252)",message="tos is a multiple of 4 from 4 to 252, as 16 or 0x10"
// +kubebuilder:validation:XValidation:rule="!has(self.dscp) || (type(self.dscp) == int ? self.dscp >= 0 && self.dscp <= 63 : self.dscp.matches('^(CS0|LE|CS1|AF11|AF12|AF13|CS2|AF21|AF22|AF23|CS3|AF31|AF32|AF33|CS4|AF41|AF42|AF43|CS5|VA|EF|CS6|CS7|[0-9]|[1-5][0-9]|6[0-3])$'))",message="dscp is a number from 0 to 63 or a name, as EF"
// +kubebuilder:validation:XValidation:rule="!has(self.uidrange) || (type(self.uidrange) == int ? self.uidrange >= 0 && self.uidrange <= 4294967294 : self.uidrange.matches('^((0|[1-9][0-9]{0,9})(-(0|[1-9][0-9]{0,9}))?)$'))",message="uidrange is a user id or a range, as 1000-1999"
// +kubebuilder:validation:XValidation:rule="!has(self.table) || (type(self.table) == int ? self.table >= 1 && self.table <= 4294967295 : self.table.matches('^([A-Za-z_][A-Za-z0-9_.-]*|[1-9][0-9]{0,9})$'))",message="table is a number from 1 or a name"
// +kubebuilder:validation:XValidation:rule="!has(self.realms) || (type(self.realms) == int ? self.realms >= 1 && self.realms <= 65535 : self.realms.matches('^((0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])(/(0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?)$'))",message="realms is TO or FROM/TO, each at most 65535"
// +kubebuilder:validation:XValidation:rule="!has(self.suppressIfGroup) || (type(self.suppressIfGroup) == int ? self.suppressIfGroup >= 0 && self.suppressIfGroup <= 2147483647 : self.suppressIfGroup.matches('^(default|(0|[1-9][0-9]{0,9}))$'))",message="suppressIfGroup is a number or default"
// +kubebuilder:validation:XValidation:rule="[has(self.table), has(self.goto), has(self.nop), has(self.blackhole), has(self.unreachable), has(self.prohibit)].filter(a, a).size() == 1",message="a rule has exactly one of table, goto, nop, blackhole, unreachable and prohibit"
// +kubebuilder:validation:XValidation:rule="(!has(self.nop) || self.nop) && (!has(self.blackhole) || self.blackhole) && (!has(self.unreachable) || self.unreachable) && (!has(self.prohibit) || self.prohibit)",message="an action can only be true"
// +kubebuilder:validation:XValidation:rule="has(self.table) || !has(self.suppressPrefixLength) && !has(self.suppressIfGroup)",message="suppressPrefixLength and suppressIfGroup need table"
// +kubebuilder:validation:XValidation:rule="!has(self.not) || !self.not || has(self.iif) || has(self.oif) || has(self.fwmark) || has(self.ipproto) || has(self.sport) || has(self.dport) || has(self.tos) || has(self.dscp) || has(self.uidrange) || has(self.from) && self.from.exists(p, !p.endsWith('/0')) || has(self.to) && self.to.exists(p, !p.endsWith('/0'))",message="not needs a selector"
// +kubebuilder:validation:XValidation:rule="!(has(self.tos) && has(self.dscp))",message="tos and dscp are two words for one field: leave one"
// +kubebuilder:validation:XValidation:rule="!has(self.tos) || !(has(self.family) ? self.family == 'IPv4' : has(self.from) ? self.from.exists(p, !p.contains(':')) : !has(self.to) || self.to.exists(p, !p.contains(':'))) || string(self.tos).matches('^(4|8|12|16|20|24|28|0x0*1?[48cC]|0x0*10)$')",message="IPv4 rules select by the TOS bits 0x1c only: use dscp, or family IPv6"
// +kubebuilder:validation:XValidation:rule="!has(self.sport) && !has(self.dport) || has(self.ipproto) && string(self.ipproto) in ['tcp', 'udp', 'dccp', 'sctp', 'udplite', '6', '17', '33', '132', '136']",message="ports need ipproto tcp, udp, sctp, dccp or udplite"
// +kubebuilder:validation:XValidation:rule="!has(self.sport) || type(self.sport) == int || !string(self.sport).contains('-') || int(string(self.sport).split('-')[0]) <= int(string(self.sport).split('-')[1])",message="the port range is reversed"
// +kubebuilder:validation:XValidation:rule="!has(self.dport) || type(self.dport) == int || !string(self.dport).contains('-') || int(string(self.dport).split('-')[0]) <= int(string(self.dport).split('-')[1])",message="the port range is reversed"
// +kubebuilder:validation:XValidation:rule="!has(self.uidrange) || type(self.uidrange) == int || !string(self.uidrange).contains('-') || int(string(self.uidrange).split('-')[0]) <= int(string(self.uidrange).split('-')[1])",message="the user id range is reversed"
// +kubebuilder:validation:XValidation:rule="!has(self.uidrange) || type(self.uidrange) == int || int(string(self.uidrange).split('-')[string(self.uidrange).split('-').size() - 1]) < 4294967295",message="user ids end at 4294967294"
// +kubebuilder:validation:XValidation:rule="!has(self.table) || type(self.table) == int || !string(self.table).matches('^[0-9]') || int(string(self.table)) <= 4294967295",message="table numbers end at 4294967295"
// +kubebuilder:validation:XValidation:rule="!has(self.fwmark) || type(self.fwmark) == int || string(self.fwmark).startsWith('0x') || int(string(self.fwmark)) <= 4294967295",message="marks end at 4294967295"
// +kubebuilder:validation:XValidation:rule="!has(self.fwmark) || type(self.fwmark) == int || !string(self.fwmark).matches('/0x0+$')",message="a mark with the mask 0 selects by nothing"
// +kubebuilder:validation:XValidation:rule="!has(self.suppressIfGroup) || type(self.suppressIfGroup) == int || string(self.suppressIfGroup) == 'default' || int(string(self.suppressIfGroup)) <= 2147483647",message="link groups end at 2147483647"
// +kubebuilder:validation:XValidation:rule="!has(self.realms) || !string(self.realms).matches('^0(/0)?$')",message="the realm 0 is no realm"
// +kubebuilder:validation:XValidation:rule="!has(self.realms) || !(has(self.family) ? self.family == 'IPv6' : has(self.from) ? self.from.exists(p, p.contains(':')) : !has(self.to) || self.to.exists(p, p.contains(':')))",message="only IPv4 has realms: write family IPv4"
// +kubebuilder:validation:XValidation:rule="!has(self.priority) || !(self.priority in [32766, 32767])",message="the priorities 32766 and 32767 are the kernel's"
// +kubebuilder:validation:XValidation:rule="!has(self.goto) || !has(self.priority) || self.goto > self.priority",message="goto leads to later rules only"
// +kubebuilder:validation:XValidation:rule="!has(self.family) || (self.family == 'IPv6' ? (!has(self.from) || self.from.all(p, p.contains(':'))) && (!has(self.to) || self.to.all(p, p.contains(':'))) : (!has(self.from) || self.from.all(p, !p.contains(':'))) && (!has(self.to) || self.to.all(p, !p.contains(':'))))",message="a prefix is of another family than the rule"
// +kubebuilder:validation:XValidation:rule="!has(self.from) || !has(self.to) || self.from.exists(p, p.contains(':')) == self.to.exists(p, p.contains(':'))",message="the families of from and to do not match"
// +kubebuilder:validation:XValidation:rule="!has(self.from) || !has(self.to) || self.from.exists(p, !p.contains(':')) == self.to.exists(p, !p.contains(':'))",message="the families of from and to do not match"
// +kubebuilder:validation:XValidation:rule="!has(self.fwmark) || !string(self.fwmark).contains('/') || [string(self.fwmark).lowerAscii().replace('0x', '00000000').split('/')].all(p, [1, 2, 3, 4, 5, 6, 7, 8].all(i, [1, 2, 4, 8].all(b, '0123456789abcdef'.indexOf(p[0].charAt(p[0].size() - i)) / b % 2 <= '0123456789abcdef'.indexOf(p[1].charAt(p[1].size() - i)) / b % 2)))",message="the value has bits outside its mask"
type Rule struct {
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	From []Prefix `json:"from,omitempty"`
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	To []Prefix `json:"to,omitempty"`
	// iif is the link by which the packet came in; lo for the node's own.
	// +optional
	IIF LinkName `json:"iif,omitempty"`
	// oif is the link that the sender's socket is bound to.
	// +optional
	OIF LinkName `json:"oif,omitempty"`
	// fwmark is the packet's mark: 256, "0x100" or "0x100/0xff00".
	// +optional
	FWMark *IntOrString `json:"fwmark,omitempty"`
	// ipproto is a protocol's number or name.
	// +optional
	IPProto *IntOrString `json:"ipproto,omitempty"`
	// sport is a port or a range of them, as "1000-2000".
	// +optional
	SPort *IntOrString `json:"sport,omitempty"`
	// +optional
	DPort *IntOrString `json:"dport,omitempty"`
	// tos is the packet's TOS field.
	// +optional
	TOS *IntOrString `json:"tos,omitempty"`
	// dscp is a number from 0 to 63 or a name, as EF or AF41.
	// +optional
	DSCP *IntOrString `json:"dscp,omitempty"`
	// uidrange is a user id or a range of them, as "1000-1999".
	// +optional
	UIDRange *IntOrString `json:"uidrange,omitempty"`
	// not turns all selectors together around.
	// +optional
	Not *bool `json:"not,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	Priority *int64 `json:"priority,omitempty"`
	// family: what the prefixes say; without prefixes both.
	// +optional
	Family Family `json:"family,omitempty"`

	// table to look the packet up in, by name or number.
	// +optional
	Table *IntOrString `json:"table,omitempty"`
	// goto is the priority of a later rule.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	Goto *int64 `json:"goto,omitempty"`
	// +optional
	Nop *bool `json:"nop,omitempty"`
	// blackhole drops the packet without an answer.
	// +optional
	Blackhole *bool `json:"blackhole,omitempty"`
	// unreachable drops it and answers "network unreachable".
	// +optional
	Unreachable *bool `json:"unreachable,omitempty"`
	// prohibit drops it and answers "communication prohibited".
	// +optional
	Prohibit *bool `json:"prohibit,omitempty"`
	// realms is TO or FROM/TO, for IPv4.
	// +optional
	Realms *IntOrString `json:"realms,omitempty"`
	// suppressPrefixLength: routes of this length or shorter do not count.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	SuppressPrefixLength *int32 `json:"suppressPrefixLength,omitempty"`
	// suppressIfGroup: routes by links of this group do not count.
	// +optional
	SuppressIfGroup *IntOrString `json:"suppressIfGroup,omitempty"`
}
