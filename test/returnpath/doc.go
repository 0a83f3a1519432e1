// Package returnpath proves in network namespaces, with real TCP and UDP, that
// answers leave by the way that the request came: ten kinds of servers, IPv4 and
// IPv6, the reverse path filter off, strict and loose, for each returnPath of an
// ExternalNetwork. Each configuration is a lab, so a failing case can be looked at
// by hand: the test prints the lab's file.
//
// Around them are the situations that a host also meets: several networks, the
// filter's settings against false sources, fragments and ICMP errors, a link that
// flaps, tunnels, other people's marks, and connections that are open while
// objects come, change and go.
package returnpath
