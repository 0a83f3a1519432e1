// Package netstate describes one network namespace at one instant, in the
// kernel's own terms: links, addresses, rules, routes, next hop objects and
// sysctls.
//
// Every type here is a value in the kernel's canonical form: what is added and
// then listed compares equal to what was added. Two objects are the same when
// Equal says so (for Rule, ==); text is for people and for tests, and
// Parse(x.String()) gives x again. What the decoder does not know is kept in an
// Unknown field, so that an object with an attribute that viarule has never
// heard of is never equal to one that it wants.
//
// The package is pure: it reads no clock, no file and no kernel.
package netstate
