package specjson

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

var exactly = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netstate.Opt{})

func TestRulesOfEveryKey(t *testing.T) {
	got, problems := Rules("rules", []byte(` [
		{"from": ["192.0.2.0\/24", "192.0.2.1"], "to": ["198.51.100.0/24"], "iif": "eth0", "oif": "lo", "fwmark": "0x100/0xff00",
		 "ipproto": "tcp", "sport": 1000, "dport": "80-443", "tos": 16, "uidrange": "0-99", "not": true, "priority": 300,
		 "family": "IPv4", "t\u0061ble": "custom", "realms": "1/2", "suppressPrefixLength": 0, "suppressIfGroup": "default"},
		{"from": ["2001:db8::/32"], "fwmark": 256, "ipproto": 17, "dport": 53, "dscp": "EF", "goto": 4000},
		{"uidrange": 0, "table": 4294967295}, {"iif": "a", "nop": true}, {"iif": "b", "blackhole": true},
		{"iif": "c", "unreachable": true}, {"iif": "d", "prohibit": true}, {}, {"suppressPrefixLength": 24}
	] `))
	p := netip.MustParsePrefix
	want := []spec.Rule{
		{
			From: []netip.Prefix{p("192.0.2.0/24"), p("192.0.2.1/32")}, To: []netip.Prefix{p("198.51.100.0/24")}, IIF: "eth0", OIF: "lo",
			Mark: netstate.Mark{Value: 0x100, Mask: 0xff00}, Proto: 6, SPort: netstate.PortRange{Lo: 1000, Hi: 1000}, DPort: netstate.PortRange{Lo: 80, Hi: 443},
			TOS: 16, UID: netstate.UIDRange{Set: true, Hi: 99}, Not: true, Priority: netstate.Some(300), Family: netstate.IPv4,
			Action: netstate.ToTable, Table: spec.TableRef{Name: "custom"}, Realms: 1<<16 | 2,
			SuppressPrefixLength: netstate.Some(0), SuppressIfGroup: netstate.Some(0),
		},
		{
			From: []netip.Prefix{p("2001:db8::/32")}, Mark: netstate.Mark{Value: 256, Mask: 1<<32 - 1}, Proto: 17, DPort: netstate.PortRange{Lo: 53, Hi: 53},
			DSCP: netstate.Some(46), Action: netstate.Goto, Goto: 4000,
		},
		{UID: netstate.UIDRange{Set: true}, Action: netstate.ToTable, Table: spec.TableRef{ID: 1<<32 - 1}},
		{IIF: "a", Action: netstate.Nop}, {IIF: "b", Action: netstate.Blackhole}, {IIF: "c", Action: netstate.Unreachable}, {IIF: "d", Action: netstate.Prohibit},
		{}, {SuppressPrefixLength: netstate.Some(24)},
	}
	if d := cmp.Diff(want, got, exactly); d != "" || problems != nil {
		t.Error(problems, d)
	}
}

