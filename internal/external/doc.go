// Package external turns ExternalNetworks into what every other package knows
// already: tables, routes and rules as of a RoutingPolicy, sysctls, a link, and
// the one nftables table for all of them. It is the heart of the return path;
// docs/design/return-path.md tells why it is as it is.
//
// In short, for returnPath Auto: what comes in by the network's link to its
// addresses sets a bit of the connection's mark. Packets that answer such a
// connection get a mark, before they are routed, and a rule sends what has the
// mark to the table whose default route is the network's gateway. The way back is
// thus told by the way in, not by an address: it holds also where netfilter has
// translated the address, which it undoes only after routing.
//
// The package is pure and deterministic. What stands in the kernel already
// (marks above all) keeps its numbers.
package external
