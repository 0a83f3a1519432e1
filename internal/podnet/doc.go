// Package podnet turns PodNetworks into what every other package knows already:
// routes of the table main, sysctls, and a part of the one nftables table.
// docs/design/podnet.md tells why it is as it is.
//
// A host finds its own entry among the nodes by its addresses. To the pods of each
// other node it gets a route by an address of that node which is on a link of this
// host; a node without such an address gets none, and is told of: a gateway that
// is not on a link would have to be reached by another router, which must know the
// pods' prefixes itself. The host's own prefixes are unreachable but for the pods
// that are there, which have routes of their own, longer or with a better metric.
//
// The package is pure and deterministic.
package podnet
