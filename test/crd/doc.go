// Package crd holds the custom resource definitions in deploy/crds against the
// files' parser and validation: every example and every bad example gets the
// same verdict from both. It has its own go.mod, since the API server's
// validation brings half of Kubernetes.
package crd
