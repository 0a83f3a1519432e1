// Package v1alpha1 has the custom resources of viarule.io/v1alpha1: Go types,
// deep copies, and the markers that deploy/crds is generated from
// (`make generate`). There is no logic in it; internal/spec holds what the
// objects mean, and test/crd proves that both say the same of every example.
//
// # Bounds
//
// Lists are bounded so that an object fits into etcd and the estimated cost of
// the CEL rules into the API server's budget: 32 tables of 1,024 routes, 1,024
// rules with 128 prefixes a list; 1,024 addresses, 16 gateways and 64 networks of
// pods of an external network; 16 prefixes, and 256 nodes with 8 addresses and 16
// prefixes each, of a pod network; 64 expectations of any object. Files may hold far
// more of all but the last (internal/spec, FileLimits): those numbers are the
// cluster's, not the kernel's. In a cluster several objects may add routes to one
// table.
//
// What CEL cannot say at this price viarule finds when it reads the object:
// addresses of one object that overlap, prefixes and addresses of nodes that do not
// fit together, IPv6 ranges that are reversed, addresses that are the same but written
// otherwise. Fixtures of internal/specfile that are
// marked with `# file-only` show each.
//
// The schema sets no defaults but a route's metric, which is a part of the
// list's key: what an absent field means is said in one place, internal/spec.
//
// +kubebuilder:object:generate=true
// +groupName=viarule.io
package v1alpha1
