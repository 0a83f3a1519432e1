// Package fib says which way the kernel would route a packet: it walks the
// rules of a netstate.State and looks for the longest prefix in the tables that
// they name, as net/core/fib_rules.c, net/ipv4/fib_trie.c, net/ipv4/route.c,
// net/ipv6/ip6_fib.c and net/ipv6/route.c do (Linux 6.18; a test compares it with
// the running kernel's own answers).
//
// It covers, for IPv4 and IPv6: every selector of a rule, not, goto (also to
// nowhere), nop, suppressors, reject actions and reject routes, throw, tables
// that have no answer, metrics, TOS and source-specific routes, multipath, next
// hop objects, links that are down, a given output link with the kernel's odd
// fallbacks, tables of VRFs by l3mdev rules, and the source address that the
// kernel picks for IPv4.
//
// # What it does not cover
//
// What depends on more than a State holds:
//
//   - Sysctls. Forwarding is taken as on. ignore_routes_with_linkdown,
//     fib_multipath_use_neigh and route_localnet are taken as 0, which is their
//     default: a link without a carrier counts as usable.
//
//   - Neighbours. A gateway that does not answer still counts: IPv4's choice
//     among default routes of one metric (fib_select_default) and IPv6's choice
//     by reachability and round robin are left out; the first one wins.
//
//   - The hash that picks one hop of a multipath route. Decision.Multipath lists
//     all that it may pick.
//
//   - Whether a rule was ever added. Until then the kernel keeps the tables local
//     and main as one for IPv4, where a longer prefix of main beats local, and
//     goes on to the table default after a reject route in main. Both are read
//     here as if a rule had been there once (fib_has_custom_rules). IPv6 has no
//     such mode that shows.
//
//   - Exceptions (redirects, path MTU) and expired IPv6 routes.
//
//   - The IPv4 source address that a next hop object remembers: until an address
//     changes it follows the object's scope, later that of the route which was
//     used first. It is taken from the route's scope here.
//
//   - The copies of IPv6 routes that each CPU keeps with a next hop object: all
//     routes by one object share them, and the kernel may judge suppressors by (and
//     name in an answer) another of these routes than the one that it found.
//
// What belongs to the packet's way before or after the decision: the source
// check (rp_filter) and martian addresses on input, netfilter, local delivery,
// neighbour resolution, lightweight tunnels.
//
// What is only partly done:
//   - IPv6 source addresses: only a route's own (src); else Decision.Src is zero.
//   - IPv4 destinations 255.255.255.255 and 224.0.0.0/4, for which a socket skips
//     the tables in some cases, are looked up like any other.
//   - VRFs: source addresses prefer no VRF.
//   - The IPv6 flow label as a selector, and whatever else has no field in
//     netstate: an answer that would depend on it is Unknown, and Decision.Why
//     names the attribute.
package fib
