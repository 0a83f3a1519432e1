// Package impact says for which packets a change of a namespace's state changes
// their way: classes of packets, each with what became of them before, what becomes
// of them after, and an example. It asks package sim and nobody else.
//
// # How
//
// A packet is a point in a space whose axes are source, destination, where it comes
// from (made here, bound to a link, in by a link), mark, protocol, ports, TOS, user and
// tunnel. Everything that a rule, a route, an address, a sysctl or a map of nftables
// asks of a packet cuts one axis. So each axis falls into atoms, between which nothing
// in either state tells a difference: of all addresses to which the same routes, rules
// and maps apply in both states, one is as good as another, however many prefixes they
// come from. One packet of each combination of atoms goes through both simulations.
//
// Most combinations need not be tried: where the routes and maps of both addresses,
// and the rules that may select the packet or the check of its source, are the same
// before and after, so is the way. A hundred thousand routes that stay as they are
// cost only the time to sort them (see BenchmarkFind).
//
// Combinations with the same outcome that differ on one axis are joined to classes.
// The classes hold exactly the packets whose way changes (a property test holds them
// against package sim), unless Found.Left says that some combinations were not tried.
//
// # What counts as another way
//
// Another verdict, link, next hop, or source address (of a packet that has none yet).
// What drops a packet does not count, nor does the mark with which it leaves. Where
// package sim cannot tell a packet's way (XDP, attributes that viarule does not know)
// neither before nor after, only a difference in what would become of it otherwise
// counts.
//
// Answers are looked at where connection tracking has a say in their way (the marks
// of external networks); those of others are packets like any other. Links that are
// not there both before and after are not among those by which packets come in.
package impact
