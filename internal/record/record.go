// Package record keeps, below /run/viarule, what was asked and what stands for
// it: one folder a network namespace (by its cookie, since inodes and link
// numbers are reused), one file an object. Records are written before the kernel
// is changed, atomically, and say whose the kernel's objects are; the kernel's
// own marks say that they are viarule's at all.
package record

import (
	"github.com/viarule/viarule/internal/netstate"
	"github.com/viarule/viarule/internal/spec"
)

// Object is the record of one applied object.
type Object struct {
	Ref            spec.Ref
	File           string // where it was read from, for messages
	Line           int32
	DeletionPolicy spec.DeletionPolicy
	Text           []byte // the YAML document, as written
	Tables         map[string]uint32
	// Rules and Routes are what stands for the object in the kernel.
	Rules  []netstate.Rule
	Routes []netstate.RouteKey
}