func TestRoutesOfEveryKey(t *testing.T) {
	got, problems := Routes("routes", []byte(`[
		{"to": "198.51.100.0/24", "via": "192.0.2.1", "dev": "eth0", "src": "192.0.2.9", "metric": 4294967295, "mtu": 1400, "advmss": 1360, "scope": "Site", "onlink": true, "type": "Unicast"},
		{"to": "default", "via": "fe80::1"}, {"to": "default", "via": "192.0.2.1", "onlink": true}, {"to": "10.0.0.0/8"}, {"to": "2001:db8::1"},
		{"to": "10.1.0.0/16", "type": "Local"}, {"to": "10.2.0.0/16", "type": "Blackhole", "scope": "Host"}, {"to": "2001:db8:1::/48", "type": "Throw"},
		{"to": "10.3.0.0/16", "nexthops": [{"via": "192.0.2.1", "weight": 256}, {"dev": "eth1"}, {"via": "fe80::1", "dev": "eth1", "onlink": true}]}
	]`))
	p, a, site, host := netip.MustParsePrefix, netip.MustParseAddr, netstate.ScopeSite, netstate.ScopeHost
	want := []spec.Route{
		{To: p("198.51.100.0/24"), Via: a("192.0.2.1"), Dev: "eth0", Src: a("192.0.2.9"), Metric: 1<<32 - 1, MTU: 1400, AdvMSS: 1360, Scope: &site, OnLink: true, Type: netstate.RouteUnicast},
		{To: p("::/0"), Via: a("fe80::1"), Type: netstate.RouteUnicast},
		{To: p("0.0.0.0/0"), Via: a("192.0.2.1"), OnLink: true, Type: netstate.RouteUnicast},
		{To: p("10.0.0.0/8"), Type: netstate.RouteUnicast},
		{To: p("2001:db8::1/128"), Type: netstate.RouteUnicast},
		{To: p("10.1.0.0/16"), Type: netstate.RouteLocal},
		{To: p("10.2.0.0/16"), Type: netstate.RouteBlackhole, Scope: &host},
		{To: p("2001:db8:1::/48"), Type: netstate.RouteThrow},
		{To: p("10.3.0.0/16"), Type: netstate.RouteUnicast, Nexthops: []spec.Nexthop{{Via: a("192.0.2.1"), Weight: 256}, {Dev: "eth1", Weight: 1}, {Via: a("fe80::1"), Dev: "eth1", Weight: 1, OnLink: true}}},
	}
	if d := cmp.Diff(want, got, exactly); d != "" || problems != nil {
		t.Error(problems, d)
	}
	var takes []int
	for i := range got {
		if got[i].TakesDev() {
			takes = append(takes, i)
		}
	}
	if d := cmp.Diff([]int{1, 2, 3, 4, 5}, takes); d != "" {
		t.Error("TakesDev:", d)
	}
}

func TestEmptyLists(t *testing.T) {
	for _, text := range []string{"[]", " [ ]\n"} {
		if rules, problems := Rules("rules", []byte(text)); len(rules) != 0 || problems != nil {
			t.Error(rules, problems)
		}
		if routes, problems := Routes("routes", []byte(text)); len(routes) != 0 || problems != nil {
			t.Error(routes, problems)
		}
	}
}

