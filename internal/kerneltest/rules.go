package kerneltest

import "testing"

func (o Options) rules(t *testing.T) {
	t.Run("scripts", func(t *testing.T) { o.runScripts(t, ruleScripts) })
}

var ruleScripts = []script{
	{
		name: "every selector and action",
		steps: `
			+ rule 1000 not from 10.0.0.0/8 to 10.1.0.0/16 iif v0 oif nolink fwmark 0x5/0xff tos 0x10 ipproto tcp sport 7 dport 8-9 uidrange 3-4 table 1000 proto 118
			+ rule 1001 from all tun_id 77 table 70000 realms 3/4 suppress_prefixlength 0 suppress_ifgroup 3 proto 118
			+ rule 1002 from all goto 1003 proto 118
			+ rule 1003 from all nop proto 118
			+ rule 1004 from all fwmark 0x0/0xff blackhole proto 118
			+ rule 1005 from all fwmark 0x7 unreachable proto 118
			+ rule 1006 from 10.0.0.1/8 prohibit
			+ rule 1007 from all l3mdev proto 118
			+ rule -6 1000 not from 2001:db8::/32 to 2001:db8::1 iif v0 oif v1 fwmark 0x5/0xff tos 0x10 ipproto udp sport 7-8 dport 53 uidrange 0-0 table 1000 proto 118
			+ rule -6 1001 from all tun_id 77 table 70000 suppress_prefixlength 64 proto 118
			+ rule -6 1002 from all goto 4294967295 proto 118
			+ rule -6 1003 from all nop proto 118
			+ rule -6 1004 from all blackhole proto 118
			+ rule -6 1005 from all unreachable proto 118
			+ rule -6 1006 from all prohibit proto 118
			+ rule -6 1007 from all l3mdev proto 118`,
		want: `
			rule 1000 not from 10.0.0.0/8 to 10.1.0.0/16 iif v0 oif nolink fwmark 0x5/0xff tos 0x10 ipproto tcp sport 7 dport 8-9 uidrange 3-4 table 1000 proto 118
			rule 1001 from all tun_id 77 table 70000 realms 3/4 suppress_prefixlength 0 suppress_ifgroup 3 proto 118
			rule 1002 from all goto 1003 proto 118
			rule 1003 from all nop proto 118
			rule 1004 from all fwmark 0x0/0xff blackhole proto 118
			rule 1005 from all fwmark 0x7 unreachable proto 118
			rule 1006 from 10.0.0.1/8 prohibit
			rule 1007 from all l3mdev proto 118
			rule -6 1000 not from 2001:db8::/32 to 2001:db8::1 iif v0 oif v1 fwmark 0x5/0xff tos 0x10 ipproto udp sport 7-8 dport 53 uidrange 0-0 table 1000 proto 118
			rule -6 1001 from all tun_id 77 table 70000 suppress_prefixlength 64 proto 118
			rule -6 1002 from all goto 4294967295 proto 118
			rule -6 1003 from all nop proto 118
			rule -6 1004 from all blackhole proto 118
			rule -6 1005 from all unreachable proto 118
			rule -6 1006 from all prohibit proto 118
			rule -6 1007 from all l3mdev proto 118`,
	},
	{
		name:  "DSCP",
		since: Release{6, 12},
		steps: `
			+ rule 1000 from all dscp 0 table 1000 proto 118
			+ rule 1000 from all dscp 63 table 1000 proto 118
			+ rule -6 1000 from all dscp 9 table 1000 proto 118
			ENOENT - rule -6 1000 from all dscp 8 table 1000 proto 118
			- rule 1000 from all dscp 63 table 1000 proto 118`,
		want: `
			rule 1000 from all dscp 0 table 1000 proto 118
			rule -6 1000 from all dscp 9 table 1000 proto 118`,
	},
	{
		// 26 is FRA_FLOWLABEL with its mask 27, 28 FRA_SPORT_MASK, 30 FRA_DSCP_MASK.
		name:  "attributes that we do not know come back and go",
		since: Release{6, 15},
		steps: `
			+ rule -6 1000 from all table 1000 proto 118 unknown 08001a000000001208001b000000ffff
			+ rule 1000 from all ipproto tcp sport 8 table 1000 proto 118 unknown 06001c000fff0000
			+ rule 1000 from all dscp 4 table 1000 proto 118 unknown 05001e003c000000
			+ rule 1001 from all table 1000 proto 118
			ENOENT - rule 1000 from all ipproto tcp sport 8 table 1000 proto 118 unknown 06001c000ffe0000
			- rule 1000 from all dscp 4 table 1000 proto 118 unknown 05001e003c000000`,
		want: `
			rule 1000 from all ipproto tcp sport 8 table 1000 proto 118 unknown 06001c000fff0000
			rule 1001 from all table 1000 proto 118
			rule -6 1000 from all table 1000 proto 118 unknown 08001a000000001208001b000000ffff`,
	},
	{
		name: "a new rule stands behind its equals, duplicates are taken",
		steps: `
			+ rule 1001 from 10.0.0.1 table 1000 proto 118
			+ rule 1000 from 10.0.0.1 table 1000 proto 118
			+ rule 1001 from 10.0.0.2 table 1000 proto 118
			+ rule 1001 from 10.0.0.1 table 1000 proto 118
			+ rule -6 1001 from 2001:db8::1 table 1000 proto 118
			+ rule -6 1001 from all table 1000 proto 118
			+ rule -6 1001 from 2001:db8::1 table 1000 proto 118`,
		want: `
			rule 1000 from 10.0.0.1 table 1000 proto 118
			rule 1001 from 10.0.0.1 table 1000 proto 118
			rule 1001 from 10.0.0.2 table 1000 proto 118
			rule 1001 from 10.0.0.1 table 1000 proto 118
			rule -6 1001 from 2001:db8::1 table 1000 proto 118
			rule -6 1001 from all table 1000 proto 118
			rule -6 1001 from 2001:db8::1 table 1000 proto 118`,
	},
	{
		name: "a delete takes the first that matches",
		steps: `
			+ rule 1000 from 10.0.0.1 table 1000 proto 118
			+ rule 1000 from 10.0.0.2 table 1000 proto 118
			+ rule 1000 from 10.0.0.1 table 1000 proto 118
			- rule 1000 from 10.0.0.1 table 1000 proto 118
			+ rule -6 1000 from 2001:db8::1 nop proto 118
			+ rule -6 1000 from 2001:db8::2 nop proto 118
			+ rule -6 1000 from 2001:db8::1 nop proto 118
			- rule -6 1000 from 2001:db8::1 nop proto 118`,
		want: `
			rule 1000 from 10.0.0.2 table 1000 proto 118
			rule 1000 from 10.0.0.1 table 1000 proto 118
			rule -6 1000 from 2001:db8::2 nop proto 118
			rule -6 1000 from 2001:db8::1 nop proto 118`,
	},
	{
		name: "a selector that a delete leaves out matches everything",
		steps: `
			+ rule 1000 from 10.0.0.1 iif v0 fwmark 0x1 ipproto tcp dport 7 uidrange 3-4 table 1000 proto 118
			- rule 1000 from all table 1000 proto 118
			+ rule -6 1000 to 2001:db8::1 oif v0 tos 0x10 table 1000 proto 118
			- rule -6 1000 from all table 1000 proto 118
			+ rule 1001 from 10.0.0.1 table 1000 suppress_prefixlength 0 proto 118
			- rule 1001 from 10.0.0.1 table 1000 proto 118`,
	},
	{
		name: "not and the target of a goto are never looked at",
		steps: `
			+ rule 1000 not from 10.0.0.1 table 1000 proto 118
			+ rule 1000 from 10.0.0.1 table 1000 proto 118
			- rule 1000 from 10.0.0.1 table 1000 proto 118
			+ rule -6 1000 from 2001:db8::1 goto 2000 proto 118
			+ rule -6 1000 from 2001:db8::1 goto 3000 proto 118
			- rule -6 1000 from 2001:db8::1 goto 3000 proto 118`,
		want: `
			rule 1000 from 10.0.0.1 table 1000 proto 118
			rule -6 1000 from 2001:db8::1 goto 3000 proto 118`,
	},
	{
		name: "the protocol is compared when it is given",
		steps: `
			+ rule 1000 from 10.0.0.1 table 1000 proto 99
			ENOENT - rule 1000 from 10.0.0.1 table 1000 proto 118
			+ rule 1000 from 10.0.0.1 table 1000 proto 118
			- rule 1000 from 10.0.0.1 table 1000 proto 118
			+ rule -6 1000 from 2001:db8::1 table 1000 proto 99
			ENOENT - rule -6 1000 from 2001:db8::1 table 1000 proto 118
			- rule -6 1000 from 2001:db8::1 table 1000`,
		want: `rule 1000 from 10.0.0.1 table 1000 proto 99`,
	},
	{
		name: "what is not there cannot be deleted",
		steps: `
			+ rule 1000 from 10.0.0.1 table 1000 proto 118
			ENOENT - rule 1000 from 10.0.0.2 table 1000 proto 118
			ENOENT - rule 1001 from 10.0.0.1 table 1000 proto 118
			ENOENT - rule 1000 from 10.0.0.1 table 1001 proto 118
			ENOENT - rule 1000 from 10.0.0.1 nop proto 118
			ENOENT - rule 1000 from 10.0.0.1/31 table 1000 proto 118
			ENOENT - rule -6 1000 from all table 1000 proto 118
			ENOENT - rule 1000 from 10.0.0.1 iif v0 table 1000 proto 118
			ENOENT - rule 1000 from 10.0.0.1 table 1000 suppress_prefixlength 0 proto 118`,
		want: `rule 1000 from 10.0.0.1 table 1000 proto 118`,
	},
	{
		name: "a goto survives its target and finds the next",
		steps: `
			+ rule 1000 from all goto 1002 proto 118
			+ rule 1002 from 10.0.0.1 nop proto 118
			+ rule 1002 from 10.0.0.2 nop proto 118
			- rule 1002 from 10.0.0.1 nop proto 118
			- rule 1002 from 10.0.0.2 nop proto 118`,
		want: `rule 1000 from all goto 1002 proto 118`,
	},
	{
		name: "what a kernel refuses",
		steps: `
			EINVAL + rule 1000 from all goto 1000 proto 118
			EINVAL + rule -6 1000 from all goto 999 proto 118
			EINVAL + rule 1000 from all sport 9-65535 table 1000
			EINVAL + rule 1000 from all tos 0x3 table 1000
			EINVAL + rule 1000 from all uidrange 9-4294967295 table 1000
			EOPNOTSUPP ~ rule 1000 from all table 1000`,
	},
}
