// Package sim works out a packet's whole way through a namespace: the input
// checks, viarule's own nftables marks and masquerading, the routing decision (package fib), the
// check of the source address, forwarding or delivery; and the way of the answer.
// It sends nothing and asks nobody.
//
// It follows ip_rcv, ip_route_input_slow, __mkroute_input, fib_validate_source and
// ip_forward (net/ipv4), ip6_rcv_core, ip6_route_input and ip6_forward (net/ipv6),
// and ip_route_me_harder for packets made here (Linux 6.18).
//
// # What it does not know
//
// Netfilter beyond viarule's own table: Answer.Filters names the tables of others,
// which may still filter, translate or mark the packet. Their forward chains are
// followed as far as they look at links only: a policy that drops is told, and where a
// rule that looks at more may accept what the chain else drops the verdict is Unknown. What replaces the kernel's
// decisions altogether (programs by XDP and tc, IPsec policies, flowtables, bridge
// netfilter) makes the verdict Unknown, and Answer.Otherwise says what would become
// of the packet if it was let pass as it is. Who has joined a multicast group,
// neighbours that do not answer and exceptions (redirects, learned path MTUs) are
// not looked at. The way by VRFs follows net/core/l3mdev and drivers/net/vrf.c: the
// port is the input link for IPv4, the VRF for IPv6; nftables sees the port in
// prerouting, then the VRF there and in all hooks behind.
package sim
