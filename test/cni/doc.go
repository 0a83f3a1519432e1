// Package cni tests the CNI plugin viarule-sbr, under both of its names, as a
// runtime meets it: chained after the reference interface plugins by libcni,
// called by Multus, many times at once, killed at every point, and by the
// reference plugin's own test suite. Pods are namespaces, and what counts is
// where packets go. It has its own go.mod, since it builds all these programs;
// multus/go.mod holds Multus with the very versions that it was released with.
package cni
