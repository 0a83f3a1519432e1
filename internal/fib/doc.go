// Package fib says which way the kernel would route a packet: it walks the
// rules of a netstate.State and looks for the longest prefix in the tables that
// they name, as net/core/fib_rules.c, net/ipv4/fib_trie.c, net/ipv4/route.c,
// net/ipv6/ip6_fib.c, net/ipv6/route.c and net/ipv6/addrconf.c do (Linux 6.18; a
// test compares it with the running kernel's own answers, 100,000 of them, and
// ten million by `make oracle`).
//
// It covers, for IPv4 and IPv6: every selector of a rule, not, goto (also to
// nowhere), nop, suppressors, reject actions and reject routes, throw, tables
// that have no answer, metrics, TOS and source-specific routes, multipath, next
// hop objects, links that are down, a given output link with the kernel's odd
// fallbacks, tables of VRFs by l3mdev rules, and the source address that the
// kernel picks.
//
// # What it does not cover
//
// What depends on more than a State holds:
//
//   - Sysctls. Forwarding is taken as on. ignore_routes_with_linkdown,
//     fib_multipath_use_neigh and route_localnet are taken as 0, which is their
//     default: a link without a carrier counts as usable. So are use_tempaddr (below
//     2: public IPv6 addresses are preferred to temporary ones), use_oif_addrs_only
//     and use_optimistic.
//
//   - The IPv6 label table (`ip addrlabel`). It is taken as the kernel makes it.
//
//   - What a socket prefers among IPv6 addresses (IPV6_ADDR_PREFERENCES), and that
//     one whose packet finds no way without a source gets a source and is looked up
//     once more with it (ip6_dst_lookup_tail).
//
//   - The order in which links came to the namespace, in which the kernel looks
//     through their addresses for a source. It is taken to be that of the state,
//     which is that of their indexes; a link that came from another namespace kept
//     its index.
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
//   - What IPv6's tree keeps of a route that is gone, or that was refused. Where a
//     prefix has routes for single sources and loses its last one for all, or never
//     had one and one of its routes is added again (EEXIST), its node is known by a
//     route of a longer prefix from then on (fib6_repair_tree), and its routes are
//     found only for destinations in that prefix.
//
//   - The type of an IPv4 reject route by a next hop object that is a blackhole. The
//     kernel lists all of these as blackholes, and so they are read.
//
// # Routes that share a next hop object
//
// The kernel keeps with a next hop what it made for the first packet that went by
// it, on this processor or on all, and gives that to the packets after it until its
// tables change. The hop of a next hop object belongs to all routes by the object or
// by a group with it, and they need not agree. A state does not tell which of them
// was used first, so that the answer is Unknown where it matters, and Decision.Why
// names the object and the other route:
//
//   - IPv6 keeps all that it found (rt6i_pcpu). A packet may be delivered here, or as
//     to an anycast address, sent on, refused, or the walk go on, as another route
//     says, and its source may be that route's or one for the link that its group has
//     first. Rules with suppress_prefixlength look at the prefix of that route.
//
//   - IPv4 keeps how packets that came in go on: delivered, as a broadcast or not, or
//     forwarded (nhc_rth_input); and whether those made here are unicast, broadcast or
//     multicast (nhc_pcpu_rth_output). For those made here a local route leaves
//     nothing, but by lo and VRFs.
//
//   - An IPv4 object remembers a source, for routes without their own (nh_saddr). It
//     is the one for the scope of the route that was used first; until an address of
//     the namespace changes, the one that the object got when it was made.
//
// Packets with a source, and those that came in, are not concerned by sources, and
// nothing is in doubt where the routes come to the same. Where Check is set nothing
// of this counts.
//
// What is not a matter of the packet's way is told of the route that was found, and
// the kernel's may be that of another route by the same object: metrics as mtu, and
// in the answer to `ip route get` the table, prefix and metric (IPv6), and the type
// where it makes no difference (IPv4: anycast for unicast in packets made here; IPv6:
// broadcast and multicast for unicast).
//
// What belongs to the packet's way before or after the decision: the source
// check (rp_filter) and martian addresses on input, netfilter, local delivery,
// neighbour resolution, lightweight tunnels.
//
// What is only partly done:
//   - Rules that select by a VRF as their link, iif or oif, are read as Linux 6.15
//     and later do. Before, oif never fits, and iif fits only for packets that came
//     in by the VRF itself.
//   - IPv4 destinations 255.255.255.255 and 224.0.0.0/4, for which a socket skips
//     the tables in some cases, are looked up like any other.
//   - The IPv6 flow label as a selector, and whatever else has no field in
//     netstate: an answer that would depend on it is Unknown, and Decision.Why
//     names the attribute.
package fib