// TestProblems has what each problem says, and whether it is one of a type.
func TestProblems(t *testing.T) {
	const typed, valued = true, false
	rule := func(s string) string { return `[{"iif": "a"}, {` + s + `}]` }
	for _, c := range []struct {
		text  string
		typed bool
		want  string
	}{
		{``, typed, "x: not JSON: unexpected end of JSON input"},
		{`[}`, typed, "x: not JSON: invalid character '}' looking for beginning of value"},
		{`[] []`, typed, "x: not JSON: invalid character '[' after top-level value"},
		{`null`, typed, "x: this is null, not a list; write it in brackets"},
		{`{"from": []}`, typed, "x: this is an object, not a list; write it in brackets"},
		{`[{}, 5]`, typed, `x[1]: this is a number, not an object; write {"key": value}`},
		{`[null]`, typed, `x[0]: this is null, not an object; write {"key": value}`},
		{rule(`"from": "10.0.0.1"`), typed, `x[1].from: this is a string, not a list; write ["10.0.0.1"]`},
		{rule(`"from": true`), typed, `x[1].from: this is a boolean, not a list; write it in brackets`},
		{rule(`"from": [10]`), typed, `x[1].from[0]: 10 is a number, not a string; write it in quotes`},
		{rule(`"from": [["10.0.0.1"]]`), typed, `x[1].from[0]: this is a list, not a string`},
		{rule(`"to": []`), valued, `x[1].to: the list is empty; leave the key out`},
		{rule(`"to": ["10.0.0.1/8"]`), valued, `x[1].to[0]: 10.0.0.1/8 has bits set behind its length; write 10.0.0.0/8`},
		{rule(`"iif": false`), typed, `x[1].iif: false is a boolean, not a string; write it in quotes`},
		{rule(`"iif": null`), typed, `x[1].iif: the value is null; write one, or leave the key out`},
		{rule(`"iif": ""`), valued, `x[1].iif: "" cannot be the name of a link; a name has 1 to 15 characters, no space, '/' or ':'`},
		{rule(`"iif": "` + strings.Repeat("x", 70) + `"`), valued, `x[1].iif: "` + strings.Repeat("x", 61) + `..." cannot be the name of a link; a name has 1 to 15 characters, no space, '/' or ':'`},
		{rule(`"ipproto": "tcp", "dport": 0`), valued, `x[1].dport: 0 is out of range; write a number from 1 to 65534`},
		{rule(`"dport": 80`), valued, "x[1].dport: only some protocols have ports; write `ipproto: tcp`, or udp, sctp, dccp or udplite"},
		{rule(`"dport": 80.5`), valued, `x[1].dport: 80.5 is not a whole number in plain decimal digits; write a whole number or a string`},
		{rule(`"dport": -80`), valued, `x[1].dport: -80 is not a whole number in plain decimal digits; write a whole number or a string`},
		{rule(`"dport": 8e1`), valued, `x[1].dport: 8e1 is not a whole number in plain decimal digits; write a whole number or a string`},
		{rule(`"dport": [80]`), typed, `x[1].dport: this is a list, not a number; write a number or a string`},
		{rule(`"dport": true`), typed, `x[1].dport: this is a boolean, not a number; write a number or a string`},
		{rule(`"dport": null`), typed, `x[1].dport: the value is null; write a number or a string`},
		{rule(`"fwmark": 18446744073709551872`), valued, `x[1].fwmark: "18446744073709551872" is not a mark; write it as 256, 0x100 or 0x100/0xff00`},
		{rule(`"priority": "300"`), typed, `x[1].priority: "300" is a string, not a number; write a number from 1 to 4294967295`},
		{rule(`"priority": {}`), typed, `x[1].priority: this is an object, not a number; write a number from 1 to 4294967295`},
		{rule(`"priority": 300.0`), valued, `x[1].priority: 300.0 is not a whole number in plain decimal digits; write a number from 1 to 4294967295`},
		{rule(`"priority": 3e2`), valued, `x[1].priority: 3e2 is not a whole number in plain decimal digits; write a number from 1 to 4294967295`},
		{rule(`"priority": -0`), valued, `x[1].priority: -0 is not a whole number in plain decimal digits; write a number from 1 to 4294967295`},
		{rule(`"priority": 4294967596`), valued, `x[1].priority: 4294967596 is out of range; write a number from 1 to 4294967295`},
		{rule(`"priority": 18446744073709551916`), valued, `x[1].priority: 18446744073709551916 is out of range; write a number from 1 to 4294967295`},
		{rule(`"priority": 32766`), valued, `x[1].priority: the priority 32766 is the kernel's own; use one from 1 to 32765, or leave it out`},
		{rule(`"not": "true"`), typed, `x[1].not: this is a string, not true or false; write true, or leave the key out`},
		{rule(`"not": true`), valued, `x[1].not: there is no selector that it could turn around: the rule would never match; leave not out, or add a selector`},
		{rule(`"nop": 1`), typed, `x[1].nop: this is a number, not true or false; write true, or leave the key out`},
		{rule(`"nop": false`), valued, `x[1].nop: an action can only be true; leave it out, or write true`},
		{rule(`"table": 100, "nop": true`), valued, `x[1]: it has several actions: table, nop; leave one; several actions are several rules`},
		{rule(`"table": 100, "table": 100`), valued, `x[1].table: the key is written twice; leave one of them out`},
		{rule(`"tabel": 100`), valued, `x[1]: unknown key "tabel"; did you mean table?`},
		{rule(`"Table": 100`), valued, `x[1]: unknown key "Table"; did you mean table?`},
		{rule(`"family": "ipv4"`), valued, `x[1].family: "ipv4" is not known; did you mean IPv4?`},
		{rule(`"family": 4`), typed, `x[1].family: 4 is a number, not a string; write it in quotes`},
		{rule(`"goto": 300, "suppressPrefixLength": 0`), valued, "x[1].suppressPrefixLength: suppressPrefixLength is about the routes that a table gives, and the rule names no table; write `table: …`, or leave it out"},
	} {
		rules, problems := Rules("x", []byte(c.text))
		if len(problems) != 1 || problems[0].String() != c.want || problems[0].Type != c.typed || rules != nil {
			t.Errorf("%s\ngot  %v\nwant %s", c.text, problems, c.want)
		}
	}
	for _, c := range []struct {
		text  string
		typed bool
		want  string
	}{
		{`{"dev": "eth0"}`, valued, `a.b[0]: it does not say where to; write "to", a prefix or default`},
		{`{"to": "default"}`, valued, `a.b[0].to: default is of no family here; write 0.0.0.0/0 or ::/0`},
		{`{"to": "default", "via": "10.0.0.1", "nexthops": [{"dev": "eth0"}]}`, valued, "a.b[0].nexthops: next hops exclude via, dev and onlink; write the way of via and dev as one of nexthops"},
		{`{"to": null}`, typed, `a.b[0].to: the value is null; write one, or leave the key out`},
		{`{"to": "10.0.0.0/8", "metric": "1"}`, typed, `a.b[0].metric: "1" is a string, not a number; write a number from 0 to 4294967295`},
		{`{"to": "10.0.0.0/8", "mtu": 67}`, valued, `a.b[0].mtu: 67 is out of range; write a number from 68 to 65520`},
		{`{"to": "10.0.0.0/8", "onlink": 1}`, typed, `a.b[0].onlink: this is a number, not true or false; write true, or leave the key out`},
		{`{"to": "10.0.0.0/8", "onlink": true}`, valued, `a.b[0].onlink: it says that the gateway is on the link, but there is no gateway or no link; write via and dev, or leave onlink out`},
		{`{"to": "10.0.0.0/8", "type": "Blackhole", "dev": "eth0"}`, valued, `a.b[0].type: a route of this type goes nowhere; leave out via, dev, nexthops, onlink and src`},
		{`{"to": "10.0.0.0/8", "nexthops": {}}`, typed, `a.b[0].nexthops: this is an object, not a list; write it in brackets`},
		{`{"to": "10.0.0.0/8", "nexthops": [{"via": "fe80::1"}]}`, valued, `a.b[0].nexthops[0].via: fe80::1 is there on every link; write dev as well`},
		{`{"to": "10.0.0.0/8", "nexthops": [{"dev": "a", "weigth": 1}]}`, valued, `a.b[0].nexthops[0]: unknown key "weigth"; did you mean weight?`},
		{`{"to": "2001:db8::/32", "via": "192.0.2.1"}`, valued, `a.b[0].via: the IPv4 gateway 192.0.2.1 cannot be that of an IPv6 route; use an IPv6 gateway`},
		{`{"to": "2001:db8::/32"}, {"to": "2001:DB8::/32", "metric": 1024}`, valued, `a.b[1].to: a.b[0] is a route to 2001:db8::/32 with the same metric; leave one out, give it another metric, or use nexthops`},
	} {
		routes, problems := Routes("a.b", []byte("["+c.text+"]"))
		if len(problems) != 1 || problems[0].String() != c.want || problems[0].Type != c.typed || routes != nil {
			t.Errorf("%s\ngot  %v\nwant %s", c.text, problems, c.want)
		}
	}
}

// TestEachProblemIsTold: one does not hide the next, up to a bound.
func TestEachProblemIsTold(t *testing.T) {
	_, problems := Rules("r", []byte(`[{"iif": 1, "tabel": 5}, {"table": 0}]`))
	if got := fmt.Sprint(problems); got != `[r[0].iif: 1 is a number, not a string; write it in quotes r[0]: unknown key "tabel"; did you mean table? r[1].table: 0 is out of range; write a number from 1 to 4294967295]` {
		t.Error(got)
	}
	_, problems = Rules("r", []byte("["+strings.Repeat("5,", 99)+"5]"))
	if n := len(problems); n != spec.MaxProblems+1 || problems[n-1].String() != "r: 50 more problems are not shown; mend these first" {
		t.Error(n, problems[n-1])
	}
	_, problems = Rules("r", []byte("["+strings.Repeat(`{"dport": 80},`, 99)+"{}]"))
	if n := len(problems); n != spec.MaxProblems+1 || problems[n-1].Path != "r" || problems[n-1].Do == "" {
		t.Error(n, problems[n-1])
	}
}

// TestValuesAtTheirBounds: what is just allowed, and the first that is not.
func TestValuesAtTheirBounds(t *testing.T) {
	repeat := func(n int, f func(i int) string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = f(i)
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	net := func(i int) string { return fmt.Sprintf(`"10.%d.%d.0/24"`, i>>8, i&255) }
	rule := func(i int) string { return fmt.Sprintf(`{"from":[%s],"table":1}`, net(i)) }
	route := func(i int) string { return `{"to":` + net(i) + `}` }
	hop := func(i int) string { return fmt.Sprintf(`{"via":"192.0.2.%d"}`, i) }
	l := limits()
	for _, c := range []struct {
		text  string
		valid bool
	}{
		{repeat(Most, rule), true},
		{repeat(Most+1, rule), false},
		{`[{"from":` + repeat(l.Prefixes, net) + `,"to":` + repeat(l.Prefixes, net) + `}]`, true},
		{`[{"from":` + repeat(l.Prefixes+1, net) + `}]`, false},
		// More rules of the kernel than viarule compares.
		{repeat(Most, func(int) string {
			return `{"from":` + repeat(l.Prefixes, net) + `,"to":` + repeat(l.Prefixes, net) + `}`
		}), false},
		{`[{"priority":1},{"priority":32765},{"priority":32768},{"priority":4294967295}]`, true},
		{`[{"priority":0}]`, false}, {`[{"priority":4294967296}]`, false},
		{`[{"goto":4294967295},{"goto":1}]`, true}, {`[{"goto":0}]`, false}, {`[{"goto":4294967296}]`, false},
		{`[{"goto":300,"priority":299}]`, true}, {`[{"goto":300,"priority":300}]`, false},
		{`[{"table":1},{"table":"4294967295"}]`, true}, {`[{"table":0}]`, false}, {`[{"table":"0"}]`, false}, {`[{"table":4294967296}]`, false}, {`[{"table":"01"}]`, false},
		{`[{"ipproto":1},{"ipproto":"255"}]`, true}, {`[{"ipproto":0}]`, false}, {`[{"ipproto":256}]`, false},
		{`[{"ipproto":6,"sport":1,"dport":"65534"}]`, true}, {`[{"ipproto":6,"sport":0}]`, false}, {`[{"ipproto":6,"dport":65535}]`, false}, {`[{"ipproto":6,"dport":"2-1"}]`, false},
		{`[{"fwmark":0},{"fwmark":4294967295}]`, true}, {`[{"fwmark":4294967296}]`, false}, {`[{"fwmark":"0x1/0x0"}]`, false},
		{`[{"tos":4},{"tos":"0x1c"},{"tos":252,"family":"IPv6"}]`, true}, {`[{"tos":0}]`, false}, {`[{"tos":32}]`, false}, {`[{"tos":256,"family":"IPv6"}]`, false}, {`[{"tos":4,"dscp":1}]`, false},
		{`[{"dscp":0},{"dscp":63}]`, true}, {`[{"dscp":64}]`, false},
		{`[{"uidrange":0},{"uidrange":"0-4294967294"}]`, true}, {`[{"uidrange":4294967295}]`, false},
		{`[{"suppressPrefixLength":0},{"suppressPrefixLength":128}]`, true}, {`[{"suppressPrefixLength":129}]`, false},
		{`[{"suppressIfGroup":0},{"suppressIfGroup":"2147483647"}]`, true}, {`[{"suppressIfGroup":2147483648}]`, false},
		{`[{"realms":1,"family":"IPv4"},{"realms":"65535/65535","from":["10.0.0.1"]}]`, true}, {`[{"realms":0,"family":"IPv4"}]`, false}, {`[{"realms":1}]`, false}, {`[{"realms":65536,"family":"IPv4"}]`, false},
		{`[{"iif":"fifteen-letters"}]`, true}, {`[{"iif":"sixteen-letters-"}]`, false},
		{`[{"not":false}]`, true}, {`[{"blackhole":false}]`, false},
		{`[{"from":["::/0"]}]`, true}, {`[{"from":["::ffff:10.0.0.1"]}]`, false}, {`[{"from":["fe80::1%eth0"]}]`, false},
	} {
		rulesUnderTest.check(t, c.text, c.valid)
	}
	for _, c := range []struct {
		text  string
		valid bool
	}{
		{repeat(Most, route), true},
		{repeat(Most+1, route), false},
		{`[{"to":"10.0.0.0/8","nexthops":` + repeat(l.Nexthops, hop) + `}]`, true},
		{`[{"to":"10.0.0.0/8","nexthops":` + repeat(l.Nexthops+1, hop) + `}]`, false},
		{`[{"to":"10.0.0.0/8","metric":4294967295,"mtu":65520,"advmss":65495},{"to":"10.0.0.0/8","metric":0,"mtu":68,"advmss":88}]`, true},
		{`[{"to":"10.0.0.0/8","metric":4294967296}]`, false}, {`[{"to":"10.0.0.0/8","mtu":65521}]`, false}, {`[{"to":"10.0.0.0/8","advmss":87}]`, false}, {`[{"to":"10.0.0.0/8","advmss":65496}]`, false},
		{`[{"to":"10.0.0.0/8","nexthops":[{"dev":"a","weight":1},{"dev":"b","weight":256}]}]`, true}, {`[{"to":"10.0.0.0/8","nexthops":[{"dev":"a","weight":0}]}]`, false}, {`[{"to":"10.0.0.0/8","nexthops":[{"dev":"a","weight":257}]}]`, false},
		{`[{"to":"2001:db8::/32","mtu":1279}]`, true}, // a warning only
		{`[{"to":"10.0.0.0/8"},{"to":"10.0.0.0/8","metric":1}]`, true}, {`[{"to":"10.0.0.1"},{"to":"10.0.0.1/32"}]`, false},
		{`[{"to":"10.0.0.0/8","type":"Local","scope":"Host"}]`, true}, {`[{"to":"10.0.0.0/8","type":"Local","scope":"Link"}]`, false},
		{`[{"to":"2001:db8::/32","scope":"Link"}]`, false}, {`[{"to":"10.0.0.0/8","scope":"Link"}]`, true}, {`[{"to":"10.0.0.0/8","scope":"Link","via":"10.0.0.1"}]`, false},
		{`[{"to":"default","via":"fe80::1","src":"192.0.2.9"}]`, true}, {`[{"to":"default","via":"10.0.0.1","src":"2001:db8::1"}]`, false},
		{`[{"to":"10.0.0.0/8","via":"240.0.0.1"}]`, true}, {`[{"to":"10.0.0.0/8","via":"255.1.2.3"}]`, false},
	} {
		routesUnderTest.check(t, c.text, c.valid)
	}
}
